"""Pages that stay open while workers and the server die: what they show is true again, and stays so."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.journeys.browser.stage import PIZZA, same_as_anew
from tests.journeys.patience import Patient
from tests.journeys.scene import Scene, until
from tests.journeys.windows import DESK, PATIENCE_MS, PHONE
from tests.serving import ServerProcess, sqlite_url

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return sqlite_url(tmp_path)


async def open_page(browser: Browser, url: str, size: dict[str, int]) -> Page:
    context = await browser.new_context(viewport=size)  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE_MS)
    page = await context.new_page()
    await page.goto(url)
    await expect(page.locator("#connection")).to_have_text("Live")
    return page


async def place(scene: Scene, server: ServerProcess) -> tuple[str, str]:
    """A new order's id, and the address of its tracker."""
    async with Patient(scene.random).client as client:
        placed = (await client.post(f"{server.front}/pizzas", json=PIZZA)).raise_for_status().json()
    return placed["id"], placed["links"]["self"].replace("/pizzas/", "/track/")


async def approve(page: Page, server: ServerProcess) -> None:
    await page.goto(f"{server.back}/inbox")
    await page.get_by_role("button", name="Approve").first.click()


async def test_a_worker_that_dies_at_his_oven_is_replaced_and_the_tracker_stays_true(
    scene: Scene, browser: Browser
) -> None:
    server = scene.server("pizza").start()
    _, address = await place(scene, server)
    tracker = await open_page(browser, address, PHONE)
    staff = await open_page(browser, f"{server.back}/inbox", DESK)
    unlucky = scene.cook(server, "unlucky", tasks="make_dough", shortest=600, longest=600).launch()
    await approve(staff, server)
    await expect(tracker.locator("[data-state=now] .what")).to_have_text("Preparing dough")
    await until(lambda: scene.in_flight("unlucky") == 1, what="the worker has begun")
    await asyncio.to_thread(unlucky.kill)
    await expect(tracker.locator("#history")).to_contain_text("somebody else takes over")
    scene.cook(server, "lucky").launch()
    await expect(tracker.locator("#headline")).to_contain_text("Delivered. Enjoy your pizza!", timeout=PATIENCE_MS)
    await same_as_anew([tracker])


async def test_a_server_that_is_started_again_finds_its_pages_and_they_find_it(scene: Scene, browser: Browser) -> None:
    server = scene.server("pizza").start()
    id, address = await place(scene, server)
    pages: Sequence[Page] = [
        await open_page(browser, address, PHONE),
        *[
            await open_page(browser, f"{server.back}/{path}", DESK)
            for path in ("", "inbox", "operations", f"operations/{id}")
        ],
    ]
    server.kill()
    for page in pages:
        await expect(page.locator("#connection")).to_contain_text("Reconnecting, last news")
    await asyncio.to_thread(server.start)
    scene.cook(server, "cook").launch()
    await approve(await open_page(browser, f"{server.back}/inbox", DESK), server)
    await expect(pages[0].locator("#headline")).to_contain_text("Delivered", timeout=PATIENCE_MS)
    for page in pages:
        await expect(page.locator("#connection")).to_have_text("Live")
    await same_as_anew(pages)
