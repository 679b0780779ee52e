"""What comes due by itself: deadlines that pass, whatever the task is doing.

How waits end is told in test_wait, how RFAs expire in test_decide.
"""

from datetime import timedelta

import pytest

from orderup.engine.due import end_waits, next_due, pass_deadlines
from orderup.engine.steer import pause_operation, resume_operation, retry_operation
from orderup.errors import StaleToken
from orderup.model.operation import Operation, OperationStatus
from orderup.model.plan import Plan, PlannedTask
from orderup.model.task import TaskStatus
from tests.engine.kitchen import DIAMOND, HOUR, MINUTE, NOON, Kitchen, Time

SHORT = Plan.chain(PlannedTask("dough", within=HOUR), PlannedTask("top"))
OVER = "It was not done within 1 h"


async def place(kitchen: Kitchen, doing: str) -> Operation:
    """An order whose first task has an hour, and is `doing` this."""
    order = await kitchen.place(SHORT)
    if doing != "pending":
        claimed = await kitchen.take("dough")
    if doing == "waiting":
        await kitchen.wait(claimed, 3599)
    if doing == "between retries":
        await kitchen.fail(claimed, retry_after=timedelta(seconds=3599))
    return order


@pytest.mark.parametrize("doing", ["pending", "running", "waiting", "between retries"])
async def test_a_task_that_is_not_done_in_its_time_is_errored_whatever_it_is_doing(
    kitchen: Kitchen, time: Time, doing: str
) -> None:
    order = await place(kitchen, doing)
    time.advance(HOUR - timedelta(microseconds=1))
    await pass_deadlines(kitchen.engine)
    assert (await kitchen.operation(order)).status is OperationStatus.RUNNING
    time.advance(timedelta(microseconds=1))
    assert await pass_deadlines(kitchen.engine) == 1
    assert await kitchen.state(order) == "errored: dough errored, top blocked"
    task = await kitchen.task(order, "dough")
    wanted = f"{OVER}; its last error: The oven is cold" if doing == "between retries" else OVER
    assert (task.error, task.finished_at, task.token) == (wanted, NOON + 3_600_000_000, None)
    assert (await kitchen.operation(order)).reason == f"dough: {wanted}"
    assert (await kitchen.told(order))[-2:] == ["task.errored dough", "operation.errored"]


async def test_the_time_of_a_task_begins_when_it_is_ready_not_when_the_order_is_placed(
    kitchen: Kitchen, time: Time
) -> None:
    order = await kitchen.place(Plan.chain(PlannedTask("dough"), PlannedTask("top", within=HOUR)))
    time.advance(2 * HOUR)
    assert await pass_deadlines(kitchen.engine) == 0
    await kitchen.do("dough")
    time.advance(HOUR)
    assert await pass_deadlines(kitchen.engine) == 1
    assert (await kitchen.task(order, "top")).error == OVER


async def test_tries_and_waits_together_have_one_time(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(SHORT)
    for _ in range(59):
        await kitchen.wait(await kitchen.take("dough"), 60)
        time.advance(MINUTE)
        await end_waits(kitchen.engine)
    await kitchen.wait(await kitchen.take("dough"), 60)
    assert (await kitchen.task(order, "dough")).status is TaskStatus.ERRORED


async def test_a_deadline_passes_while_the_order_is_paused_only_for_what_runs(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(Plan([PlannedTask("dough", within=HOUR), PlannedTask("top", within=HOUR)]))
    await kitchen.take("dough")
    await pause_operation(kitchen.engine, order.id)
    time.advance(HOUR)
    await pass_deadlines(kitchen.engine)
    assert await kitchen.state(order) == "paused: dough errored, top paused"
    await resume_operation(kitchen.engine, order.id)
    await kitchen.do("top")
    assert (await kitchen.operation(order)).status is OperationStatus.ERRORED


async def test_whoever_still_works_on_it_is_refused(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(SHORT)
    claimed = await kitchen.take("dough")
    time.advance(HOUR)
    await pass_deadlines(kitchen.engine)
    async with kitchen.refused(StaleToken, order, match="the task is errored"):
        await kitchen.complete(claimed)


async def test_a_retry_by_hand_gives_the_whole_time_again(kitchen: Kitchen, time: Time) -> None:
    order = await place(kitchen, "running")
    time.advance(HOUR)
    await pass_deadlines(kitchen.engine)
    time.advance(HOUR)
    await retry_operation(kitchen.engine, order.id)
    assert await pass_deadlines(kitchen.engine) == 0
    assert (await kitchen.task(order, "dough")).deadline_at == NOON + 3 * 3_600_000_000


async def test_other_branches_go_on_when_one_runs_out_of_time(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(DIAMOND)
    await kitchen.do("dough")
    time.advance(23 * HOUR)
    baking = await kitchen.take("bake")
    await kitchen.complete(baking)
    time.advance(2 * HOUR)
    await pass_deadlines(kitchen.engine)
    assert await kitchen.state(order) == "errored: dough completed, top errored, bake completed, deliver blocked"


async def test_what_is_done_has_no_deadline_any_more(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(SHORT)
    await kitchen.do("dough")
    await kitchen.do("top")
    assert await next_due(kitchen.engine) is None
    time.advance(48 * HOUR)
    assert await pass_deadlines(kitchen.engine) == 0
    assert (await kitchen.operation(order)).status is OperationStatus.COMPLETED


async def test_two_clocks_that_see_the_same_deadline_pass_tell_of_it_once(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(SHORT)
    time.advance(HOUR)
    for _ in range(2):
        await pass_deadlines(kitchen.engine)
    assert await kitchen.told(order, after=order) == ["task.errored dough", "operation.errored"]


async def test_many_deadlines_pass_in_one_look(kitchen: Kitchen, time: Time) -> None:
    orders = [await kitchen.place(SHORT) for _ in range(20)]
    time.advance(HOUR)
    assert await pass_deadlines(kitchen.engine) == 20
    assert {(await kitchen.operation(order)).status for order in orders} == {OperationStatus.ERRORED}
    assert await pass_deadlines(kitchen.engine) == 0
