"""How words fit into tables, and pages into windows; and times as the reader's clock shows them."""

from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, expect

from orderup.web.tokens import Role
from tests.journeys.browser.stage import STEPS, Stage
from tests.journeys.browser.test_accessibility import WIDER
from tests.journeys.windows import PHONE

pytestmark = pytest.mark.asyncio(loop_scope="module")
# Words of a table's cells that do not lie on one line. A long one, without blanks, may.
TORN = """(cells) => [...document.querySelectorAll(cells)].flatMap((cell) => {
  const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), torn = [], range = document.createRange();
  while (texts.nextNode()) {
    for (const word of texts.currentNode.data.matchAll(/(?<![\\w.])[\\w.]{2,30}(?![\\w.])/g)) {
      range.setStart(texts.currentNode, word.index);
      range.setEnd(texts.currentNode, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map((each) => each.top)).size > 1) torn.push(word[0]);
    }
  }
  return torn;
})"""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("words")) as stage:
        yield stage


async def test_words_in_tables_stay_whole_and_no_page_is_wider_than_its_window(stage: Stage, browser: Browser) -> None:
    id = stage.approve(stage.order(name="Quattro stagioni"))
    stage.make(*STEPS)
    failed = stage.approve(stage.order(name="N" * 60))
    stage.work(stage.claim(STEPS[0]), "fail", error="the mixer is on fire, and so is what is in it", final=True)
    page = await (await stage.window(browser, Role.STAFF)).new_page()
    paths = ("operations", f"operations/{id}", f"operations/{failed}", "queues", "workers", "schedules")
    found = []
    for path in paths:
        await page.goto(f"{stage.server.back}/{path}")
        for width in (1280, 390):
            await page.set_viewport_size({"width": width, "height": 800})
            found += [f"{path}, {width}: {word}" for word in await page.evaluate(TORN, ".rows td")]
            assert await page.evaluate(WIDER) <= 0, (path, width)
    assert found == []


@pytest.mark.parametrize("path", ["campaigns", "tasks"])
async def test_on_a_phone_an_empty_table_says_so_in_whole_words(stage: Stage, browser: Browser, path: str) -> None:
    page = await (await stage.window(browser, Role.STAFF, viewport=PHONE)).new_page()
    await page.goto(f"{stage.server.back}/campaigns/{path}")
    empty = page.locator("td.empty")
    await expect(empty).to_contain_text("There is no")
    box = await empty.bounding_box()
    assert box is not None
    assert box["height"] < 200
    assert await page.evaluate(TORN, "td.empty") == []


async def test_on_a_phone_the_first_page_has_room_for_large_letters(stage: Stage, browser: Browser) -> None:
    page = await (await stage.window(browser, None, viewport=PHONE)).new_page()
    await page.goto(f"{stage.server.front}/")
    await page.evaluate("() => { document.documentElement.style.fontSize = '200%'; }")
    assert await page.evaluate(WIDER) <= 0


async def test_a_time_of_another_day_says_which(stage: Stage, browser: Browser) -> None:
    tracker = stage.trackers[stage.order()]
    page = await (await stage.window(browser, None, locale="en-GB", timezone_id="Asia/Tokyo")).new_page()
    await page.goto(tracker)
    placed = page.locator(".stages time").first
    today = await placed.inner_text()
    assert len(today) == len("12:34"), "in the reader's zone, which needs no name"
    later = await (await stage.window(browser, None, locale="en-GB", timezone_id="Asia/Tokyo")).new_page()
    await later.clock.install(time=await page.evaluate("() => Date.now() + 2 * 86400000"))
    await later.goto(tracker)
    await expect(later.locator(".stages time").first).to_have_text(
        await page.evaluate(
            """() => new Date(document.querySelector(".stages time").dateTime).toLocaleString([],
              { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit" })"""
        )
    )


async def test_next_and_last_of_a_schedule_are_in_the_same_zone(stage: Stage, browser: Browser) -> None:
    page = await (await stage.window(browser, Role.STAFF)).new_page()
    await page.goto(f"{stage.server.back}/schedules")
    nexts = page.locator("td[data-label=Next]")
    assert await nexts.count() > 0
    assert await nexts.locator("time[data-date]").count() >= await nexts.count()
