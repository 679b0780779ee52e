"""Any plan, and anything that workers, people and time do to it, in any order: what must hold holds, and it can end."""

from collections.abc import Callable
from datetime import timedelta
from random import Random

from hypothesis import given, settings, strategies
from hypothesis.strategies import SearchStrategy

from orderup.errors import Conflict, NotFound
from orderup.model import approval, steer, work
from orderup.model.ids import OperationId
from orderup.model.kind import Kind
from orderup.model.operation import Draft, Operation, OperationStatus
from orderup.model.placing import place
from orderup.model.plan import Approval, Plan, PlannedTask
from orderup.model.retry import Retry
from orderup.model.task import MOVING, TaskStatus

NOW = 1_800_000_000_000_000
HOUR = 3_600_000_000
KINDS = {"step": Kind("step", retry=Retry(attempts=3))}
MOST_TASKS = 6
Verb = Callable[[Draft, int, int], object]


def end_wait(draft: Draft, at: int, now: int) -> None:
    """As the clock does it in the database."""
    task = draft.task(at)
    if task.status is TaskStatus.WAITING and (task.ready_at or 0) <= now:
        draft.set_task(at, status=TaskStatus.PENDING, due_at=task.deadline_at)


def token(draft: Draft, at: int) -> str:
    return draft.task(at).token or "none"


VERBS: dict[str, Verb] = {
    "approve": lambda draft, _, now: approval.approve(draft, by="Ada", notes=None, now=now),
    "decline": lambda draft, _, now: approval.decline(draft, by="Ada", notes=None, now=now),
    "expire": lambda draft, _, now: approval.expire(draft, now=now),
    "cancel": lambda draft, _, now: steer.cancel(draft, reason="enough", now=now),
    "pause": lambda draft, _, now: steer.pause(draft, now=now),
    "resume": lambda draft, _, now: steer.resume(draft, now=now),
    "retry": lambda draft, _, now: steer.retry(draft, now=now),
    "rerun": lambda draft, at, now: steer.rerun(draft, at, now=now),
    "cancel_task": lambda draft, at, now: steer.cancel_task(draft, at, now=now),
    "start": lambda draft, at, now: work.start(draft, at, worker="w", token=f"{draft.version}", now=now),
    "complete": lambda draft, at, now: work.complete(draft, at, token=token(draft, at), result="1", now=now),
    "fail": lambda draft, at, now: fail(draft, at, now, final=False),
    "fail for good": lambda draft, at, now: fail(draft, at, now, final=True),
    "wait": lambda draft, at, now: work.wait(draft, at, token=token(draft, at), seconds=3600, memo='"half"', now=now),
    "remember": lambda draft, at, now: work.remember(draft, at, token=token(draft, at), memo='"half"', now=now),
    "hand_back": lambda draft, at, now: work.hand_back(draft, at, token=token(draft, at), now=now),
    "lose": lambda draft, at, now: work.lose(draft, at, token=token(draft, at), now=now),
    "run_out": lambda draft, at, now: work.run_out(draft, at, now=now),
    "end_wait": end_wait,
}
# Only a person's retry or rerun leaves these.
BY_HAND = {"retry", "rerun"}


def fail(draft: Draft, at: int, now: int, *, final: bool) -> None:
    work.fail(draft, at, token=token(draft, at), error="Oh!", now=now, random=Random(7), final=final)


@strategies.composite
def plans(draw: strategies.DrawFn) -> Plan:
    tasks = []
    for number in range(draw(strategies.integers(1, MOST_TASKS))):
        after = [f"t{earlier}" for earlier in range(number) if draw(strategies.booleans())]
        tasks.append(PlannedTask(f"t{number}", after=after, kind="step"))
    return Plan(tasks, approval=Approval("Shall we?") if draw(strategies.booleans()) else None)


def deeds() -> SearchStrategy[list[tuple[str, int, int]]]:
    """Verbs, each with a task and the hours that pass before it. Those that move things on come more often."""
    common = ["start", "start", "complete", "complete", "approve"]
    verbs = strategies.sampled_from([*common, *VERBS])
    hours = strategies.sampled_from([0, 0, 0, 0, 1, 5, 30])
    return strategies.lists(strategies.tuples(verbs, strategies.integers(0, MOST_TASKS - 1), hours), max_size=40)


@settings(max_examples=300, deadline=None)
@given(plans(), deeds())
def test_whatever_is_done_to_an_operation_it_stays_whole_and_can_be_brought_to_its_end(
    plan: Plan, deeds: list[tuple[str, int, int]]
) -> None:
    draft = place(plan, id=OperationId(1), shop="shop", kinds=KINDS, now=NOW, rfa_within=timedelta(days=1))
    operation, now = draft.result(), NOW
    check(operation)
    for verb, at, hours in deeds:
        now += hours * HOUR
        operation = done(operation, verb, at % len(operation.tasks), now)
    finish(operation, now)


def done(before: Operation, verb: str, at: int, now: int) -> Operation:
    draft = Draft(before)
    try:
        VERBS[verb](draft, at, now)
    except (Conflict, NotFound):
        assert (draft.changed, draft.events, draft.fields) == ({}, [], {}), "a refused verb leaves nothing behind"
        return before
    after = draft.result()
    check(after)
    if verb not in BY_HAND:
        check_final(before, after)
    assert [event.n for event in draft.events] == list(range(before.version + 1, after.version + 1))
    return after


def check(operation: Operation) -> None:
    tasks = operation.tasks
    assert operation.open == sum(task.status is not TaskStatus.COMPLETED for task in tasks)
    assert operation.moving == sum(task.status in MOVING for task in tasks)
    assert operation.status.is_final is (operation.finished_at is not None)
    for task in tasks:
        unfinished = [each for each in task.after if tasks[each].status is not TaskStatus.COMPLETED]
        if task.status in MOVING or task.status is TaskStatus.COMPLETED:
            assert unfinished == [], "no task goes on before its inputs are done"
        if task.status is TaskStatus.BLOCKED and task.after:
            assert task.blocked_by == len(unfinished), "a task waits for exactly what is not done"
        assert (task.token is not None) is (task.status is TaskStatus.RUNNING)
    if operation.status in (OperationStatus.RUNNING, OperationStatus.PAUSED):
        assert operation.moving, "what is under way has something that goes on"
    else:
        assert not operation.moving


def check_final(before: Operation, after: Operation) -> None:
    if before.status.is_final:
        assert after == before
    for was, now in zip(before.tasks, after.tasks, strict=True):
        if was.status.is_final:
            assert now == was, "what is final stays as it is"


def finish(operation: Operation, now: int) -> None:
    """Approve, resume and do what is left, as long as anything is left."""
    if operation.status is OperationStatus.PENDING:
        operation = done(operation, "approve", 0, now)
    if operation.status is OperationStatus.PAUSED:
        operation = done(operation, "resume", 0, now)
    while operation.moving:
        now += HOUR
        moving = next(task for task in operation.tasks if task.status in MOVING)
        verb = {TaskStatus.WAITING: "end_wait", TaskStatus.PENDING: "start", TaskStatus.RUNNING: "complete"}
        operation = done(operation, verb[moving.status], moving.position, now)
    assert operation.status.is_final
