"""A failed attempt: tried again as the task's policy says, or errored."""

from datetime import timedelta
from random import Random

import pytest
import structlog

from orderup.engine.due import end_waits
from orderup.engine.fail import fail_task
from orderup.engine.steer import cancel_operation, pause_operation
from orderup.errors import StaleToken
from orderup.model.event import Audience
from orderup.model.ids import show_id
from orderup.model.operation import OperationStatus
from orderup.model.plan import Plan, PlannedTask
from orderup.model.retry import NEVER, Retry, backoff
from orderup.model.task import TaskStatus
from tests.engine.kitchen import CHAIN, DIAMOND, HOUR, MINUTE, NOON, RETRY, Kitchen, Time, place_of, token_of

# The engine of every kitchen draws its jitter from this seed.
SEED = 7


def wait_us(failures: int, *, retry: Retry = RETRY) -> int:
    """What the policy gives for the first wait that is drawn."""
    return round(backoff(retry, failures=failures, random=Random(SEED)).total_seconds() * 1e6)


async def fail_until_errored(kitchen: Kitchen, time: Time, kind: str = "dough") -> None:
    for _ in range(RETRY.attempts):
        await kitchen.fail(await kitchen.take(kind))
        time.advance(MINUTE)
        await end_waits(kitchen.engine)


