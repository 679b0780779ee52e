"""How busy the queues are. Counting stops at a bound: a million waiting tasks cost no more than ten thousand."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Subquery, func, or_, select

from orderup.db.database import ReadConnection, Shared
from orderup.db.permits import CALLING, permit_clock, window_of
from orderup.db.tables import operations, permits, queues, schedules, tasks, workers
from orderup.model.operation import OperationStatus
from orderup.model.task import TaskStatus

MOST_COUNTED = 10_000
# Regions are names that plans choose: as many queues are looked at, and no more.
MOST_QUEUES = 500
# A remote worker is heard of when it asks for work, and may then wait a minute for it.
HEARD_OF_WITHIN_US = 75_000_000


class QueueState(msgspec.Struct, frozen=True):
    """pending: counted up to MOST_COUNTED. oldest_ready_at: of the first in line."""

    name: str
    pending: int
    oldest_ready_at: int | None
    is_paused: bool
    paused_until: int | None
    paused_by: str | None
    held_permits: int


class AllowanceState(msgspec.Struct, frozen=True):
    """used: calls that count now. calls: those of them that are under way. next_in_us: until another one is let
    through; None if one is now, or if that hangs on calls that have not ended."""

    name: str
    shared: Shared
    used: int
    calls: int
    next_in_us: int | None


def waiting_queues(connection: ReadConnection) -> Iterator[str]:
    """Names of the queues in which tasks wait, each found by one step along the index."""
    name = ""
    while True:
        following = (
            select(tasks.c.queue)
            .where(tasks.c.queue > name, tasks.c.status == TaskStatus.PENDING.value)
            .order_by(tasks.c.queue)
            .limit(1)
        )
        found = connection.execute(following).scalar()
        if found is None:
            return
        yield (name := found)


def queue_states(connection: ReadConnection, names: list[str]) -> list[QueueState]:
    """Of these queues, and of those in which tasks wait, up to MOST_QUEUES."""
    rows = {row.name: row for row in connection.execute(select(queues))}
    counted = select(permits.c.queue, func.count()).where(permits.c.held == 1).group_by(permits.c.queue)
    held: dict[str, int] = {row[0]: row[1] for row in connection.rows(counted)}
    found = []
    for name in sorted({*names, *islice(waiting_queues(connection), MOST_QUEUES)}):
        line = (tasks.c.queue == name) & (tasks.c.status == TaskStatus.PENDING.value)
        some = select(tasks.c.ready_at).where(line).limit(MOST_COUNTED).subquery()
        [(pending, oldest)] = connection.rows(select(func.count(), func.min(some.c.ready_at)).select_from(some))
        row = rows.get(name.partition("@")[0])
        found.append(
            QueueState(
                name,
                pending,
                oldest,
                bool(row and row.is_paused),
                row.paused_until if row else None,
                row.paused_by if row else None,
                held.get(name, 0),
            )
        )
    return found


def running_counts(connection: ReadConnection, shops: Sequence[str]) -> dict[str, int]:
    """By queue, the tasks that run. For each shop and status of operations up to MOST_COUNTED tasks are looked at."""
    counts: dict[str, int] = {}
    for shop in shops:
        for status in (OperationStatus.RUNNING, OperationStatus.PAUSED):
            some = _tasks_under_way(shop, status)
            running = select(some.c.queue, func.count()).where(some.c.status == TaskStatus.RUNNING.value)
            for queue, count in connection.rows(running.group_by(some.c.queue)):
                counts[queue] = counts.get(queue, 0) + count
    return counts


def permits_spent(connection: ReadConnection, windows: Mapping[str, int]) -> dict[str, int]:
    """How many permits of these queues count now, by the length of their rates' windows in microseconds."""
    now = permit_clock(connection) if windows else 0
    spent = {}
    for queue, window in windows.items():
        counting = (permits.c.queue == queue) & (permits.c.taken_at > now - window)
        some = select(permits.c.taken_at).where(counting).limit(MOST_COUNTED).subquery()
        spent[queue] = connection.execute(select(func.count()).select_from(some)).scalar_one()
    return spent


def allowance_states(connection: ReadConnection, allowances: Mapping[str, Shared]) -> list[AllowanceState]:
    """By name."""
    now = permit_clock(connection) if allowances else 0
    return [_allowance_state(connection, name, allowances[name], now) for name in sorted(allowances)]


