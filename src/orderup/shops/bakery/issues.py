"""Ingredients are ordered by issues at Jira: one a day over all orders, or one an order. And Jira says what is missing.

An issue is made once, whatever dies: that it will be made is remembered before it is, under a label of its own by which
it is found again.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any

from sqlalchemy import func, insert, select, update

from orderup import Context, Wait
from orderup.db.database import ReadConnection, WriteConnection
from orderup.db.tables import operations, tasks
from orderup.errors import Invalid, NotFound
from orderup.integrations import adf
from orderup.integrations.jira import Issue, IssueRef
from orderup.model.event import Event
from orderup.model.ids import read_id, show_id
from orderup.model.operation import OperationStatus
from orderup.model.plan import Plan, PlannedTask
from orderup.model.slug import slug
from orderup.shops.bakery.amounts import Amount, Line, needed, total
from orderup.shops.bakery.cakes import cakes_by_number, read_lines
from orderup.shops.bakery.local_time import today
from orderup.shops.bakery.orders import check_cancel, order_of, read_order
from orderup.shops.bakery.plan import (
    COLLECT,
    CREATE_ISSUE,
    JUDGE_CLOSED,
    JUDGE_ISSUE,
    NOTE_ISSUE,
    PATIENT,
    STUBBORN,
    UPDATE_ISSUE,
    plan_issue,
    shop,
)
from orderup.shops.bakery.services import Services
from orderup.shops.bakery.tables import extras, issues, orders

LABEL = "orderup"
# On a closed issue: the orders in it cannot be carried out; with an ingredient, those that need it.
MISSING, MISSING_ONE = "missing-ingredients", "missing:"
WHY = "ingredients are missing"
# Until an issue that an order is to be marked in has been made.
NOT_YET = timedelta(seconds=30)
MOST_RANGES = 200
MOST_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Sheet:
    """What an issue orders: the sums, and for which orders. operation_id: of the only order, else of the issue.
    cancelled: since then."""

    operation_id: int
    lines: Sequence[Line]
    numbers: Sequence[int]
    cancelled: Sequence[int]


def collect(connection: WriteConnection, operation_id: int, *, number: int | None, day: date) -> int:
    """Mark the orders that no issue holds as held by this one: how many. Those that were cancelled are left out."""
    connection.execute(update(orders).where(orders.c.issue.in_(_never_to_be_made())).values(issue=None))
    alive = select(operations.c.id).where(
        operations.c.id == orders.c.operation_id, operations.c.status != OperationStatus.CANCELLED
    )
    free = orders.c.issue.is_(None) & alive.exists()
    wanted = free if number is None else free & (orders.c.number == number)
    statement = update(orders).where(wanted).values(issue=operation_id).execution_options(preserve_rowcount=True)
    count = connection.execute(statement).rowcount
    if count:
        connection.execute(insert(issues).values(operation_id=operation_id, day=day.isoformat()))
    return count


def _never_to_be_made() -> Any:
    """Issues whose making was cancelled before Jira was asked: the orders in them are free again."""
    was_asked = (tasks.c.operation_id == issues.c.operation_id) & (tasks.c.name == CREATE_ISSUE) & (tasks.c.attempt > 0)
    return (
        select(issues.c.operation_id)
        .join(operations, operations.c.id == issues.c.operation_id)
        .where(issues.c.key.is_(None), operations.c.status == OperationStatus.CANCELLED)
        .where(~select(tasks.c.position).where(was_asked).exists())
    )


def read_sheet(connection: ReadConnection, operation_id: int) -> Sheet:
    """Summed in as few steps as there are recipes and different extras, however many orders there are."""
    here = orders.c.issue == operation_id
    eaters = func.sum(orders.c.persons * orders.c.quantity)
    by_cake = connection.rows(select(orders.c.cake, eaters).where(here).group_by(orders.c.cake))
    found = cakes_by_number(connection, (number for number, _ in by_cake))
    recipes = [line for number, count in by_cake for line in needed(found[number].recipe, eaters=int(count), extras=())]
    same = (extras.c.name, extras.c.amount, extras.c.unit)
    statement = select(*same, func.count()).join(orders, orders.c.number == extras.c.order_number)
    counted = connection.rows(statement.where(here).group_by(*same).order_by(*same))
    more = [(name, Amount(Decimal(amount), unit).times(count)) for name, amount, unit, count in counted]
    statement = (
        select(orders.c.number, operations.c.status, orders.c.operation_id)
        .join(operations, operations.c.id == orders.c.operation_id)
        .where(here)
        .order_by(orders.c.number)
    )
    rows = connection.rows(statement)
    cancelled = [number for number, status, _ in rows if status == OperationStatus.CANCELLED]
    about = rows[0][2] if len(rows) == 1 else operation_id
    return Sheet(about, total([*recipes, *more]), [number for number, *_ in rows], cancelled)


def ranges_of(numbers: Iterable[int]) -> list[str]:
    """`1-3`, `7`: of numbers in order."""
    runs = groupby(enumerate(numbers), key=lambda each: each[1] - each[0])
    found = []
    for _, run in runs:
        members = [number for _, number in run]
        found.append(str(members[0]) if len(members) == 1 else f"{members[0]}-{members[-1]}")
    return found


def describe(sheet: Sheet, *, link: str) -> adf.Node:
    """The issue's text: a table, or, where Jira has no room for that, a listing, of as much as it has room for. link:
    for staff, to the order or to all that stands here."""
    as_table = _document(sheet, _table(sheet.lines), link)
    if not adf.is_too_long(as_table):
        return as_table
    most = bisect_left(
        range(len(sheet.lines)), x=True, key=lambda most: adf.is_too_long(_listed(sheet, most + 1, link))
    )
    return _listed(sheet, most, link)


def _listed(sheet: Sheet, most: int, link: str) -> adf.Node:
    """With the first so many ingredients."""
    rows = [f"{amount.value.normalize():f} {amount.unit:<3}  {name}" for name, amount in sheet.lines[:most]]
    left = len(sheet.lines) - most
    more = [f"... and {left} ingredients more: this issue has no room for them"] if left else []
    return _document(sheet, adf.listing([*rows, *more]), link)


def _table(lines: Sequence[Line]) -> adf.Node:
    rows = [(name, f"{amount.value.normalize():f}", amount.unit) for name, amount in lines]
    return adf.table(("Name", "Quantity", "Unit"), rows)


def _document(sheet: Sheet, ingredients: adf.Node, link: str) -> adf.Node:
    since = f"Cancelled since: {_orders_in_words(sheet.cancelled)}."
    cancelled = [adf.paragraph(adf.text(since, strong=True))] if sheet.cancelled else []
    return adf.document(
        adf.paragraph("Dear providers, please send us these ingredients:"),
        ingredients,
        adf.paragraph(f"For {_orders_in_words(sheet.numbers)}. ", adf.text("Look at it.", link=link)),
        *cancelled,
    )


def _orders_in_words(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"order {numbers[0]}"
    ranges = ranges_of(numbers)
    more = "" if len(ranges) <= MOST_RANGES else f" and {len(ranges) - MOST_RANGES} ranges more"
    return f"{len(numbers):,} orders: {', '.join(ranges[:MOST_RANGES])}{more}"


def label_of(operation_id: str) -> str:
    """By which its issue is found."""
    return f"{LABEL}-{operation_id}"


@shop.schedule("daily_issue", cron="0 6 * * *")
def order_for_the_day() -> Plan:
    """Also where each order has an issue of its own: then it finds those only whose own went wrong."""
    return plan_issue()


@shop.follow_up("operation.placed", when=lambda settings: not settings.bakery_daily_issue)
def order_for_one(connection: ReadConnection, event: Event) -> Plan | None:
    order = order_of(connection, event.operation_id)
    return None if order is None else plan_issue(order.number)


@shop.step(COLLECT, says="Collecting what is to be bought")
def collect_orders(connection: WriteConnection, context: Context) -> Any:
    day = today("UTC")
    count = collect(connection, read_id(context.operation_id), number=context.params["order"], day=day)
    return {"orders": count, "day": day.isoformat()}


@shop.handler(CREATE_ISSUE, says="Ordering ingredients", retry=STUBBORN, within=PATIENT, concurrency=1)
async def create_issue(context: Context) -> Any:
    """One issue. `memo`: when we were about to make it."""
    collected = context.inputs[COLLECT]
    if not collected["orders"]:
        return None
    services: Services = context.resources
    if context.memo is not None:
        found = await _look_for_it(context, services)
        if found is not None:
            return found
    await context.remember({"at": services.now()})
    return {"key": (await _create(context, services)).key}


async def _look_for_it(context: Context, services: Services) -> Any:
    """What became of an attempt of which nobody said whether it made the issue. None: it did not."""
    left = context.memo["at"] + services.settings.jira_search_seconds - services.now()
    if left > 0:
        return Wait(max(left, 0.1))
    found = await services.jira.find_issues(label_of(context.operation_id))
    if len(found) > 1:
        context.log.warning("two issues bear one label", keys=[each.key for each in found])
    return {"key": found[0].key} if found else None


async def _create(context: Context, services: Services) -> IssueRef:
    operation_id = read_id(context.operation_id)
    sheet = await context.read(lambda connection: read_sheet(connection, operation_id))
    day = date.fromisoformat(context.inputs[COLLECT]["day"])
    is_of_one = len(sheet.numbers) == 1 and not services.settings.bakery_daily_issue
    summary = f"Order #{sheet.numbers[0]}" if is_of_one else f"Ingredients for {day.isoformat()}"
    return await services.jira.create_issue(
        summary=summary,
        description=describe(sheet, link=services.link_to(show_id(sheet.operation_id))),
        labels=[LABEL, label_of(context.operation_id)],
        due=day + timedelta(days=services.settings.bakery_issue_due_days),
    )


@shop.step(NOTE_ISSUE, says="Noting the issue")
def note_issue(connection: WriteConnection, context: Context) -> None:
    made = context.inputs[CREATE_ISSUE]
    if made is not None:
        here = issues.c.operation_id == read_id(context.operation_id)
        connection.execute(update(issues).where(here).values(key=made["key"]))


# One at a time: of two at once the one that read first might write last, and what the other one marked would be gone.
@shop.handler(UPDATE_ISSUE, says="Marking it in the issue", retry=STUBBORN, within=PATIENT, concurrency=1)
async def update_issue(context: Context) -> Any:
    """The whole text anew: said twice, it says the same."""
    services: Services = context.resources
    order = await context.read(lambda connection: read_order(connection, context.params["order"]))
    if order.issue_operation is None:
        return None
    if order.issue is None:
        return await _unless_it_never_will_be(context, order.issue_operation)
    sheet = await context.read(lambda connection: read_sheet(connection, order.issue_operation or 0))
    description = describe(sheet, link=services.link_to(show_id(sheet.operation_id)))
    return {"issue": order.issue, "is_there": await services.jira.update_issue(order.issue, description=description)}


async def _unless_it_never_will_be(context: Context, issue_operation: int) -> Any:
    """Wait for the issue to be made, unless whoever was to make it has ended without."""

    def read(connection: ReadConnection) -> str | None:
        rows = connection.rows(select(operations.c.status).where(operations.c.id == issue_operation))
        return rows[0][0] if rows else None

    status = await context.read(read)
    is_over = status is None or status == OperationStatus.CANCELLED
    return None if is_over else Wait(NOT_YET.total_seconds())


# What Jira tells us


@shop.handler(JUDGE_ISSUE, says="Asking Jira about an issue", retry=STUBBORN, within=PATIENT)
async def judge_issue(context: Context) -> Any:
    services: Services = context.resources
    issue = await services.jira.read_issue(context.params["issue"])
    return {"cancelled": 0 if issue is None else await cancel_what_is_missing(context, issue)}


@shop.handler(JUDGE_CLOSED, says="Asking Jira which issues were closed", retry=STUBBORN, within=timedelta(hours=1))
async def judge_closed_issues(context: Context) -> Any:
    """For what we were not told: a webhook may be lost."""
    services: Services = context.resources
    cancelled = [await cancel_what_is_missing(context, issue) for issue in await services.jira.find_closed(MISSING)]
    return {"issues": len(cancelled), "cancelled": sum(cancelled)}


@shop.schedule("closed_issues", every=timedelta(hours=1))
def look_for_closed() -> Plan:
    return Plan([PlannedTask(JUDGE_CLOSED)])


async def cancel_what_is_missing(context: Context, issue: Issue) -> int:
    """How many orders were cancelled: those in the issue, if it is closed for want of ingredients."""
    if not issue.is_closed or MISSING not in issue.labels:
        return 0
    wanting = {label.removeprefix(MISSING_ONE) for label in issue.labels if label.startswith(MISSING_ONE)}
    found = await context.read(lambda connection: orders_that_need(connection, issue.key, wanting))
    count = 0
    for begin in range(0, len(found), MOST_AT_ONCE):
        some = found[begin : begin + MOST_AT_ONCE]
        count += sum(await asyncio.gather(*(_cancel(context, operation_id) for operation_id in some)))
    return count


async def _cancel(context: Context, operation_id: int) -> bool:
    try:
        return await context.cancel(show_id(operation_id), reason=WHY, check=check_cancel)
    except NotFound:
        return False


def orders_that_need(connection: ReadConnection, key: str, wanting: set[str]) -> list[int]:
    """Operations of the orders in this issue that need one of these ingredients; of all of them, if none is named."""
    here = select(issues.c.operation_id).where(issues.c.key == key)
    statement = select(orders.c.operation_id, orders.c.cake, orders.c.number).where(orders.c.issue.in_(here))
    rows = connection.rows(statement)
    if not wanting:
        return [row[0] for row in rows]
    wanted = {_plain(name) for name in wanting}
    of_cake = cakes_by_number(connection, (row[1] for row in rows))
    with_it = {number for number, cake in of_cake.items() if not wanted.isdisjoint(_plain(n) for n, _ in cake.recipe)}
    in_issue = select(orders.c.number).where(orders.c.issue.in_(here))
    extra = read_lines(connection, extras, extras.c.order_number, extras.c.order_number.in_(in_issue))
    more = {number for number, lines in extra.items() if not wanted.isdisjoint(_plain(name) for name, _ in lines)}
    return [id for id, cake, number in rows if cake in with_it or number in more]


def _plain(name: str) -> str:
    """As a label has it, which has no spaces."""
    try:
        return slug(name)
    except Invalid:
        return name.casefold()
