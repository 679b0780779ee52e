"""Following the log: first what there was, then what comes; nothing twice, nothing missing, in order."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from itertools import pairwise
from random import Random

import pytest
from sqlalchemy import select

from orderup.db.tables import events
from orderup.engine.feed import MOST_HELD
from orderup.engine.place import place_order
from orderup.engine.steer import cancel_operation
from orderup.errors import Conflict
from orderup.model.event import Audience, Event
from orderup.model.operation import Operation
from tests.engine.conftest import Doors
from tests.engine.kitchen import CHAIN, DOUGH, KINDS, SHOP, Kitchen, Time
from tests.services.waiting import PATIENCE_SECONDS

Until = Callable[[Event], bool]


@asynccontextmanager
async def following(*kitchens: Kitchen) -> AsyncIterator[None]:
    """Everything in it has to happen in time."""
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        running = [group.create_task(kitchen.engine.run()) for kitchen in kitchens]
        yield
        for task in running:
            task.cancel()


async def heard(kitchen: Kitchen, until: Until, **options: object) -> list[Event]:
    """What a follower hears, up to the first such event."""
    told: list[Event] = []
    async with aclosing(kitchen.engine.feed.follow(**options)) as batches:  # type: ignore[arg-type]
        async for batch in batches:
            for event in batch:
                told.append(event)
                if until(event):
                    return told
    return told


def number(count: int) -> Until:
    """True of the last of so many events that it is asked about."""
    left = count

    def until(_event: Event) -> bool:
        nonlocal left
        left -= 1
        return not left

    return until


def ends(order: Operation) -> Until:
    return lambda event: event.operation_id == order.id and event.type == "operation.completed"


async def the_log(kitchen: Kitchen, *, after: int = 0) -> list[int]:
    statement = select(events.c.seq).where(events.c.seq > after).order_by(events.c.seq)
    return [row[0] for row in await kitchen.database.read(lambda connection: connection.rows(statement))]


async def do_all(kitchen: Kitchen) -> None:
    for kind in ("dough", "top", "bake"):
        await kitchen.do(kind)


async def test_what_there_was_comes_first_and_then_what_comes(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    await kitchen.do("dough")
    async with following(kitchen):
        listening = asyncio.ensure_future(heard(kitchen, ends(order), audience=Audience.STAFF))
        await kitchen.do("top")
        await kitchen.do("bake")
        told = await listening
    assert [event.n for event in told] == list(range(1, 9))
    assert told == await kitchen.events(order)


async def test_a_follower_that_comes_back_gets_exactly_what_it_missed(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    async with following(kitchen):
        first = await heard(kitchen, number(1), audience=Audience.STAFF)
        await do_all(kitchen)
        rest = await heard(kitchen, ends(order), after=first[-1].seq, audience=Audience.STAFF)
    assert [*first, *rest] == await kitchen.events(order)


async def test_who_asks_from_the_end_hears_only_of_what_comes(kitchen: Kitchen) -> None:
    await kitchen.place(CHAIN)
    async with following(kitchen):
        listening = asyncio.ensure_future(heard(kitchen, number(1), after=await kitchen.database.end_of_log()))
        later = await kitchen.place(DOUGH)
        [told] = await listening
    assert told.operation_id == later.id


async def test_each_audience_sees_what_those_before_it_see_and_more(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await kitchen.remember(claimed, 1)
    await kitchen.complete(claimed)
    await kitchen.do("top")
    await kitchen.do("bake")
    async with following(kitchen):
        seen = {who: [event.type for event in await heard(kitchen, ends(order), audience=who)] for who in Audience}
    for_customers = ["operation.placed", "task.started", "task.started", "task.started", "operation.completed"]
    assert seen[Audience.CUSTOMER] == for_customers
    assert [each for each in seen[Audience.STAFF] if each != "task.completed"] == for_customers
    assert [each for each in seen[Audience.INTERNAL] if each != "task.remembered"] == seen[Audience.STAFF]
    assert (len(seen[Audience.STAFF]), len(seen[Audience.INTERNAL])) == (8, 9)


@pytest.mark.parametrize("is_history", [True, False])
async def test_who_follows_one_order_hears_of_no_other(kitchen: Kitchen, *, is_history: bool) -> None:
    mine, other = await kitchen.place(CHAIN), await kitchen.place(CHAIN)
    async with following(kitchen):
        options = {"operation_id": mine.id, "audience": Audience.INTERNAL}
        if is_history:
            await finish(kitchen, other, mine)
            told = await heard(kitchen, ends(mine), **options)
        else:
            listening = asyncio.ensure_future(heard(kitchen, ends(mine), **options))
            await finish(kitchen, other, mine)
            told = await listening
    assert told == await kitchen.events(mine)


async def finish(kitchen: Kitchen, *orders: Operation) -> None:
    for kind in ("dough", "top", "bake"):
        for claimed in await kitchen.claim(kind, most=len(orders)):
            await kitchen.complete(claimed)


@pytest.mark.parametrize("is_history", [True, False])
async def test_who_follows_one_shop_hears_of_no_other(kitchen: Kitchen, *, is_history: bool) -> None:
    engine = kitchen.engine
    engine.kinds = {SHOP: KINDS, "laundry": KINDS}
    async with following(kitchen):
        if not is_history:
            listening = asyncio.ensure_future(heard(kitchen, number(2), shop="laundry"))
        for shop in (SHOP, "laundry", SHOP, "laundry"):
            await place_order(engine, shop, DOUGH)
        told = await heard(kitchen, number(2), shop="laundry") if is_history else await listening
    assert [event.shop for event in told] == ["laundry", "laundry"]


async def test_two_thousand_events_of_history_come_whole(kitchen: Kitchen) -> None:
    await asyncio.gather(*(kitchen.place(DOUGH) for _ in range(2_200)))
    async with following(kitchen):
        told = await heard(kitchen, number(2_200))
    assert [event.seq for event in told] == await the_log(kitchen)


async def test_a_follower_that_falls_far_behind_reads_the_rest_from_the_database(kitchen: Kitchen) -> None:
    count = MOST_HELD + 500
    async with following(kitchen), aclosing(kitchen.engine.feed.follow()) as batches:
        await kitchen.place(DOUGH)
        told = [event.seq for event in await anext(batches)]
        quick = asyncio.ensure_future(heard(kitchen, number(count), after=told[-1]))
        await asyncio.gather(*(kitchen.place(DOUGH) for _ in range(count)))
        assert len(await quick) == count  # by now the slow one has been handed more than it holds
        async for batch in batches:
            told += [event.seq for event in batch]
            if len(told) > count:
                break
    assert told == await the_log(kitchen)


async def test_however_slow_it_reads_no_follower_holds_more_than_its_share(kitchen: Kitchen) -> None:
    feed = kitchen.engine.feed
    async with following(kitchen), aclosing(feed.follow()) as batches:
        await kitchen.place(DOUGH)
        await anext(batches)
        waiting = [asyncio.ensure_future(kitchen.place(DOUGH)) for _ in range(2 * MOST_HELD)]
        await asyncio.gather(*waiting, heard(kitchen, number(2 * MOST_HELD + 1)))
        batch = await anext(batches)
        assert len(batch) <= MOST_HELD


@pytest.mark.parametrize("memory", [10, 10_000], ids=["far behind", "close behind"])
async def test_who_reads_step_by_step_is_given_each_event_once_from_memory_or_from_the_log(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    monkeypatch.setattr("orderup.engine.feed.MOST_RECENT", memory)
    feed, told = kitchen.engine.feed, list[int]()
    await asyncio.gather(*(kitchen.place(DOUGH) for _ in range(50)))
    log = feed.log(0)
    told += [event.seq for event in await log.read(7)]
    async with following(kitchen):
        await feed.started()
        end = log.position
        for _ in range(10):
            placed = [asyncio.ensure_future(kitchen.place(DOUGH)) for _ in range(15)]
            told += [event.seq for event in await log.read(7)]
            await asyncio.gather(*placed)
        while len(told) < 200:
            found = await log.read(7)
            assert len(found) <= 7
            told += [event.seq for event in found]
            end = found[-1].seq if found else end
            assert log.position == end
            await asyncio.sleep(0)  # what is in memory waits for nothing
        assert await log.read(7) == []
        assert feed.recent(0, 7) is None, "what there was before is not in memory"
        assert (feed.recent(told[60], 7) is None) == (memory == 10)
    assert told == await the_log(kitchen)


async def test_whoever_follows_while_four_write_and_comes_back_again_and_again_misses_and_repeats_nothing(
    doors: Doors, time: Time
) -> None:
    seed = 20_260_301
    print("seed", seed)
    random = Random(seed)
    kitchens = [Kitchen(await doors.open(), time) for _ in range(2)]
    async with following(*kitchens):
        followers = [asyncio.ensure_future(follow_with_breaks(kitchens[n % 2], Random(seed + n))) for n in range(6)]
        async with asyncio.TaskGroup() as writers:
            for each in range(4):
                writers.create_task(write(kitchens[each % 2], random.randrange(10**6)))
        last = await kitchens[0].place(DOUGH)
        await cancel_operation(kitchens[0].engine, last.id, reason=STOP)
        log = await the_log(kitchens[0])
        for told in await asyncio.gather(*followers):
            assert told == log
    assert len(log) > 300


STOP = "nobody writes any more"


async def write(kitchen: Kitchen, seed: int) -> None:
    """Place, claim, complete, cancel, several at a time."""
    random = Random(seed)
    for _ in range(15):
        orders = await asyncio.gather(*(kitchen.place(CHAIN) for _ in range(random.randrange(1, 6))))
        claimed = await kitchen.claim("dough", "top", "bake", most=random.randrange(1, 8))
        await asyncio.gather(*(kitchen.complete(each) for each in claimed), return_exceptions=True)
        if random.random() < 0.3:
            with contextlib.suppress(Conflict):  # the others may have completed it by now
                await cancel_operation(kitchen.engine, orders[0].id, reason="enough")


async def follow_with_breaks(kitchen: Kitchen, random: Random) -> list[int]:
    """Follow for a while, leave, come back with the last seq; until it is told that nobody writes any more."""
    told: list[int] = []
    while True:
        left = random.randrange(1, 60)
        after = told[-1] if told else 0
        async with aclosing(kitchen.engine.feed.follow(after=after, audience=Audience.INTERNAL)) as batches:
            async for batch in batches:
                for event in batch:
                    told.append(event.seq)
                    if event.type == "operation.cancelled" and await is_the_end(kitchen, event):
                        return told
                left -= len(batch)
                if left <= 0:
                    break


async def is_the_end(kitchen: Kitchen, event: Event) -> bool:
    operation = (await kitchen.database.load([event.operation_id]))[event.operation_id]
    return operation.reason == STOP


async def test_what_another_process_writes_is_heard_here(doors: Doors, time: Time) -> None:
    here, elsewhere = Kitchen(await doors.open(), time), Kitchen(await doors.open(), time)
    async with following(here):
        listening = asyncio.ensure_future(heard(here, number(10)))
        for _ in range(10):
            await elsewhere.place(DOUGH)
        told = await listening
    assert all(earlier.seq < later.seq for earlier, later in pairwise(told))


async def test_many_followers_hear_the_same(kitchen: Kitchen) -> None:
    async with following(kitchen):
        listening = [asyncio.ensure_future(heard(kitchen, number(20))) for _ in range(200)]
        await asyncio.gather(*(kitchen.place(DOUGH) for _ in range(20)))
        told: Sequence[list[Event]] = await asyncio.gather(*listening)
    assert all(each == told[0] for each in told)


async def test_when_the_feed_stops_every_follower_comes_to_its_end(kitchen: Kitchen) -> None:
    order = await kitchen.place(DOUGH)
    async with following(kitchen):
        listening = [
            asyncio.ensure_future(heard(kitchen, lambda _: False, **options))
            for options in ({}, {"operation_id": order.id}, {"shop": SHOP})
        ]
        await heard(kitchen, number(1))
        kitchen.engine.feed.stop()
        assert [len(told) for told in await asyncio.gather(*listening)] == [1, 1, 1]


async def test_who_only_counts_is_given_each_event_once(kitchen: Kitchen) -> None:
    await kitchen.place(DOUGH)
    counted: list[int] = []
    async with following(kitchen):
        await heard(kitchen, number(1))
        kitchen.engine.feed.count(lambda batch: counted.extend(event.seq for event in batch))
        for _ in range(3):
            await kitchen.place(DOUGH)
        told = await heard(kitchen, number(4))
    assert counted == [event.seq for event in told[1:]]
