"""I3: no task starts before its inputs are done. The log's own order is judged by replay.py."""

from collections.abc import Iterator

from tests.invariants.evidence import Evidence, OperationRows, from_json, positions
from tests.invariants.records import Started

NOT_STARTED = ("blocked", "cancelled")


def too_early(evidence: Evidence) -> Iterator[str]:
    """Each violation of I3 that rows and ledgers show."""
    for operation in evidence.database.operations.values():
        yield from _rows(operation)
    for started in evidence.of(Started):
        yield from _given(evidence, started)


def _rows(operation: OperationRows) -> Iterator[str]:
    for task in operation.tasks:
        undone = [earlier for earlier in positions(task.after) if operation.tasks[earlier].status != "completed"]
        name = operation.task_id(task.position)
        if undone and task.status not in NOT_STARTED:
            yield f"task {name} is {task.status}, though it comes after {undone}, which are not completed"
        if task.status == "blocked" and task.blocked_by != len(undone):
            yield f"task {name} counts {task.blocked_by} before it, there are {len(undone)}"


def _given(evidence: Evidence, started: Started) -> Iterator[str]:
    """A worker gets the result of every task that its task comes after."""
    found = evidence.task(started.task)
    if found is None:
        return
    operation, task = found
    before = {operation.tasks[earlier].name: operation.tasks[earlier] for earlier in positions(task.after)}
    if set(started.inputs) != set(before):
        yield f"task {started.task} was started with {sorted(started.inputs)}, and comes after {sorted(before)}"
        return
    for name, earlier in before.items():
        was_rerun = operation.told("task.rerun", earlier.position)
        if not was_rerun and started.inputs[name] != from_json(earlier.result):
            yield f"task {started.task} got {started.inputs[name]} from {name}, whose result is {earlier.result}"
