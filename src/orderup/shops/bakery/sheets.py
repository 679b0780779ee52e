"""What staff looks at of the issues: the latest, what each orders for how many, and how many orders no issue holds."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, true

from orderup.db.database import ReadConnection
from orderup.db.tables import operations
from orderup.errors import NotFound
from orderup.model.operation import OperationStatus
from orderup.shops.bakery.issues import Sheet, ranges_of, read_sheet
from orderup.shops.bakery.tables import issues, orders


@dataclass(frozen=True, slots=True)
class Ordered:
    """operation_id: of what makes the issue. day: as the wall calendar has it. key: None as long as it is not made."""

    operation_id: int
    day: str
    key: str | None
    sheet: Sheet

    @property
    def ranges(self) -> str:
        """The numbers of its orders, such as "1-3, 7"."""
        return ", ".join(ranges_of(self.sheet.numbers))

    @property
    def cancelled(self) -> str:
        return ", ".join(ranges_of(self.sheet.cancelled))


@dataclass(frozen=True, slots=True)
class Listed:
    """As `Ordered`, with no more than a list shows: how many orders it is for."""

    operation_id: int
    day: str
    key: str | None
    orders: int


def latest_issues(connection: ReadConnection, *, before: int | None, most: int) -> Sequence[Listed]:
    """The newest first, only those before this one. Nothing is summed: a list is looked at often."""
    earlier = true() if before is None else issues.c.operation_id < before
    count = select(func.count()).where(orders.c.issue == issues.c.operation_id).scalar_subquery()
    statement = select(issues.c.operation_id, issues.c.day, issues.c.key, count).where(earlier)
    rows = connection.rows(statement.order_by(issues.c.operation_id.desc()).limit(most))
    return [Listed(*row) for row in rows]


def read_issue(connection: ReadConnection, operation_id: int) -> Ordered:
    """Raises NotFound."""
    here = issues.c.operation_id == operation_id
    rows = connection.rows(select(issues.c.day, issues.c.key).where(here))
    if not rows:
        raise NotFound("issue", operation_id)
    [(day, key)] = rows
    return Ordered(operation_id, day, key, read_sheet(connection, operation_id))


def count_waiting(connection: ReadConnection) -> int:
    """Orders whose ingredients the next issue orders."""
    alive = (operations.c.id == orders.c.operation_id) & (operations.c.status != OperationStatus.CANCELLED)
    statement = select(func.count()).select_from(orders.join(operations, alive)).where(orders.c.issue.is_(None))
    return int(connection.execute(statement).scalar_one())
