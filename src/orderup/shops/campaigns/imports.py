"""Files of campaigns on their way in: read into tables of the shop, shown, and then placed, campaign by campaign.

What was read of a campaign lies in parts until the campaign is placed, and is deleted in the very transaction that
places it. So whoever places an import goes on where the last one was killed, several may do it at once, and no campaign
is placed twice. A campaign whose id is here already is left out, whoever placed it and when.

An import may be looked at every two seconds. How many campaigns it has is therefore in its row, which is not so with
those that are placed: they are what does not wait any more, and once the import has ended they are counted for good.
"""

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, delete, func, select, update

from orderup.db.database import Database, ReadConnection, WriteConnection
from orderup.db.tables import operations
from orderup.errors import Conflict, NotFound
from orderup.model.ids import show_id
from orderup.model.operation import OperationStatus
from orderup.model.times import as_micros
from orderup.shops.campaigns.reading import Problem
from orderup.shops.campaigns.tables import import_campaigns, import_errors, import_parts, imports

MOST_ERRORS_KEPT = 1_000
# A command that places campaigns gets on several times a second, too.
SILENT_US = as_micros(timedelta(minutes=1))


class ImportState(StrEnum):
    """discarded: nothing of it will be placed any more; by hand, or because it was to be looked at only, or whole."""

    READING = "reading"
    READY = "ready"
    PLACING = "placing"
    DONE = "done"
    DISCARDED = "discarded"


ENDED = (ImportState.DONE, ImportState.DISCARDED)


class Import(msgspec.Struct, frozen=True):
    """read, size: bytes. rows: of the file, with wrong ones. campaigns, ad_groups, ads: that can be placed, with those
    that are `here` already. placed, waiting: of the campaigns, how many are and are not yet. has_counts: whether these
    are for good, and in its row. operation_status: of what places its campaigns; None if that is gone, too."""

    id: int
    name: str
    digest: str
    is_strict: bool
    state: ImportState
    size: int
    read: int
    rows: int
    campaigns: int
    ad_groups: int
    ads: int
    here: int
    errors: int
    by: str | None
    began_at: int
    touched_at: int
    operation_id: int | None
    placed: int
    waiting: int
    has_counts: bool
    operation_status: str | None


# looking


async def find_import(database: Database, id: int) -> Import:
    """Raises NotFound."""
    found = await database.read(lambda connection: read_imports(connection, imports.c.id == id))
    if not found:
        raise NotFound("import", show_id(id))
    await keep_counts(database, found)
    return found[0]


async def unfinished_import(database: Database, digest: str, *, is_strict: bool) -> Import | None:
    """One of the same file that was begun to be placed, or could be; the newest."""
    same = (imports.c.digest == digest) & (imports.c.is_strict == int(is_strict))
    is_open = imports.c.state.in_([ImportState.READY, ImportState.PLACING])
    found = await database.read(lambda connection: read_imports(connection, same & is_open))
    return found[0] if found else None


def read_imports(connection: ReadConnection, condition: Any, *, most: int = 50) -> list[Import]:
    """The newest first."""
    joined = imports.outerjoin(operations, operations.c.id == imports.c.operation_id)
    statement = select(imports, operations.c.status.label("operation_status")).select_from(joined).where(condition)
    rows = connection.execute(statement.order_by(imports.c.id.desc()).limit(most))
    return [_import(connection, dict(row)) for row in rows.mappings()]


def _import(connection: ReadConnection, row: dict[str, Any]) -> Import:
    row["is_strict"], row["state"] = bool(row["is_strict"]), ImportState(row["state"])
    has_counts, waiting = row["placed"] is not None, 0
    if row["state"] not in ENDED:
        left = row["campaigns"] - row["here"]
        waiting = _waiting(connection, row["id"]) if row["state"] is ImportState.PLACING else left
        row["placed"] = left - waiting
    elif not has_counts:
        row.update(_count_outcomes(connection, row["id"]))
    return Import(**row, waiting=waiting, has_counts=has_counts)


def _waiting(connection: ReadConnection, id: int) -> int:
    here = (import_campaigns.c.import_id == id) & import_campaigns.c.outcome.is_(None)
    return int(connection.rows(select(func.count()).select_from(import_campaigns).where(here))[0][0])


