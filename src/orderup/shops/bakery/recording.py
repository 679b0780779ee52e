"""Cancelled orders are recorded at Google Drive: a document a customer, a line an order.

Documents, not sheets: they are read by people, a line that was appended is seen at once, and a document can be written
under the condition that nobody has written to it since it was read, which a sheet cannot. With that condition, and with
what the document says, no line is written twice or lost (docs/shops/bakery.md).

A search at Drive finds what was just made only after a while. So what is made there is remembered, before and after, in
the memo of the task that makes it; and whoever is about to make something looks into the memos of all those whose order
is not noted yet. As one such task runs at a time, nobody misses what another one has begun.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import msgspec
from sqlalchemy import ColumnElement, select, true, update

from orderup import Context, Wait
from orderup.db.database import ReadConnection, WriteConnection
from orderup.db.tables import tasks
from orderup.errors import UpstreamFailed
from orderup.model.event import Event
from orderup.model.ids import read_id
from orderup.model.plan import Plan
from orderup.shops.bakery.local_time import at_the_bakery
from orderup.shops.bakery.orders import BakeryOrder, has_status, order_of, read_order, read_orders
from orderup.shops.bakery.plan import NOTE_DOCUMENT, OPEN_DOCUMENT, PATIENT, RECORD, STUBBORN, plan_cancellation, shop
from orderup.shops.bakery.services import Services
from orderup.shops.bakery.tables import documents, orders

FOLDER = "Orders"
# Its row beside those of customers, whose slugs are never empty.
FOLDER_SLUG = ""
# People may write in it at the same time.
MOST_TRIES = 5
Made = Literal["folder", "file"]


@dataclass(frozen=True, slots=True)
class Line:
    """begins: by what it is known again, whatever somebody has added to it since."""

    begins: str
    text: str


@dataclass(frozen=True, slots=True)
class Known:
    """What was made at Drive, the last first. begun_at: when it was last about to be made without anybody knowing yet
    what came of it, in seconds since the epoch."""

    ids: Sequence[str]
    begun_at: float | None


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
    if not connection.insert_or_ignore(documents, {"slug": order.slug, "title": title}):
        blank = (documents.c.slug == order.slug) & (documents.c.title == "")
        connection.execute(update(documents).where(blank).values(title=title))
    here = orders.c.number == order.number
    connection.execute(update(orders).where(here).values(recorder=read_id(context.operation_id)))
    return {"slug": order.slug}


# One at a time: two new documents for one customer are two too many. And Google takes sixty writes a minute.
@shop.handler(
    RECORD, says="Recording the cancellation", retry=STUBBORN, within=PATIENT, concurrency=1, rate="50/minute"
)
async def record(context: Context) -> Any:
    """All that is missing in the document is written, whichever order this is about. `memo`: what was about to be made
    at Drive, and when, and what came of it."""
    opened = context.inputs[OPEN_DOCUMENT]
    if opened is None:
        return None
    services, slug = context.resources, opened["slug"]
    title, lines = await context.read(lambda connection: _wanted(connection, slug, services))
    file = await context.read(lambda connection: known_of(connection, slug, "file"))
    for id in file.ids:
        if await _append(services, id, lines):
            return _outcome(context, id)
    made = await _find_or_create(context, services, known=file, slug=slug, title=title)
    if isinstance(made, Wait):
        return made
    if not await _append(services, made, lines):
        raise UpstreamFailed("The document that was just made is not there")
    return _outcome(context, made)


def _outcome(context: Context, file: str) -> Any:
    return {"file": file, "folder": (context.memo or {}).get("folder")}


@shop.step(NOTE_DOCUMENT, says="Noting the document")
def note_document(connection: WriteConnection, context: Context) -> None:
    recorded = context.inputs[RECORD]
    if recorded is None:
        return
    order = read_order(connection, context.params["order"])
    if order.slug is not None:
        _note(connection, order.slug, recorded["file"])
    if recorded["folder"] is not None:
        connection.insert_or_ignore(documents, {"slug": FOLDER_SLUG, "title": FOLDER})
        _note(connection, FOLDER_SLUG, recorded["folder"])
    connection.execute(update(orders).where(orders.c.number == order.number).values(document=recorded["file"]))


def _note(connection: WriteConnection, slug: str, file: str) -> None:
    connection.execute(update(documents).where(documents.c.slug == slug).values(file=file))


def known_of(connection: ReadConnection, slug: str, made: Made) -> Known:
    """What was made for this customer; of the folder, for anybody."""
    noted = connection.rows(select(documents.c.file).where(documents.c.slug == slug, documents.c.file.is_not(None)))
    memos = _memos(connection, true() if made == "folder" else orders.c.slug == slug)
    ids = [memo[made] for memo in memos if made in memo]
    # an id that came of it takes the place of the moment
    begun = [memo[f"{made}_at"] for memo in memos if made not in memo and f"{made}_at" in memo]
    return Known(list(dict.fromkeys([*ids, *(row[0] for row in noted)])), max(begun, default=None))


def _memos(connection: ReadConnection, condition: ColumnElement[bool]) -> list[Mapping[str, Any]]:
    """Of those who are recording, or have recorded what is not noted yet; the last first."""
    statement = (
        select(tasks.c.memo)
        .join(orders, orders.c.recorder == tasks.c.operation_id)
        .where(condition, orders.c.recorder.is_not(None), orders.c.document.is_(None))
        .where(tasks.c.name == RECORD, tasks.c.memo.is_not(None))
        .order_by(tasks.c.operation_id.desc())
    )
    return [msgspec.json.decode(row[0]) for row in connection.rows(statement)]


async def _find_or_create(context: Context, services: Services, *, known: Known, slug: str, title: str) -> Any:
    """The document's file; or a Wait, until Drive can be asked what became of the last attempt."""
    if wait := _not_yet(services, known):
        return wait
    folder = await _find_or_create_folder(context, services)
    if isinstance(folder, Wait):
        return folder
    found = [
        each for each in await services.drive.find_document(folder_id=folder, key=slug) if each.id not in known.ids
    ]
    if len(found) > 1:
        context.log.warning("one customer has several documents; the oldest is used", files=[each.id for each in found])
    if found:
        return found[0].id
    create = partial(services.drive.create_document, name=title, folder_id=folder, key=slug)
    return await _remembering(context, services, "file", create)


