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

OVER = tuple(each.value for each in TaskStatus if each.is_final)


@dataclass(frozen=True, slots=True)
class Left:
    """submissions: of the campaigns under way. is_at_least: there are so many campaigns that some were not counted;
    is_at_most: so many of them are halfway that not all of their tasks were. is_paused: by hand. rests_until: because
    the platform asked for it."""

    submissions: int
    is_at_least: bool
    is_at_most: bool
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
    held = select(queues.c.is_paused, queues.c.paused_until).where(queues.c.name == queue_name(shop.name, SUBMIT))
    is_paused, until = next(iter(connection.rows(held)), (0, None))
    rests_until = until if until is not None and until > now else None
    return Left(*_count_left(connection), bool(is_paused), rests_until)


def _count_left(connection: ReadConnection) -> tuple[int, bool, bool]:
    """How many things are to be submitted; whether it is so many at least, or at most. A thing has two tasks, of which
    the first submits it. So nothing has to be counted of a campaign that has not begun; of one that is halfway its
    tasks are; and where these are too many, what is open tells how many of them there may be."""
    under_way = (operations.c.shop == shop.name) & (operations.c.status == OperationStatus.RUNNING.value)
    joined = operations.join(campaigns, campaigns.c.operation_id == operations.c.id)
    things = 1 + campaigns.c.groups + campaigns.c.ads
    some = select(operations.c.id, operations.c.open, things).select_from(joined).where(under_way).limit(MOST_COUNTED)
    rows = connection.rows(some)
    left = least = most = looked_at = 0
    halfway: list[int] = []
    for id, count, whole in rows:
        if count >= 2 * whole:
            left += whole
        elif looked_at + whole <= MOST_COUNTED:
            looked_at += whole
            halfway.append(id)
        else:
            least, most = least + max(0, count - whole), most + count // 2
    left += _open_submissions(connection, halfway)
    if len(rows) == MOST_COUNTED:
        return left + least, True, False
    return left + most, False, most > least


def _open_submissions(connection: ReadConnection, operation_ids: Sequence[int]) -> int:
    if not operation_ids:
        return 0
    is_open = (tasks.c.kind == SUBMIT) & tasks.c.status.not_in(OVER)
    theirs = connection.among(tasks.c.operation_id, operation_ids)
    return int(connection.rows(select(func.count()).where(theirs, is_open))[0][0])
