"""Cancelled orders are recorded at Google Drive: a document a customer, a line an order.

Documents, not sheets: they are read by people, a line that was appended is seen at once, and a document can be written
under the condition that nobody has written to it since it was read, which a sheet cannot. With that condition, and with
what the document says, no line is written twice or lost (docs/shops/bakery.md).
"""

from typing import Any

from sqlalchemy import select, update

from orderup import Context, Wait
from orderup.db.database import ReadConnection, WriteConnection
from orderup.errors import UpstreamFailed
from orderup.model.event import Event
from orderup.model.plan import Plan
from orderup.shops.bakery.local_time import at_the_bakery
from orderup.shops.bakery.orders import BakeryOrder, order_of, read_order, read_orders, select_orders
from orderup.shops.bakery.plan import NOTE_DOCUMENT, OPEN_DOCUMENT, PATIENT, RECORD, STUBBORN, plan_cancellation, shop
from orderup.shops.bakery.services import Services
from orderup.shops.bakery.tables import documents, orders

FOLDER = "Orders"
# People may write in it at the same time.
MOST_TRIES = 5


@shop.follow_up("operation.cancelled")
def record_cancellation(connection: ReadConnection, event: Event) -> Plan | None:
    """However it was cancelled."""
    order = order_of(connection, event.operation_id)
    if order is None:
        return None
    return plan_cancellation(order.number, is_in_issue=order.issue_operation is not None)


@shop.step(OPEN_DOCUMENT, says="Finding the customer's document")
def open_document(connection: WriteConnection, context: Context) -> Any:
    order = read_order(connection, context.params["order"])
    if order.slug is None:
        return None  # forgotten
    title = f"{order.customer} cancelled orders"
    connection.insert_or_ignore(documents, {"slug": order.slug, "title": title})
    return {"slug": order.slug}


# One at a time: two new documents for one customer are two too many. And Google takes sixty writes a minute.
@shop.handler(
    RECORD, says="Recording the cancellation", retry=STUBBORN, within=PATIENT, concurrency=1, rate="50/minute"
)
async def record(context: Context) -> Any:
    """All that is missing in the document is written, whichever order this is about. `memo`: what was about to be made
    at Drive, and when."""
    opened = context.inputs[OPEN_DOCUMENT]
    if opened is None:
        return None
    services: Services = context.resources
    title, file = await context.read(lambda connection: _document(connection, opened["slug"]))
    lines = await context.read(lambda connection: lines_of(connection, opened["slug"], title, services))
    if file is not None and await _append(services, file, lines):
        return {"file": file}
    made = await _find_or_create(context, services, slug=opened["slug"], title=title)
    if isinstance(made, Wait):
        return made
    if not await _append(services, made, lines):
        raise UpstreamFailed("The document that was just made is not there")
    return {"file": made}


@shop.step(NOTE_DOCUMENT, says="Noting the document")
def note_document(connection: WriteConnection, context: Context) -> None:
    recorded, opened = context.inputs[RECORD], None
    if recorded is None:
        return
    order = read_order(connection, context.params["order"])
    opened = order.slug
    if opened is not None:
        connection.execute(update(documents).where(documents.c.slug == opened).values(file=recorded["file"]))
    connection.execute(update(orders).where(orders.c.number == order.number).values(document=recorded["file"]))


async def _find_or_create(context: Context, services: Services, *, slug: str, title: str) -> Any:
    """The document's file; or a Wait, until Drive can be asked what became of the last attempt."""
    memo = context.memo
    if memo is not None:
        left = memo["at"] + services.settings.google_search_seconds - services.now()
        if left > 0:
            return Wait(max(left, 0.1))
    drive = services.drive
    folder = await drive.find_folder(FOLDER)
    if folder is None:
        await context.remember({"at": services.now()})
        folder = await drive.create_folder(FOLDER)
    found = await drive.find_document(folder_id=folder, key=slug)
    if len(found) > 1:
        context.log.warning("one customer has several documents; the oldest is used", files=[each.id for each in found])
    if found:
        return found[0].id
    await context.remember({"at": services.now()})
    return await drive.create_document(name=title, folder_id=folder, key=slug)


async def _append(services: Services, file: str, lines: list[str]) -> bool:
    """What is not in it yet. False: it is gone. Raises UpstreamFailed where others write all the time."""
    for _ in range(MOST_TRIES):
        document = await services.drive.read(file)
        if document is None:
            return False
        there = {line.strip() for line in document.lines}
        missing = [line for line in lines if line not in there]
        if not missing:
            return True
        if await services.drive.append_lines(file, lines=missing, revision=document.revision, is_open=document.is_open):
            return True
    raise UpstreamFailed("Somebody writes to the document all the time")


def _document(connection: ReadConnection, slug: str) -> tuple[str, str | None]:
    rows = connection.rows(select(documents.c.title, documents.c.file).where(documents.c.slug == slug))
    return rows[0][0], rows[0][1]


def lines_of(connection: ReadConnection, slug: str, title: str, services: Services) -> list[str]:
    """Of all cancelled orders of this customer, or of several whose names make one id: then theirs stand there."""
    condition = select_orders(status="cancelled", owner=None, before=None) & (orders.c.slug == slug)
    found = read_orders(connection, condition)
    return [_line(order, title, services.settings.bakery_zone) for order in reversed(found)]


def _line(order: BakeryOrder, title: str, zone: str) -> str:
    is_his = title == f"{order.customer} cancelled orders"
    who = "" if is_his else f" for {order.customer}"
    at = at_the_bakery(order.finished_at or order.placed_at, zone)
    return f"- Order {order.number} [{order.cake.name}]{who} : Date {at}"
