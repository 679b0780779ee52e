"""What others are told of an order that was saved: one message, to the exchange `orders`, by `created_order`."""

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from sqlalchemy import select

from orderup.db.database import ReadConnection
from orderup.db.tables import operations
from orderup.model.event import Event
from orderup.model.ids import show_id
from orderup.model.times import show_time
from orderup.shops.mealbox.plan import shop
from orderup.shops.mealbox.tables import mealbox_orders

# A number outside, as exact as it is stored.
Amount = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "number"})]
Moment = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]


class SavedOrder(msgspec.Struct, frozen=True):
    order_id: str
    customer_fullname: str | None
    product_name: str
    total_amount: Amount
    created_at: Moment


class Payload(msgspec.Struct, frozen=True):
    order: SavedOrder


class CreatedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """customer_fullname: null if the customer was forgotten before this was sent."""

    producer: str = "orderup.mealbox"
    sent_at: Moment
    type: str = "created_order"
    payload: Payload


def created_order(connection: ReadConnection, events: Sequence[Event]) -> list[CreatedOrder | None]:
    """None of what never was an order, or is one no more."""
    found = _orders(connection, [event.operation_id for event in events])
    sent_at = show_time(time.time_ns() // 1_000)
    rows = [found.get(event.operation_id) for event in events]
    return [None if row is None else _message(row, sent_at=sent_at) for row in rows]


def _orders(connection: ReadConnection, ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
    """Those that are complete."""
    columns = mealbox_orders.c
    statement = (
        select(mealbox_orders, operations.c.placed_at)
        .join(operations, operations.c.id == columns.operation_id)
        .where(connection.among(columns.operation_id, ids), columns.total_amount.is_not(None))
    )
    return {row["operation_id"]: {**row} for row in connection.execute(statement).mappings()}


def _message(row: Mapping[str, Any], *, sent_at: str) -> CreatedOrder:
    order = SavedOrder(
        order_id=show_id(row["operation_id"]),
        customer_fullname=row["customer_fullname"],
        product_name=row["product_name"],
        total_amount=msgspec.Raw(row["total_amount"].encode()),
        created_at=show_time(row["placed_at"]),
    )
    return CreatedOrder(sent_at=sent_at, payload=Payload(order))


shop.publish(
    "orders", routing_key="created_order", events=["operation.completed"], shape=created_order, body=CreatedOrder
)
