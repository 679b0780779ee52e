"""How far campaigns have come, and how much of them is left. Whatever there is, little of it is counted."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from orderup.db.busy import MOST_COUNTED
from orderup.db.database import ReadConnection
from orderup.db.tables import operations, queues, tasks
from orderup.model.operation import OperationStatus
from orderup.model.task import TaskStatus, queue_name
from orderup.shops.campaigns.campaigns import CampaignRow
from orderup.shops.campaigns.plan import FOLLOW, SUBMIT, shop
from orderup.shops.campaigns.tables import campaigns


@dataclass(frozen=True, slots=True)
class Left:
    """submissions: of the campaigns under way, about; is_at_least: there are so many campaigns that some were not
    counted. is_paused: by hand. rests_until: because the platform asked for it."""

    submissions: int
    is_at_least: bool
    is_paused: bool
    rests_until: int | None


def things_of(row: CampaignRow) -> int:
    """The campaign, its ad groups, its ads."""
    return 1 + row.groups + row.ads


def count_standing(connection: ReadConnection, rows: Sequence[CampaignRow]) -> dict[int, int]:
    """How many things of each campaign stand, by operation. Only of those that are neither at their beginning nor at
    their end tasks are counted, and campaigns go one after the other."""
    opened = select(operations.c.id, operations.c.open).where(operations.c.id.in_([row.operation_id for row in rows]))
    left: dict[int, int] = {row[0]: row[1] for row in connection.rows(opened)}
    known = {each.operation_id: 0 if left[each.operation_id] else things_of(each) for each in rows}
    half = [each.operation_id for each in rows if 0 < left[each.operation_id] < 2 * things_of(each)]
    stands = (tasks.c.kind == FOLLOW) & (tasks.c.status == TaskStatus.COMPLETED.value)
    counted = select(tasks.c.operation_id, func.count()).where(tasks.c.operation_id.in_(half), stands)
    return known | {row[0]: row[1] for row in connection.rows(counted.group_by(tasks.c.operation_id))}


def read_left(connection: ReadConnection, *, now: int) -> Left:
    """A thing has two tasks, so half of the open ones are about as many as are to be submitted."""
    under_way = (operations.c.shop == shop.name) & (operations.c.status == OperationStatus.RUNNING.value)
    joined = operations.join(campaigns, campaigns.c.operation_id == operations.c.id)
    some = select(operations.c.open).select_from(joined).where(under_way).limit(MOST_COUNTED).subquery()
    [(count, left)] = connection.rows(select(func.count(), func.sum(some.c.open)))
    held = select(queues.c.is_paused, queues.c.paused_until).where(queues.c.name == queue_name(shop.name, SUBMIT))
    is_paused, until = next(iter(connection.rows(held)), (0, None))
    rests_until = until if until is not None and until > now else None
    return Left(int(left or 0) // 2, count == MOST_COUNTED, bool(is_paused), rests_until)
