"""Claims of a queue whose clients take turns: by a line in memory, whoever changes it, in whatever process."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import pytest

from orderup.db.database import Claimed
from orderup.engine.limit import pause_queue, resume_queue
from orderup.engine.steer import cancel_operation, pause_operation, resume_operation
from orderup.errors import StaleToken
from orderup.model import work
from orderup.model.kind import Kind
from orderup.model.operation import Operation
from orderup.model.plan import Plan, PlannedTask
from orderup.model.times import as_micros
from tests.engine.conftest import Doors
from tests.engine.kitchen import SHOP, Kitchen, Time, place_of, token_of
from tests.services.waiting import PATIENCE_SECONDS

BREW = Plan([PlannedTask("brew")])
KINDS: Mapping[str, Kind] = {
    "brew": Kind("brew", is_remote=True, turns_after=2, lease=timedelta(seconds=100)),
    "wash": Kind("wash", is_remote=True),
}


@asynccontextmanager
async def running(kitchen: Kitchen) -> AsyncIterator[Kitchen]:
    """Its engine follows the log."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(kitchen.engine.run())
        await kitchen.engine.feed.started()
        yield kitchen
        task.cancel()


@pytest.fixture
async def bar(doors: Doors, time: Time) -> AsyncIterator[Kitchen]:
    async with running(Kitchen(doors.first, time, kinds=KINDS)) as bar:
        yield bar


async def order(bar: Kitchen, time: Time, *clients: str) -> list[Operation]:
    """One after the other."""
    placed = []
    for client in clients:
        placed.append(await bar.place(BREW, client=client))
        time.advance(timedelta(milliseconds=5))
    return placed


async def until_claimed(bar: Kitchen, count: int) -> list[int]:
    """The operations of the next claims, once they are known here."""
    found: list[int] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(found) < count:
            found += [each.operation_id for each in await bar.claim("brew", most=1)]
            await asyncio.sleep(0)
    return found


async def lose(bar: Kitchen, claimed: Claimed) -> None:
    position, token, now = claimed.task.position, token_of(claimed), bar.time.now()
    await bar.engine.desk.decide(claimed.operation_id, lambda draft: work.lose(draft, position, token=token, now=now))


def ids(operations: Sequence[Operation]) -> list[int]:
    return [each.id for each in operations]


async def test_the_oldest_comes_first(bar: Kitchen, time: Time) -> None:
    placed = await order(bar, time, "a", "b", "a")
    assert [each.operation_id for each in await bar.claim("brew", most=5)] == ids(placed)
    assert await bar.claim("brew") == []


async def test_an_order_keeps_its_place_when_the_clock_is_set_back(bar: Kitchen, time: Time) -> None:
    first = await order(bar, time, "a", "b")
    time.set_wall_clock(timedelta(hours=-5))
    second = await order(bar, time, "c")
    assert [each.operation_id for each in await bar.claim("brew", most=3)] == ids([*first, *second])


async def test_who_has_more_waiting_takes_turns(bar: Kitchen, time: Time) -> None:
    first, second, third, other = await order(bar, time, "a", "a", "a", "b")
    claims = await bar.claim("brew", most=4)
    assert [each.operation_id for each in claims] == ids([first, second, third, other])
    first, second, third, fourth, other = await order(bar, time, "a", "a", "a", "a", "b")
    claims = await bar.claim("brew", most=5)
    assert [each.operation_id for each in claims] == ids([first, other, second, third, fourth])


async def test_a_claim_is_a_lease_like_any_other(bar: Kitchen, time: Time) -> None:
    [placed] = await order(bar, time, "a")
    claimed = await bar.take("brew", worker="ann")
    assert (claimed.task.worker, claimed.task.attempt) == ("ann", 1)
    assert claimed.task.lease_until == time.now() + as_micros(timedelta(seconds=100))
    await bar.complete(claimed)
    assert await bar.state(placed) == "completed: brew completed"


async def test_what_was_lost_comes_before_all_others(bar: Kitchen, time: Time) -> None:
    await order(bar, time, "a", "b", "c")
    lost = await bar.take("brew")
    await lose(bar, lost)
    assert (await bar.take("brew")).operation_id == lost.operation_id
    with pytest.raises(StaleToken):
        await bar.complete(lost)


