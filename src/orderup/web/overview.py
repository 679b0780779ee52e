"""How busy the queues are, who works, what comes next."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from pydantic import BaseModel
from sqlalchemy import select
from starlette.responses import Response

from orderup.db.busy import (
    AllowanceState,
    QueueState,
    allowance_states,
    permits_spent,
    queue_states,
    running_counts,
    schedule_rows,
    worker_rows,
)
from orderup.db.database import Key, ReadConnection
from orderup.db.permits import MARGIN_US
from orderup.db.tables import operations
from orderup.engine.desk import Replayed
from orderup.engine.engine import Engine
from orderup.engine.limit import pause_queue, resume_queue
from orderup.engine.schedule import pause_schedule, run_schedule
from orderup.errors import NotFound
from orderup.model.ids import show_id, show_task_id
from orderup.model.kind import Kind, Rate
from orderup.model.task import queue_name, queue_of
from orderup.model.times import as_micros, show_time
from orderup.web.app import Json
from orderup.web.auth import AsStaff
from orderup.web.idempotency import REPLAYED, idempotency_key, once, takes_key
from orderup.web.orders import engine_of
from orderup.web.pages.site import site_of
from orderup.web.paging import shop_of
from orderup.web.routes import Router
from orderup.web.tokens import Caller

router = Router(prefix="/api", tags=["overview"])


class QueueView(BaseModel):
    """pending: tasks that wait, counted up to 10,000. running: of the first 10,000 tasks of the shop's operations under
    way. oldest_ready_at: since when the first in line waits. spent_of_rate: how many claims count in the rate's window.
    is_paused: by hand, by `paused_by`, until somebody resumes it. paused_until: the end of a rest that a third party
    asked for, while it lies ahead.
    """

    name: str
    pending: int
    running: int
    oldest_ready_at: str | None
    is_paused: bool
    paused_until: str | None
    paused_by: str | None
    rate: str | None
    spent_of_rate: int
    concurrency: int | None
    running_of_concurrency: int


class AllowanceView(BaseModel):
    """What a third party allows the queues that share it. used: calls that count in the rate's window. calls: those of
    them that are under way. next_in: seconds until another one is let through; null if one is now, or if that hangs on
    calls that have not ended. A share of an allowance is one of its own, such as "campaigns/platform x 0.5"."""

    name: str
    rate: str
    used: int
    calls: int
    next_in: float | None
    queues: list[str]


class QueueList(BaseModel):
    queues: list[QueueView]
    allowances: list[AllowanceView]


class WorkerView(BaseModel):
    """is_alive: it asked for work or beat lately. tasks: those that it holds under leases of their own; an executor's
    hang on its one."""

    id: str
    kind: str
    shop: str | None
    region: str | None
    first_seen_at: str
    seen_at: str
    is_alive: bool
    tasks: list[str]


class WorkerList(BaseModel):
    workers: list[WorkerView]


class ScheduleView(BaseModel):
    name: str
    spec: str
    next_due_at: str
    last_due_at: str | None
    last_operation_id: str | None
    skipped: int
    missed: int
    is_paused: bool


class StartedRun(BaseModel):
    operation_id: str


class ScheduleList(BaseModel):
    schedules: list[ScheduleView]


@router.get("/queues", response_model=QueueList, summary="How busy each queue is")
async def get_queues(request: Request, caller: AsStaff) -> Response:
    return await _queues(request, caller, {})


async def _queues(request: Request, caller: Caller, headers: Mapping[str, str]) -> Response:
    engine = engine_of(request)
    now = engine.now()
    queues = [_queue(each, now=now) for each in await read_queues(engine, caller)]
    allowances = [_allowance(each) for each in await read_allowances(engine, caller)]
    return Json({"queues": queues, "allowances": allowances}, headers=dict(headers))


@dataclass(frozen=True, slots=True)
class Queue:
    """How busy a queue is. kind: what its limits are; None if it has none. spent: permits that count in its rate's
    window."""

    state: QueueState
    running: int
    kind: Kind | None
    spent: int


async def read_queues(engine: Engine, caller: Caller) -> list[Queue]:
    """Those of the caller's shops, and of their regions in which tasks wait, by name."""
    names = [queue_name(shop, kind) for shop in engine.kinds for kind in engine.kinds[shop]]
    limits = {name: kind for name, kind in engine.limited_queues.items() if _may_see(caller, name)}
    windows = {name: as_micros(kind.rate.period) + MARGIN_US for name, kind in limits.items() if kind.rate}

    def read(connection: ReadConnection) -> list[Queue]:
        running = running_counts(connection, shop_of(engine, caller, None))
        spent = permits_spent(connection, windows)
        states = queue_states(connection, sorted({*names, *running}))
        return [
            Queue(each, running.get(each.name, 0), limits.get(queue_of(each.name)), spent.get(queue_of(each.name), 0))
            for each in states
            if _may_see(caller, each.name)
        ]

    return await engine.database.read(read)


