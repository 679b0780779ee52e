"""I7: no rate window is exceeded, and no more tasks of a queue run at once than it allows."""

from collections import defaultdict
from collections.abc import Iterator

from orderup.model.ids import show_id
from orderup.model.kind import Kind
from orderup.model.task import queue_of
from orderup.model.times import as_micros
from tests.invariants.evidence import AnyRow, Evidence
from tests.invariants.replay import HOLDERS, Is

# What ends a claim; `task.remembered` does not.
ENDS = {type for type, now in HOLDERS.items() if now is not Is.RUNNING} | {"task.errored", "task.cancelled"}
ENDS_ALL = ("operation.cancelled", "rfa.declined", "rfa.expired")


def exceeded(evidence: Evidence) -> Iterator[str]:
    """Each violation of I7."""
    for queue, kind in evidence.kinds.items():
        events = _events_of(evidence, queue)
        if kind.rate is not None:
            yield from _windows(queue, kind, events)
        if kind.concurrency is not None:
            yield from _at_once(queue, kind.concurrency, events)
    for permit in evidence.database.permits:
        operation = evidence.database.operations.get(show_id(permit.operation_id))
        if permit.held and (operation is None or operation.tasks[permit.position].status != "running"):
            yield f"queue {permit.queue}: a permit is held for a task that does not run"


def _events_of(evidence: Evidence, queue: str) -> list[AnyRow]:
    """Of the tasks of a queue, whatever their region, and of what ends whole operations."""
    queues = {
        (operation.row.id, task.position): queue_of(task.queue)
        for operation in evidence.database.operations.values()
        for task in operation.tasks
    }
    return [
        event
        for event in evidence.events
        if event.type in ENDS_ALL or queues.get((event.operation_id, event.task)) == queue
    ]


def _windows(queue: str, kind: Kind, events: list[AnyRow]) -> Iterator[str]:
    """What was handed back may have been given back to the limit, too: it does not count."""
    assert kind.rate is not None
    starts: dict[tuple[int, int], list[int]] = defaultdict(list)
    for event in events:
        if event.type == "task.started":
            starts[event.operation_id, event.task].append(event.at)
        elif event.type == "task.handed_back":
            starts[event.operation_id, event.task].pop()
    times = sorted(at for several in starts.values() for at in several)
    period = as_micros(kind.rate.period)
    for first, beyond in zip(times, times[kind.rate.count :], strict=False):
        if beyond - first < period:
            yield f"queue {queue}: more than {kind.rate.count} in {kind.rate.period}, {beyond - first} µs apart"


def _at_once(queue: str, most: int, events: list[AnyRow]) -> Iterator[str]:
    running: set[tuple[int, int]] = set()
    for event in events:
        if event.type == "task.started":
            running.add((event.operation_id, event.task))
            if len(running) > most:
                yield f"queue {queue}: {len(running)} tasks at once from event {event.seq} on, {most} are allowed"
        elif event.type in ENDS:
            running.discard((event.operation_id, event.task))
        elif event.type in ENDS_ALL:
            running = {each for each in running if each[0] != event.operation_id}
