"""What one process keeps in memory while another changes it: nothing is done, left undone or said on old knowledge."""

from datetime import timedelta

from orderup.engine.due import pass_deadlines
from orderup.engine.lease import beat_executor
from orderup.engine.rescue import Rescuer
from orderup.model.plan import Plan, PlannedTask
from tests.engine.conftest import Doors
from tests.engine.kitchen import HOUR, Kitchen, Time

SECOND = timedelta(seconds=1)
PLAN = Plan.chain(PlannedTask("dough"), PlannedTask("top", within=HOUR))


async def two(doors: Doors, time: Time) -> tuple[Kitchen, Kitchen]:
    return Kitchen(await doors.open(), time), Kitchen(await doors.open(), time)


async def test_a_deadline_passes_of_a_task_that_another_process_released(doors: Doors, time: Time) -> None:
    here, there = await two(doors, time)
    order = await here.place(PLAN)
    claimed = await here.take("dough")
    await here.remember(claimed, 1)
    await there.complete(claimed)
    time.advance(2 * HOUR)
    await pass_deadlines(here.engine)
    assert await here.state(order) == "errored: dough completed, top errored"


async def test_a_memo_is_stored_though_the_last_one_known_here_was_the_same(doors: Doors, time: Time) -> None:
    here, there = await two(doors, time)
    order = await here.place(PLAN)
    claimed = await here.take("dough")
    for kitchen, memo in ((here, 1), (there, 2), (here, 1)):
        await kitchen.remember(claimed, memo)
    assert (await here.task(order, "dough")).memo == "1"


async def test_an_executor_that_registers_anew_is_watched_anew(doors: Doors, time: Time) -> None:
    here, there = await two(doors, time)
    first, second = (Rescuer(kitchen.engine, monotonic=time.monotonic) for kitchen in (here, there))
    await here.place(PLAN)
    lease = 4 * SECOND
    await beat_executor(here.engine, "local-1", kind="local", lease=lease)
    await here.take("dough", worker="local-1", own_lease=True)
    await first.look()
    time.advance(2 * SECOND)
    await first.look()
    await second.look()
    time.advance(2 * SECOND)
    assert await first.look() == 1  # taken for dead
    await beat_executor(here.engine, "local-1", kind="local", lease=lease)
    await here.take("dough", worker="local-1", own_lease=True)
    await second.look()
    time.advance(2 * SECOND)
    assert await second.look() == 0
