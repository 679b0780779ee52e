"""What workers do to an operation: start, complete, fail, wait, remember, hand back; and what time does to it.

Every write of a worker carries the token of its attempt. A token that is not the running attempt's is stale, whatever
the reason: the lease ran out, the operation was cancelled, the task was done by somebody else.
"""

from random import Random

from orderup.errors import Conflict, StaleToken
from orderup.model.ids import show_id, show_task_id
from orderup.model.operation import Draft, OperationStatus
from orderup.model.retry import NoMoreAttempts, backoff
from orderup.model.task import Task, TaskStatus

# A task whose workers die again and again is taken to be what kills them.
MOST_LOSSES = 25
LONGEST_ERROR = 2_000
# Looked up once: a member reached through its class costs as much as an event.
BLOCKED, PENDING, RUNNING = TaskStatus.BLOCKED, TaskStatus.PENDING, TaskStatus.RUNNING
COMPLETED, PAUSED = TaskStatus.COMPLETED, TaskStatus.PAUSED


def start(
    draft: Draft,
    position: int,
    *,
    worker: str,
    token: str,
    now: int,
    lease_us: int | None = None,
    request: str | None = None,
) -> Task:
    """Claim one task. `lease_us` None: held under the worker's own lease, renewed for all its tasks together."""
    task = draft.task(position)
    if task.status is not PENDING:
        raise Conflict(f"Task {task.name} is {task.status}: it cannot be claimed.")
    started = draft.set_task(
        position,
        status=RUNNING,
        attempt=task.attempt + 1,
        token=token,
        worker=worker,
        lease_until=None if lease_us is None else now + lease_us,
        due_at=None,
        started_at=now,
        request=request,
    )
    if draft.base.started_at is None:
        draft.fields.setdefault("started_at", now)
    draft.tell("task.started", at=now, task=started, message=started.says or "")
    return started


def check_token(draft: Draft, position: int, token: str) -> Task:
    """The running task that `token` holds. Raises StaleToken."""
    task = draft.task(position)
    if task.status is not RUNNING or task.token != token:
        raise StaleToken(show_task_id(draft.base.id, position), reason=_why_stale(draft, task))
    return task


def _why_stale(draft: Draft, task: Task) -> str:
    if draft.status is OperationStatus.CANCELLED:
        return f"operation {show_id(draft.base.id)} was cancelled"
    if task.status is RUNNING:
        return "this claim has ended and another worker has the task"
    return f"this claim has ended and the task is {task.status}"


def was_answered(draft: Draft, position: int, answer: str | None) -> bool:
    """Whether this very write was accepted before: then it is not done again."""
    return answer is not None and draft.task(position).answered == answer


def complete(
    draft: Draft, position: int, *, token: str, result: str | None, now: int, answer: str | None = None
) -> None:
    """Store the result, release the dependants, end the operation with its last task."""
    if was_answered(draft, position, answer):
        return
    check_token(draft, position, token)
    _end_as_completed(draft, position, result=result, now=now, answer=answer)


def complete_late(draft: Draft, position: int, *, result: str | None, now: int) -> None:
    """It is done, whoever has the task by now and whether or not the claim it was done under has ended: for kinds where
    what counts is the thing, not the attempt. Raises Conflict if nobody ever claimed it, or if it has ended otherwise.
    """
    task = draft.task(position)
    if task.status is COMPLETED:
        return
    if task.status.is_final:
        raise Conflict(f"Task {task.name} of operation {show_id(draft.base.id)} is {task.status}. Nothing was changed.")
    if not task.attempt:
        raise Conflict(f"Task {task.name} of operation {show_id(draft.base.id)} was never started.")
    _end_as_completed(draft, position, result=result, now=now, answer=None)


def _end_as_completed(draft: Draft, position: int, *, result: str | None, now: int, answer: str | None) -> None:
    task = draft.set_task(
        position,
        status=COMPLETED,
        result=result,
        error=None,
        finished_at=now,
        token=None,
        lease_until=None,
        due_at=None,
        deadline_at=None,
        answered=answer,
    )
    draft.tell("task.completed", at=now, task=task)
    for later in task.next:
        unblock(draft, later, now=now)
    settle(draft, now=now)


