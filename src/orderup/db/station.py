"""What a person at a station looks at: the line before him, and the tasks he has taken."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import msgspec
from sqlalchemy import Select, and_, func, or_, select

from orderup.db.busy import MOST_COUNTED, MOST_QUEUES, waiting_queues
from orderup.db.database import ReadConnection
from orderup.db.rows import TASK_COLUMNS, read_task
from orderup.db.tables import events, operations, queues, tasks
from orderup.model.operation import OperationStatus
from orderup.model.task import Task, TaskStatus

Place = tuple[int, int]


class StationTask(msgspec.Struct, frozen=True):
    """A task and what it belongs to. reason: why the operation was cancelled or errored."""

    operation_id: int
    shop: str
    operation_status: OperationStatus
    reason: str | None
    task: Task

    @property
    def place(self) -> Place:
        return self.operation_id, self.task.position


class Line(msgspec.Struct, frozen=True):
    """Who waits at some queues. first: in the order in which they are claimed, if `read_line` was told of turns. count:
    up to MOST_COUNTED. oldest_at: since when the one waits who has waited longest."""

    first: Sequence[StationTask]
    count: int
    oldest_at: int | None


class Pause(msgspec.Struct, frozen=True):
    """Of a queue. until: None for as long as nobody resumes it."""

    by: str | None
    until: int | None


def read_line(connection: ReadConnection, names: Sequence[str], *, most: int, in_turn: Sequence[Place] = ()) -> Line:
    """The first `most` that wait in these queues. `in_turn`: who comes first of all, where clients take turns: which is
    known in memory only (engine/lines.py). All others come by age."""
    first: list[StationTask] = []
    count, oldest = 0, list[int]()
    for name in names:
        line = and_(tasks.c.queue == name, tasks.c.status == TaskStatus.PENDING.value)
        by_age = (tasks.c.priority, tasks.c.ready_at, tasks.c.operation_id)
        first += _read(connection, _tasks().where(line).order_by(*by_age).limit(most))
        some = select(tasks.c.ready_at).where(line).limit(MOST_COUNTED).subquery()
        [(waiting, since)] = connection.rows(select(func.count(), func.min(some.c.ready_at)).select_from(some))
        count += waiting
        oldest += [] if since is None else [since]
    first.sort(key=lambda each: (each.task.priority, each.task.ready_at or 0, each.operation_id))
    found = read_tasks(connection, in_turn)
    turns = [found[place] for place in in_turn if place in found and found[place].task.status is TaskStatus.PENDING]
    first = list({each.place: each for each in (*turns, *first)}.values())
    return Line(first[:most], min(count, MOST_COUNTED), min(oldest, default=None))


def read_held(connection: ReadConnection, worker: str, names: Sequence[str]) -> list[StationTask]:
    """What this worker holds of these queues, the oldest claim first."""
    held = _tasks().where(tasks.c.worker == worker, tasks.c.lease_until.is_not(None), tasks.c.queue.in_(names))
    return sorted(_read(connection, held.limit(MOST_COUNTED)), key=lambda each: each.task.started_at or 0)


def read_tasks(connection: ReadConnection, places: Sequence[Place]) -> dict[Place, StationTask]:
    """Those of these tasks that there are."""
    if not places:
        return {}
    here = [and_(tasks.c.operation_id == id, tasks.c.position == position) for id, position in places]
    return {each.place: each for each in _read(connection, _tasks().where(or_(*here)))}


def read_inputs(connection: ReadConnection, found: StationTask) -> list[tuple[str, str | None]]:
    """Names and results (JSON) of the tasks that it comes after, in the order of the plan."""
    before = and_(tasks.c.operation_id == found.operation_id, tasks.c.position.in_(found.task.after))
    rows = connection.rows(select(tasks.c.name, tasks.c.result).where(before).order_by(tasks.c.position))
    return [(name, result) for name, result in rows]


def lost_at(connection: ReadConnection, place: Place) -> int | None:
    """When a lease on this task last ran out."""
    operation_id, position = place
    lost = select(events.c.at).where(
        events.c.operation_id == operation_id, events.c.task == position, events.c.type == "task.lost"
    )
    moment: int | None = connection.execute(lost.order_by(events.c.n.desc()).limit(1)).scalar()
    return moment


def regions_waiting(connection: ReadConnection, queue: str) -> list[str]:
    """Regions in which tasks of this kind wait."""
    waiting = (name.partition("@") for name in islice(waiting_queues(connection), MOST_QUEUES))
    return [region for base, _, region in waiting if base == queue and region]


def read_pause(connection: ReadConnection, queue: str, *, now: int) -> Pause | None:
    """Whether nothing is claimed from this queue for now, and why."""
    row = connection.execute(select(queues).where(queues.c.name == queue)).one_or_none()
    if row is None or not (row.is_paused or (row.paused_until or 0) > now):
        return None
    return Pause(row.paused_by, None if row.is_paused else row.paused_until)


def _tasks() -> Select[Any]:
    columns = [tasks.c[name] for name in TASK_COLUMNS]
    of_operation = (operations.c.shop, operations.c.status.label("operation_status"), operations.c.reason)
    return select(*columns, *of_operation).join(operations, operations.c.id == tasks.c.operation_id)


def _read(connection: ReadConnection, statement: Select[Any]) -> list[StationTask]:
    """`statement`: one of `_tasks()`."""
    width = len(TASK_COLUMNS)
    rows = connection.rows(statement)
    return [
        StationTask(row[0], row[width], OperationStatus(row[width + 1]), row[width + 2], read_task(row[:width]))
        for row in rows
    ]
