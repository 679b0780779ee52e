"""The meal boxes' own rows, one an order. Customers' names are here and in what was looked up; never in events."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    delete,
    select,
    update,
)

from orderup.db.database import ReadConnection, WriteConnection
from orderup.db.read import ids_with_row
from orderup.db.tables import operations

metadata = MetaData()
mealbox_orders = Table(
    "mealbox_orders",
    metadata,
    Column("operation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("user_id", Text),  # null once it was forgotten
    Column("product_code", Text, nullable=False),
    # null until it is complete
    Column("customer_fullname", Text),
    Column("product_name", Text),
    Column("total_amount", Text),  # exact, such as 9.99
    # whether its customer was told that we have it: from then on it is an order, whatever the look-ups find
    Column("is_accepted", Integer, nullable=False),
    Index("mealbox_orders_user", "user_id", "operation_id"),
)
_orders = mealbox_orders.c
SHOWN = (_orders.user_id, _orders.product_code, _orders.customer_fullname, _orders.product_name, _orders.total_amount)


def add_order(
    connection: WriteConnection, operation_id: int, *, user_id: str, product_code: str, is_accepted: bool
) -> None:
    row = {"operation_id": operation_id, "user_id": user_id, "product_code": product_code}
    connection.insert_row(mealbox_orders, {**row, "is_accepted": int(is_accepted)})


def accept_order(connection: WriteConnection, operation_id: int) -> bool:
    """Whether it is there to be accepted."""
    here = _orders.operation_id == operation_id
    return connection.execute(update(mealbox_orders).where(here).values(is_accepted=1)).rowcount == 1


def complete_order(connection: WriteConnection, operation_id: int, **found: str) -> None:
    """`found`: customer_fullname, product_name, total_amount."""
    connection.update_row(mealbox_orders, {"operation_id": operation_id, **found}, key="operation_id")


def drop_order(connection: WriteConnection, operation_id: int) -> bool:
    """It was none, as there is no such user or product; False if its customer was told that we have it."""
    untold = (_orders.operation_id == operation_id) & (_orders.is_accepted == 0)
    return connection.execute(delete(mealbox_orders).where(untold)).rowcount == 1


def list_orders(
    connection: ReadConnection,
    *,
    user_id: str | None,
    statuses: Sequence[str],
    owner: str | None,
    before: int | None,
    most: int,
) -> list[Mapping[str, Any]]:
    """The newest first: the rows with how each operation stands. `owner`: only his; None: everybody's."""
    if user_id is None and (statuses or owner is not None):
        # those that match may be few among very many: looked for among operations, which know both
        ids = ids_with_row(
            connection, mealbox_orders, shop="mealbox", statuses=statuses, owner=owner, beyond=before, most=most
        )
        return _rows(connection, [_orders.operation_id.in_(ids)])
    conditions: list[ColumnElement[bool]] = []
    if user_id is not None:
        conditions.append(_orders.user_id == user_id)
    if statuses:
        conditions.append(operations.c.status.in_(statuses))
    if owner is not None:
        conditions.append(operations.c.owner == owner)
    if before is not None:
        conditions.append(_orders.operation_id < before)
    return _rows(connection, conditions, most=most)


def _rows(
    connection: ReadConnection, conditions: Sequence[ColumnElement[bool]], *, most: int | None = None
) -> list[Mapping[str, Any]]:
    about = (operations.c.status, operations.c.placed_at, operations.c.reason)
    statement = select(_orders.operation_id, *SHOWN, *about).join(operations, operations.c.id == _orders.operation_id)
    newest = statement.where(*conditions).order_by(_orders.operation_id.desc()).limit(most)
    return [{**row} for row in connection.execute(newest).mappings()]


def facts_of_orders(connection: ReadConnection, operation_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """What staff reads of them."""
    statement = select(_orders.operation_id, *SHOWN).where(_orders.operation_id.in_(operation_ids))
    return {row["operation_id"]: dict(_facts({**row})) for row in connection.execute(statement).mappings()}


def _facts(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "Box", row["product_name"] or row["product_code"]
    for words, column in (("For", "customer_fullname"), ("User", "user_id"), ("Amount", "total_amount")):
        if row[column] is not None:
            yield words, row[column]


def prune_orders(connection: WriteConnection, operation_ids: Sequence[int]) -> None:
    connection.execute(delete(mealbox_orders).where(_orders.operation_id.in_(operation_ids)))


def forget_orders(connection: WriteConnection, operation_ids: Sequence[int]) -> None:
    blank = {"user_id": None, "customer_fullname": None}
    connection.execute(update(mealbox_orders).where(_orders.operation_id.in_(operation_ids)).values(blank))