def _allowance_state(connection: ReadConnection, name: str, shared: Shared, now: int) -> AllowanceState:
    window = window_of(shared.rate.period, is_shared=True)
    theirs = permits.c.queue.in_(sorted(shared.queues))
    ended = theirs & (permits.c.held != CALLING) & (permits.c.taken_at > now - window)
    calls, counting = (
        connection.execute(select(func.count()).select_from(permits).where(condition)).scalar_one()
        for condition in (theirs & (permits.c.held == CALLING), ended)
    )
    used = calls + counting
    if used < shared.rate.count:
        return AllowanceState(name, shared, used, calls, None)
    last = select(permits.c.taken_at).where(ended).order_by(permits.c.taken_at).offset(used - shared.rate.count)
    taken_at = connection.execute(last.limit(1)).scalar()
    return AllowanceState(name, shared, used, calls, None if taken_at is None else max(0, taken_at + window - now))


def worker_rows(connection: ReadConnection, *, now: int) -> list[tuple[Any, ...]]:
    """id, kind, shop, region, first_seen_at, seen_at, whether it is alive, and the ids of tasks it holds under leases
    of their own."""
    columns = (
        workers.c.id,
        workers.c.kind,
        workers.c.shop,
        workers.c.region,
        workers.c.first_seen_at,
        workers.c.seen_at,
        is_alive(now).label("is_alive"),
    )
    holding: dict[str, list[tuple[int, int]]] = {}
    held = select(tasks.c.worker, tasks.c.operation_id, tasks.c.position).where(tasks.c.lease_until.is_not(None))
    for worker, operation_id, position in connection.rows(held.limit(MOST_COUNTED)):
        holding.setdefault(worker, []).append((operation_id, position))
    listed = connection.rows(select(*columns).order_by(workers.c.id).limit(MOST_COUNTED))
    return [(*row, holding.get(row[0], [])) for row in listed]


def is_alive(now: int) -> ColumnElement[bool]:
    """Whether a worker asked for work or beat lately."""
    return or_(workers.c.seen_at > now - HEARD_OF_WITHIN_US, workers.c.seen_at > now - workers.c.lease_us)


def schedule_rows(connection: ReadConnection) -> list[dict[str, Any]]:
    rows = connection.execute(select(schedules).order_by(schedules.c.name)).mappings()
    return [dict(row) for row in rows]


def operation_counts(connection: ReadConnection, shops: list[str]) -> dict[tuple[str, str], int]:
    """By shop and status, those that are under way, each counted up to MOST_COUNTED."""
    counts = {}
    for shop in shops:
        for status in (
            OperationStatus.PENDING,
            OperationStatus.RUNNING,
            OperationStatus.PAUSED,
            OperationStatus.ERRORED,
        ):
            here = (operations.c.shop == shop) & (operations.c.status == status.value)
            some = select(operations.c.id).where(here).limit(MOST_COUNTED).subquery()
            counts[shop, status.value] = connection.execute(select(func.count()).select_from(some)).scalar_one()
    return counts


def task_counts(connection: ReadConnection, shops: list[str]) -> dict[tuple[str, str], int]:
    """By shop and status, the tasks of operations under way that have not ended.

    For each shop and status of operations up to MOST_COUNTED tasks are looked at, ended ones included.
    """
    counts = {(shop, status.value): 0 for shop in shops for status in TaskStatus if not status.is_final}
    for shop in shops:
        for status in (OperationStatus.PENDING, OperationStatus.RUNNING, OperationStatus.PAUSED):
            some = _tasks_under_way(shop, status)
            for found, count in connection.rows(select(some.c.status, func.count()).group_by(some.c.status)):
                if (shop, found) in counts:
                    counts[shop, found] += count
    return counts


def _tasks_under_way(shop: str, status: OperationStatus) -> Subquery:
    """Statuses and queues of some tasks of a shop's operations, up to MOST_COUNTED."""
    return (
        select(tasks.c.status, tasks.c.queue)
        .join(operations, operations.c.id == tasks.c.operation_id)
        .where(operations.c.shop == shop, operations.c.status == status.value)
        .limit(MOST_COUNTED)
        .subquery()
    )


def worker_counts(connection: ReadConnection, *, now: int) -> dict[tuple[str, str], int]:
    """By kind and shop ("": all shops), the workers that are alive."""
    some = select(workers.c.kind, workers.c.shop).where(is_alive(now)).limit(MOST_COUNTED).subquery()
    counted = select(some.c.kind, some.c.shop, func.count()).group_by(some.c.kind, some.c.shop)
    return {(kind, shop or ""): count for kind, shop, count in connection.rows(counted)}