def unblock(draft: Draft, position: int, *, now: int) -> None:
    """One thing less stands before this task; release it if that was the last."""
    task = draft.task(position)
    if task.status is not BLOCKED:
        return
    if task.blocked_by > 1:
        draft.set_task(position, blocked_by=task.blocked_by - 1)
        return
    release(draft, position, now=now)


def release(draft: Draft, position: int, *, now: int) -> None:
    """Make a task claimable; its `within` begins here."""
    deadline = now + draft.task(position).within_us
    paused = draft.status is OperationStatus.PAUSED
    draft.set_task(
        position,
        status=PAUSED if paused else PENDING,
        blocked_by=0,
        ready_at=now,
        deadline_at=deadline,
        due_at=None if paused else deadline,
    )
    if not paused:
        draft.released.append(position)


def settle(draft: Draft, *, now: int) -> None:
    """End the operation if nothing can happen to it any more."""
    if draft.status.is_final or draft.moving:
        return
    if not draft.open:
        draft.end(OperationStatus.COMPLETED, now=now)
        draft.tell("operation.completed", at=now)
        return
    tasks = draft.tasks()
    errored = next((task for task in tasks if task.status is TaskStatus.ERRORED), None)
    if errored is not None:
        draft.end(OperationStatus.ERRORED, now=now, reason=f"{errored.name}: {errored.error}"[:LONGEST_ERROR])
        draft.tell("operation.errored", at=now)
        return
    cancelled = next((task.name for task in tasks if task.status is TaskStatus.CANCELLED), None)
    if cancelled is not None:
        draft.end(OperationStatus.CANCELLED, now=now, reason=f"task {cancelled} was cancelled")
        draft.tell("operation.cancelled", at=now)


def fail(
    draft: Draft,
    position: int,
    *,
    token: str,
    error: str,
    now: int,
    random: Random,
    final: bool = False,
    retry_after_us: int | None = None,
    is_rest: bool = False,
    answer: str | None = None,
    was_used: bool = True,
) -> None:
    """A failed attempt: wait and try again as the task's retry policy says, or end it as errored. `is_rest`: a third
    party has nothing against it, but asks everybody to come back after `retry_after_us`; that counts as no failure, and
    ends with the task's time. `was_used` False: nothing was sent to anybody."""
    if was_answered(draft, position, answer):
        return
    task = check_token(draft, position, token)
    if not was_used:
        draft.refunded.add(position)
    failures = task.failures if is_rest else task.failures + 1
    wait_us = None if final else _wait_after(task, failures=1 if is_rest else failures, random=random)
    if is_rest and not final:
        wait_us = wait_us or 0  # those that are never tried again wait, too
    if wait_us is not None and retry_after_us is not None:
        wait_us = max(wait_us, retry_after_us)
    error = storable(error)
    if wait_us is None or _past(task, now + wait_us):
        _end_as_errored(draft, position, error=error, now=now, failures=failures, answer=answer)
        return
    later = _set_waiting(draft, position, ready_at=now + wait_us, failures=failures, error=error, answered=answer)
    draft.tell("task.retrying", at=now, task=later)


def storable(error: str) -> str:
    """What both databases can hold of an error's words, whoever they came from: no NUL, no half of a character."""
    return error[:LONGEST_ERROR].replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def _wait_after(task: Task, *, failures: int, random: Random) -> int | None:
    try:
        return round(backoff(task.retry, failures=failures, random=random).total_seconds() * 1e6)
    except NoMoreAttempts:
        return None


def _past(task: Task, moment: int) -> bool:
    return task.deadline_at is not None and moment >= task.deadline_at


