"""What people do to an operation and to one task of it: every verb in every state."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from orderup.engine.decide import approve_rfa, decline_rfa, expire_rfa
from orderup.engine.desk import Replayed
from orderup.engine.due import end_waits, pass_deadlines
from orderup.engine.steer import (
    cancel_operation,
    cancel_task,
    pause_operation,
    rerun_task,
    resume_operation,
    retry_operation,
)
from orderup.errors import AlreadyDecided, Conflict, KeyMisused, NotFound, StaleToken
from orderup.model.event import Audience
from orderup.model.ids import show_id
from orderup.model.operation import Operation, OperationStatus
from orderup.model.plan import Plan, PlannedTask
from orderup.model.rfa import RfaStatus
from orderup.model.task import TaskStatus
from tests.engine.kitchen import ASKED, CHAIN, DIAMOND, HOUR, MINUTE, NOON, Kitchen, Time, key_of

PAIR = Plan.chain(PlannedTask("dough"), PlannedTask("top"))
Story = Callable[[Kitchen], Awaitable[Operation]]

# How an operation comes to stand as its name says.


async def waits_for_approval(kitchen: Kitchen) -> Operation:
    return await kitchen.place(ASKED)


async def is_ready(kitchen: Kitchen) -> Operation:
    return await kitchen.place(PAIR)


async def is_running(kitchen: Kitchen) -> Operation:
    order = await kitchen.place(PAIR)
    await kitchen.take("dough")
    return order


async def is_waiting(kitchen: Kitchen) -> Operation:
    order = await kitchen.place(PAIR)
    await kitchen.wait(await kitchen.take("dough"), 600)
    return order


async def is_half_done(kitchen: Kitchen) -> Operation:
    order = await kitchen.place(PAIR)
    await kitchen.do("dough", 1)
    return order


async def is_half_done_and_going_on(kitchen: Kitchen) -> Operation:
    order = await is_half_done(kitchen)
    await kitchen.take("top")
    return order


async def is_half_done_and_tried_again(kitchen: Kitchen) -> Operation:
    order = await is_half_done(kitchen)
    await kitchen.fail(await kitchen.take("top"))
    return order


async def is_paused(kitchen: Kitchen) -> Operation:
    order = await kitchen.place(PAIR)
    await pause_operation(kitchen.engine, order.id)
    return order


async def is_paused_while_running(kitchen: Kitchen) -> Operation:
    order = await is_running(kitchen)
    await pause_operation(kitchen.engine, order.id)
    return order


async def is_paused_half_done(kitchen: Kitchen) -> Operation:
    order = await is_half_done(kitchen)
    await pause_operation(kitchen.engine, order.id)
    return order


async def is_completed(kitchen: Kitchen) -> Operation:
    order = await is_half_done(kitchen)
    await kitchen.do("top")
    return order


async def is_errored(kitchen: Kitchen) -> Operation:
    order = await kitchen.place(PAIR)
    await kitchen.fail(await kitchen.take("dough"), "cold", final=True)
    return order


async def is_errored_half_done(kitchen: Kitchen) -> Operation:
    order = await is_half_done(kitchen)
    await kitchen.fail(await kitchen.take("top"), "no basil", final=True)
    return order


async def is_cancelled(kitchen: Kitchen) -> Operation:
    order = await is_half_done(kitchen)
    await cancel_operation(kitchen.engine, order.id, reason="enough")
    return order


async def is_declined(kitchen: Kitchen) -> Operation:
    order = await waits_for_approval(kitchen)
    await decline_rfa(kitchen.engine, order.id, by="ada")
    return order


async def is_expired(kitchen: Kitchen) -> Operation:
    order = await waits_for_approval(kitchen)
    await expire_rfa(kitchen.engine, order.id)
    return order


async def cancel(kitchen: Kitchen, order: Operation) -> None:
    await cancel_operation(kitchen.engine, order.id, reason="changed my mind")


async def pause(kitchen: Kitchen, order: Operation) -> None:
    await pause_operation(kitchen.engine, order.id)


async def resume(kitchen: Kitchen, order: Operation) -> None:
    await resume_operation(kitchen.engine, order.id)


async def retry(kitchen: Kitchen, order: Operation) -> None:
    await retry_operation(kitchen.engine, order.id)


async def approve(kitchen: Kitchen, order: Operation) -> None:
    await approve_rfa(kitchen.engine, order.id, by="ada")


async def decline(kitchen: Kitchen, order: Operation) -> None:
    await decline_rfa(kitchen.engine, order.id, by="ada")


async def expire(kitchen: Kitchen, order: Operation) -> None:
    await expire_rfa(kitchen.engine, order.id)


async def rerun_dough(kitchen: Kitchen, order: Operation) -> None:
    await rerun_task(kitchen.engine, order.id, 0)


async def rerun_top(kitchen: Kitchen, order: Operation) -> None:
    await rerun_task(kitchen.engine, order.id, 1)


async def cancel_dough(kitchen: Kitchen, order: Operation) -> None:
    await cancel_task(kitchen.engine, order.id, 0)


async def cancel_top(kitchen: Kitchen, order: Operation) -> None:
    await cancel_task(kitchen.engine, order.id, 1)


# Every verb in every state: what becomes of it, or why it is refused.
ALL_CANCELLED = "cancelled: dough cancelled, top cancelled"
TOP_CANCELLED = "cancelled: dough completed, top cancelled"
DONE: list[tuple[Story, Callable[[Kitchen, Operation], Awaitable[None]], str]] = [
    (waits_for_approval, cancel, ALL_CANCELLED),
    (is_ready, cancel, ALL_CANCELLED),
    (is_running, cancel, ALL_CANCELLED),
    (is_waiting, cancel, ALL_CANCELLED),
    (is_half_done, cancel, TOP_CANCELLED),
    (is_half_done_and_going_on, cancel, TOP_CANCELLED),
    (is_half_done_and_tried_again, cancel, TOP_CANCELLED),
    (is_paused, cancel, ALL_CANCELLED),
    (is_paused_while_running, cancel, ALL_CANCELLED),
    (is_paused_half_done, cancel, TOP_CANCELLED),
    (is_ready, pause, "paused: dough paused, top blocked"),
    (is_running, pause, "paused: dough running, top blocked"),
    (is_waiting, pause, "paused: dough paused, top blocked"),
    (is_half_done, pause, "paused: dough completed, top paused"),
    (is_half_done_and_going_on, pause, "paused: dough completed, top running"),
    (is_half_done_and_tried_again, pause, "paused: dough completed, top paused"),
    (is_paused, resume, "running: dough pending, top blocked"),
    (is_paused_while_running, resume, "running: dough running, top blocked"),
    (is_paused_half_done, resume, "running: dough completed, top pending"),
    (is_errored, retry, "running: dough pending, top blocked"),
    (is_errored_half_done, retry, "running: dough completed, top pending"),
    (waits_for_approval, approve, "running: dough pending, top blocked"),
    (waits_for_approval, decline, ALL_CANCELLED),
    (waits_for_approval, expire, ALL_CANCELLED),
    (is_half_done, rerun_dough, "running: dough pending, top blocked"),
    (is_paused_half_done, rerun_dough, "paused: dough paused, top blocked"),
    (is_errored, rerun_dough, "running: dough pending, top blocked"),
    (is_errored_half_done, rerun_top, "running: dough completed, top pending"),
    (is_ready, cancel_dough, ALL_CANCELLED),
    (is_running, cancel_dough, ALL_CANCELLED),
    (is_waiting, cancel_dough, ALL_CANCELLED),
    (is_paused, cancel_dough, ALL_CANCELLED),
    (is_paused_while_running, cancel_dough, ALL_CANCELLED),
    (is_ready, cancel_top, "running: dough pending, top cancelled"),
    (is_running, cancel_top, "running: dough running, top cancelled"),
    (is_half_done, cancel_top, TOP_CANCELLED),
    (is_half_done_and_going_on, cancel_top, TOP_CANCELLED),
    (is_half_done_and_tried_again, cancel_top, TOP_CANCELLED),
    (is_waiting, cancel_top, "running: dough waiting, top cancelled"),
    (is_paused, cancel_top, "paused: dough paused, top cancelled"),
    (is_paused_while_running, cancel_top, "paused: dough running, top cancelled"),
    (is_paused_half_done, cancel_top, TOP_CANCELLED),
]
FINAL = (is_completed, is_cancelled, is_declined, is_expired)
UNDER_WAY = (is_ready, is_running, is_waiting, is_half_done, is_half_done_and_going_on, is_half_done_and_tried_again)
PAUSED = (is_paused, is_paused_while_running, is_paused_half_done)
ERRORED = (is_errored, is_errored_half_done)
# Of these there is no RFA.
NEVER_ASKED = (*UNDER_WAY, *PAUSED, is_completed, is_cancelled, *ERRORED)
ANSWERS = (approve, decline, expire)
REFUSED: list[tuple[Story, Callable[[Kitchen, Operation], Awaitable[None]], str]] = [
    *((story, cancel, "it cannot be cancelled") for story in (*FINAL, *ERRORED)),
    *((story, pause, "only a running one can be paused") for story in (waits_for_approval, *PAUSED, *FINAL, *ERRORED)),
    *(
        (story, resume, "only a paused one can be resumed")
        for story in (waits_for_approval, *UNDER_WAY, *FINAL, *ERRORED)
    ),
    *(
        (story, retry, "only an errored one can be retried")
        for story in (waits_for_approval, *UNDER_WAY, *PAUSED, *FINAL)
    ),
    *((is_declined, verb, "was declined by ada") for verb in ANSWERS),
    *((is_expired, verb, "was expired") for verb in ANSWERS),
    *((story, verb, "its tasks stay as they are") for story in FINAL for verb in (rerun_dough, rerun_top)),
    *(
        (story, rerun_top, "only a completed or errored one can be rerun")
        for story in (waits_for_approval, *UNDER_WAY, *PAUSED, is_errored)
    ),
    *(
        (story, rerun_dough, "only a completed or errored one can be rerun")
        for story in (waits_for_approval, is_ready, is_running, is_waiting, is_paused, is_paused_while_running)
    ),
    *(
        (story, rerun_dough, "top, which depends on it, has started")
        for story in (is_half_done_and_going_on, is_half_done_and_tried_again, is_errored_half_done)
    ),
    *((waits_for_approval, verb, "decline its RFA, or cancel all of it") for verb in (cancel_dough, cancel_top)),
    *((story, verb, "it cannot be cancelled") for story in (*FINAL, *ERRORED) for verb in (cancel_dough, cancel_top)),
    *(
        (story, cancel_dough, "dough is completed: it cannot be cancelled")
        for story in (is_half_done, is_half_done_and_going_on, is_half_done_and_tried_again, is_paused_half_done)
    ),
]


def shown(case: object) -> str:
    return getattr(case, "__name__", str(case))


@pytest.mark.parametrize(("story", "verb", "outcome"), DONE, ids=shown)
async def test_what_fits_the_state_is_done_and_told(
    kitchen: Kitchen, story: Story, verb: Callable[[Kitchen, Operation], Awaitable[None]], outcome: str
) -> None:
    order = await story(kitchen)
    before = await kitchen.operation(order)
    await verb(kitchen, order)
    assert await kitchen.state(order) == outcome
    assert await kitchen.told(order, after=before) != []


@pytest.mark.parametrize("story", sorted({story for story, _, _ in REFUSED}, key=shown), ids=shown)
async def test_what_does_not_fit_the_state_is_a_conflict_with_a_reason_and_changes_nothing(
    kitchen: Kitchen, story: Story
) -> None:
    order = await story(kitchen)
    for verb, reason in [(verb, reason) for of, verb, reason in REFUSED if of is story]:
        async with kitchen.refused(Conflict, order, match=reason):
            await verb(kitchen, order)


@pytest.mark.parametrize("story", NEVER_ASKED, ids=shown)
async def test_what_was_never_asked_cannot_be_answered(kitchen: Kitchen, story: Story) -> None:
    order = await story(kitchen)
    for verb in ANSWERS:
        async with kitchen.refused(NotFound, order, match=f"There is no RFA {show_id(order.id)}"):
            await verb(kitchen, order)


# Cancelling.


async def test_a_cancelled_order_says_why_and_when(kitchen: Kitchen, time: Time) -> None:
    order = await is_running(kitchen)
    time.advance(MINUTE)
    await cancel(kitchen, order)
    operation = await kitchen.operation(order)
    assert (operation.reason, operation.finished_at) == ("changed my mind", NOON + 60_000_000)
    [told] = await kitchen.events(order, after=2)
    assert (told.type, told.status, told.message) == ("operation.cancelled", "cancelled", "Cancelled")
    assert told.audience == Audience.CUSTOMER


async def test_cancelling_an_order_that_waits_for_approval_takes_back_the_question(kitchen: Kitchen) -> None:
    order = await waits_for_approval(kitchen)
    await cancel(kitchen, order)
    rfa = (await kitchen.operation(order)).rfa
    assert rfa is not None
    assert (rfa.status, rfa.decided_at, rfa.decided_by) == (RfaStatus.CANCELLED, NOON, None)
    async with kitchen.refused(AlreadyDecided, order, match="was cancelled"):
        await approve(kitchen, order)


async def test_nothing_of_a_cancelled_order_comes_due(kitchen: Kitchen, time: Time) -> None:
    order = await is_waiting(kitchen)
    await cancel(kitchen, order)
    time.advance(48 * HOUR)
    assert await end_waits(kitchen.engine) == await pass_deadlines(kitchen.engine) == 0
    assert await kitchen.claim("dough", "top", most=9) == []


async def test_cancelling_one_task_takes_along_all_that_depends_on_it_and_no_other(kitchen: Kitchen) -> None:
    order = await kitchen.place(DIAMOND)
    await kitchen.do("dough")
    before = await kitchen.operation(order)
    await cancel_task(kitchen.engine, order.id, 1)
    assert await kitchen.state(order) == "running: dough completed, top cancelled, bake pending, deliver cancelled"
    assert await kitchen.told(order, after=before) == ["task.cancelled top", "task.cancelled deliver"]
    await kitchen.do("bake")
    operation = await kitchen.operation(order)
    assert (operation.status, operation.reason) == (OperationStatus.CANCELLED, "task top was cancelled")


async def test_whoever_does_a_task_that_is_cancelled_is_refused_from_then_on(kitchen: Kitchen) -> None:
    order = await kitchen.place(DIAMOND)
    await kitchen.do("dough")
    claimed = await kitchen.take("top")
    await cancel_task(kitchen.engine, order.id, 1)
    async with kitchen.refused(StaleToken, order, match="the task is cancelled"):
        await kitchen.complete(claimed)


async def test_an_order_with_a_cancelled_and_an_errored_branch_is_errored(kitchen: Kitchen) -> None:
    order = await kitchen.place(DIAMOND)
    await kitchen.do("dough")
    await cancel_task(kitchen.engine, order.id, 1)
    await kitchen.fail(await kitchen.take("bake"), "cold", final=True)
    assert await kitchen.state(order) == "errored: dough completed, top cancelled, bake errored, deliver cancelled"


# Pausing.


async def test_what_runs_when_an_order_is_paused_may_finish_and_what_follows_waits(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await pause(kitchen, order)
    await kitchen.complete(claimed)
    assert await kitchen.state(order) == "paused: dough completed, top paused, bake blocked"
    assert await kitchen.claim("top") == []
    await resume(kitchen, order)
    await kitchen.do("top")
    await kitchen.do("bake")
    assert (await kitchen.operation(order)).status is OperationStatus.COMPLETED


async def test_a_paused_order_whose_last_task_finishes_is_complete(kitchen: Kitchen) -> None:
    order = await is_half_done(kitchen)
    claimed = await kitchen.take("top")
    await pause(kitchen, order)
    await kitchen.complete(claimed)
    assert (await kitchen.operation(order)).status is OperationStatus.COMPLETED


async def test_a_pause_does_not_use_up_the_time_of_a_task(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(Plan([PlannedTask("dough", within=HOUR)]))
    time.advance(HOUR / 2)
    await pause(kitchen, order)
    time.advance(48 * HOUR)
    assert await pass_deadlines(kitchen.engine) == 0
    await resume(kitchen, order)
    task = await kitchen.task(order, "dough")
    assert task.deadline_at == task.due_at == time.now() + 3_600_000_000


async def test_a_resumed_task_has_its_old_place_in_the_queue(kitchen: Kitchen, time: Time) -> None:
    first = await kitchen.place(PAIR)
    time.advance(MINUTE)
    second = await kitchen.place(PAIR)
    await pause(kitchen, first)
    await resume(kitchen, first)
    assert [each.operation_id for each in await kitchen.claim("dough", most=2)] == [first.id, second.id]


async def test_a_resumed_order_is_heard_of_by_who_waits(kitchen: Kitchen) -> None:
    order = await is_paused(kitchen)
    ear = kitchen.engine.bell.listen(["diner/dough"])
    ear.clear()
    await resume(kitchen, order)
    assert ear.heard.is_set()


# Trying again.


async def test_a_retry_begins_with_the_tasks_that_failed_and_a_fresh_count(kitchen: Kitchen, time: Time) -> None:
    order = await is_errored_half_done(kitchen)
    time.advance(MINUTE)
    await retry(kitchen, order)
    top = await kitchen.task(order, "top")
    assert (top.failures, top.losses, top.error, top.finished_at, top.ready_at) == (0, 0, None, None, NOON + 60_000_000)
    operation = await kitchen.operation(order)
    assert (operation.finished_at, operation.reason) == (None, None)
    claimed = await kitchen.take("top")
    assert (claimed.task.attempt, claimed.inputs) == (2, {"dough": "1"})
    await kitchen.complete(claimed)
    assert (await kitchen.operation(order)).status is OperationStatus.COMPLETED


async def test_a_retry_tries_every_branch_that_failed(kitchen: Kitchen) -> None:
    order = await kitchen.place(DIAMOND)
    await kitchen.do("dough")
    for kind in ("top", "bake"):
        await kitchen.fail(await kitchen.take(kind), final=True)
    await retry(kitchen, order)
    assert await kitchen.state(order) == "running: dough completed, top pending, bake pending, deliver blocked"


async def test_a_retry_keeps_the_memo_so_that_nothing_is_done_twice(kitchen: Kitchen) -> None:
    order = await kitchen.place(PAIR)
    claimed = await kitchen.take("dough")
    await kitchen.remember(claimed, "sent")
    await kitchen.fail(claimed, final=True)
    await retry(kitchen, order)
    assert (await kitchen.take("dough")).task.memo == '"sent"'


async def test_a_rerun_forgets_result_and_memo_and_what_depends_on_it_waits(kitchen: Kitchen) -> None:
    order = await kitchen.place(PAIR)
    claimed = await kitchen.take("dough")
    await kitchen.remember(claimed, "sent")
    await kitchen.complete(claimed, 1, answer="complete:1")
    await rerun_dough(kitchen, order)
    dough = await kitchen.task(order, "dough")
    assert (dough.result, dough.memo, dough.finished_at, dough.answered) == (None, None, None, None)
    assert (await kitchen.told(order))[-1] == "task.rerun dough"
    async with kitchen.refused(StaleToken, order):
        await kitchen.complete(claimed, 1, answer="complete:1")
    await kitchen.do("dough", 2)
    assert (await kitchen.take("top")).inputs == {"dough": "2"}


async def test_a_rerun_blocks_what_joins_it_with_others_until_all_are_done_again(kitchen: Kitchen) -> None:
    order = await kitchen.place(DIAMOND)
    for kind in ("dough", "top", "bake"):
        await kitchen.do(kind)
    for position in (1, 2):
        await rerun_task(kitchen.engine, order.id, position)
    assert (await kitchen.task(order, "deliver")).blocked_by == 2
    await kitchen.do("bake")
    assert (await kitchen.task(order, "deliver")).status is TaskStatus.BLOCKED
    await kitchen.do("top")
    assert (await kitchen.task(order, "deliver")).status is TaskStatus.PENDING


async def test_a_dependant_that_was_claimed_and_handed_back_has_not_started(kitchen: Kitchen) -> None:
    order = await is_half_done(kitchen)
    await kitchen.hand_back(await kitchen.take("top"))
    await rerun_dough(kitchen, order)
    assert await kitchen.state(order) == "running: dough pending, top blocked"


async def test_a_rerun_of_the_failed_task_revives_an_errored_order(kitchen: Kitchen) -> None:
    order = await is_errored(kitchen)
    await rerun_dough(kitchen, order)
    await kitchen.do("dough")
    await kitchen.do("top")
    operation = await kitchen.operation(order)
    assert (operation.status, operation.reason) == (OperationStatus.COMPLETED, None)


async def test_of_a_branch_that_failed_the_rerun_does_not_wait_for_the_others(kitchen: Kitchen) -> None:
    order = await kitchen.place(DIAMOND)
    await kitchen.do("dough")
    await kitchen.fail(await kitchen.take("top"), final=True)
    await rerun_task(kitchen.engine, order.id, 1)
    assert await kitchen.state(order) == "running: dough completed, top pending, bake pending, deliver blocked"


# Whose it is, and what is not there.


async def test_an_order_or_task_that_is_not_there_is_not_found(kitchen: Kitchen) -> None:
    order = await is_ready(kitchen)
    with pytest.raises(NotFound):
        await cancel_operation(kitchen.engine, 7, reason="")
    for verb in (rerun_task, cancel_task):
        async with kitchen.refused(NotFound, order, match="no task"):
            await verb(kitchen.engine, order.id, 2)


async def test_an_order_of_another_shop_is_not_found(kitchen: Kitchen) -> None:
    order = await is_ready(kitchen)
    async with kitchen.refused(NotFound, order):
        await pause_operation(kitchen.engine, order.id, shop="another shop")
    await pause_operation(kitchen.engine, order.id, shop="diner")


# The same request, sent again.


async def test_a_verb_sent_again_with_its_key_is_a_replay_not_a_conflict(kitchen: Kitchen) -> None:
    order = await is_running(kitchen)
    await cancel_operation(kitchen.engine, order.id, reason="enough", key=key_of("k"))
    async with kitchen.refused(Conflict, order):
        await cancel_operation(kitchen.engine, order.id, reason="enough", key=key_of("another"))
    before = await kitchen.operation(order)
    with pytest.raises(Replayed) as replayed:
        await cancel_operation(kitchen.engine, order.id, reason="enough", key=key_of("k"))
    assert replayed.value.operation_id == order.id
    assert await kitchen.operation(order) == before


async def test_of_one_verb_sent_fifty_times_at_once_with_one_key_one_is_done(kitchen: Kitchen) -> None:
    order = await is_running(kitchen)
    answers = await asyncio.gather(
        *(pause_operation(kitchen.engine, order.id, key=key_of("k")) for _ in range(50)), return_exceptions=True
    )
    assert sum(answer is None for answer in answers) == 1
    assert sum(isinstance(answer, Replayed) for answer in answers) == 49
    assert await kitchen.told(order, after=2) == ["operation.paused"]


async def test_a_key_that_was_used_for_something_else_is_misused(kitchen: Kitchen) -> None:
    order = await kitchen.place(PAIR, key=key_of("k"))
    async with kitchen.refused(KeyMisused, order):
        await pause_operation(kitchen.engine, order.id, key=key_of("k", fingerprint="pause"))


async def test_a_verb_that_was_refused_stores_no_key(kitchen: Kitchen) -> None:
    order = await is_running(kitchen)
    async with kitchen.refused(Conflict, order):
        await resume_operation(kitchen.engine, order.id, key=key_of("k"))
    await pause(kitchen, order)
    await resume_operation(kitchen.engine, order.id, key=key_of("k"))
    assert (await kitchen.operation(order)).status is OperationStatus.RUNNING


async def test_many_hands_at_once_leave_an_order_that_somebody_wanted(kitchen: Kitchen) -> None:
    order = await is_running(kitchen)
    verbs = [pause, resume, cancel, pause, resume, retry] * 5
    answers = await asyncio.gather(*(verb(kitchen, order) for verb in verbs), return_exceptions=True)
    assert {type(answer) for answer in answers} == {type(None), Conflict}
    told = await kitchen.told(order, after=2)
    assert told[-1] == "operation.cancelled"
    assert set(told[:-1]) <= {"operation.paused", "operation.resumed"}


def test_every_verb_is_tried_in_every_state_once() -> None:
    stories = {waits_for_approval, *UNDER_WAY, *PAUSED, *ERRORED, *FINAL}
    verbs = {verb for _, verb, _ in DONE}
    cases = [(story, verb) for story, verb, _ in [*DONE, *REFUSED]]
    cases += [(story, verb) for story in NEVER_ASKED for verb in ANSWERS]
    assert len(cases) == len(set(cases))
    assert {(story, verb) for story in stories for verb in verbs} - set(cases) == set()


@pytest.mark.parametrize("minutes", [1, 10])
async def test_a_wait_that_was_paused_is_over_at_its_time(kitchen: Kitchen, time: Time, minutes: int) -> None:
    order = await is_waiting(kitchen)
    await pause(kitchen, order)
    time.advance(timedelta(minutes=minutes))
    await resume(kitchen, order)
    assert (await kitchen.task(order, "dough")).status == ("pending" if minutes >= 10 else "waiting")
