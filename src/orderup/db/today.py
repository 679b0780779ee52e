"""How the last day went: what was placed and became of it, how long things took lately, what waits and wants somebody.

All of it is found by indexes and stops at a bound: a year of history makes none of it slower.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import select, text

from orderup.db.busy import QueueState, operation_counts, queue_states
from orderup.db.database import ReadConnection
from orderup.db.tables import operations, rfas, tasks
from orderup.model.ids import first_operation_id
from orderup.model.operation import OperationStatus
from orderup.model.quantile import MEDIAN, NINETY_PERCENT, quantile

HOURS = 24
HOUR_US = 3_600_000_000
# Of each shop, hour and status.
MOST_IN_AN_HOUR = 2_000
LAST_ORDERS = 40
# Of those orders together: one alone may have thousands.
MOST_TASKS = 4_000
WHOLE, APPROVAL = "whole orders", "approval"

# An id begins with the moment it was made, so each hour is a stretch of the index by shop, status and id.
_STATUSES = ", ".join(f"('{status}')" for status in OperationStatus)
_BY_HOUR = text(
    "with recursive hours(n) as (select 0 union all select n + 1 from hours where n + 1 < :hours), "
    f"statuses(name) as (values {_STATUSES}) "
    "select name, n, (select count(*) from (select 1 from operations where shop = :shop and status = name"
    " and id >= :first + n * :step and id < :first + (n + 1) * :step limit :most) counted) from hours, statuses"
)


class Hour(msgspec.Struct, frozen=True):
    """What was placed in the hour that began at `begin`, by how it stands now. at_least: the statuses of which there
    may be more than were counted."""

    begin: int
    counts: Mapping[str, int]
    at_least: frozenset[str] = frozenset()


class Spread(msgspec.Struct, frozen=True):
    """Seconds that five and nine of ten did not exceed."""

    median: float
    most: float


class Took(msgspec.Struct, frozen=True):
    """Of the last orders of a shop, of one kind of task: how long it waited to be begun, and how long it then took.
    count: how many were looked at."""

    shop: str
    kind: str
    count: int
    waited: Spread | None
    made: Spread | None


class Today(msgspec.Struct, frozen=True):
    """queues: in which tasks wait, the longest wait first. counts: of operations under way or errored, by shop and
    status."""

    hours: Sequence[Hour]
    took: Sequence[Took]
    queues: Sequence[QueueState]
    counts: Mapping[tuple[str, str], int]


def read_today(connection: ReadConnection, *, shops: Sequence[str], now: int) -> Today:
    return Today(
        hours=placed_by_hour(connection, shops=shops, now=now),
        took=[took for shop in shops for took in took_lately(connection, shop)],
        queues=waiting_longest(connection, shops=shops),
        counts=operation_counts(connection, list(shops)),
    )


def placed_by_hour(connection: ReadConnection, *, shops: Sequence[str], now: int) -> list[Hour]:
    """The last HOURS hours of the clock, the one that is under way among them, the oldest first."""
    begin = (now // HOUR_US - HOURS + 1) * HOUR_US
    first = first_operation_id(begin)
    bounds = {
        "hours": HOURS,
        "first": first,
        "step": first_operation_id(begin + HOUR_US) - first,
        "most": MOST_IN_AN_HOUR,
    }
    counts = [dict.fromkeys(map(str, OperationStatus), 0) for _ in range(HOURS)]
    at_least: list[set[str]] = [set() for _ in range(HOURS)]
    for shop in shops:
        for status, hour, count in connection.rows(_BY_HOUR.bindparams(**bounds, shop=shop)):
            counts[hour][status] += count
            if count == MOST_IN_AN_HOUR:
                at_least[hour].add(status)
    return [Hour(begin + hour * HOUR_US, counts[hour], frozenset(at_least[hour])) for hour in range(HOURS)]


def took_lately(connection: ReadConnection, shop: str) -> list[Took]:
    """Of the last completed orders: the whole of them, their approval, then each kind of task by its name."""
    newest = (
        select(operations.c.id, operations.c.placed_at, operations.c.started_at, operations.c.finished_at)
        .where(operations.c.shop == shop, operations.c.status == OperationStatus.COMPLETED.value)
        .order_by(operations.c.id.desc())
        .limit(LAST_ORDERS)
    )
    orders = connection.rows(newest)
    # Given the ids, PostgreSQL takes the rows by their keys, whatever it believes about the tables.
    ids = [row[0] for row in orders]
    asked = select(rfas.c.asked_at, rfas.c.decided_at).where(rfas.c.operation_id.in_(ids))
    done = (
        select(tasks.c.kind, tasks.c.ready_at, tasks.c.started_at, tasks.c.finished_at)
        .where(tasks.c.operation_id.in_(ids))
        .limit(MOST_TASKS)
    )
    moments: dict[str, list[Sequence[Any]]] = {WHOLE: [row[1:] for row in orders]}
    moments[APPROVAL] = [(*row, None) for row in connection.rows(asked)]
    for kind, *rest in sorted(connection.rows(done), key=lambda row: row[0]):
        moments.setdefault(kind, []).append(rest)
    return [_took(shop, kind, rows) for kind, rows in moments.items() if rows]


def _took(shop: str, kind: str, rows: Sequence[Sequence[int | None]]) -> Took:
    """Of rows of three moments: ready, begun, done."""
    waited, made = ([(row[n], row[n + 1]) for row in rows] for n in (0, 1))
    return Took(shop, kind, len(rows), spread(waited), spread(made))


def spread(spans: Iterable[tuple[int | None, int | None]]) -> Spread | None:
    """Of those that have both a beginning and an end; None if there is none."""
    seconds = sorted(max(0, end - begin) / 1e6 for begin, end in spans if begin is not None and end is not None)
    if not seconds:
        return None
    return Spread(quantile(seconds, MEDIAN), quantile(seconds, NINETY_PERCENT))


def waiting_longest(connection: ReadConnection, *, shops: Sequence[str]) -> list[QueueState]:
    """Queues of these shops in which tasks wait."""
    found = [queue for queue in queue_states(connection, []) if queue.name.partition("/")[0] in shops]
    return sorted(found, key=lambda queue: (queue.oldest_ready_at or 0, queue.name))
