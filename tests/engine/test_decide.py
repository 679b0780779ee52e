"""Deciding an RFA: the first decision stands."""

import asyncio
from datetime import timedelta

import pytest

from orderup.engine.decide import approve_rfa, decline_rfa, expire_rfa
from orderup.engine.desk import Replayed
from orderup.engine.due import expire_rfas
from orderup.errors import AlreadyDecided, NotFound
from orderup.model.event import Audience
from orderup.model.ids import show_id
from orderup.model.operation import Operation, OperationStatus
from orderup.model.plan import Approval, Plan, PlannedTask
from orderup.model.rfa import Rfa, RfaStatus
from tests.engine.conftest import Doors
from tests.engine.kitchen import ASKED, HOUR, MINUTE, NOON, Kitchen, Time, key_of

DAY = timedelta(days=1)


async def rfa_of(kitchen: Kitchen, order: Operation) -> Rfa:
    rfa = (await kitchen.operation(order)).rfa
    assert rfa is not None
    return rfa


async def test_an_approval_releases_the_first_tasks_and_their_time_begins(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(ASKED)
    time.advance(MINUTE)
    await approve_rfa(kitchen.engine, order.id, by="ada", notes="extra crispy")
    rfa = await rfa_of(kitchen, order)
    assert (rfa.status, rfa.decided_by, rfa.notes) == (RfaStatus.APPROVED, "ada", "extra crispy")
    assert rfa.decided_at == NOON + 60_000_000
    assert await kitchen.state(order) == "running: dough pending, top blocked"
    dough = await kitchen.task(order, "dough")
    assert (dough.ready_at, dough.deadline_at) == (NOON + 60_000_000, NOON + 60_000_000 + dough.within_us)


async def test_an_approval_is_told_to_the_customer_without_its_notes(kitchen: Kitchen) -> None:
    order = await kitchen.place(ASKED)
    await approve_rfa(kitchen.engine, order.id, by="ada", notes="a regular")
    [told] = await kitchen.events(order, after=1)
    assert (told.type, told.status, told.message) == ("rfa.approved", "approved", "Approved")
    assert told.audience == Audience.CUSTOMER


async def test_who_waits_for_work_hears_of_an_approval(kitchen: Kitchen) -> None:
    order = await kitchen.place(ASKED)
    ear = kitchen.engine.bell.listen(["diner/dough"])
    ear.clear()
    await approve_rfa(kitchen.engine, order.id, by="ada")
    assert ear.heard.is_set()


async def test_a_declined_order_is_cancelled_and_the_customer_reads_the_note(kitchen: Kitchen) -> None:
    order = await kitchen.place(ASKED)
    await decline_rfa(kitchen.engine, order.id, by="ada", notes="We are out of basil")
    operation, rfa = await kitchen.operation(order), await rfa_of(kitchen, order)
    assert await kitchen.state(order) == "cancelled: dough cancelled, top cancelled"
    assert (operation.reason, operation.finished_at) == ("declined", NOON)
    assert (rfa.status, rfa.decided_by, rfa.notes) == (RfaStatus.DECLINED, "ada", "We are out of basil")
    [told] = await kitchen.events(order, after=1)
    assert (told.type, told.message, told.audience) == (
        "rfa.declined",
        "Declined: We are out of basil",
        Audience.CUSTOMER,
    )


async def test_a_declined_order_without_a_note_says_only_that(kitchen: Kitchen) -> None:
    order = await kitchen.place(ASKED)
    await decline_rfa(kitchen.engine, order.id, by="ada")
    [told] = await kitchen.events(order, after=1)
    assert told.message == "Declined"


async def test_an_rfa_that_nobody_answers_expires_at_its_time_and_not_before(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(ASKED)
    time.advance(DAY - timedelta(microseconds=1))
    assert await expire_rfas(kitchen.engine) == 0
    time.advance(timedelta(microseconds=1))
    assert await expire_rfas(kitchen.engine) == 1
    operation, rfa = await kitchen.operation(order), await rfa_of(kitchen, order)
    assert (operation.status, operation.reason) == (OperationStatus.CANCELLED, "expired")
    assert (rfa.status, rfa.decided_by, rfa.decided_at) == (RfaStatus.EXPIRED, None, time.now())
    [told] = await kitchen.events(order, after=1)
    assert (told.type, told.message) == ("rfa.expired", "Nobody answered the request in time")


async def test_a_plan_may_give_less_time_than_the_owner(kitchen: Kitchen, time: Time) -> None:
    hasty = await kitchen.place(Plan([PlannedTask("dough")], approval=Approval("Now?", within=MINUTE)))
    patient = await kitchen.place(ASKED)
    time.advance(HOUR)
    assert await expire_rfas(kitchen.engine) == 1
    assert (await rfa_of(kitchen, hasty)).status is RfaStatus.EXPIRED
    assert (await rfa_of(kitchen, patient)).status is RfaStatus.PENDING


async def test_what_was_decided_does_not_expire(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(ASKED)
    await approve_rfa(kitchen.engine, order.id, by="ada")
    time.advance(2 * DAY)
    assert await expire_rfas(kitchen.engine) == 0
    async with kitchen.refused(AlreadyDecided, order):
        await expire_rfa(kitchen.engine, order.id)


async def test_a_second_decision_is_told_who_made_the_first_and_when(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(ASKED)
    await approve_rfa(kitchen.engine, order.id, by="ada")
    time.advance(MINUTE)
    wanted = rf"RFA {show_id(order.id)} was approved by ada at 2026-03-01 12:00:00Z\. Nothing was changed"
    async with kitchen.refused(AlreadyDecided, order, match=wanted):
        await decline_rfa(kitchen.engine, order.id, by="bob", notes="no")
    with pytest.raises(AlreadyDecided) as refused:
        await approve_rfa(kitchen.engine, order.id, by="bob")
    assert (refused.value.decided_by, refused.value.status) == ("ada", "approved")


async def test_of_fifty_who_decide_at_once_one_does_and_the_others_hear_who(kitchen: Kitchen) -> None:
    order = await kitchen.place(ASKED)
    answers = await asyncio.gather(*(decide(kitchen, order, number) for number in range(50)), return_exceptions=True)
    await exactly_one_decided(kitchen, order, answers)


async def test_of_fifty_who_decide_at_once_in_several_processes_one_does(doors: Doors, time: Time) -> None:
    kitchens = [Kitchen(await doors.open(), time) for _ in range(4)]
    for _ in range(5):
        order = await kitchens[0].place(ASKED)
        answers = await asyncio.gather(
            *(decide(kitchens[number % 4], order, number) for number in range(50)), return_exceptions=True
        )
        await exactly_one_decided(kitchens[0], order, answers)


async def decide(kitchen: Kitchen, order: Operation, number: int) -> None:
    verb = approve_rfa if number % 2 else decline_rfa
    await verb(kitchen.engine, order.id, by=f"staff{number}")


async def exactly_one_decided(kitchen: Kitchen, order: Operation, answers: list[BaseException | None]) -> None:
    [first] = [number for number, answer in enumerate(answers) if answer is None]
    rfa = await rfa_of(kitchen, order)
    assert (rfa.decided_by, rfa.status) == (f"staff{first}", "approved" if first % 2 else "declined")
    told = {answer.decided_by for answer in answers if isinstance(answer, AlreadyDecided)}
    assert told == {f"staff{first}"}
    assert sum(isinstance(answer, AlreadyDecided) for answer in answers) == 49
    assert len(await kitchen.told(order, after=1)) == 1


async def test_a_decision_at_the_very_moment_of_expiry_and_the_expiry_are_one_decision(
    kitchen: Kitchen, time: Time
) -> None:
    orders = [await kitchen.place(ASKED) for _ in range(20)]
    time.advance(DAY)
    await asyncio.gather(
        *(approve_rfa(kitchen.engine, order.id, by="ada") for order in orders),
        expire_rfas(kitchen.engine),
        return_exceptions=True,
    )
    for order in orders:
        assert len(await kitchen.told(order, after=1)) == 1


async def test_a_decision_sent_again_with_its_key_is_a_replay(kitchen: Kitchen) -> None:
    order = await kitchen.place(ASKED)
    await approve_rfa(kitchen.engine, order.id, by="ada", key=key_of("k"))
    before = await kitchen.operation(order)
    with pytest.raises(Replayed):
        await approve_rfa(kitchen.engine, order.id, by="ada", key=key_of("k"))
    assert await kitchen.operation(order) == before


async def test_an_rfa_of_another_shop_is_not_found(kitchen: Kitchen) -> None:
    order = await kitchen.place(ASKED)
    for verb in (approve_rfa, decline_rfa):
        async with kitchen.refused(NotFound, order):
            await verb(kitchen.engine, order.id, by="ada", shop="another shop")
