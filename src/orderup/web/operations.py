"""Operations and their tasks: look at them, steer them."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

import structlog
from fastapi import Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from orderup.db.read import list_operations
from orderup.engine import steer
from orderup.engine.desk import Replayed
from orderup.engine.engine import Engine
from orderup.errors import Conflict, NotFound
from orderup.model.ids import read_id, read_task_id
from orderup.model.operation import Operation, OperationStatus
from orderup.web.app import Json
from orderup.web.auth import AsStaff
from orderup.web.idempotency import REPLAYED, idempotency_key, takes_key
from orderup.web.order_keys import new_order_key, replace_order_key
from orderup.web.orders import PATHS, engine_of, links_of, load, settings_of
from orderup.web.paging import CursorFilter, Limit, ShopFilter, read_cursor, shop_of, show_cursor
from orderup.web.routes import RequestModel, Router
from orderup.web.tokens import Caller
from orderup.web.views import OperationList, OperationView, TaskView, view_operation, view_summary, view_task

log = structlog.get_logger(__name__)
operations_router = Router(prefix="/api/operations", tags=["operations"])
tasks_router = Router(prefix="/api/tasks", tags=["tasks"])


class LinksView(BaseModel):
    """For the customer. Whoever has them may read, follow and cancel the order."""

    id: str
    links: dict[str, str]


class ReasonBody(RequestModel):
    reason: Annotated[str, Field(max_length=500)] | None = None


@operations_router.get("", response_model=OperationList, summary="Operations, the newest first")
async def get_operations(
    request: Request,
    caller: AsStaff,
    shop: ShopFilter = None,
    status: OperationStatus | None = None,
    cursor: CursorFilter = None,
    limit: Limit = 50,
) -> Response:
    engine = engine_of(request)
    shops = shop_of(engine, caller, shop)
    before = read_cursor(cursor)
    statuses = list(OperationStatus) if status is None else [status]
    found = await engine.database.read(
        lambda connection: list_operations(
            connection, shops=shops, statuses=statuses, before=before[0] if before else None, most=limit + 1
        )
    )
    more = show_cursor(found[limit - 1].id) if len(found) > limit else None
    return Json({"operations": [view_summary(operation) for operation in found[:limit]], "cursor": more})


async def _find(engine: Engine, caller: Caller, id: str) -> Operation:
    operation = await load(engine, read_id(id))
    if not caller.may_enter(operation.shop):
        raise NotFound("operation", id)
    return operation


async def _operation(engine: Engine, caller: Caller, id: str) -> Response:
    return Json(view_operation(await _find(engine, caller, id)))


@operations_router.get("/{id}", response_model=OperationView, summary="One operation with its tasks")
async def get_operation(request: Request, caller: AsStaff, id: str) -> Response:
    return await _operation(engine_of(request), caller, id)


async def _steer(
    request: Request, caller: Caller, id: str, verb: Callable[..., Awaitable[None]], **options: Any
) -> Response:
    engine = engine_of(request)
    key = idempotency_key(request, caller, options, now=engine.now())
    replayed = False
    try:
        await verb(engine, read_id(id), shop=caller.shop, key=key, **options)
    except Replayed:
        replayed = True
    answer = await _operation(engine, caller, id)
    if replayed:
        answer.headers.update(REPLAYED)
    return answer


@operations_router.post("/{id}/cancel", response_model=OperationView, summary="End it now")
@takes_key
async def cancel(request: Request, caller: AsStaff, id: str, body: ReasonBody | None = None) -> Response:
    reason = (body.reason if body else None) or f"cancelled by {caller.subject or 'staff'}"
    return await _steer(request, caller, id, steer.cancel_operation, reason=reason)


@operations_router.post("/{id}/pause", response_model=OperationView, summary="Claim no task of it any more")
@takes_key
async def pause(request: Request, caller: AsStaff, id: str) -> Response:
    return await _steer(request, caller, id, steer.pause_operation)


@operations_router.post("/{id}/resume", response_model=OperationView, summary="Go on")
@takes_key
async def resume(request: Request, caller: AsStaff, id: str) -> Response:
    return await _steer(request, caller, id, steer.resume_operation)


@operations_router.post("/{id}/retry", response_model=OperationView, summary="Try again from the tasks that failed")
@takes_key
async def retry(request: Request, caller: AsStaff, id: str) -> Response:
    return await _steer(request, caller, id, steer.retry_operation)


@operations_router.post(
    "/{id}/revoke-key", response_model=LinksView, summary="Close the customer's links for good, and make others"
)
@takes_key
async def revoke_key(request: Request, caller: AsStaff, id: str) -> Response:
    engine, secret = engine_of(request), settings_of(request).secret_key
    operation = await _find(engine, caller, id)
    if secret is None:
        raise Conflict("Without SECRET_KEY orders have no keys: whoever knows an order's id may see it.")
    key, new = idempotency_key(request, caller, None, now=engine.now()), new_order_key(secret)
    headers: Mapping[str, str] = {}
    try:
        await engine.database.write(lambda connection: replace_order_key(connection, operation.id, new, key=key))
        log.info("an order's key was revoked", operation_id=id, by=caller.subject)
    except Replayed:
        headers = REPLAYED
    operation, path = await load(engine, operation.id), PATHS.get(operation.shop)
    links = {} if path is None else links_of(request, operation, path=path)
    return Json({"id": id, "links": links}, headers=dict(headers))


async def _task(engine: Engine, caller: Caller, id: str) -> Response:
    operation_id, position = read_task_id(id)
    operation = (await engine.database.load([operation_id])).get(operation_id)
    if operation is None or position >= len(operation.tasks) or not caller.may_enter(operation.shop):
        raise NotFound("task", id)
    return Json(view_task(operation, operation.tasks[position]))


@tasks_router.get("/{id}", response_model=TaskView, summary="One task")
async def get_task(request: Request, caller: AsStaff, id: str) -> Response:
    return await _task(engine_of(request), caller, id)


@tasks_router.post("/{id}/rerun", response_model=TaskView, summary="Do it again, unless a dependant has started")
@takes_key
async def rerun(request: Request, caller: AsStaff, id: str) -> Response:
    return await _steer_task(request, caller, id, steer.rerun_task)


@tasks_router.post("/{id}/cancel", response_model=TaskView, summary="Cancel it and all that depends on it")
@takes_key
async def cancel_task(request: Request, caller: AsStaff, id: str) -> Response:
    return await _steer_task(request, caller, id, steer.cancel_task)


async def _steer_task(request: Request, caller: Caller, id: str, verb: Callable[..., Awaitable[None]]) -> Response:
    engine = engine_of(request)
    operation_id, position = read_task_id(id)
    key = idempotency_key(request, caller, None, now=engine.now())
    replayed = False
    try:
        await verb(engine, operation_id, position, shop=caller.shop, key=key)
    except Replayed:
        replayed = True
    answer = await _task(engine, caller, id)
    if replayed:
        answer.headers.update(REPLAYED)
    return answer
