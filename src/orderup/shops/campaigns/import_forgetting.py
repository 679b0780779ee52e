"""Imports that are over: counted once, and forgotten bit by bit by whoever sends the next file."""

from datetime import timedelta
from functools import partial

from sqlalchemy import ColumnElement, and_, delete, func, select, tuple_, update

from orderup.db.database import Database, ReadConnection, WriteConnection
from orderup.model.times import as_micros
from orderup.shops.campaigns.imports import ENDED, ImportState, keep_counts, read_imports
from orderup.shops.campaigns.tables import import_campaigns, import_errors, import_parts, imports

KEPT_US = as_micros(timedelta(days=90))
# Whoever reads a file gets on by the second; one that has not for so long was killed.
ABANDONED_US = as_micros(timedelta(minutes=10))
# What is forgotten is deleted in so many transactions at most, by whoever sends the next file; the rest by later ones.
# In one of them so many campaigns go, or parts with not many rows of the file: others write in between.
FORGETS, CAMPAIGNS_FORGOTTEN, PARTS_FORGOTTEN, ROWS_FORGOTTEN = 200, 2_000, 500, 4_000


async def tidy_up(database: Database, *, now: int) -> None:
    """Count what has ended; forget what ended long ago, or whose reader was killed: some of it, if that is much."""
    ended = imports.c.state.in_(ENDED) & imports.c.placed.is_(None)
    await keep_counts(database, await database.read(partial(read_imports, condition=ended)))
    ids = await database.write(partial(_give_up, now=now))
    for _ in range(FORGETS):
        if not ids:
            return
        if not await database.write(partial(delete_some, ids[-1])):
            ids.pop()


def _give_up(connection: WriteConnection, *, now: int) -> list[int]:
    """The imports to forget. Those whose reader was killed are discarded first: should he be alive after all, he does
    not end with half of what he has read."""
    is_abandoned = and_(imports.c.state == ImportState.READING, imports.c.touched_at < now - ABANDONED_US)
    given_up = {"state": ImportState.DISCARDED, "touched_at": 0, "placed": 0}
    connection.execute(update(imports).where(is_abandoned).values(given_up))
    old = imports.c.state.in_(ENDED) & (imports.c.touched_at < now - KEPT_US)
    return [row[0] for row in connection.rows(select(imports.c.id).where(old))]


def delete_some(id: int, connection: WriteConnection) -> bool:
    """Some rows of an import, itself at last; whether anything is left of it."""
    for table, next_of in ((import_parts, _next_parts), (import_campaigns, _next_campaigns)):
        if (some := next_of(id, connection)) is not None:
            connection.execute(delete(table).where(table.c.import_id == id, some))
            return True
    connection.execute(delete(import_errors).where(import_errors.c.import_id == id))
    connection.execute(delete(imports).where(imports.c.id == id))
    return False


def _next_parts(id: int, connection: ReadConnection) -> ColumnElement[bool] | None:
    """The parts that go next; None if there are no more."""
    table = import_parts
    key = (table.c.campaign_id, table.c.number)
    statement = select(*key, table.c.rows).where(table.c.import_id == id).order_by(*key).limit(PARTS_FORGOTTEN)
    last, rows = None, 0
    for campaign_id, number, count in connection.rows(statement):
        rows += count
        if last is not None and rows > ROWS_FORGOTTEN:
            break
        last = (campaign_id, number)
    return None if last is None else tuple_(*key) <= tuple_(*last)


def _next_campaigns(id: int, connection: ReadConnection) -> ColumnElement[bool] | None:
    column = import_campaigns.c.campaign_id
    some = select(column).where(import_campaigns.c.import_id == id).order_by(column).limit(CAMPAIGNS_FORGOTTEN)
    last = connection.execute(select(func.max(some.subquery().c.campaign_id))).scalar()
    return None if last is None else column <= last