def _count_outcomes(connection: ReadConnection, id: int) -> dict[str, int]:
    table = import_campaigns
    theirs = (table.c.import_id == id) & table.c.outcome.is_not(None)
    counted = select(table.c.outcome, func.count()).where(theirs).group_by(table.c.outcome)
    return {"placed": 0, "here": 0} | {row[0]: int(row[1]) for row in connection.rows(counted)}


async def keep_counts(database: Database, some: Sequence[Import]) -> None:
    """Write down what was counted of those that have ended: it stays so, and nobody needs to count it again."""

    def write(connection: WriteConnection) -> None:
        for each in ended:
            values = {"placed": each.placed, "here": each.here}
            connection.execute(update(imports).where(imports.c.id == each.id).values(values))

    ended = [each for each in some if each.state in ENDED and not each.has_counts]
    if ended:
        await database.write(write)


def read_errors(
    connection: ReadConnection, id: int, *, after: int = -1, most: int = MOST_ERRORS_KEPT
) -> list[tuple[int, Problem]]:
    """With their numbers, in the order in which they were found."""
    table = import_errors
    columns = (table.c.number, table.c.line, table.c.column_name, table.c.message)
    here = (table.c.import_id == id) & (table.c.number > after)
    rows = connection.rows(select(*columns).where(here).order_by(table.c.number).limit(most))
    return [(number, Problem(*problem)) for number, *problem in rows]


# going on, or not


def why_stopped(found: Import, *, now: int) -> str | None:
    """Why its campaigns are not placed any more, though they are to be; None if that is not so."""
    if found.state is not ImportState.PLACING:
        return None
    if found.operation_status is None:
        # also of an operation: one that is being placed beside this look, in the same transaction, is not there yet
        if found.touched_at >= now - SILENT_US:
            return None
        if found.operation_id is not None:
            return "the operation that placed its campaigns is gone"
        return "the command that placed its campaigns has not been heard of for a minute"
    if not OperationStatus(found.operation_status).is_final:
        return None
    became = {OperationStatus.CANCELLED: "was cancelled", OperationStatus.ERRORED: "has failed"}
    return f"the operation that placed its campaigns {became.get(OperationStatus(found.operation_status), 'is over')}"


def start(connection: WriteConnection, id: int, *, now: int, operation_id: int | None = None) -> None:
    """From now on this operation places its campaigns, or else a command that says `still_placing`. Raises NotFound;
    Conflict if it is not ready, unless it has stopped halfway."""
    before, as_seen = ImportState.READY, []
    found = read_imports(connection, imports.c.id == id)
    if found and why_stopped(found[0], now=now) is not None:
        # of several who resume it at once one does
        before, as_seen = ImportState.PLACING, [imports.c.touched_at == found[0].touched_at]
        as_seen.append(imports.c.operation_id.is_not_distinct_from(found[0].operation_id))
    _move(connection, id, [before], ImportState.PLACING, as_seen, now=now, operation_id=operation_id)


def still_placing(connection: WriteConnection, id: int, *, now: int) -> None:
    """A command says so now and then, for nobody else could know."""
    its_own = (imports.c.id == id) & (imports.c.state == ImportState.PLACING) & imports.c.operation_id.is_(None)
    connection.execute(update(imports).where(its_own).values(touched_at=now))


def discard(connection: WriteConnection, id: int, *, now: int) -> None:
    """What was not placed is dropped. Raises NotFound; Conflict if it is over, or is being read."""
    _move(connection, id, [ImportState.READY, ImportState.PLACING], ImportState.DISCARDED, [], now=now)
    drop_staged(connection, id)


def drop_staged(connection: WriteConnection, id: int) -> None:
    """All that was not placed."""
    table = import_campaigns
    connection.execute(delete(import_parts).where(import_parts.c.import_id == id))
    connection.execute(delete(table).where(table.c.import_id == id, table.c.outcome.is_(None)))


def _move(
    connection: WriteConnection,
    id: int,
    before: Sequence[ImportState],
    after: ImportState,
    as_seen: Sequence[ColumnElement[bool]],
    *,
    now: int,
    **values: Any,
) -> None:
    here = (imports.c.id == id) & imports.c.state.in_(before)
    moved = connection.execute(update(imports).where(here, *as_seen).values(state=after, touched_at=now, **values))
    if moved.rowcount == 1:
        return
    found = connection.rows(select(imports.c.state).where(imports.c.id == id))
    if not found:
        raise NotFound("import", show_id(id))
    raise Conflict(f"Import {show_id(id)} is {found[0][0]}, not {' or '.join(before)}. Nothing was changed.")