async def test_what_was_handed_back_has_its_old_place(bar: Kitchen, time: Time) -> None:
    first, second = await order(bar, time, "a", "b")
    claimed = await bar.take("brew")
    await bar.hand_back(claimed)
    assert [each.operation_id for each in await bar.claim("brew", most=2)] == ids([first, second])


async def test_who_leaves_is_out_of_the_line(bar: Kitchen, time: Time) -> None:
    first, second, third = await order(bar, time, "a", "b", "c")
    await cancel_operation(bar.engine, second.id, reason="he left")
    assert [each.operation_id for each in await bar.claim("brew", most=3)] == ids([first, third])


async def test_a_paused_order_is_not_claimed_until_it_is_resumed(bar: Kitchen, time: Time) -> None:
    first, second = await order(bar, time, "a", "b")
    await pause_operation(bar.engine, first.id)
    assert (await bar.take("brew")).operation_id == second.id
    assert await bar.claim("brew") == []
    await resume_operation(bar.engine, first.id)
    assert (await bar.take("brew")).operation_id == first.id


async def test_of_a_paused_queue_nothing_is_claimed(bar: Kitchen, time: Time) -> None:
    [placed] = await order(bar, time, "a")
    await pause_queue(bar.engine, f"{SHOP}/brew", by="ann")
    assert await bar.claim("brew") == []
    await resume_queue(bar.engine, f"{SHOP}/brew")
    assert (await bar.take("brew")).operation_id == placed.id


async def test_the_same_request_gets_the_same_task_again(bar: Kitchen, time: Time) -> None:
    await order(bar, time, "a", "b")
    first = await bar.take("brew", request="one")
    again = await bar.take("brew", request="one")
    assert (place_of(again), token_of(again)) == (place_of(first), token_of(first))
    other = await bar.take("brew", request="two")
    assert other.operation_id != first.operation_id


async def test_a_worker_of_several_kinds_gets_what_there_is_of_either(bar: Kitchen, time: Time) -> None:
    washing = await bar.place(Plan([PlannedTask("wash")]))
    [brewing] = await order(bar, time, "a")
    claimed = [*await bar.claim("brew", "wash"), *await bar.claim("brew", "wash")]
    assert {each.operation_id for each in claimed} == {washing.id, brewing.id}


async def test_one_task_is_claimed_once_however_many_ask(bar: Kitchen, time: Time) -> None:
    placed = await order(bar, time, *"abcdefghij")
    claims = await asyncio.gather(*(bar.claim("brew", worker=f"w{number}") for number in range(30)))
    assert sorted(each.operation_id for some in claims for each in some) == sorted(ids(placed))


async def test_what_waited_before_the_process_began_is_in_its_line(doors: Doors, time: Time) -> None:
    placed = await order(Kitchen(doors.first, time, kinds=KINDS), time, "a", "b", "a")
    async with running(Kitchen(doors.first, time, kinds=KINDS)) as bar:
        assert await until_claimed(bar, 3) == ids(placed)


async def test_two_processes_serve_one_line_and_no_task_twice(doors: Doors, time: Time) -> None:
    if not doors.are_many:
        pytest.skip("A database in memory has one process.")
    async with AsyncExitStack() as stack:
        bars = [
            await stack.enter_async_context(running(Kitchen(await doors.open(), time, kinds=KINDS))) for _ in range(2)
        ]
        placed = [*await order(bars[0], time, *"abc"), *await order(bars[1], time, *"def")]
        claimed: list[int] = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(claimed) < len(placed):
                for some in await asyncio.gather(*(bar.claim("brew") for bar in bars)):
                    claimed += [each.operation_id for each in some]
                await asyncio.sleep(0)
        assert sorted(claimed) == sorted(ids(placed))
        assert [await bar.claim("brew") for bar in bars] == [[], []]


async def test_what_another_process_gives_back_is_in_the_line_again(doors: Doors, time: Time) -> None:
    if not doors.are_many:
        pytest.skip("A database in memory has one process.")
    async with AsyncExitStack() as stack:
        here, there = [
            await stack.enter_async_context(running(Kitchen(await doors.open(), time, kinds=KINDS))) for _ in range(2)
        ]
        [placed] = await order(here, time, "a")
        claimed = await here.take("brew")
        await lose(here, claimed)
        assert await until_claimed(there, 1) == [placed.id]
        assert await here.claim("brew") == []
