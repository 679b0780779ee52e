"""When a pizza can be expected: from how long each step really took lately, and from how many wait before it.

Looked at are the last finished orders, found by an index: a fixed number of rows, however long the history is.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from sqlalchemy import func, or_, select, tuple_

from orderup.db.database import ReadConnection
from orderup.db.tables import operations, rfas, tasks, workers
from orderup.model.operation import Operation, OperationStatus
from orderup.model.quantile import MEDIAN, NINETY_PERCENT, quantile
from orderup.model.task import Task, TaskStatus
from orderup.shops.pizza.plan import USUAL_MINUTES

LAST_ORDERS = 40
MOST_COUNTED = 1_000
# A worker asks for work at least once a minute.
HEARD_OF_WITHIN_US = 75_000_000
# Until there is a history: nine of ten are done in half as long again as the plan says.
USUAL_SPREAD = 1.5
USUAL_APPROVAL_MINUTES = 5.0
APPROVAL = "approval"


class Pace(msgspec.Struct, frozen=True):
    """How the kitchen does. took: of each of the last orders, seconds by step, the approval among them. ahead: how many
    tasks wait before this order's, by step. workers: how many share the work."""

    took: Sequence[Mapping[str, float]]
    ahead: Mapping[str, int]
    workers: int


def expected_delivery(operation: Operation, pace: Pace, *, now: int) -> tuple[int, int] | None:
    """The moments by which five and nine of ten such orders are delivered; None if nobody can tell: it has ended, or
    is on hold."""
    if operation.status not in (OperationStatus.PENDING, OperationStatus.RUNNING):
        return None
    usual = _usual_seconds(operation)
    took = pace.took or [usual, {step: seconds * USUAL_SPREAD for step, seconds in usual.items()}]
    left = sorted(_seconds_left(operation, {**usual, **each}, now=now) for each in took)
    median, most = (
        quantile(left, share) + _seconds_in_line(operation, pace, took, share) for share in (MEDIAN, NINETY_PERCENT)
    )
    return now + round(median * 1e6), now + round(most * 1e6)


def reason_for_more(operation: Operation, pace: Pace, *, now: int) -> str | None:
    """Why it is expected later than a pizza usually is, in words for the customer; None if it is not."""
    usual = _usual_seconds(operation)
    took = pace.took or [{step: seconds * USUAL_SPREAD for step, seconds in usual.items()}]

    def is_slow(step: str, since: int | None) -> bool:
        own = sorted(each[step] for each in took if step in each)
        return since is not None and bool(own) and (now - since) / 1e6 > quantile(own, NINETY_PERCENT)

    if operation.status is OperationStatus.PENDING and is_slow(APPROVAL, operation.placed_at):
        return "the approval takes longer than usual"
    for task in operation.tasks:
        if task.status is TaskStatus.RUNNING and is_slow(task.name, task.started_at):
            return f"{(task.says or task.name).lower()} takes longer than usual"
    ahead = max((pace.ahead.get(task.name, 0) for task in operation.tasks if _still_queues(task)), default=0)
    if ahead >= pace.workers > 0:
        return "1 order is before yours" if ahead == 1 else f"{ahead:,} orders are before yours"
    if pace.workers == 0 and any(task.status is TaskStatus.PENDING for task in operation.tasks):
        return "nobody in your region is at work at the moment"
    return None


def _usual_seconds(operation: Operation) -> dict[str, float]:
    """As the plan has it."""
    usual = {APPROVAL: USUAL_APPROVAL_MINUTES * 60}
    for task in operation.tasks:
        own = msgspec.json.decode(task.params).get("minutes", 0.0)
        usual[task.name] = USUAL_MINUTES.get(task.name, own) * 60
    return usual


def _seconds_left(operation: Operation, took: Mapping[str, float], *, now: int) -> float:
    """If every step that is left takes as long as it did for another order."""
    left = 0.0
    if operation.status is OperationStatus.PENDING:
        left += _rest(took[APPROVAL], since=operation.placed_at, now=now)
    for task in operation.tasks:
        if task.status is TaskStatus.RUNNING:
            left += _rest(took[task.name], since=task.started_at or now, now=now)
        elif task.status is TaskStatus.WAITING:
            left += took[task.name] + max(0.0, ((task.ready_at or now) - now) / 1e6)
        elif task.status is not TaskStatus.COMPLETED:
            left += took[task.name]
    return left


