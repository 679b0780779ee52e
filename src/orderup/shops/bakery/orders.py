"""Orders as the database has them, and how each of them stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, bindparam, delete, insert, select, update

from orderup.db.database import ReadConnection, WriteConnection
from orderup.db.read import ids_with_row
from orderup.db.tables import operations, tasks
from orderup.errors import Conflict, NotFound
from orderup.model.ids import OperationId
from orderup.model.operation import Draft, Operation, OperationStatus
from orderup.model.slug import slug
from orderup.model.task import TaskStatus
from orderup.shops.bakery.amounts import Amount, Line, needed
from orderup.shops.bakery.cakes import Cake, cakes_by_number, read_lines, rows_of
from orderup.shops.bakery.plan import BAKE, shop
from orderup.shops.bakery.tables import cakes, documents, extras, issues, orders

# The first task of each order.
_bake, _baked = tasks.alias("bake"), tasks.alias("baked")
_is_baked = (
    select(_baked.c.position)
    .where(_baked.c.operation_id == operations.c.id, _baked.c.position == 0, _baked.c.status == TaskStatus.COMPLETED)
    .exists()
)
OrderStatus = Literal["ordered", "ready", "cancelled", "failed"]
STATUSES: Sequence[OrderStatus] = ("ordered", "ready", "cancelled", "failed")
# How operations stand whose orders may have it. One that is baked is ready, however it ends.
_OPERATIONS: Mapping[OrderStatus, Sequence[OperationStatus]] = {
    "ordered": [OperationStatus.PENDING, OperationStatus.RUNNING, OperationStatus.PAUSED],
    "ready": list(OperationStatus),
    "cancelled": [OperationStatus.CANCELLED],
    "failed": [OperationStatus.ERRORED],
}


@dataclass(frozen=True, slots=True)
class BakeryOrder:
    """status: see `status_of`. issue: its key at Jira. told: where its customer was told that it is ready. document:
    the file in which its cancellation is recorded."""

    number: int
    operation_id: int
    cake: Cake
    customer: str | None
    slug: str | None
    email: str | None
    persons: int
    quantity: int
    extras: Sequence[Line]
    status: OrderStatus
    placed_at: int
    finished_at: int | None
    owner: str | None
    reason: str | None
    issue_operation: int | None
    issue: str | None
    told: str | None
    document: str | None

    @property
    def ingredients(self) -> list[Line]:
        return needed(self.cake.recipe, eaters=self.persons * self.quantity, extras=self.extras)


def status_of(operation_status: str, bake_status: str) -> OrderStatus:
    """In the words of the bakery; docs/shops/bakery.md has the table."""
    if bake_status == TaskStatus.COMPLETED:
        return "ready"
    if operation_status == OperationStatus.CANCELLED:
        return "cancelled"
    return "failed" if operation_status == OperationStatus.ERRORED else "ordered"


def check_cancel(draft: Draft) -> None:
    """Raises Conflict once it is ready."""
    if any(task.name == BAKE and task.status is TaskStatus.COMPLETED for task in draft.tasks()):
        raise Conflict("This order is ready: it cannot be cancelled any more.")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody orders. cake: its id. extra: once, whatever the number of eaters."""

    cake: str
    customer: str
    persons: int
    quantity: int
    email: str | None = None
    extra: Mapping[str, Amount] = field(default_factory=dict)

    @property
    def to_bake(self) -> dict[str, str]:
        """For the baker, who need not know for whom."""
        told = {"cake": f"{self.quantity} × {self.cake.replace('_', ' ')} for {self.persons}"}
        if self.extra:
            told["extra"] = ", ".join(f"{name} {amount.words}" for name, amount in self.extra.items())
        return told


# Built once: to write it down for each order would take longer than to execute it.
_GIVEN = ("operation_id", "customer", "slug", "email", "persons", "quantity")
INSERT_ORDER = (
    insert(orders)
    .from_select(
        ["cake", *_GIVEN],
        select(cakes.c.number, *(bindparam(f"given_{name}", type_=orders.c[name].type) for name in _GIVEN)).where(
            cakes.c.id == bindparam("wanted"), cakes.c.deleted_at.is_(None)
        ),
    )
    .returning(orders.c.number, orders.c.cake)
)


class Added(NamedTuple):
    """number: by which people call the order. cake: the number of its recipe."""

    number: int
    cake: int


def add_order(connection: WriteConnection, operation_id: int, wanted: Wanted) -> Added:
    """Raises NotFound if there is no such cake."""
    given = {
        "operation_id": operation_id,
        "customer": wanted.customer,
        "slug": slug(wanted.customer),
        "email": wanted.email,
        "persons": wanted.persons,
        "quantity": wanted.quantity,
    }
    row = {f"given_{name}": value for name, value in given.items()}
    found = connection.execute(INSERT_ORDER, {"wanted": wanted.cake, **row}).mappings().one_or_none()
    if found is None:
        raise NotFound("cake", wanted.cake[:100])
    added = Added(int(found["number"]), int(found["cake"]))
    if wanted.extra:
        connection.execute(insert(extras), rows_of(wanted.extra.items(), order_number=added.number))
    return added