async def _find_or_create_folder(context: Context, services: Services) -> Any:
    """Its id, or a Wait."""
    known = await context.read(lambda connection: known_of(connection, FOLDER_SLUG, "folder"))
    for id in known.ids:
        if await services.drive.is_there(id):
            return id
    found = await services.drive.find_folder(FOLDER)
    if found is not None and found not in known.ids:
        return found
    if wait := _not_yet(services, known):
        return wait
    return await _remembering(context, services, "folder", partial(services.drive.create_folder, FOLDER))


async def _remembering(context: Context, services: Services, made: Made, create: Callable[[], Awaitable[str]]) -> str:
    """The id of what is made, before and after which it is remembered."""
    others = {name: value for name, value in (context.memo or {}).items() if name not in {made, f"{made}_at"}}
    await context.remember({**others, f"{made}_at": services.now()})
    id = await create()
    await context.remember({**others, made: id})
    return id


def _not_yet(services: Services, known: Known) -> Wait | None:
    """What was just made, if it was, cannot be found yet."""
    if known.begun_at is None:
        return None
    left = known.begun_at + services.settings.google_search_seconds - services.now()
    return Wait(max(left, 0.1)) if left > 0 else None


async def _append(services: Services, file: str, lines: Sequence[Line]) -> bool:
    """What is not in it yet. False: it is gone. Raises UpstreamFailed where others write all the time."""
    for _ in range(MOST_TRIES):
        document = await services.drive.read(file)
        if document is None:
            return False
        there = [line.strip() for line in document.lines]
        missing = [line.text for line in lines if not any(each.startswith(line.begins) for each in there)]
        if not missing:
            return True
        if await services.drive.append_lines(file, lines=missing, revision=document.revision, is_open=document.is_open):
            return True
    raise UpstreamFailed("Somebody writes to the document all the time")


def _wanted(connection: ReadConnection, slug: str, services: Services) -> tuple[str, list[Line]]:
    """The document's title, and its lines."""
    title: str = connection.rows(select(documents.c.title).where(documents.c.slug == slug))[0][0]
    return title, lines_of(connection, slug, title, services)


def lines_of(connection: ReadConnection, slug: str, title: str, services: Services) -> list[Line]:
    """Of all cancelled orders of this customer, or of several whose names make one id: then theirs stand there."""
    found = read_orders(connection, has_status("cancelled") & (orders.c.slug == slug), oldest_first=True)
    return [_line(order, title, services.settings.bakery_zone) for order in found]


def _line(order: BakeryOrder, title: str, zone: str) -> Line:
    is_his = title == f"{order.customer} cancelled orders"
    who = "" if is_his else f" for {order.customer}"
    at = at_the_bakery(order.finished_at or order.placed_at, zone)
    begins = f"- Order {order.number} ["
    return Line(begins, f"{begins}{order.cake.name}]{who} : Date {at}")
