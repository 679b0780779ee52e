"""Cakes and their recipes, as the database has them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Table, insert, select, update

from orderup.db.database import ReadConnection, WriteConnection
from orderup.db.tables import operations, tasks
from orderup.errors import Conflict, NotFound
from orderup.model.operation import OperationStatus
from orderup.model.slug import slug
from orderup.model.task import TaskStatus
from orderup.shops.bakery.amounts import Amount, Line
from orderup.shops.bakery.plan import BAKE
from orderup.shops.bakery.tables import cakes, ingredients, orders

OPEN_STATUSES = (
    OperationStatus.PENDING,
    OperationStatus.RUNNING,
    OperationStatus.PAUSED,
    OperationStatus.ERRORED,
)


@dataclass(frozen=True, slots=True)
class Cake:
    """recipe: for one eater."""

    number: int
    id: str
    name: str
    recipe: Sequence[Line]


def add_cake(connection: WriteConnection, name: str, recipe: Mapping[str, Amount], *, now: int) -> Cake:
    """Raises Conflict if there is one of this id, and Invalid for a name that makes none."""
    id = slug(name)
    if connection.rows(select(cakes.c.number).where(cakes.c.id == id, cakes.c.deleted_at.is_(None))):
        raise Conflict(f"There is a cake {id} already. Give this one another name, or delete that one first.")
    row = {"id": id, "name": name, "added_at": now}
    number = int(connection.execute(insert(cakes).values(row).returning(cakes.c.number)).scalar_one())
    lines = list(recipe.items())
    connection.execute(insert(ingredients), rows_of(lines, cake=number))
    return Cake(number, id, name, lines)


def delete_cake(connection: WriteConnection, id: str, *, now: int) -> None:
    """Raises NotFound, and Conflict as long as one is to be baked: to tell of one that is ready takes no recipe."""
    cake = read_cake(connection, id)
    of_it = (orders.c.cake == cake.number) & operations.c.status.in_(OPEN_STATUSES)
    to_bake = (tasks.c.name == BAKE) & (tasks.c.status != TaskStatus.COMPLETED)
    joined = orders.join(operations, operations.c.id == orders.c.operation_id).join(
        tasks, tasks.c.operation_id == orders.c.operation_id
    )
    if connection.rows(select(orders.c.number).select_from(joined).where(of_it, to_bake).limit(1)):
        raise Conflict(f"Orders of {cake.name} are open: it can be deleted once they are ready or cancelled.")
    connection.execute(update(cakes).where(cakes.c.number == cake.number).values(deleted_at=now))


def read_cake(connection: ReadConnection, id: str) -> Cake:
    """One that can be ordered. Raises NotFound."""
    found = read_cakes(connection, (cakes.c.id == id) & cakes.c.deleted_at.is_(None))
    if not found:
        raise NotFound("cake", id[:100])
    return found[0]


def list_cakes(connection: ReadConnection) -> list[Cake]:
    """All that can be ordered, by name."""
    return sorted(read_cakes(connection, cakes.c.deleted_at.is_(None)), key=lambda cake: cake.name.casefold())


def cakes_by_number(connection: ReadConnection, numbers: Iterable[int]) -> dict[int, Cake]:
    """Those that were deleted, too."""
    return {cake.number: cake for cake in read_cakes(connection, cakes.c.number.in_(set(numbers)))}


def read_cakes(connection: ReadConnection, condition: Any) -> list[Cake]:
    rows = connection.rows(select(cakes.c.number, cakes.c.id, cakes.c.name).where(condition))
    lines = read_lines(
        connection,
        ingredients,
        ingredients.c.cake,
        ingredients.c.cake.in_(select(cakes.c.number).where(condition)),
    )
    return [Cake(number, id, name, lines.get(number, [])) for number, id, name in rows]


def rows_of(lines: Iterable[Line], **owner: int) -> list[dict[str, Any]]:
    return [
        {**owner, "position": position, "name": name, "amount": str(amount.value), "unit": amount.unit}
        for position, (name, amount) in enumerate(lines)
    ]


def read_lines(connection: ReadConnection, table: Table, owner: Any, condition: Any) -> dict[int, list[Line]]:
    """By what they belong to, in the order in which they were written."""
    statement = select(owner, table.c.name, table.c.amount, table.c.unit).where(condition)
    found: dict[int, list[Line]] = {}
    for number, name, amount, unit in connection.rows(statement.order_by(owner, table.c.position)):
        found.setdefault(number, []).append((name, Amount(Decimal(amount), unit)))
    return found