async def test_a_failed_attempt_waits_as_long_as_the_policy_says(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    await kitchen.fail(await kitchen.take("dough"), "The oven is cold")
    task = await kitchen.task(order, "dough")
    assert (task.status, task.failures, task.error) == (TaskStatus.WAITING, 1, "The oven is cold")
    assert task.ready_at == task.due_at == NOON + wait_us(1)
    assert (task.token, task.worker, task.lease_until) == (None, None, None)


async def test_the_customer_is_told_that_it_is_being_tried_again_but_not_why(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    await kitchen.fail(await kitchen.take("dough"), "The oven is cold")
    [told] = await kitchen.events(order, after=2)
    assert (told.type, told.status, told.audience) == ("task.retrying", "waiting", Audience.CUSTOMER)
    assert told.message == "This takes longer than planned; it is being tried again"


async def test_the_log_says_once_why_an_attempt_failed_however_often_that_is_sent(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            await kitchen.fail(claimed, "The oven is\0cold", answer="fail:1")
    [line] = [line for line in lines if line["event"] == "an attempt failed"]
    assert (line["kind"], line["error"], line["final"]) == ("dough", "The oven is\N{REPLACEMENT CHARACTER}cold", False)
    assert line["operation_id"] == show_id(order.id)


async def test_it_can_be_claimed_again_when_the_wait_is_over_and_not_before(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(CHAIN)
    first = await kitchen.take("dough")
    await kitchen.fail(first)
    time.advance(timedelta(microseconds=wait_us(1) - 1))
    assert await end_waits(kitchen.engine) == 0
    assert await kitchen.claim("dough") == []
    time.advance(timedelta(microseconds=1))
    assert await end_waits(kitchen.engine) == 1
    second = await kitchen.take("dough")
    assert (second.task.attempt, second.task.failures) == (2, 1)
    assert token_of(second) != token_of(first)
    assert (await kitchen.operation(order)).status is OperationStatus.RUNNING


async def test_after_the_last_attempt_the_task_and_its_order_are_errored(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(CHAIN)
    await fail_until_errored(kitchen, time)
    assert await kitchen.state(order) == "errored: dough errored, top blocked, bake blocked"
    operation, task = await kitchen.operation(order), await kitchen.task(order, "dough")
    assert (task.failures, task.attempt, task.error) == (3, 3, "The oven is cold")
    assert task.finished_at == operation.finished_at == NOON + 120_000_000
    assert operation.reason == "dough: The oven is cold"
    assert (await kitchen.told(order))[-2:] == ["task.errored dough", "operation.errored"]


async def test_of_an_errored_order_staff_reads_why_and_the_customer_that_staff_looks_into_it(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    await kitchen.fail(await kitchen.take("dough"), "The oven is cold", final=True)
    task_errored, operation_errored = await kitchen.events(order, after=2)
    assert (task_errored.message, task_errored.audience) == ("The oven is cold", Audience.STAFF)
    assert operation_errored.message == "Something went wrong; our staff looks into it"
    assert operation_errored.audience == Audience.CUSTOMER


async def test_a_final_error_is_not_tried_again(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    await kitchen.fail(await kitchen.take("dough"), final=True)
    assert (await kitchen.task(order, "dough")).status is TaskStatus.ERRORED
    assert (await kitchen.operation(order)).status is OperationStatus.ERRORED


async def test_a_task_that_is_never_retried_is_errored_at_once(kitchen: Kitchen) -> None:
    order = await kitchen.place(Plan([PlannedTask("dough", retry=NEVER)]))
    await kitchen.fail(await kitchen.take("dough"))
    assert (await kitchen.task(order, "dough")).status is TaskStatus.ERRORED


async def test_a_retry_that_a_third_party_put_off_comes_no_earlier(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    await kitchen.fail(await kitchen.take("dough"), retry_after=timedelta(minutes=10))
    assert (await kitchen.task(order, "dough")).ready_at == NOON + 600_000_000


async def test_the_policy_may_ask_for_more_than_the_third_party(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    await kitchen.fail(await kitchen.take("dough"), retry_after=timedelta(microseconds=1))
    assert (await kitchen.task(order, "dough")).ready_at == NOON + wait_us(1)


async def test_a_task_that_could_only_be_tried_after_its_time_is_errored_now(kitchen: Kitchen) -> None:
    order = await kitchen.place(Plan([PlannedTask("dough", within=HOUR)]))
    await kitchen.fail(await kitchen.take("dough"), retry_after=HOUR)
    assert (await kitchen.task(order, "dough")).status is TaskStatus.ERRORED


async def test_an_error_is_kept_in_words_that_can_be_stored(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    await kitchen.fail(await kitchen.take("dough"), "cold\0 \ud800 " + "x" * 5_000)
    error = (await kitchen.task(order, "dough")).error
    assert error is not None
    assert error.startswith("cold\N{REPLACEMENT CHARACTER} ? xxx")
    assert len(error) == 2_000


async def test_a_success_after_failures_forgets_the_error(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(CHAIN)
    await kitchen.fail(await kitchen.take("dough"))
    time.advance(MINUTE)
    await end_waits(kitchen.engine)
    await kitchen.do("dough")
    task = await kitchen.task(order, "dough")
    assert (task.status, task.error, task.failures, task.attempt) == (TaskStatus.COMPLETED, None, 1, 2)


# Other branches of the same order.


async def test_an_order_with_an_errored_branch_goes_on_with_the_others_and_is_errored_in_the_end(
    kitchen: Kitchen,
) -> None:
    order = await kitchen.place(DIAMOND)
    await kitchen.do("dough")
    await kitchen.fail(await kitchen.take("top"), "no basil", final=True)
    assert await kitchen.state(order) == "running: dough completed, top errored, bake pending, deliver blocked"
    await kitchen.do("bake")
    assert await kitchen.state(order) == "errored: dough completed, top errored, bake completed, deliver blocked"
    assert (await kitchen.operation(order)).reason == "top: no basil"


async def test_an_order_with_two_errored_branches_tells_of_its_end_once(kitchen: Kitchen) -> None:
    order = await kitchen.place(DIAMOND)
    await kitchen.do("dough")
    for kind in ("top", "bake"):
        await kitchen.fail(await kitchen.take(kind), f"no {kind}", final=True)
    assert (await kitchen.told(order)).count("operation.errored") == 1
    assert (await kitchen.operation(order)).reason == "top: no top"


# Late ones and repeated ones.


async def test_the_same_failure_sent_again_changes_nothing(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await kitchen.fail(claimed, answer="fail:1")
    before = await kitchen.operation(order)
    await kitchen.fail(claimed, answer="fail:1")
    assert await kitchen.operation(order) == before
    time.advance(MINUTE)
    await end_waits(kitchen.engine)
    await kitchen.take("dough")
    before = await kitchen.operation(order)
    await kitchen.fail(claimed, answer="fail:1")
    assert await kitchen.operation(order) == before


async def test_a_failure_under_a_claim_that_has_ended_is_refused(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await kitchen.complete(claimed)
    async with kitchen.refused(StaleToken, order):
        await kitchen.fail(claimed)


async def test_a_failure_in_a_cancelled_order_is_refused(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await cancel_operation(kitchen.engine, order.id, reason="enough")
    async with kitchen.refused(StaleToken, order, match="was cancelled"):
        await kitchen.fail(claimed)


async def test_a_failure_in_a_paused_order_leaves_the_task_paused_until_it_goes_on(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await pause_operation(kitchen.engine, order.id)
    await kitchen.fail(claimed)
    task = await kitchen.task(order, "dough")
    assert (task.status, task.ready_at, task.due_at) == (TaskStatus.PAUSED, NOON + wait_us(1), None)


@pytest.mark.parametrize("final", [True, False])
async def test_a_made_up_token_fails_nothing(kitchen: Kitchen, *, final: bool) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    async with kitchen.refused(StaleToken, order):
        await fail_task(kitchen.engine, *place_of(claimed), token="made up", error="Oh!", final=final)


# A third party that asks for a rest pauses its whole queue.


async def test_a_failure_that_pauses_the_queue_pauses_it_for_every_order(kitchen: Kitchen, time: Time) -> None:
    await kitchen.place(CHAIN)
    other = await kitchen.place(CHAIN)
    rest = timedelta(minutes=10)
    await kitchen.fail(await kitchen.take("dough"), retry_after=rest, pauses_queue=True)
    assert await kitchen.claim("dough", most=9) == []
    time.advance(rest - timedelta(microseconds=1))
    assert await kitchen.claim("dough", most=9) == []
    time.advance(timedelta(microseconds=1))
    assert [each.operation_id for each in await kitchen.claim("dough", most=9)] == [other.id]


@pytest.mark.parametrize("retry", [Retry(attempts=2), NEVER])
async def test_a_rest_that_a_third_party_asks_for_is_no_failure(kitchen: Kitchen, time: Time, retry: Retry) -> None:
    order = await kitchen.place(Plan([PlannedTask("dough", retry=retry)]))
    for _ in range(7):
        await kitchen.fail(await kitchen.take("dough"), "too many", retry_after=MINUTE, pauses_queue=True)
        task = await kitchen.task(order, "dough")
        assert (task.status, task.failures, task.error) == (TaskStatus.WAITING, 0, "too many")
        time.advance(MINUTE)
        await end_waits(kitchen.engine)
    await kitchen.complete(await kitchen.take("dough"))
    assert (await kitchen.operation(order)).status is OperationStatus.COMPLETED


async def test_rests_end_with_the_time_of_the_task(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(Plan([PlannedTask("dough", within=3 * MINUTE)]))
    for _ in range(2):
        await kitchen.fail(await kitchen.take("dough"), retry_after=MINUTE, pauses_queue=True)
        time.advance(MINUTE)
        await end_waits(kitchen.engine)
    await kitchen.fail(await kitchen.take("dough"), "too many", retry_after=MINUTE, pauses_queue=True)
    task = await kitchen.task(order, "dough")
    assert (task.status, task.error) == (TaskStatus.ERRORED, "too many")


async def test_what_is_final_is_so_though_its_queue_rests(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    await kitchen.fail(await kitchen.take("dough"), final=True, retry_after=MINUTE, pauses_queue=True)
    assert (await kitchen.task(order, "dough")).status is TaskStatus.ERRORED


async def test_a_rest_until_long_ago_is_a_failed_attempt(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    await kitchen.fail(await kitchen.take("dough"), retry_after=-HOUR, pauses_queue=True)
    task = await kitchen.task(order, "dough")
    assert (task.status, task.failures, task.due_at) == (TaskStatus.WAITING, 1, NOON + wait_us(1))


async def test_a_rest_for_ever_ends_with_the_tasks_time_and_is_stored(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    await kitchen.fail(await kitchen.take("dough"), "go away", retry_after=timedelta.max, pauses_queue=True)
    task = await kitchen.task(order, "dough")
    assert (task.status, task.error) == (TaskStatus.ERRORED, "go away")
    assert await kitchen.claim("dough", most=9) == []


async def test_a_queue_that_rests_holds_up_no_other(kitchen: Kitchen) -> None:
    order = await kitchen.place(Plan([PlannedTask("dough"), PlannedTask("bake")]))
    await kitchen.fail(await kitchen.take("dough"), retry_after=MINUTE, pauses_queue=True)
    assert [each.task.name for each in await kitchen.claim("dough", "bake", most=9)] == ["bake"]
    assert (await kitchen.operation(order)).status is OperationStatus.RUNNING


async def test_a_queue_rests_as_long_as_the_longest_rest_that_was_asked_for(kitchen: Kitchen, time: Time) -> None:
    await kitchen.place(Plan([PlannedTask(name, kind="dough") for name in ("a", "b", "c")]))
    first, second = await kitchen.claim("dough", most=2)
    await kitchen.fail(first, retry_after=HOUR, pauses_queue=True)
    await kitchen.fail(second, retry_after=MINUTE, pauses_queue=True)
    time.advance(HOUR - MINUTE)
    assert await kitchen.claim("dough", most=9) == []
    time.advance(MINUTE)
    assert [each.task.name for each in await kitchen.claim("dough", most=9)] == ["c"]


async def test_a_rest_asked_for_under_a_claim_that_has_ended_pauses_nothing(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await kitchen.hand_back(claimed)
    async with kitchen.refused(StaleToken, order):
        await kitchen.fail(claimed, retry_after=HOUR, pauses_queue=True)
    await kitchen.take("dough")


async def test_who_claims_is_told_when_the_rest_is_over(kitchen: Kitchen) -> None:
    await kitchen.place(CHAIN)
    await kitchen.place(CHAIN)
    await kitchen.fail(await kitchen.take("dough"), retry_after=MINUTE, pauses_queue=True)
    assert await kitchen.next_permit_in("dough") == pytest.approx(60)
