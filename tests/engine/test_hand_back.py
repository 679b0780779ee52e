"""Handing a claim back undone."""

from datetime import timedelta

from orderup.engine.hand_back import hand_back_all
from orderup.engine.steer import cancel_operation, pause_operation, resume_operation
from orderup.errors import StaleToken
from orderup.model.event import Audience
from orderup.model.task import TaskStatus
from tests.engine.kitchen import CHAIN, NOON, Kitchen, Time, token_of

SECOND = timedelta(seconds=1)


async def test_what_is_handed_back_can_be_claimed_at_once_and_counts_as_never_begun(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    first = await kitchen.take("dough", worker="ann")
    await kitchen.hand_back(first)
    task = await kitchen.task(order, "dough")
    assert (task.status, task.attempt, task.token, task.worker) == (TaskStatus.PENDING, 0, None, None)
    second = await kitchen.take("dough", worker="bob")
    assert (second.task.attempt, second.task.worker) == (1, "bob")
    assert token_of(second) != token_of(first)


async def test_it_keeps_its_place_in_the_queue(kitchen: Kitchen, time: Time) -> None:
    orders = []
    for _ in range(3):
        orders.append(await kitchen.place(CHAIN))
        time.advance(SECOND)
    first = await kitchen.take("dough")
    await kitchen.hand_back(first)
    assert [each.operation_id for each in await kitchen.claim("dough", most=3)] == [order.id for order in orders]


async def test_its_time_goes_on(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    time.advance(SECOND)
    await kitchen.hand_back(claimed)
    task = await kitchen.task(order, "dough")
    assert (task.ready_at, task.deadline_at, task.due_at) == (NOON, NOON + task.within_us, NOON + task.within_us)


async def test_it_is_told_to_staff_and_whoever_waits_hears_of_it(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    ear = kitchen.engine.bell.listen(["diner/dough"])
    ear.clear()
    await kitchen.hand_back(claimed)
    [told] = await kitchen.events(order, after=2)
    assert (told.type, told.status, told.audience) == ("task.handed_back", "pending", Audience.STAFF)
    assert ear.heard.is_set()


async def test_a_claim_that_has_ended_cannot_be_handed_back(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await kitchen.hand_back(claimed)
    async with kitchen.refused(StaleToken, order):
        await kitchen.hand_back(claimed)


async def test_what_is_handed_back_while_the_order_is_paused_is_paused_until_it_goes_on(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await pause_operation(kitchen.engine, order.id)
    await kitchen.hand_back(claimed)
    assert (await kitchen.task(order, "dough")).status is TaskStatus.PAUSED
    await resume_operation(kitchen.engine, order.id)
    await kitchen.take("dough")


async def test_of_several_claims_those_that_have_ended_are_passed_over(kitchen: Kitchen) -> None:
    orders = [await kitchen.place(CHAIN) for _ in range(3)]
    claimed = await kitchen.claim("dough", most=3)
    await kitchen.complete(claimed[0])
    await cancel_operation(kitchen.engine, orders[1].id, reason="enough")
    await hand_back_all(kitchen.engine, claimed)
    assert [(await kitchen.task(order, "dough")).status for order in orders] == ["completed", "cancelled", "pending"]
