"""Claims of a queue whose clients take turns: by a line in memory, whoever changes it, in whatever process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from orderup.db.database import Claimed
from orderup.db.station import read_line
from orderup.engine.due import end_waits
from orderup.engine.limit import note_paused_queues, pause_queue, resume_queue
from orderup.engine.steer import cancel_operation, pause_operation, rerun_task, resume_operation, retry_operation
from orderup.errors import Conflict, StaleToken, Unavailable
from orderup.model import work
from orderup.model.kind import Kind
from orderup.model.operation import Operation
from orderup.model.plan import Plan, PlannedTask
from orderup.model.times import as_micros
from tests.engine.conftest import KINDS as DATABASES, Doors
from tests.engine.kitchen import HOUR, SHOP, Kitchen, Time, place_of, token_of
from tests.services.waiting import PATIENCE_SECONDS

# A database in memory has one process.
several_processes = pytest.mark.parametrize("doors", DATABASES[1:], indirect=True)
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


@several_processes
async def test_two_processes_serve_one_line_and_no_task_twice(doors: Doors, time: Time) -> None:
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


@several_processes
async def test_what_another_process_gives_back_is_in_the_line_again(doors: Doors, time: Time) -> None:
    async with AsyncExitStack() as stack:
        here, there = [
            await stack.enter_async_context(running(Kitchen(await doors.open(), time, kinds=KINDS))) for _ in range(2)
        ]
        [placed] = await order(here, time, "a")
        claimed = await here.take("brew")
        await lose(here, claimed)
        assert await until_claimed(there, 1) == [placed.id]
        assert await here.claim("brew") == []


# Every way in which a task that was claimed may be claimed again. What follows a wait makes no event.


async def fail_and_come_due(bar: Kitchen, claimed: Claimed) -> None:
    await bar.fail(claimed)
    bar.time.advance(HOUR)
    assert await end_waits(bar.engine) == 1


async def wait_and_come_due(bar: Kitchen, claimed: Claimed) -> None:
    await bar.wait(claimed, 60)
    bar.time.advance(HOUR)
    assert await end_waits(bar.engine) == 1


async def pause_until_the_wait_is_over(bar: Kitchen, claimed: Claimed) -> None:
    await bar.wait(claimed, 60)
    await pause_operation(bar.engine, claimed.operation_id)
    bar.time.advance(HOUR)
    await resume_operation(bar.engine, claimed.operation_id)


async def pause_within_the_wait(bar: Kitchen, claimed: Claimed) -> None:
    await bar.wait(claimed, 60)
    await pause_operation(bar.engine, claimed.operation_id)
    await resume_operation(bar.engine, claimed.operation_id)
    bar.time.advance(HOUR)
    assert await end_waits(bar.engine) == 1


async def wait_on_hold(bar: Kitchen, claimed: Claimed) -> None:
    await pause_operation(bar.engine, claimed.operation_id)
    await bar.wait(claimed, 60)
    bar.time.advance(HOUR)
    await resume_operation(bar.engine, claimed.operation_id)


async def lose_on_hold(bar: Kitchen, claimed: Claimed) -> None:
    await pause_operation(bar.engine, claimed.operation_id)
    await lose(bar, claimed)
    await resume_operation(bar.engine, claimed.operation_id)


async def hand_back(bar: Kitchen, claimed: Claimed) -> None:
    await bar.hand_back(claimed)


async def give_up_and_retry(bar: Kitchen, claimed: Claimed) -> None:
    await bar.fail(claimed, final=True)
    await retry_operation(bar.engine, claimed.operation_id)


async def give_up_and_rerun(bar: Kitchen, claimed: Claimed) -> None:
    await bar.fail(claimed, final=True)
    await rerun_task(bar.engine, *place_of(claimed))


WAYS = [
    fail_and_come_due,
    wait_and_come_due,
    pause_until_the_wait_is_over,
    pause_within_the_wait,
    wait_on_hold,
    lose_on_hold,
    lose,
    hand_back,
    give_up_and_retry,
    give_up_and_rerun,
]
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
Way = Callable[[Kitchen, Claimed], Awaitable[None]]


@every_way
async def test_what_may_be_claimed_again_is_in_the_line_again(bar: Kitchen, time: Time, way: Way) -> None:
    first, second = await order(bar, time, "a", "b")
    await way(bar, await bar.take("brew"))
    assert sorted(await until_claimed(bar, 2)) == ids([first, second])
    assert await bar.claim("brew") == []


@every_way
@several_processes
async def test_what_another_process_lets_be_claimed_again_is_in_the_line_again(
    doors: Doors, time: Time, way: Way
) -> None:
    there = Kitchen(await doors.open(), time, kinds=KINDS)
    async with running(Kitchen(doors.first, time, kinds=KINDS)) as here:
        [placed] = await order(here, time, "a")
        await way(there, await here.take("brew"))
        assert await until_claimed(here, 1) == [placed.id]


@several_processes
async def test_a_wait_that_the_clock_of_another_process_ends_is_over_here_too(doors: Doors, time: Time) -> None:
    there = Kitchen(await doors.open(), time, kinds=KINDS)
    async with running(Kitchen(doors.first, time, kinds=KINDS)) as here:
        [placed] = await order(here, time, "a")
        await here.wait(await here.take("brew"), 60)
        time.advance(HOUR)
        await asyncio.sleep(0.7)  # it is looked at before any clock has ended it
        assert await here.claim("brew") == []
        assert await end_waits(there.engine) == 1
        assert await until_claimed(here, 1) == [placed.id]


async def test_what_waited_for_its_time_before_the_process_began_comes_when_it_is_due(doors: Doors, time: Time) -> None:
    before = Kitchen(doors.first, time, kinds=KINDS)
    [placed] = await order(before, time, "a")
    await before.wait(await before.take("brew"), 60)
    async with running(Kitchen(doors.first, time, kinds=KINDS)) as bar:
        await asyncio.sleep(0.1)
        time.advance(HOUR)
        assert await end_waits(before.engine) == 1
        assert await until_claimed(bar, 1) == [placed.id]


async def test_who_asks_and_waits_gets_what_comes_due(bar: Kitchen, time: Time) -> None:
    [placed] = await order(bar, time, "a")
    await bar.wait(await bar.take("brew"), 60)
    time.advance(HOUR)
    ear = bar.engine.bell.listen([f"{SHOP}/brew"])
    await end_waits(bar.engine)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (claimed := await bar.claim("brew")):
            ear.clear()
            await ear.wait(None)  # nobody asks again without a ring
    assert [each.operation_id for each in claimed] == [placed.id]


@several_processes
async def test_a_queue_that_another_process_pauses_and_resumes_goes_on(doors: Doors, time: Time) -> None:
    there = Kitchen(await doors.open(), time, kinds=KINDS)
    async with running(Kitchen(doors.first, time, kinds=KINDS)) as here:
        [placed, other] = await order(here, time, "a", "b")
        await pause_queue(there.engine, f"{SHOP}/brew", by="ann")
        await note_paused_queues(here.engine)
        assert await here.claim("brew") == []
        await resume_queue(there.engine, f"{SHOP}/brew")
        assert (await here.take("brew")).operation_id == placed.id
        await note_paused_queues(here.engine)
        assert await until_claimed(here, 1) == [other.id]


@several_processes
async def test_a_change_upon_another_processs_change_hides_nothing_of_that_one(doors: Doors, time: Time) -> None:
    # neither follows the log: what it would tell `here` comes after its own change, and is no news then
    here, there = Kitchen(doors.first, time, kinds=KINDS), Kitchen(await doors.open(), time, kinds=KINDS)
    plan = Plan([PlannedTask("brew"), PlannedTask("wash"), PlannedTask("second", kind="brew", after=["wash"])])
    await here.place(plan, client="a")
    await there.do("wash")
    assert (await here.take("brew")).task.name == "brew"
    assert (await here.take("brew")).task.name == "second"


@pytest.mark.parametrize("error", [Unavailable("away"), ZeroDivisionError(), asyncio.CancelledError()])
async def test_a_claim_that_comes_to_nothing_leaves_the_line_as_it_was(
    bar: Kitchen, time: Time, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    [placed] = await order(bar, time, "a")

    async def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(bar.engine.desk, "decide", fail)
        with pytest.raises(type(error)):
            await bar.claim("brew")
    assert await until_claimed(bar, 1) == [placed.id]


@several_processes
async def test_what_comes_back_while_it_is_being_claimed_here_is_not_forgotten(
    doors: Doors, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Kitchen(await doors.open(), time, kinds=KINDS)
    async with running(Kitchen(doors.first, time, kinds=KINDS)) as here:
        [placed] = await order(here, time, "a")

        async def come_too_late(*_: Any, **__: Any) -> None:
            await pause_operation(there.engine, placed.id)
            await resume_operation(there.engine, placed.id)
            await asyncio.sleep(0.5)  # the log has told of it
            raise Conflict("It was paused.")

        with monkeypatch.context() as patch:
            patch.setattr(here.engine.desk, "decide", come_too_late)
            assert await here.claim("brew") == []
        assert await until_claimed(here, 1) == [placed.id]


async def test_who_comes_next_is_told_without_a_claim(bar: Kitchen, time: Time) -> None:
    first, second, third, fourth, other = await order(bar, time, "a", "a", "a", "a", "b")
    lines, queue = bar.engine.lines, f"{SHOP}/brew"
    assert lines is not None
    assert [place[0] for place in lines.first([queue], 3)] == ids([first, other, second])
    assert [place[0] for place in lines.first([f"{queue}@paris", queue], 9)] == ids(
        [first, other, second, third, fourth]
    )
    in_turn = [*lines.first([queue], 2), (12345, 0)]  # the last is there no more
    line = await bar.database.read(lambda connection: read_line(connection, [queue], most=4, in_turn=in_turn))
    assert [each.operation_id for each in line.first] == ids([first, other, second, third])
    await pause_queue(bar.engine, queue, by="ann")
    assert lines.first([queue], 3) == []  # nobody does
