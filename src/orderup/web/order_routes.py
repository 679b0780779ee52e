"""The routes by which a customer follows an order: the same in every shop, in the shop's own words.

| route | does |
|---|---|
| `GET /PATH/{id}` | how the order stands |
| `DELETE /PATH/{id}` | the customer cancels it, as long as the shop lets him |
| `WS /PATH/{id}/live?after=` | every step as it happens |
| `GET /PATH/{id}/events?after=` | the same, as server-sent events |
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import Request, WebSocket
from pydantic import BaseModel
from starlette.requests import HTTPConnection
from starlette.responses import Response, StreamingResponse

from orderup.engine.desk import Replayed
from orderup.model import steer
from orderup.model.event import Audience
from orderup.model.ids import show_id
from orderup.model.operation import Draft, Operation
from orderup.model.rfa import RfaStatus
from orderup.model.times import show_time
from orderup.web.app import Json
from orderup.web.auth import AsOrderCaller
from orderup.web.idempotency import REPLAYED, idempotency_key, takes_key
from orderup.web.live import After, event_stream, stream_to
from orderup.web.orders import NUMBERED, PATHS, FindByNumber, engine_of, find_order, load, stays_open
from orderup.web.routes import Router

# What the order's customer is shown of it.
Viewer = Callable[[Request, Operation], Awaitable[Any]]
# Raises Conflict, saying why, once it is too late to cancel. It sees the operation as it is when it is cancelled.
CancelCheck = Callable[[Draft], None]
# Entered for as long as somebody follows the order live, for a shop that wants to know.
Attend = Callable[[HTTPConnection, Operation], AbstractAsyncContextManager[None]]
EVENT_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}


class OrderTaskView(BaseModel):
    name: str
    status: str
    started_at: str | None
    finished_at: str | None


class OrderView(BaseModel):
    """note: why staff declined it."""

    id: str
    status: str
    note: str | None
    placed_at: str
    finished_at: str | None
    tasks: list[OrderTaskView]


async def view_order(_request: Request, operation: Operation) -> dict[str, Any]:
    """As much of an order as is good for a customer to see; a shop's own view may add to it."""
    rfa = operation.rfa
    return {
        "id": show_id(operation.id),
        "status": operation.status,
        "note": rfa.notes if rfa and rfa.status is RfaStatus.DECLINED else None,
        "placed_at": show_time(operation.placed_at),
        "finished_at": show_time(operation.finished_at),
        "tasks": [
            {
                "name": task.name,
                "status": task.status,
                "started_at": show_time(task.started_at),
                "finished_at": show_time(task.finished_at),
            }
            for task in operation.tasks
        ],
    }


def may_always_cancel(_draft: Draft) -> None:
    return None


@asynccontextmanager
async def attended_by_nobody(_connection: HTTPConnection, _operation: Operation) -> AsyncIterator[None]:
    yield


def add_order_routes(
    router: Router,
    shop: str,
    *,
    path: str,
    view: Viewer = view_order,
    model: type[BaseModel] = OrderView,
    check_cancel: CancelCheck = may_always_cancel,
    attend: Attend = attended_by_nobody,
    find: FindByNumber | None = None,
) -> None:
    """`path`: of the shop's orders, relative to its root, such as `pizzas`. `model`: what `view` gives, for the API's
    description. `attend`: entered for as long as somebody follows an order live. `find`: of a shop whose orders have
    numbers; links lead by the operation's id all the same."""
    PATHS[shop] = path
    if find is not None:
        NUMBERED[shop] = find
    _add_view(router, shop, path, view, model)
    _add_cancel(router, shop, path, view, model, check_cancel)
    _add_following(router, shop, path, attend)


def _add_view(router: Router, shop: str, path: str, view: Viewer, model: type[BaseModel]) -> None:
    @router.get(f"/{path}/{{id}}", response_model=model, summary="How the order stands")
    async def get_order(request: Request, caller: AsOrderCaller, id: str) -> Response:
        return Json(await view(request, await find_order(request, caller, shop, id)))


def _add_cancel(
    router: Router, shop: str, path: str, view: Viewer, model: type[BaseModel], check_cancel: CancelCheck
) -> None:
    @router.delete(f"/{path}/{{id}}", response_model=model, summary="Cancel the order")
    @takes_key
    async def cancel_order(request: Request, caller: AsOrderCaller, id: str) -> Response:
        engine = engine_of(request)
        operation = await find_order(request, caller, shop, id)

        def cancel(draft: Draft) -> None:
            check_cancel(draft)
            steer.cancel(draft, reason="cancelled by the customer", now=engine.now())

        headers: Mapping[str, str] = {}
        try:
            await engine.desk.decide(operation.id, cancel, key=idempotency_key(request, caller, None, now=engine.now()))
        except Replayed:
            headers = REPLAYED
        return Json(await view(request, await load(engine, operation.id)), headers=dict(headers))


def _add_following(router: Router, shop: str, path: str, attend: Attend) -> None:
    @router.websocket(f"/{path}/{{id}}/live")
    async def follow_live(websocket: WebSocket, caller: AsOrderCaller, id: str, after: After = 0) -> None:
        operation = await find_order(websocket, caller, shop, id)
        async with attend(websocket, operation):
            await stream_to(
                websocket,
                engine_of(websocket).feed,
                after=after,
                operation_id=operation.id,
                shop=shop,
                audience=Audience.CUSTOMER,
                check=stays_open(websocket, caller, operation),
            )

    @router.get(
        f"/{path}/{{id}}/events",
        response_class=StreamingResponse,
        responses=EVENT_STREAM,
        summary="Follow the order by server-sent events",
    )
    async def follow_events(request: Request, caller: AsOrderCaller, id: str, after: After = 0) -> Response:
        operation = await find_order(request, caller, shop, id)
        answer = await event_stream(
            request,
            engine_of(request).feed,
            after=after,
            operation_id=operation.id,
            shop=shop,
            audience=Audience.CUSTOMER,
            check=stays_open(request, caller, operation),
        )
        answer.body_iterator = _attended(answer.body_iterator, attend(request, operation))
        return answer


async def _attended(body: AsyncIterable[Any], attendance: AbstractAsyncContextManager[None]) -> AsyncIterator[Any]:
    async with attendance:
        async for part in body:
            yield part