async def read_allowances(engine: Engine, caller: Caller) -> list[AllowanceState]:
    """Those of the caller's shops, and their shares, by name."""
    seen = {name: shared for name, shared in engine.allowances.items() if _may_see(caller, name)}
    return await engine.database.read(lambda connection: allowance_states(connection, seen))


def _may_see(caller: Caller, name: str) -> bool:
    return caller.may_enter(name.partition("/")[0])


def _queue(queue: Queue, *, now: int) -> dict[str, Any]:
    state, kind = queue.state, queue.kind
    # the end of a rest stays in the row when it is over
    rests_until = state.paused_until if (state.paused_until or 0) > now else None
    return {
        "name": state.name,
        "pending": state.pending,
        "running": queue.running,
        "oldest_ready_at": show_time(state.oldest_ready_at),
        "is_paused": state.is_paused,
        "paused_until": show_time(rests_until),
        "paused_by": state.paused_by if state.is_paused or rests_until else None,
        "rate": _show_rate(kind.rate) if kind and kind.rate else None,
        "spent_of_rate": queue.spent,
        "concurrency": kind.concurrency if kind else None,
        "running_of_concurrency": state.held_permits,
    }


def _show_rate(rate: Rate) -> str:
    return f"{rate.count}/{rate.period.total_seconds():g} seconds"


def _allowance(state: AllowanceState) -> dict[str, Any]:
    return {
        "name": state.name,
        "rate": _show_rate(state.shared.rate),
        "used": state.used,
        "calls": state.calls,
        "next_in": None if state.next_in_us is None else state.next_in_us / 1e6,
        "queues": sorted(state.shared.queues),
    }


@router.post("/queues/{shop}/{kind}/pause", response_model=QueueList, summary="Claim nothing from this queue")
@takes_key
async def pause(request: Request, caller: AsStaff, shop: str, kind: str) -> Response:
    engine = engine_of(request)
    queue = known_queue(engine, caller, shop, kind)
    headers = await do_once(request, caller, lambda: pause_queue(engine, queue, by=caller.subject or "staff"))
    return await _queues(request, caller, headers)


@router.post("/queues/{shop}/{kind}/resume", response_model=QueueList, summary="Claim from it again")
@takes_key
async def resume(request: Request, caller: AsStaff, shop: str, kind: str) -> Response:
    engine = engine_of(request)
    queue = known_queue(engine, caller, shop, kind)
    headers = await do_once(request, caller, lambda: resume_queue(engine, queue))
    return await _queues(request, caller, headers)


async def do_once(request: Request, caller: Caller, do: Callable[[], Awaitable[object]]) -> Mapping[str, str]:
    """Do it, unless the same request did it before; what its answer's headers tell of that. Raises KeyMisused."""
    engine = engine_of(request)
    key = idempotency_key(request, caller, None, now=engine.now())
    was_done = await once(engine.database, key, do, turn=request.app.state.keyed_turn)
    return {} if was_done else REPLAYED


def known_queue(engine: Engine, caller: Caller, shop: str, kind: str) -> str:
    """Its name. Raises NotFound."""
    if kind not in engine.kinds.get(shop, {}) or not caller.may_enter(shop):
        raise NotFound("queue", queue_name(shop, kind)[:200])
    return queue_name(shop, kind)


@router.get("/workers", response_model=WorkerList, summary="Who works, and on what")
async def get_workers(request: Request, caller: AsStaff) -> Response:
    return Json({"workers": [_worker(row) for row in await read_workers(engine_of(request), caller)]})


async def read_workers(engine: Engine, caller: Caller) -> list[tuple[Any, ...]]:
    """As `worker_rows` has them, those that the caller may see."""
    now = engine.now()
    return await engine.database.read(lambda connection: _workers_seen_by(connection, caller, now=now))


