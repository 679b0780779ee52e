"""Whoever hears a page is told what changed, in few words: not each event, and never two sentences at once."""

import asyncio
from collections.abc import Iterator
from itertools import pairwise

import pytest
from playwright.async_api import Browser, expect

from tests.journeys.browser.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")
CHANGES = 10
REST_MS = 3_000
LISTEN = """() => {
  window.told = [];
  new MutationObserver(() => window.told.push([performance.now(), announcer.textContent]))
    .observe(document.getElementById("announcer"), { childList: true, characterData: true, subtree: true });
}"""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("announcements")) as stage:
        yield stage


async def test_many_events_are_few_sentences_and_the_last_one_says_how_it_stands(
    stage: Stage, browser: Browser
) -> None:
    id = stage.approve(stage.order())
    page = await (await stage.window(browser, None)).new_page()
    await page.goto(stage.trackers[id])
    await expect(page.locator("#connection")).to_have_text("Live")
    await page.evaluate(LISTEN)
    for _ in range(CHANGES):
        await asyncio.to_thread(stage.staff, f"/api/operations/{id}/pause")
        await asyncio.to_thread(stage.staff, f"/api/operations/{id}/resume")
    await asyncio.to_thread(stage.staff, f"/api/operations/{id}/pause")
    await expect(page.locator("#announcer")).to_have_text("Your order is on hold for a moment")
    told = await page.evaluate("window.told")
    times = [at for at, _ in told]
    assert len(told) < CHANGES
    assert all(later - earlier > REST_MS - 100 for earlier, later in pairwise(times))
