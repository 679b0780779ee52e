"""Days in the shop as those see them who are in it: two of staff at once, an answer that reaches the customer, many
orders that went wrong together."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.async_api import Browser, Page, Route, expect

from orderup.web.tokens import Role
from tests.journeys.browser.stage import Stage
from tests.journeys.windows import PHONE

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("days")) as stage:
        yield stage


async def desk_of(stage: Stage, browser: Browser, name: str, path: str) -> Page:
    """What one of staff has before him."""
    page = await (await stage.window(browser, Role.STAFF, name=name)).new_page()
    await page.goto(f"{stage.server.back}{path}")
    return page


async def tracker_of(stage: Stage, browser: Browser, id: str) -> Page:
    page = await (await stage.window(browser, None, viewport=PHONE)).new_page()
    await page.goto(stage.trackers[id])
    return page


async def test_of_two_who_answer_at_once_one_is_first_and_the_other_is_told_who(stage: Stage, browser: Browser) -> None:
    id = stage.order()
    both = asyncio.Barrier(2)

    async def go_together(route: Route) -> None:
        await both.wait()
        await route.continue_()

    names = ("ann", "bo")
    desks = [await desk_of(stage, browser, name, "/inbox") for name in names]
    for desk in desks:
        await desk.route(f"**/inbox/{id}", go_together)
    await asyncio.gather(*(desk.locator(f"#rfa-{id}").get_by_role("button", name="Approve").click() for desk in desks))
    told = [await desk.locator("main").inner_text() for desk in desks]
    [second] = [index for index, text in enumerate(told) if "Already approved" in text]
    assert f"{names[1 - second]} was first" in told[second]
    assert "Your answer changed nothing." in told[second]
    assert stage.status(id) == "running"
    await expect(desks[1 - second].locator(f"#rfa-{id}")).to_have_count(0)


async def test_what_one_has_answered_leaves_the_others_screen(stage: Stage, browser: Browser) -> None:
    id = stage.order()
    desk = await desk_of(stage, browser, "ann", "/inbox")
    await expect(desk.locator(f"#rfa-{id}")).to_be_visible()
    await asyncio.to_thread(stage.approve, id)
    await expect(desk.locator(f"#rfa-{id}")).to_have_count(0)


async def test_the_customer_reads_why_his_order_was_declined(stage: Stage, browser: Browser) -> None:
    id = stage.order()
    tracker = await tracker_of(stage, browser, id)
    await expect(tracker.locator("#connection")).to_have_text("Live")
    desk = await desk_of(stage, browser, "ann", "/inbox")
    asked = desk.locator(f"#rfa-{id}")
    await asked.get_by_label("Note").fill("The oven is cold today.")
    await asked.get_by_role("button", name="Decline").click()
    await expect(tracker.locator("#headline")).to_contain_text("Declined")
    await expect(tracker.locator("#headline")).to_contain_text("“The oven is cold today.”")
    await expect(tracker.get_by_role("button", name="Cancel the order")).to_have_count(0)


async def test_the_customer_is_told_that_nobody_answered_in_time(stage: Stage, browser: Browser) -> None:
    tracker = await tracker_of(stage, browser, await asyncio.to_thread(stage.expired_order))
    await expect(tracker.locator("#headline")).to_contain_text("Nobody answered your request in time, so it was closed")
    await expect(tracker.locator("#stages [data-state=stopped] .what").first).to_have_text("Expired")
    await expect(tracker.get_by_role("button", name="Cancel the order")).to_have_count(0)


def break_many(stage: Stage, count: int) -> list[str]:
    """Orders that went wrong for good."""
    with ThreadPoolExecutor(8) as hands:
        ids = list(hands.map(lambda _: stage.approve(stage.order(tier="standard")), range(count)))
        broken = set[str]()
        while len(broken) < count:
            tasks = stage.claim_many("make_dough", most=50)
            for _ in hands.map(lambda task: stage.work(task, "fail", error="flour ran out", final=True), tasks):
                pass
            broken |= {task["id"] for task in tasks}
    return ids


async def test_two_hundred_that_went_wrong_are_retried_with_one_press(stage: Stage, browser: Browser) -> None:
    await asyncio.to_thread(break_many, stage, 200)
    desk = await desk_of(stage, browser, "ann", "/operations?status=errored")
    await desk.get_by_role("button", name="Retry all that are like this").click()
    await expect(desk.get_by_role("heading", level=1)).to_have_text("Retry 200 operations?")
    await desk.get_by_role("button", name="Retry them").click()
    await expect(desk.get_by_role("heading", level=1)).to_have_text("200 retried")
    await desk.get_by_role("link", name="Back to the operations").click()
    await expect(desk.get_by_text("No operation is like this.")).to_be_visible()
    await desk.goto(f"{stage.server.back}/")
    await expect(desk.locator("#count-errored strong")).to_have_text("0")
