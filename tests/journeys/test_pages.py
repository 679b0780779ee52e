"""The pages in a real browser: a customer and staff, each with a window of their own, and a page that stays true."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from playwright.async_api import Page, Route, expect

from tests.journeys.scene import QUICK, Scene
from tests.journeys.windows import PATIENCE_MS, PHONE, Windows
from tests.serving import ORDERUP, Program, ServerProcess, sqlite_url

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return sqlite_url(tmp_path)


@pytest.fixture
async def server(scene: Scene) -> ServerProcess:
    return scene.server("pizza", environment=QUICK).start()


def ovens(scene: Scene, server: ServerProcess, *, speed: str = "20") -> Program:
    command: list[str | Path] = [
        ORDERUP,
        "work",
        "pizza",
        "--server",
        server.back,
        "--region",
        "eu-west-3",
        "--speed",
        speed,
    ]
    program = Program("ovens", command, log=scene.folder / "ovens.log").launch()
    scene.programs.append(program)
    return program


async def order(windows: Windows, server: ServerProcess, name: str = "Margherita", **options: object) -> Page:
    """A customer on a phone; his tracker."""
    page = await windows.open(f"{server.front}/", size=PHONE, **options)
    await page.get_by_label("What do you call it?").fill(name)
    await page.get_by_label("Your name").fill("Ada")
    await page.get_by_label("Where do you want it?").fill("1 Harbour Lane")
    await page.get_by_role("button", name="Order").click()
    await expect(page.get_by_text("Waiting for approval").first).to_be_visible()
    return page


async def test_a_customer_watches_his_pizza_arrive_without_a_reload(
    scene: Scene, server: ServerProcess, windows: Windows
) -> None:
    ovens(scene, server, speed="3")
    tracker = await order(windows, server)
    await tracker.evaluate("window.loadedOnce = true")
    staff = await windows.open(f"{server.back}/inbox")
    await staff.get_by_role("button", name="Approve").click()
    await expect(staff.get_by_text("Nobody waits for an answer")).to_be_visible()
    for stage in ("Preparing dough", "Baking pizza", "Delivering pizza"):
        await expect(tracker.locator("[data-state=now] .what")).to_have_text(stage, timeout=PATIENCE_MS)
    await expect(tracker.locator("#headline")).to_contain_text("Delivered. Enjoy your pizza!", timeout=PATIENCE_MS)
    assert await tracker.evaluate("window.loadedOnce")
    shown = await tracker.locator("main").inner_text()
    await tracker.reload()
    await expect(tracker.locator("#connection")).to_have_text("Live")
    assert await tracker.locator("main").inner_text() == shown


async def test_a_request_comes_to_staff_by_itself_and_the_customer_reads_the_note(
    server: ServerProcess, windows: Windows
) -> None:
    staff = await windows.open(f"{server.back}/inbox")
    await expect(staff.get_by_text("Nobody waits for an answer")).to_be_visible()
    tracker = await order(windows, server)
    await staff.get_by_label("Note").fill("The oven is cold today.")
    await staff.get_by_role("button", name="Decline").click()
    await expect(tracker.locator("#headline")).to_contain_text("The oven is cold today.")
    await expect(tracker.get_by_role("button", name="Cancel the order")).to_be_hidden()


async def test_what_somebody_types_is_left_alone_while_requests_come_in(
    server: ServerProcess, windows: Windows
) -> None:
    await order(windows, server)
    staff = await windows.open(f"{server.back}/inbox")
    note = staff.get_by_label("Note").first
    await note.press_sequentially("No more bas")
    for number in range(3):
        await order(windows, server, f"Number {number}")
    await expect(staff.get_by_role("button", name="Approve")).to_have_count(4)
    await expect(note).to_be_focused()
    await note.press_sequentially("il")
    await expect(note).to_have_value("No more basil")


async def test_a_page_says_when_the_server_is_away_and_catches_up_when_it_is_back(
    scene: Scene, server: ServerProcess, windows: Windows
) -> None:
    tracker = await order(windows, server)
    await expect(tracker.locator("#connection")).to_have_text("Live")
    server.kill()
    await expect(tracker.locator("#connection")).to_contain_text("Reconnecting, last news")
    await asyncio.to_thread(server.start)
    ovens(scene, server)
    staff = await windows.open(f"{server.back}/inbox")
    await staff.get_by_role("button", name="Approve").click()
    await expect(tracker.locator("#headline")).to_contain_text("Delivered", timeout=PATIENCE_MS)
    await expect(tracker.locator("#connection")).to_have_text("Live")


async def test_a_look_that_failed_is_taken_again(server: ServerProcess, windows: Windows) -> None:
    windows.foreseen.append("503")
    tracker = await order(windows, server)
    failed: list[str] = []

    async def fail_twice(route: Route) -> None:
        if len(failed) < 2 and "x-live" in route.request.headers:
            failed.append(route.request.url)
            await route.fulfill(status=503, body="busy")
        else:
            await route.continue_()

    await expect(tracker.locator("#connection")).to_have_text("Live")
    await tracker.route("**/track/**", fail_twice)
    staff = await windows.open(f"{server.back}/inbox")
    await staff.get_by_role("button", name="Approve").click()
    await expect(tracker.locator("#headline")).to_contain_text("Approved: waiting for a free hand")
    assert len(failed) == 2


async def test_without_javascript_the_same_is_seen_after_a_reload(
    scene: Scene, server: ServerProcess, windows: Windows
) -> None:
    tracker = await order(windows, server, java_script_enabled=False)
    staff = await windows.open(f"{server.back}/inbox", java_script_enabled=False)
    await staff.get_by_role("button", name="Approve").click()
    await tracker.get_by_role("link", name="Look again").click()
    await expect(tracker.locator("#headline")).to_contain_text("Approved: waiting for a free hand")
    await tracker.get_by_role("button", name="Cancel the order").click()
    await expect(tracker.locator("#headline")).to_contain_text("Your order was cancelled")
    with closing(sqlite3.connect(scene.database_url.removeprefix("sqlite:///"))) as connection:
        assert connection.execute("select status from operations").fetchall() == [("cancelled",)]


async def test_nothing_that_somebody_writes_is_run(server: ServerProcess, windows: Windows) -> None:
    name = '<img src=x onerror="window.hacked = 1"><script>window.hacked = 1</script>'
    tracker = await order(windows, server, name)
    staff = await windows.open(f"{server.back}/inbox")
    await staff.get_by_label("Note").fill('</p><svg onload="window.hacked = 1">')
    await staff.get_by_role("button", name="Decline").click()
    await expect(tracker.locator("#headline")).to_contain_text("svg onload")
    operation = await windows.open(f"{server.back}/operations")
    await operation.locator("tbody a").first.click()
    await expect(operation.get_by_role("img", name="Timeline")).to_be_visible()
    for page in (tracker, staff, operation):
        assert await page.evaluate("window.hacked") is None
