"""What went out, what waits, what was given up; to be sent again."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from orderup.db.database import ReadConnection, WriteConnection
from orderup.db.deliveries import (
    TargetState,
    get_delivery,
    list_deliveries,
    look_back_to,
    send_again,
    target_states,
)
from orderup.engine.engine import Engine
from orderup.errors import NotFound
from orderup.model.delivery import Delivery, DeliveryState, read_delivery_id, show_delivery_id
from orderup.model.ids import read_id, show_id
from orderup.model.times import show_time
from orderup.web.app import Json
from orderup.web.auth import AsStaff
from orderup.web.idempotency import takes_key
from orderup.web.orders import engine_of
from orderup.web.overview import do_once
from orderup.web.paging import Limit
from orderup.web.routes import Router
from orderup.web.tokens import Caller
from orderup.web.views import page

# The name that none comes before.
FIRST_NAME = "a"
# Sent again in one transaction.
MOST_AT_ONCE = 500
TargetFilter = Annotated[str | None, Query(max_length=40)]
OperationFilter = Annotated[str | None, Query(max_length=40)]
DeliveryCursor = Annotated[
    str | None,
    Query(pattern="^[0-9]{1,18}-[a-z][a-z0-9_]{0,39}$", description="`cursor` of the page before; left out: the first"),
]
router = Router(prefix="/api", tags=["deliveries"])


class TargetView(BaseModel):
    """pending, failed: counted up to 10,000. oldest_at: since when the first pending one is to go out. is_held: a
    process sends to it. error: of the last try that failed, at failed_at."""

    name: str
    place: str
    pending: int
    failed: int
    oldest_at: str | None
    is_held: bool
    delivered_at: str | None
    failed_at: str | None
    error: str | None


class DeliveryView(BaseModel):
    """next_try_at: null if it is over, or waits for an earlier event of its operation. at: since when it is to go out.
    error: why the last try failed."""

    id: str
    seq: int
    target: str
    state: DeliveryState
    type: str
    shop: str
    operation_id: str
    tries: int
    next_try_at: str | None
    at: str
    ended_at: str | None
    error: str | None


class DeliveryList(BaseModel):
    """The newest first. targets: none for a token of one shop. `cursor` fetches the next page; null on the last one. A
    page may be short, or empty, before the last: each looks through a few thousand deliveries at most."""

    targets: list[TargetView]
    deliveries: list[DeliveryView]
    cursor: str | None


class Redelivered(BaseModel):
    """How many are to go out again."""

    redelivered: int


@router.get("/deliveries", response_model=DeliveryList, summary="What went out, what waits, what was given up")
async def get_deliveries(
    request: Request,
    caller: AsStaff,
    target: TargetFilter = None,
    state: DeliveryState | None = None,
    operation: OperationFilter = None,
    cursor: DeliveryCursor = None,
    limit: Limit = 50,
) -> Response:
    found, targets, more = await read_deliveries(
        engine_of(request), caller, target=target, state=state, operation=operation, cursor=cursor, most=limit
    )
    told = page("deliveries", [view_delivery(each) for each in found], cursor=more)
    return Json({"targets": [_target(each) for each in targets], **told})


async def read_deliveries(
    engine: Engine,
    caller: Caller,
    *,
    target: str | None,
    state: DeliveryState | None,
    operation: str | None,
    cursor: str | None,
    most: int,
) -> tuple[list[Delivery], list[TargetState], str | None]:
    """Deliveries of the caller's shops, how it goes with the targets, and where the next page begins. Targets are all
    shops' together: whose token is for one of them sees none."""
    operation_id = read_id(operation) if operation else None
    before = read_delivery_id(cursor) if cursor else None
    target, shop = target or None, caller.shop

    def read(connection: ReadConnection) -> tuple[list[Delivery], list[TargetState], int | None]:
        back_to = None
        if operation_id is None:
            back_to = look_back_to(connection, target=target, state=state, shop=shop, before=before)
        found = list_deliveries(
            connection,
            target=target,
            state=state,
            operation_id=operation_id,
            shop=shop,
            before=before,
            back_to=back_to,
            most=most + 1,
        )
        return found, target_states(connection) if shop is None else [], back_to

    found, targets, back_to = await engine.database.read(read)
    more = None if back_to is None else show_delivery_id(back_to, FIRST_NAME)
    if len(found) > most:
        more = show_delivery_id(found[most - 1].seq, found[most - 1].target)
    return found[:most], targets, more


def view_delivery(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": show_delivery_id(delivery.seq, delivery.target),
        "seq": delivery.seq,
        "target": delivery.target,
        "state": delivery.state,
        "type": delivery.type,
        "shop": delivery.shop,
        "operation_id": show_id(delivery.operation_id),
        "tries": delivery.tries,
        "next_try_at": show_time(delivery.next_try_at),
        "at": show_time(delivery.at),
        "ended_at": show_time(delivery.ended_at),
        "error": delivery.error,
    }


def _target(target: TargetState) -> Mapping[str, Any]:
    return {
        "name": target.name,
        "place": target.place,
        "pending": target.pending,
        "failed": target.failed,
        "oldest_at": show_time(target.oldest_at),
        "is_held": target.is_held,
        "delivered_at": show_time(target.delivered_at),
        "failed_at": show_time(target.failed_at),
        "error": target.error,
    }


@router.post("/deliveries/{id}/redeliver", response_model=DeliveryView, summary="Send it now, again if need be")
@takes_key
async def redeliver(request: Request, caller: AsStaff, id: str) -> Response:
    engine = engine_of(request)
    headers = await do_once(request, caller, lambda: send_one_again(engine, caller, id))
    found = await engine.database.read(lambda connection: _known(connection, caller, id))
    return Json(view_delivery(found), headers=dict(headers))


@router.post("/targets/{target}/redeliver", response_model=Redelivered, summary="Send again all that was given up")
@takes_key
async def redeliver_all(request: Request, caller: AsStaff, target: str) -> Response:
    engine, count = engine_of(request), 0

    async def do() -> None:
        nonlocal count
        count = await send_failed_again(engine, caller, target)

    headers = await do_once(request, caller, do)
    return Json({"redelivered": count}, headers=dict(headers))


async def send_one_again(engine: Engine, caller: Caller, id: str) -> None:
    """Raises NotFound."""
    now = engine.now()

    def write(connection: WriteConnection) -> None:
        send_again(connection, [_known(connection, caller, id)], now=now)

    await engine.database.write(write)


def _known(connection: ReadConnection, caller: Caller, id: str) -> Delivery:
    """Raises NotFound."""
    found = get_delivery(connection, *read_delivery_id(id))
    if found is None or not caller.may_enter(found.shop):
        raise NotFound("delivery", id[:100])
    return found


async def send_failed_again(engine: Engine, caller: Caller, target: str) -> int:
    """All that a target gave up; how many. Raises NotFound, also for whom a target is none of his."""
    known = await engine.database.read(target_states)
    if caller.shop is not None or target not in [each.name for each in known]:
        raise NotFound("target", target[:100])
    now, count = engine.now(), 0

    def write(connection: WriteConnection) -> int:
        failed = list_deliveries(connection, target=target, state=DeliveryState.FAILED, most=MOST_AT_ONCE)
        send_again(connection, failed, now=now)
        return len(failed)

    while some := await engine.database.write(write):
        count += some
        if some < MOST_AT_ONCE:  # those that fail at once again are not sent for ever
            break
    return count
