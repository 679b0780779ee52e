"""The meal boxes' routes for customers.

`POST /orders` answers when the order is complete, or after a while that the caller may choose (`Prefer`, RFC 7240) that
we have it: 201 with the whole order, or 202 with where to look. Whatever happens to us or to the services that we ask,
an order that was answered goes on to its end.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

import msgspec
from fastapi import Request
from msgspec.structs import replace
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from starlette.responses import Response

from orderup.db.database import WriteConnection
from orderup.engine.ends import Ends
from orderup.errors import Invalid, NotFound
from orderup.model.ids import show_id
from orderup.model.operation import Operation, OperationStatus
from orderup.model.times import show_time
from orderup.shops.mealbox.keeper import Counter
from orderup.shops.mealbox.plan import NOUNS, SAVE, plan_order, shop
from orderup.shops.mealbox.preference import Preference, read_preference
from orderup.shops.mealbox.status import STATUS_WORDS, OrderStatus, plain_reason, statuses_of
from orderup.shops.mealbox.tables import accept_order, add_order, list_orders
from orderup.web import (
    AsAnyone,
    AsCustomer,
    Caller,
    Json,
    PlacedOrder,
    RequestModel,
    Router,
    add_order_routes,
    engine_of,
    keeper_of,
    place,
    takes_key,
)
from orderup.web.direct import Call, Direct, Reply, directly
from orderup.web.idempotency import free_key, idempotency_key
from orderup.web.orders import load, settings_of
from orderup.web.paging import CursorFilter, Limit, read_cursor, show_cursor
from orderup.web.routes import in_time, waiting
from orderup.web.tokens import Role

Row = Mapping[str, Any]
PATH = "orders"
EXAMPLE: JsonDict = {"user_id": "7c11e1ce2741", "product_code": "classic-box"}
# No id or code begins or ends with space, and none holds what cannot be seen.
CODE = r"^[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?$"
front = Router(tags=["mealbox"])


class Asked(BaseModel):
    """What every order says. user_id, product_code: as the services know them."""

    user_id: Annotated[str, Field(min_length=1, max_length=100, pattern=CODE)]
    product_code: Annotated[str, Field(min_length=1, max_length=100, pattern=CODE)]


class OrderBody(Asked, RequestModel):
    """user_id, product_code: as the services know them."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})


class Links(BaseModel):
    """They carry the order's key: whoever has them may read, follow and cancel this order."""

    self: str
    live: str
    events: str
    cancel: str


class MealboxOrder(BaseModel):
    """Names and amount are null until the order is complete; reason says why it failed or was cancelled."""

    id: str
    status: OrderStatus
    user_id: str | None
    product_code: str
    customer_fullname: str | None
    product_name: str | None
    total_amount: float | None
    created_at: str
    reason: str | None


class PlacedMealbox(MealboxOrder):
    links: Links


class MealboxOrders(BaseModel):
    orders: list[MealboxOrder]
    cursor: str | None


async def take_order(call: Call) -> Reply:
    request = call.request
    assert isinstance(call.body, OrderBody)
    preference = read_preference(request.headers.getlist("Prefer"), default=settings_of(request).mealbox_wait_seconds)
    async with in_time(call.scope):
        placed, row = await order_box(request, call.caller, call.body, seconds=preference.seconds)
    return _answer(placed, row, preference)


@front.post(
    f"/{PATH}",
    status_code=201,
    response_model=PlacedMealbox,
    responses={202: {"model": PlacedMealbox, "description": "We have it; it is not complete yet"}},
    summary="Order a meal box",
)
@takes_key
@directly(take_order, reads=OrderBody)
async def post_order(caller: AsAnyone, body: OrderBody) -> Response:
    return Direct(take_order, caller, body)


async def order_box(
    request: Request, caller: Caller, body: OrderBody, *, seconds: float, key: str | None = None
) -> tuple[PlacedOrder, Row]:
    """The order, complete if it is by then, and its row. Raises Invalid if there is no such user or product."""
    engine, counter = engine_of(request), _counter_of(request)
    id = engine.new_id(engine.now())

    def add_row(connection: WriteConnection, operation_id: int) -> None:
        add_order(connection, operation_id, **body.model_dump(), is_accepted=not seconds)

    async with _expected(counter.ends, id) as ended:
        plan = plan_order(body.user_id, body.product_code)
        placed = await place(
            request,
            caller,
            shop.name,
            plan,
            body=body.model_dump(),
            path=PATH,
            also=add_row,
            key=key,
            operation_id=id,
        )
        if seconds and not placed.is_replay:
            with waiting(request):
                await asyncio.wait([ended], timeout=seconds)
    if placed.is_replay:
        await _wait_again(request, placed, seconds=seconds)
    elif ended.done() and ended.result() == OperationStatus.COMPLETED and (row := await counter.row(id)) is not None:
        # it is final, so there is nothing to load
        placed.operation = replace(placed.operation, status=OperationStatus.COMPLETED)
        return placed, row
    await _settle(request, placed)
    if unknown := unknown_in(placed.operation):
        if taken := idempotency_key(request, caller, body.model_dump(), now=engine.now(), key=key):
            freed = partial(free_key, key=taken, operation_id=placed.operation.id)
            await engine.database.write(freed)
        raise Invalid(f"There is no such {NOUNS[unknown]}. Nothing was ordered.", field=f"body.{unknown}")
    return placed, await _row(request, placed.operation.id)