def _end_as_errored(draft: Draft, position: int, *, error: str, now: int, **changes: object) -> None:
    answer = changes.pop("answer", None)
    task = draft.set_task(
        position,
        status=TaskStatus.ERRORED,
        error=error,
        finished_at=now,
        token=None,
        lease_until=None,
        due_at=None,
        deadline_at=None,
        answered=answer,
        **changes,
    )
    draft.tell("task.errored", at=now, task=task, message=error[:200])
    settle(draft, now=now)


def _set_waiting(draft: Draft, position: int, *, ready_at: int, **changes: object) -> Task:
    """Free the task until `ready_at`; a paused operation keeps it paused."""
    task = draft.task(position)
    paused = draft.status is OperationStatus.PAUSED
    return draft.set_task(
        position,
        status=PAUSED if paused else TaskStatus.WAITING,
        ready_at=ready_at,
        due_at=None if paused else _earlier(ready_at, task.deadline_at),
        token=None,
        worker=None,
        lease_until=None,
        losses=0,
        **changes,
    )


def _earlier(moment: int, deadline: int | None) -> int:
    return moment if deadline is None else min(moment, deadline)


def wait(
    draft: Draft,
    position: int,
    *,
    token: str,
    seconds: float,
    memo: str | None,
    now: int,
    answer: str | None = None,
    was_used: bool = True,
) -> None:
    """The handler asked to be called again later; no attempt has failed. `was_used` False: nothing went to anybody."""
    if was_answered(draft, position, answer):
        return
    task = check_token(draft, position, token)
    if not was_used:
        draft.refunded.add(position)
    ready_at = now + round(seconds * 1e6)
    if _past(task, ready_at):
        _end_as_errored(draft, position, error="It was not done within its time", now=now, answer=answer)
        return
    kept = task.memo if memo is None else memo
    later = _set_waiting(draft, position, ready_at=ready_at, memo=kept, answered=answer)
    draft.tell("task.waiting", at=now, task=later)


def remember(draft: Draft, position: int, *, token: str, memo: str, now: int) -> None:
    """Commit a memo in mid-handler; the claim goes on."""
    task = check_token(draft, position, token)
    if task.memo != memo:
        draft.tell("task.remembered", at=now, task=draft.set_task(position, memo=memo))


def hand_back(draft: Draft, position: int, *, token: str, now: int, was_used: bool = True) -> None:
    """Give a claim back undone: somebody else may claim the task at once, in its old place. `was_used` False: its
    worker never got it, so certainly nothing was sent to anybody."""
    task = check_token(draft, position, token)
    _make_claimable(draft, position, attempt=task.attempt - 1, losses=0)
    if not was_used:
        draft.refunded.add(position)
    draft.tell("task.handed_back", at=now, task=draft.task(position))


def lose(draft: Draft, position: int, *, token: str, now: int) -> None:
    """The lease of a claim ran out. The task goes back to the head of its queue: it keeps its `ready_at`."""
    task = check_token(draft, position, token)
    if task.losses + 1 >= MOST_LOSSES:
        error = f"{MOST_LOSSES} workers in a row vanished while they had this task"
        _end_as_errored(draft, position, error=error, now=now, losses=task.losses + 1)
        return
    _make_claimable(draft, position, losses=task.losses + 1)
    draft.tell("task.lost", at=now, task=draft.task(position))


def _make_claimable(draft: Draft, position: int, **changes: object) -> None:
    task = draft.task(position)
    paused = draft.status is OperationStatus.PAUSED
    draft.set_task(
        position,
        status=PAUSED if paused else PENDING,
        token=None,
        worker=None,
        lease_until=None,
        due_at=None if paused else task.deadline_at,
        **changes,
    )
    if not paused:
        draft.released.append(position)


def run_out(draft: Draft, position: int, *, now: int) -> None:
    """The clock looks at a task whose deadline may have passed: end it if so."""
    task = draft.task(position)
    if task.status not in (PENDING, TaskStatus.WAITING, RUNNING) or not _past(task, now):
        return
    tail = f"; its last error: {task.error}" if task.error else ""
    _end_as_errored(draft, position, error=f"It was not done within {task.within_us / 3.6e9:g} h{tail}", now=now)
