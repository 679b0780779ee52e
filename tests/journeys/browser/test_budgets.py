"""What a page may weigh, on a phone far from the next mast and in a browser that is open all day."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.async_api import Browser, Page, Response, expect

from tests.journeys.browser.stage import Stage
from tests.journeys.scene import Scene
from tests.journeys.windows import PATIENCE_MS
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import sqlite_url

pytestmark = pytest.mark.asyncio(loop_scope="module")
LARGEST_TRACKER = 60_000
MOST_GROWTH = 2_000_000
EVENTS = 1_000
WARM_UP = 100
MARCHERS = 500


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return sqlite_url(tmp_path)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("budgets")) as stage:
        yield stage


async def test_a_tracker_weighs_less_than_sixty_kilobytes_in_all(stage: Stage, browser: Browser) -> None:
    """Unpacked, with all that it loads."""
    page = await (await stage.window(browser, None)).new_page()
    answers: list[Response] = []
    page.on("response", lambda answer: answers.append(answer))  # noqa: PLW0108  Playwright wants a function of ours
    await page.goto(stage.trackers[stage.order()])
    await expect(page.locator("#connection")).to_have_text("Live")
    sizes = {answer.url: len(await answer.body()) for answer in answers}
    assert len(sizes) >= 3  # the page, its style and its script
    assert sum(sizes.values()) < LARGEST_TRACKER, sizes


async def heap_of(page: Page) -> int:
    """Bytes that scripts hold on to."""
    session = await page.context.new_cdp_session(page)
    await session.send("HeapProfiler.enable")
    await session.send("HeapProfiler.collectGarbage")
    used: int = (await session.send("Runtime.getHeapUsage"))["usedSize"]
    await session.detach()
    return used


async def hear(page: Page, stage: Stage, id: str, events: int) -> None:
    """Pause and resume an order so often that its page is told of so many events, and has shown the last one."""

    def steer() -> None:
        for _ in range(events // 2 - 1):
            stage.staff(f"/api/operations/{id}/pause")
            stage.staff(f"/api/operations/{id}/resume")

    await asyncio.to_thread(steer)
    stage.staff(f"/api/operations/{id}/pause")
    await expect(page.locator("#headline")).to_contain_text("on hold")
    stage.staff(f"/api/operations/{id}/resume")
    await expect(page.locator("#headline")).not_to_contain_text("on hold")


@pytest.mark.timeout(180)
async def test_a_page_that_heard_a_thousand_events_holds_no_more_than_before(stage: Stage, browser: Browser) -> None:
    id = stage.approve(stage.order())
    tracker = await (await stage.window(browser, None)).new_page()
    await tracker.goto(stage.trackers[id])
    await expect(tracker.locator("#connection")).to_have_text("Live")
    await hear(tracker, stage, id, WARM_UP)
    before = await heap_of(tracker)
    await hear(tracker, stage, id, EVENTS)
    assert await heap_of(tracker) - before < MOST_GROWTH


async def test_a_timeline_of_five_hundred_tasks_is_drawn_whole(scene: Scene, browser: Browser) -> None:
    server = scene.server("tests.journeys.browser.parade:shop").start()
    placed = (
        httpx2.post(f"{server.front}/parades", json={"marchers": MARCHERS}, timeout=PATIENCE_SECONDS)
        .raise_for_status()
        .json()
    )
    page = await browser.new_page()
    await page.goto(f"{server.back}/operations/{placed['id']}")
    await expect(page.locator("#head .state")).to_have_text("completed", timeout=PATIENCE_MS)
    drawn = page.locator("#timeline svg[role=img]")
    await expect(drawn.locator("line.lane")).to_have_count(MARCHERS)
    await expect(drawn.locator("rect.done")).to_have_count(MARCHERS, timeout=PATIENCE_MS)
    await expect(page.locator("#tasks tr")).to_have_count(MARCHERS)
    lanes = await drawn.evaluate(
        "(it) => new Set([...it.querySelectorAll('rect.done')].map((each) => each.getAttribute('y'))).size"
    )
    assert lanes == MARCHERS
