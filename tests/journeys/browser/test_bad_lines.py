"""However bad the line was, in the end a page shows what whoever opens it anew is shown."""

import asyncio
import re
from collections.abc import Iterator, Sequence

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from orderup.web.tokens import Role
from tests.journeys.browser.lines import BadLine, door
from tests.journeys.browser.stage import STEPS, Stage, same_as_anew

pytestmark = pytest.mark.asyncio(loop_scope="module")
LINES, AT_ONCE = 50, 10
LIVE = re.compile("/live")
LOOK_EVERY_MS = 15_000
# What the requests say that a door refuses.
SOCKET, STREAM = b"Upgrade: websocket", b"text/event-stream"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("lines")) as stage:
        yield stage


async def open_badly(context: BrowserContext, url: str, line: BadLine) -> Page:
    page = await context.new_page()
    await page.route_web_socket(LIVE, line.lead)
    await page.route(re.compile(re.escape(url)), line.answer_late)
    await page.goto(url)
    return page


def lead_to_their_end(stage: Stage, ids: Sequence[str]) -> None:
    """Approved, put on hold now and then, made, delivered."""
    for number, id in enumerate(ids):
        stage.approve(id)
        if number % 2:
            stage.staff(f"/api/operations/{id}/pause")
            stage.staff(f"/api/operations/{id}/resume")
    stage.make(*STEPS, orders=len(ids))


@pytest.mark.timeout(400)
async def test_a_page_on_a_bad_line_ends_as_one_that_is_opened_anew(stage: Stage, browser: Browser, seed: int) -> None:
    """Fifty lines. Half of the pages are the customers', half are staff's. A seed that fails is named with them."""
    context = await stage.window(browser, Role.STAFF)
    for first in range(seed, seed + LINES, AT_ONCE):
        lines = [BadLine(each) for each in range(first, first + AT_ONCE)]
        ids = [await asyncio.to_thread(stage.order) for _ in lines]
        addresses = [
            f"{stage.server.back}/operations/{id}" if line.seed % 2 else stage.trackers[id]
            for line, id in zip(lines, ids, strict=True)
        ]
        pages = [await open_badly(context, url, line) for url, line in zip(addresses, lines, strict=True)]
        await asyncio.to_thread(lead_to_their_end, stage, ids)
        for line, page in zip(lines, pages, strict=True):
            line.mend()
            print(f"ORDERUP_TEST_SEED={line.seed}")
            await same_as_anew([page])
            await page.unroute_all(behavior="ignoreErrors")
            await page.close()


async def open_by_door(context: BrowserContext, stage: Stage, id: str, port: int) -> Page:
    page = await context.new_page()
    await page.clock.install()
    await page.goto(stage.trackers[id].replace(str(stage.server.front_port), str(port)))
    return page


async def test_where_no_socket_is_let_through_a_page_hears_by_a_stream(stage: Stage, browser: Browser) -> None:
    context, id = await stage.window(browser, None), await asyncio.to_thread(stage.order)
    async with door(stage.server.front_port, refusing=[SOCKET]) as port:
        page = await open_by_door(context, stage, id, port)
        await expect(page.locator("#connection")).to_have_text("Live")
        await asyncio.to_thread(lead_to_their_end, stage, [id])
        await expect(page.locator("#headline")).to_contain_text("Delivered")
        await same_as_anew([page])
        await context.close()


async def test_where_no_stream_is_let_through_either_a_page_looks_every_fifteen_seconds(
    stage: Stage, browser: Browser
) -> None:
    context, id = await stage.window(browser, None), await asyncio.to_thread(stage.order)
    async with door(stage.server.front_port, refusing=[SOCKET, STREAM]) as port:
        page = await open_by_door(context, stage, id, port)
        await expect(page.locator("#connection")).to_contain_text("Reconnecting, last news")
        await asyncio.to_thread(stage.approve, id)
        await page.clock.fast_forward(LOOK_EVERY_MS)
        await expect(page.locator("#headline")).to_contain_text("Approved")
        await asyncio.to_thread(stage.make, *STEPS)
        await page.clock.fast_forward(LOOK_EVERY_MS)
        await expect(page.locator("#headline")).to_contain_text("Delivered")
        await expect(page.locator("#connection")).to_contain_text("Reconnecting, last news")
        await same_as_anew([page])
        await context.close()
