"""The pictures of the README and the guides are of the real thing. Each run takes them all; with ORDERUP_PICTURES=1
they take the place of those in docs/pictures."""

import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from orderup.web.tokens import Role
from tests.journeys.browser.stage import REGION, STEPS, Stage
from tests.journeys.windows import PHONE
from tests.serving import ORDERUP, ROOT, Program
from tests.web.house import token_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
PICTURES = ROOT / "docs" / "pictures"
DESK = {"width": 1100, "height": 700}
LARGEST_BYTES = 140_000
# Of the simulated ovens: a pizza takes some ten seconds.
SPEED = "2.5"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(
        tmp_path_factory.mktemp("pictures"), environment={"LEASE_SECONDS": "2", "HEARTBEAT_SECONDS": "1"}
    ) as stage:
        yield stage


def ovens(stage: Stage, name: str) -> Program:
    """Simulated workers that may be killed."""
    where = ("--server", stage.server.back, "--region", REGION, "--speed", SPEED, "--name", name, "--concurrency", "3")
    command: list[str | Path] = [ORDERUP, "work", "pizza", *where]
    return Program(name, command, log=stage.folder / f"{name}.log", environment={"WORKER_TOKEN": token_of(Role.WORKER)})


async def photograph(page: Page, name: str, folder: Path) -> None:
    taken = folder / f"{name}.png"
    await page.evaluate("document.activeElement?.blur()")
    await page.screenshot(path=taken, animations="disabled")
    if os.environ.get("ORDERUP_PICTURES"):
        PICTURES.mkdir(exist_ok=True)
        shutil.copy(taken, PICTURES)
    kept = PICTURES / taken.name
    assert size_of(kept) == size_of(taken), f"{name} has changed: ORDERUP_PICTURES=1 takes its picture anew"
    assert kept.stat().st_size < LARGEST_BYTES


def size_of(png: Path) -> tuple[int, int]:
    width, height = struct.unpack(">II", png.read_bytes()[16:24])
    return width, height


@pytest.mark.timeout(180)
async def test_the_pictures_show_the_pages_as_they_are(stage: Stage, browser: Browser, tmp_path: Path) -> None:
    staff = await stage.window(browser, Role.STAFF, viewport=DESK, color_scheme="light")
    phone = await stage.window(browser, None, viewport=PHONE, color_scheme="light", device_scale_factor=2)
    night = await stage.window(browser, None, viewport=PHONE, color_scheme="dark", device_scale_factor=2)
    desk, light, dark = [await window.new_page() for window in (staff, phone, night)]
    with ovens(stage, "oven-1") as first, ovens(stage, "oven-2") as second:
        first.launch()
        for name, tier in (("Margherita", "basic"), ("Funghi", "standard"), ("Diavola", "standard")):
            stage.approve(stage.order(name=name, tier=tier))
        shown = stage.approve(stage.order(name="Tartufo", tier="premium", customer="Ada"))
        await light.goto(stage.trackers[shown])
        await dark.goto(stage.trackers[shown])
        await expect(light.locator("[data-state=now] .what")).to_have_text("Baking pizza")
        await photograph(light, "tracker", tmp_path)
        await photograph(dark, "tracker-dark", tmp_path)
        first.kill()  # its lease runs out, and another bakes the pizza
        second.launch()
        await expect(light.locator("#headline")).to_contain_text("Delivered")
        await desk.goto(f"{stage.server.back}/operations/{shown}")
        await photograph(desk, "operation", tmp_path)
    stage.approve(stage.order(name="Napoli"))
    stage.work(stage.claim(STEPS[0]), "fail", error="the mixer is on fire", final=True)
    for name, tier in (("Marinara", "basic"), ("Quattro stagioni", "standard"), ("Bufala", "premium")):
        stage.order(name=name, tier=tier)
    for path, name in (("inbox", "inbox"), ("", "today")):
        await desk.goto(f"{stage.server.back}/{path}")
        await expect(desk.locator("#connection")).to_have_text("Live")
        await photograph(desk, name, tmp_path)
    for name in ("Capricciosa", "Ortolana", "Romana"):
        stage.approve(stage.order(name=name))
    await desk.goto(f"{stage.server.back}/queues")
    await photograph(desk, "queues", tmp_path)
    await desk.goto(f"{stage.server.back}/station/pizza/{STEPS[0]}?region={REGION}")
    await desk.get_by_role("button", name="Take next").click()
    await expect(desk.get_by_role("button", name="Done")).to_be_visible()
    await photograph(desk, "station", tmp_path)