def new_order(operation: Operation, wanted: Wanted, added: Added, *, name: str) -> BakeryOrder:
    """As it stands when it has just been placed, without a look at the database; but for the recipe."""
    return BakeryOrder(
        number=added.number,
        operation_id=operation.id,
        cake=Cake(added.cake, wanted.cake, name, ()),
        customer=wanted.customer,
        slug=slug(wanted.customer),
        email=wanted.email,
        persons=wanted.persons,
        quantity=wanted.quantity,
        extras=list(wanted.extra.items()),
        status="ordered",
        placed_at=operation.placed_at,
        finished_at=None,
        owner=operation.owner,
        reason=None,
        issue_operation=None,
        issue=None,
        told=None,
        document=None,
    )


def find_number(connection: ReadConnection, operation_id: int) -> int | None:
    found = connection.rows(select(orders.c.number).where(orders.c.operation_id == operation_id))
    return found[0][0] if found else None


def find_operation(connection: ReadConnection, number: int) -> OperationId | None:
    found = connection.rows(select(orders.c.operation_id).where(orders.c.number == number))
    return OperationId(found[0][0]) if found else None


def read_order(connection: ReadConnection, number: int) -> BakeryOrder:
    """Raises NotFound."""
    found = read_orders(connection, orders.c.number == number)
    if not found:
        raise NotFound("order", number)
    return found[0]


def order_of(connection: ReadConnection, operation_id: int) -> BakeryOrder | None:
    found = read_orders(connection, orders.c.operation_id == operation_id)
    return found[0] if found else None


def read_orders(connection: ReadConnection, condition: Any, *, oldest_first: bool = False) -> list[BakeryOrder]:
    """The newest first, unless it is said otherwise."""
    is_bake = (_bake.c.operation_id == orders.c.operation_id) & (_bake.c.position == 0)
    joined = (
        orders.join(operations, operations.c.id == orders.c.operation_id)
        .join(_bake, is_bake)
        .outerjoin(issues, issues.c.operation_id == orders.c.issue)
    )
    about = (
        operations.c.status.label("operation_status"),
        _bake.c.status.label("bake_status"),
        operations.c.placed_at,
        operations.c.finished_at,
        operations.c.owner,
        operations.c.reason,
        issues.c.key.label("issue_key"),
    )
    position = orders.c.operation_id if oldest_first else orders.c.operation_id.desc()
    statement = select(orders, *about).select_from(joined).where(condition).order_by(position)
    rows = connection.execute(statement).mappings().all()
    found = cakes_by_number(connection, (row["cake"] for row in rows))
    numbers = [row["number"] for row in rows]
    extra = read_lines(connection, extras, extras.c.order_number, extras.c.order_number.in_(numbers)) if rows else {}
    return [_order({**row}, found[row["cake"]], extra.get(row["number"], [])) for row in rows]


def _order(row: Mapping[str, Any], cake: Cake, extra: Sequence[Line]) -> BakeryOrder:
    return BakeryOrder(
        number=row["number"],
        operation_id=row["operation_id"],
        cake=cake,
        customer=row["customer"],
        slug=row["slug"],
        email=row["email"],
        persons=row["persons"],
        quantity=row["quantity"],
        extras=extra,
        status=status_of(row["operation_status"], row["bake_status"]),
        placed_at=row["placed_at"],
        finished_at=row["finished_at"],
        owner=row["owner"],
        reason=row["reason"],
        issue_operation=row["issue"],
        issue=row["issue_key"],
        told=row["told"],
        document=row["document"],
    )


def list_orders(
    connection: ReadConnection,
    *,
    status: OrderStatus | None,
    owner: str | None = None,
    beyond: int | None,
    most: int,
    oldest_first: bool = False,
) -> list[BakeryOrder]:
    """`owner`: only his; None: everybody's. `beyond`: only those that come after the one of this operation."""
    # those that match may be few among very many: looked for among operations
    ids = ids_with_row(
        connection,
        orders,
        shop=shop.name,
        statuses=[] if status is None else _OPERATIONS[status],
        owner=owner,
        where=None if status is None else _is_baked if status == "ready" else ~_is_baked,
        beyond=beyond,
        most=most,
        oldest_first=oldest_first,
    )
    return read_orders(connection, orders.c.operation_id.in_(ids), oldest_first=oldest_first)


def has_status(status: OrderStatus) -> ColumnElement[bool]:
    """For `read_orders`."""
    return (_is_baked if status == "ready" else ~_is_baked) & operations.c.status.in_(_OPERATIONS[status])


def note_told(connection: WriteConnection, operation_id: int, told: str) -> None:
    connection.execute(update(orders).where(orders.c.operation_id == operation_id).values(told=told))


def prune_orders(connection: WriteConnection, operation_ids: Sequence[int]) -> None:
    gone = select(orders.c.number).where(orders.c.operation_id.in_(operation_ids))
    connection.execute(delete(extras).where(extras.c.order_number.in_(gone)))
    connection.execute(delete(orders).where(orders.c.operation_id.in_(operation_ids)))


def forget_orders(connection: WriteConnection, operation_ids: Sequence[int]) -> None:
    """The document goes on without us: what stands in it is for its owner to delete."""
    slugs = select(orders.c.slug).where(orders.c.operation_id.in_(operation_ids))
    connection.execute(update(documents).where(documents.c.slug.in_(slugs)).values(title=""))
    blank = {"customer": None, "slug": None, "email": None, "told": None}
    connection.execute(update(orders).where(orders.c.operation_id.in_(operation_ids)).values(blank))
