"""Staff's pages: the inbox of requests, operations, one operation. Each shows what the API of the same name says."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import Field
from starlette.responses import Response

from orderup.db.database import ReadConnection
from orderup.db.read import last_decisions, list_operations, list_rfas
from orderup.engine import steer
from orderup.engine.decide import approve_rfa, decline_rfa
from orderup.errors import AlreadyDecided, Conflict, NotFound
from orderup.model.event import Audience
from orderup.model.ids import read_id, read_task_id, show_id
from orderup.model.operation import Draft, Operation, OperationStatus
from orderup.model.rfa import RfaStatus
from orderup.model.steer import rerun
from orderup.model.task import Task
from orderup.web.auth import AsStaff
from orderup.web.orders import engine_of, load
from orderup.web.pages import bulk, today
from orderup.web.pages.bulk import Verb, do_verb, verbs_for, verbs_of, wanted_statuses
from orderup.web.pages.facts import facts_of
from orderup.web.pages.route import Form, PageRouter, form_of, see_other
from orderup.web.pages.site import site_of
from orderup.web.pages.timeline import draw
from orderup.web.pages.tracker import MOST_EVENTS, history_of
from orderup.web.paging import CursorFilter, PairCursorFilter, ShopFilter, read_cursor, shop_of, show_cursor
from orderup.web.rfas import LONGEST_NOTES
from orderup.web.tokens import Caller
from orderup.web.views import view_rfa

A_PAGE = 50
# Events that the timeline is drawn from: of hundreds of tasks, each with a few attempts.
MOST_DRAWN = 5_000
DECIDED_SHOWN = 5
DECISIONS: dict[str, Callable[..., Awaitable[None]]] = {"approve": approve_rfa, "decline": decline_rfa}
TASK_VERBS: dict[str, Callable[..., Awaitable[None]]] = {"rerun": steer.rerun_task, "cancel": steer.cancel_task}
router = PageRouter()
router.include_router(today.router)
router.include_router(today.numbers)
router.include_router(bulk.router)


@router.get("/inbox")
async def show_inbox(
    request: Request, caller: AsStaff, status: RfaStatus = RfaStatus.PENDING, cursor: PairCursorFilter = None
) -> Response:
    engine = engine_of(request)
    shops, after = shop_of(engine, caller, None), read_cursor(cursor)
    is_open = status is RfaStatus.PENDING

    def read(connection: ReadConnection) -> tuple[Sequence[Any], Sequence[Any]]:
        rows = list_rfas(connection, status=status, shops=shops, after=after, most=A_PAGE + 1, latest_first=not is_open)
        return rows, last_decisions(connection, shops=shops, most=DECIDED_SHOWN) if is_open else ()

    found, decided = await engine.database.read(read)
    rows = found[:A_PAGE]
    more = show_cursor(rows[-1][2].expires_at, rows[-1][0]) if len(found) > A_PAGE else None
    facts = await facts_of(request, ((row[0], row[1]) for row in rows))
    rfas = [{**view_rfa(*row), **_moments(row[2]), "facts": facts.get(row[0], {})} for row in rows]
    return site_of(request).page(
        request,
        "inbox.html",
        rfas=rfas,
        status=status.value,
        cursor=more,
        decided=[{**view_rfa(*row), **_moments(row[2])} for row in decided],
    )


def _moments(rfa: Any) -> dict[str, int | None]:
    return {name: getattr(rfa, name) for name in ("asked_at", "expires_at", "decided_at")}


class Decision(Form):
    """notes: the customer reads them if the request is declined."""

    verb: Literal["approve", "decline"]
    notes: Annotated[str, Field(max_length=LONGEST_NOTES)] = ""


@router.form("/inbox/{id}", Decision)
async def decide(request: Request, caller: AsStaff, id: str) -> Response:
    engine, operation_id = engine_of(request), read_id(id, what="RFA")
    asked = await load(engine, operation_id, what="RFA")
    if asked.rfa is None or not caller.may_enter(asked.shop):
        raise NotFound("RFA", id)
    form = await form_of(request, Decision)
    do, by, notes = DECISIONS[form.verb], caller.subject or "staff", form.notes.strip() or None
    try:
        await do(engine, operation_id, by=by, notes=notes, shop=caller.shop)
    except AlreadyDecided:
        operation = await load(engine, operation_id)
        assert operation.rfa is not None
        rfa = {**view_rfa(operation.id, operation.shop, operation.rfa), **_moments(operation.rfa)}
        return site_of(request).page(request, "decided.html", code=409, rfa=rfa, written=notes)
    return see_other("/inbox")


@router.get("/operations")
async def show_operations(
    request: Request, caller: AsStaff, shop: ShopFilter = None, status: str = "", cursor: CursorFilter = None
) -> Response:
    engine, before = engine_of(request), read_cursor(cursor)
    shops = shop_of(engine, caller, shop or None)
    found = await engine.database.read(
        lambda connection: list_operations(
            connection,
            shops=shops,
            statuses=wanted_statuses(status),
            before=before[0] if before else None,
            most=A_PAGE + 1,
        )
    )
    return site_of(request).page(
        request,
        "operations.html",
        operations=found[:A_PAGE],
        facts=await facts_of(request, ((each.id, each.shop) for each in found[:A_PAGE])),
        shops=shop_of(engine, caller, None),
        statuses=[each.value for each in OperationStatus],
        shop=shop or "",
        status=status,
        verbs=verbs_for(status),
        cursor=show_cursor(found[A_PAGE - 1].id) if len(found) > A_PAGE else None,
    )


async def _operation(request: Request, caller: Caller, id: str) -> Operation:
    operation = await load(engine_of(request), read_id(id))
    if not caller.may_enter(operation.shop):
        raise NotFound("operation", id)
    return operation


@router.get("/operations/{id}")
async def show_operation(request: Request, caller: AsStaff, id: str) -> Response:
    operation, engine = await _operation(request, caller, id), engine_of(request)
    history = await history_of(engine, operation.id, audience=Audience.INTERNAL, most=MOST_DRAWN)
    return site_of(request).page(
        request,
        "operation.html",
        operation=operation,
        facts=(await facts_of(request, [(operation.id, operation.shop)])).get(operation.id, {}),
        history=history[-MOST_EVENTS:],
        timeline=draw(operation, history, now=engine.now()),
        verbs=verbs_of(operation.status),
        task_verbs=[task_verbs_of(operation, task, now=engine.now()) for task in operation.tasks],
    )


class Steer(Form):
    verb: Verb


@router.form("/operations/{id}", Steer)
async def steer_operation(request: Request, caller: AsStaff, id: str) -> Response:
    operation, engine = await _operation(request, caller, id), engine_of(request)
    form = await form_of(request, Steer)
    await do_verb(engine, operation.id, form.verb, caller=caller)
    return see_other(f"/operations/{id}")


def task_verbs_of(operation: Operation, task: Task, *, now: int) -> list[str]:
    """What can be done with one task as it stands: whatever would not be refused."""
    if not task.status.is_final:
        # as model.steer has it; to try would take all that depends on each task, of each task
        may_cancel = operation.status in (OperationStatus.RUNNING, OperationStatus.PAUSED)
        return ["cancel"] if may_cancel else []
    try:
        rerun(Draft(operation), task.position, now=now)
    except Conflict:
        return []
    return ["rerun"]


class SteerTask(Form):
    verb: Literal["rerun", "cancel"]


@router.form("/tasks/{id}", SteerTask)
async def steer_task(request: Request, caller: AsStaff, id: str) -> Response:
    engine, (operation_id, position) = engine_of(request), read_task_id(id)
    form = await form_of(request, SteerTask)
    await TASK_VERBS[form.verb](engine, operation_id, position, shop=caller.shop)
    return see_other(f"/operations/{show_id(operation_id)}#task-{position}")
