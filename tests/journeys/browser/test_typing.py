"""Who writes is not disturbed: text, caret and focus stay while the page around them changes; and where an item leaves,
the focus goes to the next one."""

import asyncio
from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from orderup.web.tokens import Role
from tests.journeys.browser.stage import STEPS, Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")
EVENTS = 50
# Text, and from where to where it is chosen.
WRITTEN = "(it) => [it.value, it.selectionStart, it.selectionEnd]"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("typing")) as stage:
        yield stage


async def open_inbox(stage: Stage, browser: Browser) -> Page:
    page = await (await stage.window(browser, Role.STAFF)).new_page()
    await page.goto(f"{stage.server.back}/inbox")
    await expect(page.locator("#connection")).to_have_text("Live")
    return page


def card(page: Page, id: str) -> Locator:
    return page.locator(f"#rfa-{id}")


def much_happens(stage: Stage, other: str) -> str:
    """Another request is answered, and made; new ones come. The last of them."""
    stage.approve(other)
    stage.make(*STEPS)
    for _ in range(EVENTS - 1):
        stage.staff(f"/api/operations/{stage.order()}/cancel")
    return stage.order()


async def test_what_somebody_writes_stays_with_its_caret_while_fifty_events_come(
    stage: Stage, browser: Browser
) -> None:
    other, id = stage.order(), stage.order()
    page = await open_inbox(stage, browser)
    note = card(page, id).get_by_label("Note")
    await note.press_sequentially("We are of basil.")
    for _ in "of basil.":
        await page.keyboard.press("ArrowLeft")
    await page.keyboard.press("Shift+ArrowLeft")  # the blank before it is chosen
    before = await note.evaluate(WRITTEN)
    last = await asyncio.to_thread(much_happens, stage, other)
    await expect(card(page, last)).to_be_visible()
    await expect(card(page, other)).to_have_count(0)
    await expect(note).to_be_focused()
    assert await note.evaluate(WRITTEN) == before
    await page.keyboard.type(" out ")
    await expect(note).to_have_value("We are out of basil.")
    await card(page, id).get_by_role("button", name="Decline").click()
    rfa = stage.call(Role.STAFF, "GET", f"{stage.server.back}/api/rfas/{id}")
    assert rfa["notes"] == "We are out of basil."


async def test_what_is_being_written_stays_though_somebody_else_has_answered(stage: Stage, browser: Browser) -> None:
    id = stage.order()
    page = await open_inbox(stage, browser)
    note = card(page, id).get_by_label("Note")
    await note.press_sequentially("The oven is cold.")
    await asyncio.to_thread(stage.approve, id)
    later = await asyncio.to_thread(stage.order)
    await expect(card(page, later)).to_be_visible()
    await expect(note).to_have_value("The oven is cold.")
    await card(page, id).get_by_role("button", name="Decline").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Already approved")
    await expect(page.locator("main")).to_contain_text("ann was first")
    await expect(page.locator("main")).to_contain_text("“The oven is cold.”")


async def test_where_an_item_leaves_the_next_one_has_the_focus(stage: Stage, browser: Browser) -> None:
    ids = [stage.order() for _ in range(3)]
    page = await open_inbox(stage, browser)
    first, second, third = [card(page, id) for id in ids]
    await second.focus()
    await asyncio.to_thread(stage.approve, ids[1])
    await expect(second).to_have_count(0)
    await expect(third).to_be_focused()
    await third.get_by_role("button", name="Approve").focus()
    await asyncio.to_thread(stage.approve, ids[0])
    await expect(first).to_have_count(0)
    await expect(third.get_by_role("button", name="Approve")).to_be_focused()
