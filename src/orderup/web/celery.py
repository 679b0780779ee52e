"""Celery's workers and queues, as Celery itself tells of them: for staff, by the API and on a page."""

from typing import Any, Protocol, cast

import msgspec
from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

from orderup.db.busy import worker_counts
from orderup.engine.engine import Engine
from orderup.web.app import Json
from orderup.web.auth import AsStaff
from orderup.web.orders import engine_of
from orderup.web.routes import Router
from orderup.web.tokens import Caller

router = Router(prefix="/api", tags=["overview"])


class Inspection(Protocol):
    """The assembly's; it looks at no more than once in some seconds."""

    async def look(self) -> Any:
        """A struct of what `CeleryView` has: workers, queues, problem."""
        ...


class CeleryWorker(BaseModel):
    """Of a worker that answered. processes: how many it has. messages: how many they were given. queues: those that it
    takes."""

    name: str
    processes: int
    uptime_seconds: float
    messages: int
    queues: list[str]


class CeleryQueue(BaseModel):
    """messages: those that no worker has taken. workers: those that answered and take them."""

    name: str
    messages: int
    workers: int


class CeleryView(BaseModel):
    """is_used: whether this server leaves handlers to Celery. processes: of its workers, those that hold a lease in the
    database. problem: why nothing is known of workers and queues."""

    is_used: bool
    processes: int
    problem: str | None
    workers: list[CeleryWorker]
    queues: list[CeleryQueue]


@router.get("/celery", response_model=CeleryView, summary="Celery's workers and queues")
async def get_celery(request: Request, caller: AsStaff) -> Response:
    return Json((await read_celery(request, caller)).model_dump())


async def read_celery(request: Request, caller: Caller) -> CeleryView:
    """As far as the caller may see it."""
    processes = await _processes(engine_of(request))
    inspection = cast("Inspection | None", request.app.state.celery)
    if inspection is None:
        return CeleryView(is_used=False, processes=processes, problem=None, workers=[], queues=[])
    seen = msgspec.to_builtins(await inspection.look())
    for worker in seen["workers"]:
        worker["queues"] = [name for name in worker["queues"] if _may_see(caller, name)]
    queues = [queue for queue in seen["queues"] if _may_see(caller, queue["name"])]
    return CeleryView.model_validate({**seen, "queues": queues, "is_used": True, "processes": processes})


def _may_see(caller: Caller, queue: str) -> bool:
    return caller.may_enter(queue.partition("/")[0])


async def _processes(engine: Engine) -> int:
    now = engine.now()
    counts = await engine.database.read(lambda connection: worker_counts(connection, now=now))
    return sum(count for (kind, _), count in counts.items() if kind == "celery")
