"""A handler that asks to be called again later, and one that notes how far it has come."""

from datetime import timedelta

from orderup.engine.due import end_waits, next_due
from orderup.engine.rescue import Rescuer
from orderup.engine.steer import cancel_operation, pause_operation, resume_operation
from orderup.errors import StaleToken
from orderup.model.event import Audience
from orderup.model.operation import OperationStatus
from orderup.model.plan import Plan, PlannedTask
from orderup.model.task import TaskStatus
from tests.engine.kitchen import CHAIN, HOUR, MINUTE, NOON, Kitchen, Time, token_of

SECOND = timedelta(seconds=1)


async def test_a_task_that_waits_is_a_row_that_nobody_holds(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    await kitchen.wait(await kitchen.take("dough"), 30, memo={"ticket": 7})
    task = await kitchen.task(order, "dough")
    assert (task.status, task.ready_at, task.due_at) == (TaskStatus.WAITING, NOON + 30_000_000, NOON + 30_000_000)
    assert (task.token, task.worker, task.lease_until, task.memo) == (None, None, None, '{"ticket":7}')
    assert (await kitchen.operation(order)).status is OperationStatus.RUNNING


async def test_a_wait_is_told_to_staff(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    await kitchen.wait(await kitchen.take("dough"), 30)
    [told] = await kitchen.events(order, after=2)
    assert (told.type, told.status, told.audience) == ("task.waiting", "waiting", Audience.STAFF)


async def test_after_the_wait_it_is_claimed_under_a_new_token_with_its_memo(kitchen: Kitchen, time: Time) -> None:
    await kitchen.place(CHAIN)
    first = await kitchen.take("dough")
    await kitchen.wait(first, 30, memo={"ticket": 7})
    time.advance(29 * SECOND)
    assert await end_waits(kitchen.engine) == 0
    time.advance(SECOND)
    assert await end_waits(kitchen.engine) == 1
    second = await kitchen.take("dough")
    assert second.task.memo == '{"ticket":7}'
    assert token_of(second) != token_of(first)


async def test_a_wait_is_no_failed_attempt_however_often(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(CHAIN)
    for _ in range(20):
        await kitchen.wait(await kitchen.take("dough"), 1)
        time.advance(SECOND)
        await end_waits(kitchen.engine)
    task = await kitchen.task(order, "dough")
    assert (task.failures, task.losses, task.attempt, task.status) == (0, 0, 20, TaskStatus.PENDING)


async def test_the_end_of_a_wait_is_no_change_of_the_order_and_is_not_told(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(CHAIN)
    await kitchen.wait(await kitchen.take("dough"), 1)
    before = await kitchen.operation(order)
    time.advance(SECOND)
    await end_waits(kitchen.engine)
    after = await kitchen.operation(order)
    assert (after.version, await kitchen.told(order, after=before)) == (before.version, [])


async def test_a_wait_without_a_memo_keeps_the_last_one(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(CHAIN)
    await kitchen.wait(await kitchen.take("dough"), 1, memo=1)
    time.advance(SECOND)
    await end_waits(kitchen.engine)
    await kitchen.wait(await kitchen.take("dough"), 1)
    assert (await kitchen.task(order, "dough")).memo == "1"


async def test_a_wait_beyond_the_time_of_the_task_ends_it_now(kitchen: Kitchen) -> None:
    order = await kitchen.place(Plan([PlannedTask("dough", within=HOUR)]))
    await kitchen.wait(await kitchen.take("dough"), 3600)
    task = await kitchen.task(order, "dough")
    assert (task.status, task.error) == (TaskStatus.ERRORED, "It was not done within its time")
    assert (await kitchen.operation(order)).status is OperationStatus.ERRORED


async def test_the_old_claim_is_over_with_the_wait(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(CHAIN)
    first = await kitchen.take("dough")
    await kitchen.wait(first, 1, memo=1)
    async with kitchen.refused(StaleToken, order, match="the task is waiting"):
        await kitchen.complete(first)
    time.advance(SECOND)
    await end_waits(kitchen.engine)
    await kitchen.take("dough")
    async with kitchen.refused(StaleToken, order, match="another worker has the task"):
        await kitchen.complete(first)


async def test_the_same_wait_sent_again_changes_nothing(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(CHAIN)
    first = await kitchen.take("dough")
    await kitchen.wait(first, 1, answer="wait:1")
    before = await kitchen.operation(order)
    time.advance(SECOND)
    await kitchen.wait(first, 1, answer="wait:1")
    assert await kitchen.operation(order) == before


async def test_a_wait_in_a_cancelled_order_is_refused(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    first = await kitchen.take("dough")
    await cancel_operation(kitchen.engine, order.id, reason="enough")
    async with kitchen.refused(StaleToken, order, match="was cancelled"):
        await kitchen.wait(first, 1)


async def test_of_many_that_wait_the_clock_ends_those_that_are_due(kitchen: Kitchen, time: Time) -> None:
    await kitchen.place(Plan([PlannedTask(f"d{number}", kind="dough") for number in range(20)]))
    for number, claimed in enumerate(await kitchen.claim("dough", most=20)):
        await kitchen.wait(claimed, number + 1)
    assert await next_due(kitchen.engine) == NOON + 1_000_000
    time.advance(5 * SECOND)
    assert await end_waits(kitchen.engine) == 5
    assert await next_due(kitchen.engine) == NOON + 6_000_000
    assert [each.task.name for each in await kitchen.claim("dough", most=20)] == [f"d{n}" for n in range(5)]


async def test_who_waits_for_work_hears_of_a_wait_that_ends(kitchen: Kitchen, time: Time) -> None:
    await kitchen.place(CHAIN)
    await kitchen.wait(await kitchen.take("dough"), 1)
    ear = kitchen.engine.bell.listen(["diner/dough"])
    ear.clear()
    time.advance(SECOND)
    await end_waits(kitchen.engine)
    assert ear.heard.is_set()


async def test_a_pause_in_the_middle_of_a_wait_keeps_what_is_left_of_it(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(CHAIN)
    await kitchen.wait(await kitchen.take("dough"), 600, memo=1)
    await pause_operation(kitchen.engine, order.id)
    time.advance(5 * MINUTE)
    assert await end_waits(kitchen.engine) == 0
    await resume_operation(kitchen.engine, order.id)
    task = await kitchen.task(order, "dough")
    assert (task.status, task.ready_at, task.memo) == (TaskStatus.WAITING, NOON + 600_000_000, "1")
    time.advance(5 * MINUTE)
    assert await end_waits(kitchen.engine) == 1


async def test_a_wait_that_ends_while_the_order_is_paused_is_over_when_it_goes_on(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(CHAIN)
    await kitchen.wait(await kitchen.take("dough"), 60)
    await pause_operation(kitchen.engine, order.id)
    time.advance(HOUR)
    assert await end_waits(kitchen.engine) == 0
    await resume_operation(kitchen.engine, order.id)
    assert (await kitchen.task(order, "dough")).status is TaskStatus.PENDING


# Remembering in mid-handler.


async def test_a_memo_is_committed_while_the_claim_goes_on(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await kitchen.remember(claimed, {"sent": True})
    task = await kitchen.task(order, "dough")
    assert (task.status, task.token, task.memo) == (TaskStatus.RUNNING, token_of(claimed), '{"sent":true}')
    [told] = await kitchen.events(order, after=2)
    assert (told.type, told.audience) == ("task.remembered", Audience.INTERNAL)


async def test_the_same_memo_again_is_nothing_new(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await kitchen.remember(claimed, 1)
    before = await kitchen.operation(order)
    await kitchen.remember(claimed, 1)
    assert await kitchen.operation(order) == before


async def test_whoever_takes_over_from_a_lost_worker_gets_its_memo(kitchen: Kitchen, time: Time) -> None:
    await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await kitchen.remember(claimed, {"sent": True})
    rescuer = Rescuer(kitchen.engine, monotonic=time.monotonic)
    for _ in range(40):
        await rescuer.look()
        time.advance(SECOND)
    assert (await kitchen.take("dough", worker="bob")).task.memo == '{"sent":true}'


async def test_the_memo_is_there_after_a_failed_attempt(kitchen: Kitchen, time: Time) -> None:
    await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await kitchen.remember(claimed, "half")
    await kitchen.fail(claimed)
    time.advance(MINUTE)
    await end_waits(kitchen.engine)
    assert (await kitchen.take("dough")).task.memo == '"half"'


async def test_a_memo_under_a_claim_that_has_ended_is_refused(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await kitchen.hand_back(claimed)
    async with kitchen.refused(StaleToken, order):
        await kitchen.remember(claimed, 1)
