"""What people do to an operation: cancel, pause, resume, retry it; rerun or cancel one task."""

from msgspec.structs import replace

from orderup.errors import Conflict
from orderup.model.ids import show_id
from orderup.model.operation import Draft, OperationStatus
from orderup.model.rfa import RfaStatus
from orderup.model.task import Task, TaskStatus
from orderup.model.work import release, settle


def cancel(draft: Draft, *, reason: str, now: int) -> None:
    """End the operation now. Whoever holds a task of it is refused from here on."""
    if draft.status.is_final:
        raise _misfit(draft, "it cannot be cancelled")
    if draft.rfa is not None and draft.rfa.status is RfaStatus.PENDING:
        draft.set(rfa=replace(draft.rfa, status=RfaStatus.CANCELLED, decided_at=now))
    end_as_cancelled(draft, reason=reason, now=now)
    draft.tell("operation.cancelled", at=now)


def _misfit(draft: Draft, consequence: str) -> Conflict:
    return Conflict(f"Operation {show_id(draft.base.id)} is {draft.status}: {consequence}.")


def end_as_cancelled(draft: Draft, *, reason: str, now: int) -> None:
    for task in draft.tasks():
        if not task.status.is_final:
            _cancel_one(draft, task, now=now)
    draft.end(OperationStatus.CANCELLED, now=now, reason=reason)


def _cancel_one(draft: Draft, task: Task, *, now: int) -> Task:
    return draft.set_task(
        task.position,
        status=TaskStatus.CANCELLED,
        finished_at=now,
        token=None,
        lease_until=None,
        due_at=None,
        deadline_at=None,
    )


def pause(draft: Draft, *, now: int) -> None:
    """No task of it is claimed from here on. Attempts that are running may finish."""
    if draft.status is not OperationStatus.RUNNING:
        raise _misfit(draft, "only a running one can be paused")
    for task in draft.tasks():
        if task.status in (TaskStatus.PENDING, TaskStatus.WAITING):
            draft.set_task(task.position, status=TaskStatus.PAUSED, due_at=None)
    draft.status = OperationStatus.PAUSED
    draft.tell("operation.paused", at=now)


def resume(draft: Draft, *, now: int) -> None:
    """Go on. The time a task has left to be done is not used up by the pause."""
    if draft.status is not OperationStatus.PAUSED:
        raise _misfit(draft, "only a paused one can be resumed")
    draft.status = OperationStatus.RUNNING
    for task in draft.tasks():
        if task.status is TaskStatus.PAUSED:
            _resume_one(draft, task, now=now)
    draft.tell("operation.resumed", at=now)


def _resume_one(draft: Draft, task: Task, *, now: int) -> None:
    deadline = now + task.within_us
    if task.ready_at is not None and task.ready_at > now:
        due = min(task.ready_at, deadline)
        draft.set_task(task.position, status=TaskStatus.WAITING, deadline_at=deadline, due_at=due)
        return
    draft.set_task(task.position, status=TaskStatus.PENDING, deadline_at=deadline, due_at=deadline)
    draft.released.append(task.position)


def retry(draft: Draft, *, now: int) -> None:
    """Try an errored operation again from the tasks that failed."""
    if draft.status is not OperationStatus.ERRORED:
        raise _misfit(draft, "only an errored one can be retried")
    _reopen(draft)
    for task in draft.tasks():
        if task.status is TaskStatus.ERRORED:
            _do_again(draft, task, now=now)
    draft.tell("operation.retried", at=now)


def _reopen(draft: Draft) -> None:
    draft.status = OperationStatus.RUNNING
    draft.set(finished_at=None, reason=None)


def _do_again(draft: Draft, task: Task, *, now: int) -> None:
    draft.set_task(
        task.position, failures=0, losses=0, worker=None, error=None, result=None, finished_at=None, answered=None
    )
    release(draft, task.position, now=now)


def rerun(draft: Draft, position: int, *, now: int, once: bool = False, memo: str | None = None) -> None:
    """Do a task again that is done or errored, as long as no dependant of it has started. `once`: only one that is
    errored. `memo`: what it begins with."""
    task = draft.task(position)
    if draft.status in (OperationStatus.COMPLETED, OperationStatus.CANCELLED):
        raise _misfit(draft, "its tasks stay as they are")
    if task.status not in (TaskStatus.COMPLETED, TaskStatus.ERRORED):
        raise Conflict(f"Task {task.name} is {task.status}: only a completed or errored one can be rerun.")
    if once and task.status is TaskStatus.COMPLETED:
        raise Conflict(f"Task {task.name} is completed, and what it does is done once.")
    dependants = [draft.task(later) for later in task.next]
    started = next((later.name for later in dependants if later.attempt), None)
    if started is not None:
        raise Conflict(f"Task {task.name} cannot be rerun: {started}, which depends on it, has started.")
    if draft.status is OperationStatus.ERRORED:
        _reopen(draft)
    if task.status is TaskStatus.COMPLETED:
        for later in dependants:
            _block_again(draft, later)
    draft.set_task(position, memo=memo)
    _do_again(draft, draft.task(position), now=now)
    draft.tell("task.rerun", at=now, task=draft.task(position))


def _block_again(draft: Draft, task: Task) -> None:
    if task.status is TaskStatus.CANCELLED:
        return
    draft.set_task(
        task.position,
        status=TaskStatus.BLOCKED,
        blocked_by=task.blocked_by + 1,
        due_at=None,
        deadline_at=None,
        finished_at=None,  # one that ran out of time before anybody began it
        error=None,
    )


def cancel_task(draft: Draft, position: int, *, now: int) -> None:
    """Cancel a task and all that depends on it; the operation then ends as cancelled when the rest is done."""
    task = draft.task(position)
    if draft.status is OperationStatus.PENDING:
        raise _misfit(draft, "decline its RFA, or cancel all of it")
    if draft.status.is_final or task.status.is_final:
        status = task.status if task.status.is_final else draft.status
        raise Conflict(f"Task {task.name} is {status}: it cannot be cancelled.")
    waiting = [position]
    while waiting:
        task = draft.task(waiting.pop())
        if not task.status.is_final:
            draft.tell("task.cancelled", at=now, task=_cancel_one(draft, task, now=now))
            waiting.extend(task.next)
    settle(draft, now=now)