def _workers_seen_by(connection: ReadConnection, caller: Caller, *, now: int) -> list[tuple[Any, ...]]:
    """Of those who work for several shops, or for one that is not known, the tasks of the caller's shop only."""
    rows = worker_rows(connection, now=now)
    if caller.shop is None:
        return rows
    held = {operation_id for row in rows for operation_id, _ in row[-1]}
    ours = select(operations.c.id).where(operations.c.id.in_(held), operations.c.shop == caller.shop)
    visible = {id for (id,) in connection.rows(ours)}
    seen = [(*row[:-1], [place for place in row[-1] if place[0] in visible]) for row in rows]
    return [row for row in seen if row[2] in (None, caller.shop) or row[-1]]


def _worker(row: Any) -> dict[str, Any]:
    id, kind, shop, region, first_seen_at, seen_at, is_alive, held = row
    return {
        "id": id,
        "kind": kind,
        "shop": shop,
        "region": region,
        "first_seen_at": show_time(first_seen_at),
        "seen_at": show_time(seen_at),
        "is_alive": bool(is_alive),
        "tasks": [show_task_id(*place) for place in held],
    }


@router.get("/schedules", response_model=ScheduleList, summary="What comes next by itself")
async def get_schedules(request: Request, caller: AsStaff) -> Response:
    return await _schedules(request, caller, {})


async def _schedules(request: Request, caller: Caller, headers: Mapping[str, str]) -> Response:
    seen = [_schedule(row) for row in await read_schedules(engine_of(request), caller)]
    return Json({"schedules": seen}, headers=dict(headers))


async def read_schedules(engine: Engine, caller: Caller) -> list[dict[str, Any]]:
    """Rows of those that the caller may see, by name."""
    return [row for row in await engine.database.read(schedule_rows) if _may_see(caller, row["name"])]


def _schedule(row: Any) -> dict[str, Any]:
    last = row["last_operation_id"]
    return {
        **{name: row[name] for name in ("name", "spec", "skipped", "missed")},
        "next_due_at": show_time(row["next_due_at"]),
        "last_due_at": show_time(row["last_due_at"]),
        "last_operation_id": None if last is None else show_id(last),
        "is_paused": bool(row["is_paused"]),
    }


@router.post("/schedules/{shop}/{name}/pause", response_model=ScheduleList, summary="Let its due times pass")
@takes_key
async def pause_one(request: Request, caller: AsStaff, shop: str, name: str) -> Response:
    return await _set_paused(request, caller, f"{shop}/{name}", is_paused=True)


@router.post("/schedules/{shop}/{name}/resume", response_model=ScheduleList, summary="Let it fire again")
@takes_key
async def resume_one(request: Request, caller: AsStaff, shop: str, name: str) -> Response:
    return await _set_paused(request, caller, f"{shop}/{name}", is_paused=False)


@router.post(
    "/schedules/{shop}/{name}/run", status_code=202, response_model=StartedRun, summary="Run it now, beside its times"
)
@takes_key
async def run_one(request: Request, caller: AsStaff, shop: str, name: str) -> Response:
    key = idempotency_key(request, caller, None, now=engine_of(request).now())
    try:
        id = await run_now(request, caller, shop, name, key=key)
        headers: Mapping[str, str] = {}
    except Replayed as replayed:
        id, headers = replayed.operation_id, REPLAYED
    return Json({"operation_id": show_id(id)}, status_code=202, headers=dict(headers))


async def run_now(request: Request, caller: Caller, shop: str, name: str, *, key: Key | None = None) -> int:
    """The operation that was placed. Raises NotFound, Conflict."""
    whole = f"{shop}/{name}"
    known = next((each.schedules.get(name) for each in site_of(request).shops if each.name == shop), None)
    if known is None or not _may_see(caller, whole):
        raise NotFound("schedule", whole[:200])
    return await run_schedule(engine_of(request), whole, known, key=key)


async def _set_paused(request: Request, caller: Caller, name: str, *, is_paused: bool) -> Response:
    headers = await do_once(request, caller, lambda: set_paused(engine_of(request), caller, name, is_paused=is_paused))
    return await _schedules(request, caller, headers)


async def set_paused(engine: Engine, caller: Caller, name: str, *, is_paused: bool) -> None:
    """Of a schedule. Raises NotFound."""
    if not _may_see(caller, name) or not await pause_schedule(engine, name, is_paused=is_paused):
        raise NotFound("schedule", name[:200])
