"""The pizzeria's own rows: what the customer asked for, and where it goes. Names and addresses are here, and in the
parameters of the task whose worker needs them; never in events."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Column, MetaData, Table, Text, delete, insert, select, update

from orderup.db.database import ReadConnection, WriteConnection
from orderup.model.placing import encode
from orderup.shops.pizza.plan import PizzaOrder

metadata = MetaData()
pizza_orders = Table(
    "pizza_orders",
    metadata,
    Column("operation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("tier", Text, nullable=False),
    Column("region", Text, nullable=False),
    # null once they were forgotten
    Column("name", Text),
    Column("delivery_address", Text),
    Column("customer", Text),
    Column("extra_params", Text),  # JSON
)


def add_order(connection: WriteConnection, operation_id: int, order: PizzaOrder) -> None:
    row = {
        "operation_id": operation_id,
        "tier": order.tier,
        "region": order.region,
        "name": order.name,
        "delivery_address": order.delivery_address,
        "customer": order.customer,
        "extra_params": encode(order.extra_params),
    }
    connection.execute(insert(pizza_orders).values(row))


def read_order(connection: ReadConnection, operation_id: int) -> dict[str, object]:
    """The order's columns; texts that were forgotten are None."""
    statement = select(pizza_orders).where(pizza_orders.c.operation_id == operation_id)
    row = dict(connection.execute(statement).mappings().one())
    del row["operation_id"]
    wishes = row["extra_params"]
    return {**row, "extra_params": None if wishes is None else msgspec.json.decode(wishes)}


def facts_of_orders(connection: ReadConnection, operation_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """What staff reads of them. Nothing is told of what was forgotten."""
    statement = select(pizza_orders).where(pizza_orders.c.operation_id.in_(operation_ids))
    return {row["operation_id"]: dict(_facts({**row})) for row in connection.execute(statement).mappings()}


def _facts(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "Pizza", f"{row['name'] or 'Pizza'} ({row['tier']})"
    for words, column in (("For", "customer"), ("To", "delivery_address"), ("Made in", "region")):
        if row[column] is not None:
            yield words, row[column]
    if row["extra_params"] not in (None, "{}"):
        yield "Wishes", msgspec.json.decode(row["extra_params"])


def prune_orders(connection: WriteConnection, operation_ids: Sequence[int]) -> None:
    connection.execute(delete(pizza_orders).where(pizza_orders.c.operation_id.in_(operation_ids)))


def forget_orders(connection: WriteConnection, operation_ids: Sequence[int]) -> None:
    blank = dict.fromkeys(("name", "delivery_address", "customer", "extra_params"))
    connection.execute(update(pizza_orders).where(pizza_orders.c.operation_id.in_(operation_ids)).values(blank))
