"""I1: an accepted request is never lost. What was answered 2xx is there, and nothing stands still for ever."""

from collections.abc import Iterator

from tests.invariants.evidence import Evidence, OperationRows, from_json, positions
from tests.invariants.records import Accepted, Answered, Decided

FINAL = ("completed", "errored", "cancelled")
MOVING = ("pending", "running", "waiting", "paused")


def lost(evidence: Evidence) -> Iterator[str]:
    """Each violation of I1."""
    yield from _orders(evidence)
    yield from _results(evidence)
    yield from _decisions(evidence)
    executors = {worker.id for worker in evidence.database.workers}
    for operation in evidence.database.operations.values():
        yield from _stuck(operation, executors)
        if evidence.must_have_ended and operation.row.status not in FINAL:
            yield f"operation {operation.id} has not ended: it is {operation.row.status}"


def _orders(evidence: Evidence) -> Iterator[str]:
    """A pruned one has ended before; only the rest must be there."""
    if evidence.database.pruned_seq:
        return
    for accepted in evidence.of(Accepted):
        operation = evidence.database.operations.get(accepted.id)
        if operation is None:
            yield f"operation {accepted.id} was accepted and is not there"
        elif not operation.tasks or not operation.told("operation.placed"):
            yield f"operation {accepted.id} was accepted and is there in part"


def _results(evidence: Evidence) -> Iterator[str]:
    for answered in evidence.of(Answered):
        found = evidence.task(answered.task)
        if answered.verb != "complete" or answered.status != 200 or found is None:
            continue
        operation, task = found
        if operation.told("task.rerun", task.position):
            continue
        if task.status != "completed" or from_json(task.result) != answered.result:
            yield f"task {answered.task}: the result {answered.result} was accepted, the row has {task.result}"


def _decisions(evidence: Evidence) -> Iterator[str]:
    for decided in evidence.of(Decided):
        operation = evidence.database.operations.get(decided.id)
        if operation is None or decided.status != 200:
            continue
        is_about_rfa = decided.decision in ("approved", "declined") and operation.rfa is not None
        now = operation.rfa.status if is_about_rfa and operation.rfa is not None else operation.row.status
        if now != decided.decision:
            yield f"operation {decided.id}: it was {decided.decision}, and that was accepted; now it is {now}"


def _stuck(operation: OperationRows, executors: set[str]) -> Iterator[str]:
    """Whatever is under way has something that moves it: a worker, a time, a person."""
    row = operation.row
    statuses = [task.status for task in operation.tasks]
    counted = (sum(status != "completed" for status in statuses), sum(status in MOVING for status in statuses))
    if (row.open, row.moving) != counted:
        yield f"operation {operation.id}: it counts {row.open} open and {row.moving} moving tasks, there are {counted}"
    if row.status == "pending" and (operation.rfa is None or operation.rfa.status != "pending"):
        yield f"operation {operation.id} waits for an approval that nobody is asked for"
    if row.status in ("running", "paused") and not counted[1]:
        yield f"operation {operation.id} is {row.status}, and nothing in it can move"
    if row.status not in ("running", "paused"):
        return
    for task in operation.tasks:
        name = operation.task_id(task.position)
        waits_for = [earlier for earlier in positions(task.after) if statuses[earlier] != "completed"]
        if task.status == "blocked" and not waits_for:
            yield f"task {name} is blocked by nothing"
        if task.status == "waiting" and task.due_at is None:
            yield f"task {name} waits for no time"
        if task.status == "running" and task.lease_until is None and task.worker not in executors:
            yield f"task {name} is held by {task.worker}, which has no lease that could run out"
