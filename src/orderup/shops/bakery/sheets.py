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


def latest_issues(connection: ReadConnection, *, before: int | None, most: int) -> Sequence[Ordered]:
    """The newest first, only those before this one."""
    earlier = true() if before is None else issues.c.operation_id < before
    return _read(connection, earlier, most=most)


def read_issue(connection: ReadConnection, operation_id: int) -> Ordered:
    """Raises NotFound."""
    found = _read(connection, issues.c.operation_id == operation_id, most=1)
    if not found:
        raise NotFound("issue", operation_id)
    return found[0]


def count_waiting(connection: ReadConnection) -> int:
    """Orders whose ingredients the next issue orders."""
    alive = (operations.c.id == orders.c.operation_id) & (operations.c.status != OperationStatus.CANCELLED)
    statement = select(func.count()).select_from(orders.join(operations, alive)).where(orders.c.issue.is_(None))
    return int(connection.execute(statement).scalar_one())


def _read(connection: ReadConnection, condition: object, *, most: int) -> Sequence[Ordered]:
    statement = select(issues.c.operation_id, issues.c.day, issues.c.key).where(condition)  # type: ignore[arg-type]
    rows = connection.rows(statement.order_by(issues.c.operation_id.desc()).limit(most))
    return [Ordered(id, day, key, read_sheet(connection, id)) for id, day, key in rows]
