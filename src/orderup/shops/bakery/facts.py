"""What staff reads of the bakery's operations, wherever they are shown: of orders, issues and people."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import func, select

from orderup.db.database import ReadConnection
from orderup.shops.bakery.employees import employees_of
from orderup.shops.bakery.orders import BakeryOrder, read_orders
from orderup.shops.bakery.tables import issues, orders


def facts_of_operations(connection: ReadConnection, operation_ids: Sequence[int]) -> Mapping[int, Mapping[str, Any]]:
    found = read_orders(connection, orders.c.operation_id.in_(operation_ids))
    facts: dict[int, Mapping[str, Any]] = {order.operation_id: dict(_of_order(order)) for order in found}
    left = [id for id in operation_ids if id not in facts]
    if left:
        facts |= _of_issues(connection, left)
        facts |= {
            each.operation_id: {"Employee": f"{each.first_name} {each.last_name}"}
            for each in employees_of(connection, left)
        }
    return facts


def _of_order(order: BakeryOrder) -> Iterator[tuple[str, Any]]:
    yield "Cake", f"{order.quantity} × {order.cake.name} for {order.persons}"
    yield "Order", order.number
    if order.customer is not None:
        yield "For", order.customer
    if order.issue is not None:
        yield "Issue", order.issue


def _of_issues(connection: ReadConnection, ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
    count = select(func.count()).where(orders.c.issue == issues.c.operation_id).scalar_subquery()
    statement = select(issues.c.operation_id, issues.c.day, issues.c.key, count).where(issues.c.operation_id.in_(ids))
    return {
        id: {"Ingredients": day, "Orders": number, **({"Issue": key} if key else {})}
        for id, day, key, number in connection.rows(statement)
    }
