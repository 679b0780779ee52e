"""Workers: who works, where, on what, and whether he was heard of lately."""

from dataclasses import dataclass

from fastapi import Request
from starlette.responses import Response

from orderup.model.ids import show_id, show_task_id
from orderup.web.auth import AsStaff
from orderup.web.orders import engine_of
from orderup.web.overview import read_workers
from orderup.web.pages.route import PageRouter
from orderup.web.pages.site import site_of
from orderup.web.paging import shop_of

KINDS = {"local": "in a server", "celery": "Celery", "remote": "remote"}
# Of those that one worker holds, this many are linked.
MOST_SHOWN = 10
router = PageRouter()


@dataclass(frozen=True, slots=True)
class Held:
    """A task, and where it is looked at."""

    id: str
    address: str


@dataclass(frozen=True, slots=True)
class Row:
    """held: None of those whose tasks hang on one lease, and are not told one by one. more: how many are not shown."""

    id: str
    kind: str
    shop: str | None
    region: str | None
    first_seen_at: int
    seen_at: int
    is_alive: bool
    held: list[Held] | None
    more: int


@router.get("/workers")
async def show_workers(request: Request, caller: AsStaff) -> Response:
    engine = engine_of(request)
    workers = [_row(*each) for each in await read_workers(engine, caller)]
    workers.sort(key=lambda each: not each.is_alive)
    mounted = {each.name: each for each in site_of(request).shops}
    shops = [name for name in shop_of(engine, caller, None) if name in mounted and mounted[name].worker_functions]
    state = request.app.state
    return site_of(request).page(
        request,
        "workers.html",
        workers=workers,
        startable=shops,
        server=state.back_url,
        has_celery=state.celery is not None,
    )


def _row(
    id: str,
    kind: str,
    shop: str | None,
    region: str | None,
    first_seen_at: int,
    seen_at: int,
    is_alive: bool,  # noqa: FBT001  a row of the database
    held: list[tuple[int, int]],
) -> Row:
    shown = [
        Held(show_task_id(operation, position), f"/operations/{show_id(operation)}#task-{position}")
        for operation, position in held[:MOST_SHOWN]
    ]
    return Row(
        id,
        KINDS.get(kind, kind),
        shop,
        region,
        first_seen_at,
        seen_at,
        bool(is_alive),
        shown if kind == "remote" or held else None,
        len(held) - len(shown),
    )
