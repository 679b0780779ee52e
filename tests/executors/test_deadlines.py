"""Deadlines that share timers: each ends what took too long, and nothing else."""

import asyncio

import pytest

from orderup.executors.deadlines import Deadline, Deadlines

LONG = 60.0


async def hang() -> None:
    await asyncio.Event().wait()


def that_is_set(deadline: Deadline) -> Deadline:
    deadline.set()
    return deadline


async def test_one_that_is_not_set_ends_nothing() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop)
    with deadlines.at(loop.time() - 5) as never_set:
        with pytest.raises(TimeoutError), that_is_set(deadlines.at(loop.time() + 0.02)):
            await hang()
        assert not never_set.expired


async def test_what_is_waited_for_after_leaving_one_is_not_ended_by_it() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop)
    with deadlines.at(loop.time() + 0.01) as early:
        pass
    early.set()
    with pytest.raises(TimeoutError), that_is_set(deadlines.at(loop.time() + 0.1)) as late:
        await hang()
    assert (early.expired, late.expired) == (False, True)


async def test_what_takes_too_long_is_ended() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    deadline = that_is_set(Deadlines(loop).at(began + 0.05))
    with pytest.raises(TimeoutError), deadline:
        await hang()
    assert deadline.expired
    assert loop.time() - began >= 0.05
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_a_time_that_is_over_ends_it_at_once() -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(TimeoutError), that_is_set(Deadlines(loop).at(loop.time() - 5)):
        await hang()


async def test_what_is_done_in_time_is_left_alone_when_its_time_comes() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop)
    with that_is_set(deadlines.at(loop.time() + 0.3)) as deadline:
        await asyncio.sleep(0)
    with (
        pytest.raises(TimeoutError),
        that_is_set(deadlines.at(loop.time() + 0.6)),
    ):  # the timer of the first goes off meanwhile
        await hang()
    assert not deadline.expired


async def test_many_share_a_timer_and_each_ends_at_its_own_time() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop)
    ended: list[int] = []

    async def wait(number: int, seconds: float) -> None:
        with pytest.raises(TimeoutError), that_is_set(deadlines.at(loop.time() + seconds)):
            await hang()
        ended.append(number)

    async with asyncio.timeout(LONG), asyncio.TaskGroup() as group:
        for number in range(200):
            group.create_task(wait(number, 0.1 if number % 2 else 0.02))
    assert [number % 2 for number in ended] == [0] * 100 + [1] * 100


async def test_somebody_else_who_cancels_is_heard() -> None:
    loop = asyncio.get_running_loop()
    entered = asyncio.Event()

    async def work() -> None:
        with that_is_set(Deadlines(loop).at(loop.time() + LONG)):
            entered.set()
            await hang()

    working = asyncio.create_task(work())
    await entered.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working


async def test_a_time_out_of_its_own_is_told_from_the_deadline() -> None:
    loop = asyncio.get_running_loop()
    deadline = that_is_set(Deadlines(loop).at(loop.time() + LONG))
    with pytest.raises(TimeoutError, match="the oven"), deadline:
        raise TimeoutError("the oven does not answer")
    assert not deadline.expired


async def test_nested_deadlines_end_what_is_theirs() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop)
    with that_is_set(deadlines.at(loop.time() + LONG)) as outer:
        with pytest.raises(TimeoutError), that_is_set(deadlines.at(loop.time() + 0.02)) as inner:
            await hang()
        assert inner.expired
    assert not outer.expired