@asynccontextmanager
async def _expected(ends: Ends, operation_id: int) -> AsyncIterator["asyncio.Future[str | None]"]:
    ended = ends.expect(operation_id)
    try:
        yield ended
    finally:
        ends.forget(operation_id, ended)


async def _wait_again(request: Request, placed: PlacedOrder, *, seconds: float) -> None:
    """The same request, again: it waits for the order that the first one placed."""
    ends = _counter_of(request).ends
    async with _expected(ends, placed.operation.id) as ended:
        placed.operation = await load(ends.engine, placed.operation.id)
        if seconds and not placed.operation.status.is_final:
            with waiting(request):
                await asyncio.wait([ended], timeout=seconds)


async def _settle(request: Request, placed: PlacedOrder) -> None:
    """How the order stands now. One that is not complete is an order from here on, also if it has failed: staff may
    have it tried again."""
    engine, id = engine_of(request), placed.operation.id
    placed.operation = await load(engine, id)
    if placed.operation.status is OperationStatus.COMPLETED:
        return
    if not await engine.database.write(lambda connection: accept_order(connection, id)):
        placed.operation = await load(engine, id)


def unknown_in(operation: Operation) -> str | None:
    """The field of the order for which there was nothing."""
    for task in operation.tasks:
        found = msgspec.json.decode(task.result) if task.name == SAVE and task.result else None
        if found is not None:
            return str(found["unknown"][0])
    return None


def _answer(placed: PlacedOrder, row: Row, preference: Preference) -> Reply:
    shown = _view_of(placed.operation, row)
    is_complete = shown["status"] == "completed"
    headers = {**placed.headers, **preference.applied}
    return Reply({**shown, "links": placed.links}, status=201 if is_complete else 202, headers=headers)


async def view_order(request: Request, operation: Operation) -> dict[str, Any]:
    """Raises NotFound for what never was an order."""
    return _view_of(operation, await _row(request, operation.id))


async def _row(request: Request, operation_id: int) -> Row:
    row = await _counter_of(request).row(operation_id)
    if row is None:
        raise NotFound("order", show_id(operation_id))
    return row


def _view_of(operation: Operation, row: Row) -> dict[str, Any]:
    return _view(operation.id, operation.status, operation.placed_at, operation.reason, row)


def _view(id: int, status: str, placed_at: int, reason: str | None, row: Row) -> dict[str, Any]:
    amount = row["total_amount"]
    return {
        "id": show_id(id),
        "status": STATUS_WORDS[status],
        "user_id": row["user_id"],
        "product_code": row["product_code"],
        "customer_fullname": row["customer_fullname"],
        "product_name": row["product_name"],
        # a number as exact as it is stored
        "total_amount": None if amount is None else msgspec.Raw(amount.encode()),
        "created_at": show_time(placed_at),
        "reason": plain_reason(reason),
    }


@front.get(f"/{PATH}", response_model=MealboxOrders, summary="Orders, the newest first; a customer's own")
async def get_orders(
    request: Request,
    caller: AsCustomer,
    user_id: Annotated[str | None, Field(max_length=100)] = None,
    status: OrderStatus | None = None,
    cursor: CursorFilter = None,
    limit: Limit = 50,
) -> Response:
    owner = None if caller.has(Role.STAFF) else caller.subject or ""
    [before] = read_cursor(cursor) or (None,)
    rows = await engine_of(request).database.read(
        lambda connection: list_orders(
            connection,
            user_id=user_id,
            statuses=statuses_of(status),
            owner=owner,
            before=before,
            most=limit + 1,
        )
    )
    shown = [_view(row["operation_id"], row["status"], row["placed_at"], row["reason"], row) for row in rows[:limit]]
    more = show_cursor(rows[limit - 1]["operation_id"]) if len(rows) > limit else None
    return Json({"orders": shown, "cursor": more})


def _counter_of(request: Request) -> Counter:
    counter: Counter = keeper_of(request, shop.name)
    return counter


add_order_routes(front, shop.name, path=PATH, view=view_order, model=MealboxOrder)
