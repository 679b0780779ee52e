"""The campaign desk in a real browser: staff at their desks, and on phones."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.async_api import Browser, FilePayload, Page, expect

from orderup.shops.campaigns.import_pages import sample
from orderup.web.tokens import Role
from tests.journeys.browser.stage import Stage
from tests.journeys.browser.test_keyboard import tab_to
from tests.journeys.windows import PHONE

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("campaigns")) as stage:
        stage.open_platform()
        yield stage


def file(text: str) -> FilePayload:
    return {"name": "campaigns.csv", "mimeType": "text/csv", "buffer": text.encode()}


async def desk(stage: Stage, browser: Browser, path: str, **options: Any) -> Page:
    """Staff's, who agrees to whatever he is asked."""
    page = await (await stage.window(browser, Role.STAFF, **options)).new_page()
    page.on("dialog", lambda dialog: dialog.accept())
    await page.goto(f"{stage.server.back}/campaigns/{path}")
    return page


async def test_a_file_is_imported_by_the_keyboard_alone_and_its_campaigns_come_to_their_end(
    stage: Stage, browser: Browser
) -> None:
    board = await desk(stage, browser, "campaigns", viewport=PHONE)
    await expect(board.locator("#connection")).to_have_text("Live")
    page = await desk(stage, browser, "imports")
    await tab_to(page, "A CSV of campaigns")
    await page.get_by_label("A CSV of campaigns").set_input_files(file(sample()))  # the window of files is no page's
    await tab_to(page, "All or nothing")
    await page.keyboard.press("Space")
    await tab_to(page, "Read it")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("campaigns.csv")
    await expect(page.locator("#counts")).to_contain_text("nothing is imported")
    await tab_to(page, "Import 2 campaigns")
    await page.keyboard.press("Enter")
    await expect(page.locator("#state")).to_contain_text("2 campaigns are here and will be submitted.")
    await expect(board.get_by_role("link", name="Spring")).to_be_visible()
    await expect(board.locator("tr").filter(has_text="sample-spring")).to_contain_text("8 of 8 stand")
    await page.get_by_role("link", name="sample-summer").click()
    await expect(page.locator("#head")).to_contain_text("completed")
    await expect(page.locator("#progress")).to_contain_text("4 of 4 stand")


async def test_without_javascript_a_file_is_imported_too(stage: Stage, browser: Browser) -> None:
    page = await desk(stage, browser, "imports", java_script_enabled=False)
    await page.get_by_label("A CSV of campaigns").set_input_files(file(sample().replace("sample-", "plain-")))
    await page.get_by_role("button", name="Read it").click()
    await page.get_by_role("button", name="Import 2 campaigns").click()
    await page.get_by_role("link", name="Campaigns", exact=True).click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Campaigns")


async def test_a_file_that_is_none_is_told_beside_its_field(stage: Stage, browser: Browser) -> None:
    page = await desk(stage, browser, "imports")
    field = page.get_by_label("A CSV of campaigns")
    await field.set_input_files(file("a;b\n"))
    await page.get_by_role("button", name="Read it").click()
    await expect(page.get_by_role("alert")).to_be_visible()
    await expect(field).to_have_attribute("aria-invalid", "true")


async def test_what_fails_shows_up_by_itself_and_what_somebody_has_folded_stays_so(
    stage: Stage, browser: Browser
) -> None:
    await asyncio.to_thread(stage.staff, "/api/queues/campaigns/follow/pause")
    id = await asyncio.to_thread(lambda: stage.campaign("autumn", rejected="g2"))
    page = await desk(stage, browser, f"campaigns/{id}")
    await expect(page.locator("#connection")).to_have_text("Live")
    first, second = page.locator("#group-1"), page.locator("#group-2")
    await first.locator("summary").click()
    await expect(first).not_to_have_attribute("open", "")
    await asyncio.to_thread(stage.staff, "/api/queues/campaigns/follow/resume")
    await expect(page.get_by_role("heading", name="1 thing needs you")).to_be_visible()
    await expect(second.locator("summary")).to_contain_text("rejected")
    await expect(page.locator("#progress")).to_contain_text("4 of 7 stand")
    await expect(page.locator("#announcer")).to_contain_text("errored")
    await expect(first).not_to_have_attribute("open", "")
    await expect(second).to_have_attribute("open", "")


async def test_a_person_says_what_became_of_something_and_what_he_types_stays_while_things_happen(
    stage: Stage, browser: Browser
) -> None:
    id = await asyncio.to_thread(lambda: stage.ended_campaign("winter", groups=1, ads=1, loses="submit_ad"))
    page = await desk(stage, browser, f"campaigns/{id}", viewport=PHONE)
    field = page.get_by_label("The platform has it; its id there is")
    there, not_there = [
        await page.get_by_role("button", name=name).bounding_box()
        for name in ("The platform has it", "does not have it")
    ]
    assert there is not None
    assert not_there is not None
    assert not_there["y"] - there["y"] - there["height"] >= 8, "one is not hit for the other"
    await field.press_sequentially("ad-")
    await asyncio.to_thread(stage.staff, "/api/queues/campaigns/submit/pause")
    await asyncio.to_thread(stage.staff, f"/api/operations/{id}/retry")
    await expect(page.locator("#head")).to_contain_text("running")
    await expect(field).to_have_value("ad-")
    await asyncio.to_thread(stage.staff, "/api/queues/campaigns/submit/resume")
    await expect(page.locator("#head")).to_contain_text("errored")
    await expect(field).to_have_value("ad-")
    await page.get_by_role("button", name="The platform does not have it, submit it: Ad g1a1").click()
    await expect(page.locator("#head")).to_contain_text("completed")
    await expect(page.locator("#faults")).to_be_empty()
