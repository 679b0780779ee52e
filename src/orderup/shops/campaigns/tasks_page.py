"""The page of customers' tasks, for staff: how they stand, and what the platform said of them last."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from fastapi import Request
from sqlalchemy import func, select
from starlette.responses import Response

from orderup.db.busy import MOST_COUNTED
from orderup.db.database import ReadConnection
from orderup.db.tables import schedules, tasks
from orderup.model.times import as_micros
from orderup.shops.campaigns.pages import page
from orderup.shops.campaigns.plan import shop
from orderup.shops.campaigns.tables import client_tasks
from orderup.shops.campaigns.tasks import ClientStatus, ClientTask, list_tasks
from orderup.web import AsStaff, engine_of
from orderup.web.pages.route import PageRouter
from orderup.web.pages.words import show_count
from orderup.web.paging import CursorFilter, read_cursor, show_cursor

A_PAGE = 50
SCHEDULE = f"{shop.name}/follow_tasks"
pages = PageRouter()


@dataclass(frozen=True, slots=True)
class Poll:
    """What came of the last look at what the platform says. at: when; None: none has come to its end yet. counts: of
    what it said, by what became of it. error: why the one after it has not."""

    at: int | None
    counts: Mapping[str, int]
    error: str | None


@pages.get("/tasks")
async def show_tasks(
    request: Request, _caller: AsStaff, status: ClientStatus | None = None, cursor: CursorFilter = None
) -> Response:
    [after] = read_cursor(cursor) or (None,)

    def read(connection: ReadConnection) -> tuple[list[ClientTask], Mapping[str, str], Poll | None]:
        found = list_tasks(connection, status=status, after=after, most=A_PAGE + 1)
        return found, count_tasks(connection), last_poll(connection)

    found, counts, poll = await engine_of(request).database.read(read)
    return page(
        request,
        "campaigns/tasks.html",
        here="tasks",
        tasks=found[:A_PAGE],
        counts=counts,
        status=status,
        poll=poll,
        cursor=show_cursor(found[A_PAGE - 1].id) if len(found) > A_PAGE else None,
    )


def count_tasks(connection: ReadConnection) -> Mapping[str, str]:
    """By status, in words."""
    counts = {}
    for status in ClientStatus:
        some = select(client_tasks.c.id).where(client_tasks.c.status == status).limit(MOST_COUNTED).subquery()
        count = connection.execute(select(func.count()).select_from(some)).scalar_one()
        counts[str(status)] = show_count(count, is_at_least=count == MOST_COUNTED)
    return counts


def last_poll(connection: ReadConnection) -> Poll | None:
    """None: nobody has begun to ask."""
    columns = (tasks.c.memo, tasks.c.result, tasks.c.error)
    operation_id = select(schedules.c.last_operation_id).where(schedules.c.name == SCHEDULE).scalar_subquery()
    rows = connection.rows(select(*columns).where(tasks.c.operation_id == operation_id, tasks.c.position == 0))
    if not rows:
        return None
    [(memo, result, error)] = rows
    said: dict[str, Any] = (msgspec.json.decode(result or memo or "{}") or {}).get("last", {})
    at = said.pop("at", None)
    return Poll(None if at is None else as_micros(datetime.fromisoformat(at)), said, error)