def _rest(seconds: float, *, since: int, now: int) -> float:
    return max(0.0, seconds - (now - since) / 1e6)


def _seconds_in_line(operation: Operation, pace: Pace, took: Sequence[Mapping[str, float]], share: float) -> float:
    """Until those who wait before it at each step have been served."""
    seconds = 0.0
    for task in operation.tasks:
        if _still_queues(task) and (ahead := pace.ahead.get(task.name)):
            own = sorted(each[task.name] for each in took if task.name in each)
            seconds += ahead * (quantile(own, share) if own else 0.0)
    return seconds / max(1, pace.workers)


def _still_queues(task: Task) -> bool:
    return task.status in (TaskStatus.BLOCKED, TaskStatus.PENDING)


def read_pace(connection: ReadConnection, operation: Operation, *, now: int) -> Pace:
    """As it is for this order now."""
    ahead = {task.name: _count_ahead(connection, task, operation.id) for task in operation.tasks if _still_queues(task)}
    return Pace(
        read_durations(connection, operation.shop),
        ahead,
        _count_workers(connection, operation.shop, operation.tasks[0].region, now=now),
    )


def read_durations(connection: ReadConnection, shop: str) -> list[dict[str, float]]:
    """Seconds that each step of the last finished orders took, and their approval, by step."""
    newest = (
        select(operations.c.id)
        .where(operations.c.shop == shop, operations.c.status == OperationStatus.COMPLETED.value)
        .order_by(operations.c.id.desc())
        .limit(LAST_ORDERS)
    )
    # Two reads: given the ids, PostgreSQL takes the rows by their keys, whatever it believes about the tables.
    ids = [row[0] for row in connection.rows(newest)]
    took: dict[int, dict[str, float]] = {id: {} for id in ids}
    steps = select(tasks.c.operation_id, tasks.c.name, tasks.c.started_at, tasks.c.finished_at)
    asked = select(rfas.c.operation_id, rfas.c.asked_at, rfas.c.decided_at)
    _note(took, connection.rows(steps.where(tasks.c.operation_id.in_(ids))))
    _note(took, ((row[0], APPROVAL, *row[1:]) for row in connection.rows(asked.where(rfas.c.operation_id.in_(ids)))))
    return list(took.values())


def _note(took: Mapping[int, dict[str, float]], rows: Iterable[Sequence[object]]) -> None:
    for id, step, began_at, ended_at in rows:
        if isinstance(id, int) and isinstance(began_at, int) and isinstance(ended_at, int):
            took[id][str(step)] = (ended_at - began_at) / 1e6


def _count_ahead(connection: ReadConnection, task: Task, operation_id: int) -> int:
    """Tasks that wait in its queue and go before it, counted up to a bound."""
    line = (tasks.c.queue == task.queue) & (tasks.c.status == TaskStatus.PENDING.value)
    if task.status is TaskStatus.PENDING:
        place = (task.priority, task.ready_at, operation_id)
        line &= tuple_(tasks.c.priority, tasks.c.ready_at, tasks.c.operation_id) < tuple_(*place)
    some = select(tasks.c.operation_id).where(line).limit(MOST_COUNTED).subquery()
    [(count,)] = connection.rows(select(func.count()).select_from(some))
    return int(count)


def _count_workers(connection: ReadConnection, shop: str, region: str | None, *, now: int) -> int:
    is_ours = or_(workers.c.shop == shop, workers.c.shop.is_(None))
    lately = (workers.c.region == region) & (workers.c.seen_at > now - HEARD_OF_WITHIN_US)
    some = select(workers.c.id).where(is_ours, lately).limit(MOST_COUNTED).subquery()
    [(count,)] = connection.rows(select(func.count()).select_from(some))
    return int(count)
