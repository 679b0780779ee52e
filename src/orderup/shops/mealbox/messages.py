"""What others are told of an order that was saved: one message, to the exchange `orders`, by `created_order`."""

import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import select

from orderup.db.database import ReadConnection
from orderup.db.tables import operations
from orderup.model.event import Event
from orderup.model.ids import show_id
from orderup.model.times import show_time
from orderup.shops.mealbox.plan import shop
from orderup.shops.mealbox.tables import mealbox_orders

PRODUCER, TYPE = "orderup.mealbox", "created_order"


def created_order(connection: ReadConnection, events: Sequence[Event]) -> list[Mapping[str, Any] | None]:
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
        .where(columns.operation_id.in_(ids), columns.total_amount.is_not(None))
    )
    return {row["operation_id"]: {**row} for row in connection.execute(statement).mappings()}


def _message(row: Mapping[str, Any], *, sent_at: str | None) -> Mapping[str, Any]:
    order = {
        "order_id": show_id(row["operation_id"]),
        "customer_fullname": row["customer_fullname"],
        "product_name": row["product_name"],
        "total_amount": Decimal(row["total_amount"]),
        "created_at": show_time(row["placed_at"]),
    }
    return {"producer": PRODUCER, "sent_at": sent_at, "type": TYPE, "payload": {"order": order}}


shop.publish("orders", routing_key="created_order", events=["operation.completed"], shape=created_order)
