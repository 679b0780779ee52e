"""The clock does by itself whatever happens because time passes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta

from orderup.db.database import WriteConnection
from orderup.engine.clock import Clock
from orderup.model.event import Audience
from orderup.model.operation import Operation
from orderup.model.plan import Approval, Plan, PlannedTask
from orderup.model.schedule import Schedule
from tests.engine.conftest import Doors
from tests.engine.kitchen import DOUGH, HOUR, MINUTE, SHOP, Kitchen, Time
from tests.services.waiting import PATIENCE_SECONDS

SCHEDULES = {f"{SHOP}/clean": Schedule("clean", lambda: DOUGH, every=HOUR)}


@asynccontextmanager
async def ticking(kitchen: Kitchen, *clocks: Clock) -> AsyncIterator[None]:
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        running = [group.create_task(kitchen.engine.run()), *(group.create_task(clock.run()) for clock in clocks)]
        yield
        for task in running:
            task.cancel()


async def until(kitchen: Kitchen, type: str, *, order: Operation | None = None) -> None:
    follow = kitchen.engine.feed.follow(operation_id=order.id if order else None, audience=Audience.INTERNAL)
    async with aclosing(follow) as batches:
        async for batch in batches:
            if any(event.type == type for event in batch):
                return


async def test_waits_end_deadlines_pass_and_questions_expire_by_themselves(kitchen: Kitchen, time: Time) -> None:
    waiting = await kitchen.place(DOUGH)
    await kitchen.wait(await kitchen.take("dough"), 60)
    hasty = await kitchen.place(Plan([PlannedTask("bake", within=MINUTE)]))
    asked = await kitchen.place(Plan([PlannedTask("top")], approval=Approval("Now?", within=MINUTE)))
    async with ticking(kitchen, Clock(kitchen.engine)):
        ear = kitchen.engine.bell.listen([f"{SHOP}/dough"])
        ear.clear()
        time.advance(MINUTE)
        await ear.wait(PATIENCE_SECONDS)
        await until(kitchen, "task.errored", order=hasty)
        await until(kitchen, "rfa.expired", order=asked)
    assert await kitchen.state(waiting) == "running: dough pending"


async def test_schedules_fire_by_themselves_once_however_many_clocks_run(doors: Doors, time: Time) -> None:
    kitchens = [Kitchen(await doors.open(), time) for _ in range(3)]
    clocks = [Clock(kitchen.engine, schedules=SCHEDULES) for kitchen in kitchens]
    async with ticking(kitchens[0], *clocks):
        later = await kitchens[0].place(Plan([PlannedTask("bake", within=2 * HOUR)]))
        time.advance(HOUR)
        await until_placed(kitchens[0], 2)
        time.advance(HOUR)  # the first is still alive, so that this due time is skipped
        await until(kitchens[0], "task.errored", order=later)
    assert await kitchens[0].told(later, after=1) == ["task.errored bake", "operation.errored"]
    assert len(await kitchens[0].claim("dough", most=9)) == 1


async def until_placed(kitchen: Kitchen, count: int) -> None:
    placed = 0
    async with aclosing(kitchen.engine.feed.follow()) as batches:
        async for batch in batches:
            placed += sum(event.type == "operation.placed" for event in batch)
            if placed >= count:
                return


async def test_a_fault_in_one_thing_it_does_stops_none_of_the_others(kitchen: Kitchen, time: Time) -> None:
    """What deletes a shop's rows fails; questions still expire."""

    def fail(_connection: WriteConnection, _ids: Sequence[int]) -> None:
        message = "a table is missing"
        raise LookupError(message)

    await kitchen.place(DOUGH)
    await kitchen.do("dough")
    time.advance(timedelta(days=31))
    asked = await kitchen.place(Plan([PlannedTask("top")], approval=Approval("Now?", within=MINUTE)))
    async with ticking(kitchen, Clock(kitchen.engine, prunes={SHOP: fail})):
        time.advance(MINUTE)
        await until(kitchen, "rfa.expired", order=asked)
