"""The log for staff: followed by server-sent events and by WebSocket."""

from typing import Annotated

from fastapi import Query, Request, WebSocket
from starlette.responses import Response, StreamingResponse

from orderup.errors import Forbidden
from orderup.model.event import Audience
from orderup.model.ids import read_id
from orderup.web.auth import AsStaff
from orderup.web.live import After, event_stream, stream_to
from orderup.web.orders import engine_of
from orderup.web.paging import ShopFilter
from orderup.web.routes import Router
from orderup.web.tokens import Caller

router = Router(tags=["log"])
OperationFilter = Annotated[str | None, Query(max_length=40)]


def _scope(caller: Caller, operation: str | None, shop: str | None) -> tuple[int | None, str | None]:
    """What the caller may follow of what he asked for. Raises NotFound, Forbidden."""
    if shop is not None and not caller.may_enter(shop):
        raise Forbidden(f"This token is for {caller.shop} only.")
    return (None if operation is None else read_id(operation)), shop or caller.shop


@router.get(
    "/api/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
    summary="Follow the log by server-sent events",
)
async def follow_events(
    request: Request, caller: AsStaff, after: After = 0, operation: OperationFilter = None, shop: ShopFilter = None
) -> Response:
    operation_id, shop = _scope(caller, operation, shop)
    return await event_stream(
        request,
        engine_of(request).feed,
        after=after,
        operation_id=operation_id,
        shop=shop,
        audience=Audience.INTERNAL,
    )


@router.websocket("/api/live")
async def follow_live(
    websocket: WebSocket, caller: AsStaff, after: After = 0, operation: OperationFilter = None, shop: ShopFilter = None
) -> None:
    operation_id, shop = _scope(caller, operation, shop)
    await stream_to(
        websocket,
        engine_of(websocket).feed,
        after=after,
        operation_id=operation_id,
        shop=shop,
        audience=Audience.INTERNAL,
    )
