"""Schedules: what is placed by itself, when, and how it went; pause, resume, and run now."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim
from fastapi import Request
from sqlalchemy import select
from starlette.responses import Response

from orderup.db.database import ReadConnection
from orderup.db.tables import operations
from orderup.engine.schedule import due_times
from orderup.model.ids import show_id
from orderup.model.schedule import Schedule
from orderup.model.times import as_datetime
from orderup.web.auth import AsStaff
from orderup.web.orders import engine_of
from orderup.web.overview import read_schedules, run_now, set_paused
from orderup.web.pages.route import Form, PageRouter, form_of, see_other
from orderup.web.pages.site import site_of
from orderup.web.pages.words import show_exactly

UPCOMING = 5
Verb = Literal["pause", "resume", "run"]
router = PageRouter()


@dataclass(frozen=True, slots=True)
class Moment:
    """local: in the schedule's own time zone; None if that is UTC."""

    at: int
    local: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """next: the due times to come; one, if the shop is not mounted here."""

    shop: str
    name: str
    when: str
    next: list[Moment]
    last_due_at: int | None
    last_operation: str | None
    last_status: str | None
    skipped: int
    missed: int
    is_paused: bool

    @property
    def verb(self) -> Verb:
        return "resume" if self.is_paused else "pause"


@router.get("/schedules")
async def show_schedules(request: Request, caller: AsStaff) -> Response:
    engine = engine_of(request)
    rows = await read_schedules(engine, caller)
    last = [row["last_operation_id"] for row in rows if row["last_operation_id"] is not None]
    statuses = await engine.database.read(lambda connection: _statuses(connection, last))
    known = {f"{shop.name}/{name}": each for shop in site_of(request).shops for name, each in shop.schedules.items()}
    shown = [_row(row, known.get(row["name"]), statuses) for row in rows]
    return site_of(request).page(request, "schedules.html", schedules=shown)


def _statuses(connection: ReadConnection, ids: list[int]) -> Mapping[int, str]:
    found = select(operations.c.id, operations.c.status).where(operations.c.id.in_(ids))
    return {row[0]: row[1] for row in connection.rows(found)}


def _row(row: Mapping[str, Any], schedule: Schedule | None, statuses: Mapping[int, str]) -> Row:
    shop, _, name = row["name"].partition("/")
    last, first = row["last_operation_id"], row["next_due_at"]
    due = [first] if schedule is None else list(islice(due_times(schedule, after=first - 1), UPCOMING))
    return Row(
        shop,
        name,
        when=row["spec"] if schedule is None else in_words(schedule),
        next=[_moment(at, "UTC" if schedule is None else schedule.zone) for at in due],
        last_due_at=row["last_due_at"],
        last_operation=None if last is None else show_id(last),
        last_status=statuses.get(last),
        skipped=row["skipped"],
        missed=row["missed"],
        is_paused=bool(row["is_paused"]),
    )


def in_words(schedule: Schedule) -> str:
    """When a schedule is due: "every 5 min", "At 03:00 every day, Europe/Paris"."""
    if schedule.every is not None:
        return f"every {show_exactly(schedule.every)}"
    return f"{CronSim(schedule.cron or '', as_datetime(0)).explain()}, {schedule.zone}"


def _moment(at: int, zone: str) -> Moment:
    return Moment(at, None if zone == "UTC" else f"{as_datetime(at).astimezone(ZoneInfo(zone)):%a %d %b %H:%M} {zone}")


class SteerSchedule(Form):
    verb: Verb


@router.form("/schedules/{shop}/{name}", SteerSchedule, summary="Pause, resume or run a schedule")
async def steer_schedule(request: Request, caller: AsStaff, shop: str, name: str) -> Response:
    form = await form_of(request, SteerSchedule)
    if form.verb == "run":
        return see_other(f"/operations/{show_id(await run_now(request, caller, shop, name))}")
    await set_paused(engine_of(request), caller, f"{shop}/{name}", is_paused=form.verb == "pause")
    return see_other("/schedules")
