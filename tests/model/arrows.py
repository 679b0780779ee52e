"""Every arrow of the state machines, found by driving the verbs of model/ through every state they can reach.

A few small plans are placed, and whatever can be done to them is done, again and again, until nothing new appears.
States that differ only in times, tokens or counts are taken for one. Time stands still at NOW, except for the verbs
that are about time having passed.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from random import Random
from typing import NamedTuple

from msgspec.structs import replace

from orderup.errors import Conflict, NotFound
from orderup.model import approval, steer, work
from orderup.model.ids import OperationId
from orderup.model.kind import Kind
from orderup.model.operation import Draft, Operation
from orderup.model.placing import place
from orderup.model.plan import Approval, Plan, PlannedTask
from orderup.model.task import Task, TaskStatus

NOW = 1_800_000_000_000_000
HOUR = 3_600_000_000
LATER = NOW + 2 * HOUR
# Past every deadline.
TOO_LATE = NOW + 1_000 * HOUR
TOKEN = "token-of-the-attempt"
KINDS = {name: Kind(name) for name in "abc"}
PLANS = (
    Plan([PlannedTask("a")], approval=Approval("Shall we?")),
    Plan.chain(PlannedTask("a"), PlannedTask("b")),
    Plan([PlannedTask("a"), PlannedTask("b")]),
    Plan([PlannedTask("a"), PlannedTask("b"), PlannedTask("c", after=["a", "b"])]),
    Plan([PlannedTask("a"), PlannedTask("b", after=["a"]), PlannedTask("c", after=["a"])]),
)


class Arrow(NamedTuple):
    """noun: operation, task or rfa. told_by: the event that tells of it, "" if none does."""

    noun: str
    before: str
    after: str
    verb: str
    told_by: str


@dataclass(frozen=True, slots=True)
class Step:
    """One verb, done to an operation."""

    verb: str
    before: Operation | None
    draft: Draft

    @property
    def after(self) -> Operation:
        return self.draft.result()


Verb = Callable[[Draft], object]


def walk() -> Iterator[Step]:
    """Every verb in every state that can be reached, where it is not refused."""
    for plan in PLANS:
        first = Step("place", None, placed(plan))
        yield first
        seen = {_likeness(first.after)}
        waiting = [first.after]
        while waiting:
            before = waiting.pop()
            for verb, do in _verbs(before):
                draft = Draft(before)
                try:
                    do(draft)
                except (Conflict, NotFound):
                    continue
                step = Step(verb, before, draft)
                yield step
                if _likeness(step.after) not in seen:
                    seen.add(_likeness(step.after))
                    waiting.append(step.after)


def placed(plan: Plan) -> Draft:
    return place(plan, id=OperationId(1), shop="shop", kinds=KINDS, now=NOW, rfa_within=timedelta(hours=24))


def _likeness(operation: Operation) -> tuple[object, ...]:
    """What decides what can be done to it."""
    rfa = operation.rfa.status if operation.rfa else None
    return (operation.status, rfa, *(_likeness_of_task(task) for task in operation.tasks))


def _likeness_of_task(task: Task) -> tuple[object, ...]:
    marks = (task.deadline_at is None, task.ready_at is None or task.ready_at <= NOW)
    return (task.status, task.blocked_by, task.attempt > 0, task.losses + 1 >= work.MOST_LOSSES, *marks)


def _verbs(operation: Operation) -> Iterable[tuple[str, Verb]]:
    yield "approve", lambda draft: approval.approve(draft, by="Ada", notes=None, now=NOW)
    yield "decline", lambda draft: approval.decline(draft, by="Ada", notes="No oven", now=NOW)
    yield "expire", lambda draft: approval.expire(draft, now=NOW)
    yield "cancel", lambda draft: steer.cancel(draft, reason="changed my mind", now=NOW)
    yield "pause", lambda draft: steer.pause(draft, now=NOW)
    yield "resume", lambda draft: steer.resume(draft, now=NOW)
    yield "resume", lambda draft: steer.resume(draft, now=LATER)
    yield "retry", lambda draft: steer.retry(draft, now=NOW)
    for task in operation.tasks:
        yield from _verbs_of_task(task.position)


def _verbs_of_task(at: int) -> Iterable[tuple[str, Verb]]:
    random = Random(1)
    yield "start", lambda draft: work.start(draft, at, worker="w", token=TOKEN, now=NOW, lease_us=30_000_000)
    yield "complete", lambda draft: work.complete(draft, at, token=TOKEN, result="1", now=NOW)
    yield "fail", lambda draft: work.fail(draft, at, token=TOKEN, error="Oh!", now=NOW, random=random)
    yield "fail", lambda draft: work.fail(draft, at, token=TOKEN, error="Oh!", now=NOW, random=random, final=True)
    yield "wait", lambda draft: work.wait(draft, at, token=TOKEN, seconds=3600, memo=None, now=NOW)
    yield "wait", lambda draft: work.wait(draft, at, token=TOKEN, seconds=3.6e6, memo=None, now=NOW)
    yield "remember", lambda draft: work.remember(draft, at, token=TOKEN, memo='"half"', now=NOW)
    yield "hand_back", lambda draft: work.hand_back(draft, at, token=TOKEN, now=NOW)
    yield "lose", lambda draft: work.lose(draft, at, token=TOKEN, now=NOW)
    yield "lose", lambda draft: _lose_the_last_time(draft, at)
    yield "run_out", lambda draft: work.run_out(draft, at, now=TOO_LATE)
    yield "end_waits", lambda draft: _end_wait(draft, at)
    yield "rerun", lambda draft: steer.rerun(draft, at, now=NOW)
    yield "cancel_task", lambda draft: steer.cancel_task(draft, at, now=NOW)


def _lose_the_last_time(draft: Draft, at: int) -> None:
    draft.changed[at] = replace(draft.task(at), losses=work.MOST_LOSSES - 1)
    work.lose(draft, at, token=TOKEN, now=NOW)


def _end_wait(draft: Draft, at: int) -> None:
    """As the clock does it in the database (engine/due.py): no change of the operation, and no event."""
    task = draft.task(at)
    if task.status is TaskStatus.WAITING:
        draft.set_task(at, status=TaskStatus.PENDING, ready_at=NOW, due_at=task.deadline_at)


@cache
def arrows() -> frozenset[Arrow]:
    return frozenset(arrow for step in walk() for arrow in arrows_of(step))


def arrows_of(step: Step) -> Iterator[Arrow]:
    """What a verb changed, each with the event that tells of it: the thing's own, else the one of the same change."""
    before, after, events = step.before, step.after, step.draft.events
    of_operation = [event.type for event in events if event.task is None]
    of_tasks = [event.type for event in events if event.task is not None]
    was = before.status if before else ""
    if was != after.status:
        yield Arrow("operation", was, after.status, step.verb, (of_operation or of_tasks)[0])
    if after.rfa is not None:
        was = before.rfa.status if before and before.rfa else ""
        if was != after.rfa.status:
            yield Arrow("rfa", was, after.rfa.status, step.verb, of_operation[0])
    for task in after.tasks:
        was = before.tasks[task.position].status if before else ""
        if was != task.status:
            own = [event.type for event in events if event.task == task.position]
            told_by = (own or of_operation or of_tasks or [""])[0]
            yield Arrow("task", was, task.status, step.verb, told_by)
