"""What this shop's customers call tasks: rows with a status, which they write and the platform reports on.

A finished one, Completed or Error, is never changed by what the platform says; its owner may still change it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, func, select, update

from orderup.db.database import ReadConnection, WriteConnection
from orderup.errors import Conflict, NotFound
from orderup.shops.campaigns.tables import client_tasks

LARGEST_ID = (1 << 63) - 1
LONGEST_ERROR = 10_000


class ClientStatus(StrEnum):
    NOT_STARTED = "Not Started"
    IN_PROGRESS = "In Progress"
    COMPLETED = "Completed"
    ERROR = "Error"


OPEN = (ClientStatus.NOT_STARTED, ClientStatus.IN_PROGRESS)
FINISHED = (ClientStatus.COMPLETED, ClientStatus.ERROR)


@dataclass(frozen=True, slots=True)
class ClientTask:
    """created_at, updated_at: microseconds since the epoch."""

    id: int
    status: ClientStatus
    validation_error: str | None
    created_at: int
    updated_at: int


class TaskNotFound(NotFound):
    """In the words that its clients know."""

    def __init__(self, id: int) -> None:
        super().__init__("task", id)
        self.args = (f"Task with ID {id} not found",)


class TaskExists(Conflict):
    """There is one of this id. Nothing was changed."""

    def __init__(self, id: int) -> None:
        super().__init__(f"Task with ID {id} already exists")


_COLUMNS = (
    client_tasks.c.id,
    client_tasks.c.status,
    client_tasks.c.validation_error,
    client_tasks.c.created_at,
    client_tasks.c.updated_at,
)


def read_task(connection: ReadConnection, id: int) -> ClientTask:
    """Raises TaskNotFound."""
    rows = connection.rows(select(*_COLUMNS).where(client_tasks.c.id == id)) if _may_be(id) else []
    if not rows:
        raise TaskNotFound(id)
    return _task(rows[0])


def list_tasks(
    connection: ReadConnection, *, status: ClientStatus | None, after: int | None, most: int
) -> list[ClientTask]:
    """In the order of their ids. after: only those with larger ones."""
    statement = select(*_COLUMNS).order_by(client_tasks.c.id).limit(most)
    if status is not None:
        statement = statement.where(client_tasks.c.status == status)
    if after is not None:
        statement = statement.where(client_tasks.c.id > after)
    return [_task(row) for row in connection.rows(statement)]


def insert_task(
    connection: WriteConnection, id: int | None, *, status: ClientStatus, validation_error: str | None, now: int
) -> tuple[int, bool]:
    """Its id, and whether it was inserted: else there is one of that id. id None: the next free one."""
    row = {
        "status": _status_of(status, validation_error),
        "validation_error": validation_error,
        "created_at": now,
        "updated_at": now,
    }
    if id is not None:
        return id, connection.insert_or_ignore(client_tasks, {"id": id, **row})
    while True:  # on PostgreSQL another transaction may have taken the same one
        next_one = _next_id(connection)
        if connection.insert_or_ignore(client_tasks, {"id": next_one, **row}):
            return next_one, True


def change_task(
    connection: WriteConnection,
    id: int,
    *,
    status: ClientStatus | None,
    changes_error: bool,
    validation_error: str | None,
    now: int,
) -> ClientTask:
    """What is not given stays: a status of None, an error unless `changes_error`. Raises TaskNotFound."""
    given: dict[str, Any] = {"validation_error": validation_error} if changes_error else {}
    if status is not None or validation_error is not None:
        given["status"] = _status_of(status, validation_error)
    if not given or not _may_be(id):
        return read_task(connection, id)
    statement = update(client_tasks).where(client_tasks.c.id == id).values(**given, updated_at=now)
    row = connection.execute(statement.returning(*_COLUMNS)).one_or_none()
    if row is None:
        raise TaskNotFound(id)
    return _task(row)


def delete_task(connection: WriteConnection, id: int) -> None:
    """Raises TaskNotFound."""
    statement = delete(client_tasks).where(client_tasks.c.id == id).returning(client_tasks.c.id)
    if not _may_be(id) or connection.execute(statement).one_or_none() is None:
        raise TaskNotFound(id)


def _status_of(status: ClientStatus | None, validation_error: str | None) -> ClientStatus | None:
    return status if validation_error is None else ClientStatus.ERROR


def _next_id(connection: ReadConnection) -> int:
    """After the largest one; if there is none after it, the smallest one that is free behind another."""
    [(largest,)] = connection.rows(select(func.max(client_tasks.c.id)))
    if largest is None:
        return 1
    if largest < LARGEST_ID:
        return int(largest) + 1
    following = client_tasks.alias("following")
    is_taken = select(following.c.id).where(following.c.id == client_tasks.c.id + 1).exists()
    behind = select(func.min(client_tasks.c.id)).where(client_tasks.c.id < LARGEST_ID, ~is_taken)
    [(last,)] = connection.rows(behind)
    return 1 if last is None else int(last) + 1


def _may_be(id: int) -> bool:
    """No database holds a larger number."""
    return 0 < id <= LARGEST_ID


def _task(row: Sequence[Any]) -> ClientTask:
    id, status, validation_error, created_at, updated_at = row
    return ClientTask(id, ClientStatus(status), validation_error, created_at, updated_at)
