"""The coffee bar's pages by HTTP, as a browser without JavaScript uses them, and what keeps an order of a page."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import httpx2
import pytest
from websockets.asyncio.client import connect

from orderup.cli.assembly import make_engine
from orderup.db.connect import open_database
from orderup.engine.engine import Engine
from orderup.engine.lines import Lines
from orderup.model.line import rank_of
from orderup.shops.coffee import shop
from orderup.shops.coffee.line import Standing
from orderup.shops.coffee.plan import QUEUE
from orderup.web.fair_use import TOLD
from tests.shops.coffee.barista import PATIENCE_SECONDS, CoffeeBar, open_bar, settings_of
from tests.web.house import SECRET
from tests.web.pages.reading import buttons, words_of

# How long an order of a page is kept: less than a test waits, and time enough to look at it.
AT_ONCE, SOME_TIME = 0.2, 3


async def first_page(bar: CoffeeBar) -> tuple[str, str]:
    """What it says, and the key of its form."""
    page = await bar.client.get(f"{bar.front}/")
    assert page.status_code == 200, page.text
    [key] = re.findall(r'<input type="hidden" name="key" value="(\w+)">', page.text)
    return words_of(page.text), key


async def press(bar: CoffeeBar, key: str | None = None) -> httpx2.Response:
    """The button that orders."""
    return await bar.client.post(f"{bar.front}/", data={"key": key or (await first_page(bar))[1]})


async def ordered(bar: CoffeeBar) -> str:
    """The address of the tracker."""
    answer = await press(bar)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


async def look(bar: CoffeeBar, tracker: str) -> str:
    page = await bar.client.get(tracker)
    assert page.status_code == 200, page.text
    return words_of(page.text)


async def until(fact: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await fact():  # noqa: ASYNC110  # it is asked for over HTTP
            await asyncio.sleep(0.02)


async def until_it_says(bar: CoffeeBar, tracker: str, words: str) -> None:
    async def says() -> bool:
        return words in await look(bar, tracker)

    await until(says)


async def test_one_button_orders_and_leads_to_the_place_in_the_line(bar: CoffeeBar) -> None:
    assert "Nobody waits now" in (await first_page(bar))[0]
    first = await look(bar, await ordered(bar))
    assert "You are next" in first
    assert "Your number" in first
    second = await look(bar, await ordered(bar))
    assert "1 is before you" in second
    assert "2 wait now" in (await first_page(bar))[0]


async def test_a_form_that_is_sent_twice_orders_once(bar: CoffeeBar) -> None:
    _, key = await first_page(bar)
    answers = await asyncio.gather(*(press(bar, key) for _ in range(4)))
    assert {answer.status_code for answer in answers} == {303}
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert len(await bar.open_orders()) == 1


async def test_customers_of_both_kinds_wait_in_one_line(one_bar: CoffeeBar) -> None:
    by_request = await one_bar.order()
    tracker = await ordered(one_bar)
    assert "1 is before you" in await look(one_bar, tracker)
    await one_bar.serve()
    await by_request.coffee()
    await until_it_says(one_bar, tracker, "You are next")


async def test_the_page_says_what_becomes_of_the_order(one_bar: CoffeeBar) -> None:
    tracker = await ordered(one_bar)
    order_id = await one_bar.start()
    page = await one_bar.client.get(tracker)
    assert "Your coffee is being brewed" in words_of(page.text)
    assert "Cancel the order" not in buttons(page.text)
    await one_bar.finish(order_id)
    ready = await one_bar.client.get(tracker)
    assert "Ready: come and get your coffee" in words_of(ready.text)
    assert "Order another one" in ready.text
    told = (await one_bar.client.get(tracker.replace("/track/", "/orders/"))).json()
    assert (told["id"], told["status"]) == (order_id, "completed")


async def test_customers_are_told_while_the_bar_is_on_hold(one_bar: CoffeeBar) -> None:
    tracker = await ordered(one_bar)
    assert "on hold" not in await look(one_bar, tracker)
    for verb, is_on_hold in (("pause", True), ("resume", False)):
        answer = await one_bar.client.post(f"{one_bar.back}/api/queues/{QUEUE}/{verb}")
        assert answer.status_code == 200, answer.text
        assert ("You are next. The bar is on hold for a moment" in await look(one_bar, tracker)) is is_on_hold
        assert ("who orders waits until it goes on" in (await first_page(one_bar))[0]) is is_on_hold
    await one_bar.serve()
    assert "on hold" not in await look(one_bar, tracker)


async def test_who_waits_reads_that_he_leaves_with_his_page(one_bar: CoffeeBar) -> None:
    tracker = await ordered(one_bar)
    assert "whoever closes it leaves the line" in await look(one_bar, tracker)
    assert "Keep its address" not in await look(one_bar, tracker)
    await one_bar.serve()
    assert "whoever closes it leaves the line" not in await look(one_bar, tracker)


async def test_a_page_without_javascript_is_loaded_again_until_it_has_ended(one_bar: CoffeeBar) -> None:
    tracker = await ordered(one_bar)
    refresh = '<noscript><meta http-equiv="refresh"'
    assert refresh in (await one_bar.client.get(tracker)).text
    await one_bar.serve()
    assert refresh not in (await one_bar.client.get(tracker)).text


async def test_an_order_can_be_cancelled_until_it_was_started(one_bar: CoffeeBar) -> None:
    tracker, other = await ordered(one_bar), await ordered(one_bar)
    cancelled = await one_bar.client.post(tracker.replace("/track/", "/cancel/"), data={})
    assert cancelled.status_code == 303
    assert "Your order has left the line" in await look(one_bar, tracker)
    assert await one_bar.start() is not None
    refused = await one_bar.client.post(other.replace("/track/", "/cancel/"), data={})
    assert refused.status_code == 409
    assert "it cannot be cancelled any more" in words_of(refused.text)
    refused = await one_bar.client.delete(other.replace("/track/", "/orders/"))
    assert refused.status_code == 409


async def test_an_order_that_nobody_looks_at_leaves_the_line(file_url: str) -> None:
    async with open_bar(settings_of(file_url, coffee_keep_seconds=AT_ONCE)) as bar:
        tracker = await ordered(bar)
        await bar.until_open(0)
        assert "Your order has left the line" in await look(bar, tracker)


async def test_each_look_keeps_the_order_for_a_while_again(file_url: str) -> None:
    """One that is looked at is there when another, which was placed later, has left."""
    async with open_bar(settings_of(file_url, coffee_keep_seconds=SOME_TIME)) as bar:
        tracker, _ = await ordered(bar), await ordered(bar)

        async def is_alone() -> bool:
            nonlocal tracker
            await look(bar, tracker)
            found = len(await bar.open_orders())
            if not found:  # this machine stood still for longer than an order is kept: once more
                tracker, _ = await ordered(bar), await ordered(bar)
            return found == 1

        await until(is_alone)
        assert "You are next" in await look(bar, tracker)


@asynccontextmanager
async def by_websocket(_bar: CoffeeBar, tracker: str) -> AsyncIterator[None]:
    address = tracker.replace("/track/", "/orders/").replace("http", "ws", 1)
    async with connect(f"{address}/live") as socket:
        await socket.recv()
        yield


@asynccontextmanager
async def by_events(bar: CoffeeBar, tracker: str) -> AsyncIterator[None]:
    async with bar.client.stream("GET", f"{tracker.replace('/track/', '/orders/')}/events") as stream:
        lines = stream.aiter_lines()
        await anext(lines)
        yield


@pytest.mark.parametrize("follow", [by_websocket, by_events])
async def test_an_order_stays_as_long_as_its_page_is_followed_live_and_leaves_a_while_after(
    file_url: str, follow: Callable[[CoffeeBar, str], AbstractAsyncContextManager[None]]
) -> None:
    async with open_bar(settings_of(file_url, coffee_keep_seconds=SOME_TIME)) as bar, AsyncExitStack() as stack:
        tracker = await ordered(bar)
        await stack.enter_async_context(follow(bar, tracker))
        await ordered(bar)  # which nobody looks at, and which leaves when this one would have left
        await bar.until_open(1)
        assert tracker.endswith(f"/{(await bar.open_orders())[0]}")
        await stack.aclose()
        await bar.until_open(0)


async def test_who_looks_at_another_process_keeps_his_place_though_the_first_one_forgets_him(database_url: str) -> None:
    async with (
        open_bar(settings_of(database_url, coffee_keep_seconds=SOME_TIME)) as first,
        open_bar(settings_of(database_url)) as second,
    ):
        tracker, _ = await ordered(first), await ordered(first)
        elsewhere = tracker.replace(first.front, second.front)
        assert "You are next" in await look(second, elsewhere)
        await second.until_open(1)  # the other one has left
        assert "You are next" in await look(second, elsewhere)


async def test_who_has_as_many_orders_as_anybody_may_is_told_on_a_page(file_url: str) -> None:
    async with open_bar(settings_of(file_url, client_open_orders=1)) as bar:
        await ordered(bar)
        refused = await press(bar)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        assert "as many as anybody may have" in words_of(refused.text)
        assert len(await bar.open_orders()) == 1


async def test_who_presses_on_all_the_same_is_told_on_a_page_each_time(file_url: str) -> None:
    async with open_bar(settings_of(file_url, client_open_orders=1)) as bar:
        await ordered(bar)
        answers = [await press(bar) for _ in range(2 * TOLD)]
        assert {answer.status_code for answer in answers} == {429}
        assert all("Retry-After" in answer.headers for answer in answers)


async def test_an_order_that_has_ended_counts_no_more(file_url: str) -> None:
    async with open_bar(settings_of(file_url, client_open_orders=1)) as bar:
        for _ in range(3):
            tracker = await ordered(bar)
            assert await bar.serve() in tracker


async def test_with_a_secret_key_the_address_of_the_page_opens_it_and_nothing_else_does(file_url: str) -> None:
    async with open_bar(settings_of(file_url, secret_key=SECRET)) as bar:
        tracker = await ordered(bar)
        assert "You are next" in await look(bar, tracker)
        bare, _, key = tracker.partition("?")
        assert key.startswith("key=")
        assert (await bar.client.get(bare)).status_code == 401
        assert (await bar.client.get(f"{bare}?key=another")).status_code == 404


# Baristas


async def test_the_station_tells_how_many_wait_and_the_longest_wait(one_bar: CoffeeBar) -> None:
    found = await one_bar.client.get(f"{one_bar.back}/barista")
    assert (found.status_code, found.headers["location"]) == (303, "/station/coffee/brew")
    station = f"{one_bar.back}{found.headers['location']}"
    assert "the longest for" not in words_of((await one_bar.client.get(station)).text)
    for _ in range(2):
        await ordered(one_bar)
    assert re.search(r"2 wait , the longest for \d+ s", words_of((await one_bar.client.get(station)).text))


async def test_at_the_station_a_coffee_is_ready_though_its_lease_ran_out(file_url: str) -> None:
    settings = settings_of(
        file_url, coffee_lease_seconds=2, station_lease_seconds=2, lease_seconds=4, heartbeat_seconds=2
    )
    async with open_bar(settings) as bar:
        tracker = await ordered(bar)
        station = f"{bar.back}/station/coffee/brew"
        taken = await bar.client.post(station, data={"verb": "take"})
        assert taken.status_code == 303
        order_id = tracker.rpartition("/")[2]

        async def is_lost() -> bool:
            page = await bar.client.get(station)
            return "It is done" in buttons(page.text)

        await until(is_lost)
        page = (await bar.client.get(station)).text
        [(action, token)] = re.findall(
            rf'<form id="late-{order_id}-0" method="post" action="([^"]*)">\s*'
            r'<input type="hidden" name="token" value="(\w+)">',
            page,
        )
        done = await bar.client.post(f"{bar.back}{action}", data={"token": token, "verb": "done"})
        assert done.status_code == 303
        assert "Ready: come and get your coffee" in await look(bar, tracker)


# The place in the line


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def line_up(lines: Lines, count: int) -> None:
    for number in range(count):
        rank = rank_of(priority=0, since=number, came_back=False)
        lines.line(QUEUE).add((number, 0), client=f"client {number}", rank=rank)


async def test_places_are_worked_out_once_a_second_and_who_came_since_is_last(lined_up: Engine) -> None:
    clock, lines = Clock(), lined_up.lines
    assert lines is not None
    standing = Standing(lined_up, monotonic=clock)
    line_up(lines, 3)
    clock.seconds = 10
    assert [standing.before(number) for number in range(4)] == [0, 1, 2, None]
    lines.line(QUEUE).take()
    lines.line(QUEUE).add((7, 0), client="new", rank=rank_of(priority=0, since=7, came_back=False))
    assert [standing.before(number) for number in (0, 1, 7)] == [None, 1, 2]
    clock.seconds = 11.5
    assert [standing.before(number) for number in (1, 2, 7)] == [0, 1, 2]


@pytest.fixture
async def lined_up(file_url: str) -> AsyncIterator[Engine]:
    """An engine that does not run: nobody but the test moves its lines."""
    settings = settings_of(file_url)
    database = open_database(settings.database_url, shops=[shop])
    await database.open()
    yield make_engine(settings, database, [shop])
    await database.close()
