"""Files of campaigns on their way in: read into tables of the shop, shown, and then placed, campaign by campaign.

What was read of a campaign lies in parts until the campaign is placed, and is deleted in the very transaction that
places it. So whoever places an import goes on where the last one was killed, several may do it at once, and no campaign
is placed twice. A campaign whose id is here already is left out, whoever placed it and when.

An import may be looked at every two seconds. How many campaigns it has is therefore in its row, which is not so with
those that are placed: they are what does not wait any more, and once the import has ended they are counted for good.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, and_, delete, func, insert, select, true, tuple_, update

from orderup.db.database import Database, ReadConnection, WriteConnection
from orderup.db.tables import operations
from orderup.engine.engine import Engine
from orderup.errors import Conflict, Invalid, NotFound
from orderup.model.ids import show_id
from orderup.model.operation import OperationStatus
from orderup.model.times import as_micros
from orderup.shops.campaigns.campaign import MOST_ADS, Campaign
from orderup.shops.campaigns.reading import Merged, Part, Problem, Slice, merge, read_slices, too_many_ads
from orderup.shops.campaigns.tables import campaigns, import_campaigns, import_errors, import_parts, imports

MOST_ERRORS_KEPT = 1_000
# So many rows of the file are made into campaigns at once, and so many campaigns of few rows; that is little memory.
ROWS_AT_ONCE, CAMPAIGNS_AT_ONCE = 4_000, 500
# Whoever reads a file gets on by the second; one that has not for so long was killed.
ABANDONED_US = as_micros(timedelta(minutes=10))
# A command that places campaigns gets on several times a second, too.
SILENT_US = as_micros(timedelta(minutes=1))
KEPT_US = as_micros(timedelta(days=90))
# What is forgotten is deleted in so many transactions at most, by whoever sends the next file; the rest by later ones.
# In one of them so many campaigns go, or parts with not many rows of the file: others write in between.
FORGETS, CAMPAIGNS_FORGOTTEN, PARTS_FORGOTTEN = 200, 2_000, 500
_decode = msgspec.json.Decoder(Part).decode
_encode = msgspec.json.Encoder().encode


class ImportState(StrEnum):
    """discarded: nothing of it will be placed any more; by hand, or because it was to be looked at only, or whole."""

    READING = "reading"
    READY = "ready"
    PLACING = "placing"
    DONE = "done"
    DISCARDED = "discarded"


_ENDED = (ImportState.DONE, ImportState.DISCARDED)


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


class Estimate(NamedTuple):
    """How long the platform takes. least: if nothing were asked after; usual: if everything is, once."""

    least: timedelta
    usual: timedelta


def estimate(campaigns: int, groups: int, ads: int, a_minute: int) -> Estimate:
    """With so many requests a minute, of which those that ask get half at most."""
    least = timedelta(minutes=(campaigns + groups + ads) / a_minute)
    return Estimate(least, 2 * least)


def in_words(length: timedelta) -> str:
    """Such as `17 days`: a length of time as people say it, in one unit."""
    for unit, seconds in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        count = round(length.total_seconds() / seconds)
        if length.total_seconds() >= 2 * seconds or (count >= 1 and unit == "minute"):
            return f"{count:,} {unit}" if count == 1 else f"{count:,} {unit}s"
    return "less than a minute"


def preview_lines(found: Import, problems: Sequence[Problem], *, a_minute: int) -> list[str]:
    """What is in a file, in sentences. problems: the first of them, to be shown."""
    lines = [
        (
            f"{found.name}: {found.rows:,} rows, {found.campaigns:,} campaigns with {found.ad_groups:,} ad groups "
            f"and {found.ads:,} ads"
        )
    ]
    if found.errors:
        wrong = (
            "1 thing is wrong; its row is" if found.errors == 1 else f"{found.errors:,} things are wrong; the rows are"
        )
        lines += [f"{wrong} left out:", *map(told, problems)]
        more = found.errors - len(problems)
        lines += [f"  and {more:,} more"] if more else []
    if found.here:
        lines.append(f"{found.here:,} of the campaigns are here already and are left out")
    if found.campaigns:
        took = estimate(found.campaigns, found.ad_groups, found.ads, a_minute)
        lines.append(
            f"At {a_minute:,} requests a minute the platform takes {in_words(took.least)} at least, and "
            f"{in_words(took.usual)} if everything is asked after once"
        )
    return lines


def told(problem: Problem) -> str:
    where = f"line {problem.line:,}" + (f", {problem.column}" if problem.column else "")
    return f"  {where} {problem.message}"


# reading


Note = Callable[[int], None]


def _note_nothing(_count: int) -> None:
    pass


async def digest_of(path: Path) -> tuple[str, int]:
    """SHA-256 of a file, in hexadecimal, and its size in bytes."""

    def digest() -> tuple[str, int]:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()

    return await asyncio.to_thread(digest)


async def read_import(
    engine: Engine,
    path: Path,
    *,
    name: str,
    is_strict: bool = False,
    is_dry_run: bool = False,
    by: str | None = None,
    note: Note = _note_nothing,
) -> Import:
    """Read a file into the tables: what can be placed, and what is wrong. `note` is told how many bytes were read. The
    import is ready to be started, or discarded: if it is strict and anything is wrong, and if it is a dry run.

    Raises Invalid for a file that is no CSV of campaigns; then nothing is left of it.
    """
    database, id = engine.database, engine.new_id(engine.now())
    digest, size = await digest_of(path)
    row = {"id": id, "name": name, "digest": digest, "is_strict": int(is_strict), "by": by, "size": size}
    await tidy_up(database, now=engine.now())
    await database.write(lambda connection: _begin(connection, row, now=engine.now()))
    try:
        reader = _ImportReader(engine, id)
        await reader.read(path, note)
        await reader.check()
    except Invalid:
        while await database.write(partial(_delete_some, id)):
            pass
        raise
    is_over = is_dry_run or (is_strict and reader.errors > 0)
    state = ImportState.DISCARDED if is_over else ImportState.READY
    await database.write(lambda connection: _end_reading(connection, id, state, reader.counts, now=engine.now()))
    return await find_import(database, id)


def _begin(connection: WriteConnection, row: Mapping[str, Any], *, now: int) -> None:
    zeros = dict.fromkeys(("read", "rows", "campaigns", "ad_groups", "ads", "here", "errors"), 0)
    begun = {**row, **zeros, "state": ImportState.READING, "began_at": now, "touched_at": now}
    connection.execute(insert(imports).values(begun))


async def tidy_up(database: Database, *, now: int) -> None:
    """Count what has ended; forget what ended long ago, or whose reader was killed: some of it, if that is much."""
    ended = imports.c.state.in_(_ENDED) & imports.c.placed.is_(None)
    await keep_counts(database, await database.read(partial(read_imports, condition=ended)))
    ids = await database.write(partial(_give_up, now=now))
    for _ in range(FORGETS):
        if not ids:
            return
        if not await database.write(partial(_delete_some, ids[-1])):
            ids.pop()


def _give_up(connection: WriteConnection, *, now: int) -> list[int]:
    """The imports to forget. Those whose reader was killed are discarded first: should he be alive after all, he does
    not end with half of what he has read."""
    is_abandoned = and_(imports.c.state == ImportState.READING, imports.c.touched_at < now - ABANDONED_US)
    given_up = {"state": ImportState.DISCARDED, "touched_at": 0, "placed": 0}
    connection.execute(update(imports).where(is_abandoned).values(given_up))
    old = imports.c.state.in_(_ENDED) & (imports.c.touched_at < now - KEPT_US)
    return [row[0] for row in connection.rows(select(imports.c.id).where(old))]


def _delete_some(id: int, connection: WriteConnection) -> bool:
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
        if last is not None and rows > ROWS_AT_ONCE:
            break
        last = (campaign_id, number)
    return None if last is None else tuple_(*key) <= tuple_(*last)


def _next_campaigns(id: int, connection: ReadConnection) -> ColumnElement[bool] | None:
    column = import_campaigns.c.campaign_id
    some = select(column).where(import_campaigns.c.import_id == id).order_by(column).limit(CAMPAIGNS_FORGOTTEN)
    last = connection.execute(select(func.max(some.subquery().c.campaign_id))).scalar()
    return None if last is None else column <= last


def _end_reading(
    connection: WriteConnection, id: int, state: ImportState, counts: Mapping[str, int], *, now: int
) -> None:
    placed = 0 if state is ImportState.DISCARDED else None
    _get_on(connection, id, {**counts, "state": state, "touched_at": now, "placed": placed})
    if state is ImportState.DISCARDED:
        _drop_staged(connection, id)


def _get_on(connection: WriteConnection, id: int, values: Mapping[str, Any]) -> None:
    """Raises Conflict if somebody has given it up meanwhile."""
    here = (imports.c.id == id) & (imports.c.state == ImportState.READING)
    if connection.execute(update(imports).where(here).values(values)).rowcount != 1:
        raise Conflict(f"Import {show_id(id)} was given up: for ten minutes it did not get on. Send the file again.")


def _drop_staged(connection: WriteConnection, id: int) -> None:
    """All that was not placed."""
    table = import_campaigns
    connection.execute(delete(import_parts).where(import_parts.c.import_id == id))
    connection.execute(delete(table).where(table.c.import_id == id, table.c.outcome.is_(None)))


class _ImportReader:
    """Reads in a thread what it writes in slices."""

    def __init__(self, engine: Engine, id: int) -> None:
        self.engine, self.database, self.id = engine, engine.database, id
        self.rows = self.errors = self.kept = self.slices = 0
        self.counts: dict[str, int] = dict.fromkeys(("campaigns", "ad_groups", "ads", "here"), 0)

    async def read(self, path: Path, note: Note) -> None:
        slices = read_slices(path)
        while (found := await asyncio.to_thread(_next_of, slices)) is not None:
            found_slice, rows = found
            self.slices += 1
            self.rows += found_slice.rows
            for row in rows:
                row.update(import_id=self.id, number=self.slices)
            errors = self._errors(found_slice.problems)
            so_far = {"read": found_slice.read, "rows": self.rows, "errors": self.errors}
            await self.database.write(partial(self._store, import_parts, rows, errors, so_far))
            note(found_slice.read)

    async def check(self) -> None:
        """Make every campaign once, to see what is wrong between its rows, and what there is to place."""
        after = None
        while staged := await self.database.read(partial(_staged, self.id, after)):
            after = staged[-1].campaign_id
            for some in _in_batches(staged):
                await self._check(some)

    async def _check(self, some: Sequence["_Staged"]) -> None:
        parts = await self.database.read(partial(read_parts, self.id, [each.campaign_id for each in some]))
        merged = await asyncio.to_thread(_merge_all, some, parts)
        ids = [each.campaign_id for each in some]
        here = await self.database.read(partial(_here, ids))
        rows, problems = [], []
        for staged, (campaign, found) in zip(some, merged, strict=True):
            problems += found
            if campaign is None:
                continue
            is_here = campaign.campaign_id in here
            self._count(campaign, is_here=is_here)
            outcome = "here" if is_here else None
            rows.append(
                {
                    "import_id": self.id,
                    "campaign_id": campaign.campaign_id,
                    "line": staged.line,
                    "ads": campaign.ad_count,
                    "outcome": outcome,
                }
            )
        errors = self._errors(problems)
        so_far = {**self.counts, "errors": self.errors}
        await self.database.write(partial(self._store, import_campaigns, rows, errors, so_far))

    def _count(self, campaign: Campaign, *, is_here: bool) -> None:
        self.counts["here"] += is_here
        self.counts["campaigns"] += 1
        self.counts["ad_groups"] += len(campaign.ad_groups)
        self.counts["ads"] += campaign.ad_count

    def _errors(self, problems: Sequence[Problem]) -> list[dict[str, Any]]:
        """Counts them all; the rows of those that are kept."""
        kept = problems[: MOST_ERRORS_KEPT - self.kept]
        first = self.kept
        self.errors += len(problems)
        self.kept += len(kept)
        return [
            {
                "import_id": self.id,
                "number": number,
                "line": each.line,
                "column_name": each.column,
                "message": each.message,
            }
            for number, each in enumerate(kept, start=first)
        ]

    def _store(
        self,
        table: Any,
        rows: Sequence[Mapping[str, Any]],
        errors: Sequence[Mapping[str, Any]],
        so_far: Mapping[str, int],
        connection: WriteConnection,
    ) -> None:
        _get_on(connection, self.id, {**so_far, "touched_at": self.engine.now()})
        for each, into in ((table, rows), (import_errors, errors)):
            if into:
                connection.execute(insert(each), into)


def _next_of(slices: Iterator[Slice]) -> tuple[Slice, list[dict[str, Any]]] | None:
    """The next slice, with the rows of its parts as they are stored."""
    found = next(slices, None)
    if found is None:
        return None
    rows = [
        {
            "campaign_id": campaign_id,
            "line": part.rows[0].line,
            "rows": len(part.rows),
            "body": _encode(part).decode(),
        }
        for campaign_id, part in found.parts.items()
    ]
    found.parts.clear()
    return found, rows


class _Staged(NamedTuple):
    campaign_id: str
    line: int
    rows: int


def _staged(id: int, after: str | None, connection: ReadConnection) -> list[_Staged]:
    """The next campaigns of an import, in the order of their ids."""
    table = import_parts
    beyond = true() if after is None else table.c.campaign_id > after
    statement = (
        select(table.c.campaign_id, func.min(table.c.line), func.sum(table.c.rows))
        .where(table.c.import_id == id, beyond)
        .group_by(table.c.campaign_id)
        .order_by(table.c.campaign_id)
        .limit(CAMPAIGNS_AT_ONCE)
    )
    return [_Staged(campaign_id, line, int(rows)) for campaign_id, line, rows in connection.rows(statement)]


def _here(ids: Sequence[str], connection: ReadConnection) -> set[str]:
    """Which of these campaigns there are."""
    return {row[0] for row in connection.rows(select(campaigns.c.id).where(campaigns.c.id.in_(ids)))}


def _in_batches(staged: Sequence[_Staged]) -> Iterator[list[_Staged]]:
    batch: list[_Staged] = []
    rows = 0
    for each in staged:
        if batch and rows + each.rows > ROWS_AT_ONCE:
            yield batch
            batch, rows = [], 0
        batch.append(each)
        rows += min(each.rows, MOST_ADS)
    if batch:
        yield batch


def read_parts(id: int, campaign_ids: Sequence[str], connection: ReadConnection) -> dict[str, list[str]]:
    """By campaign, in the order of the file. One that has far too many rows is not read."""
    table = import_parts
    here = (table.c.import_id == id) & table.c.campaign_id.in_(campaign_ids)
    sizes = select(table.c.campaign_id).where(here).group_by(table.c.campaign_id)
    few = [row[0] for row in connection.rows(sizes.having(func.sum(table.c.rows) <= MOST_ADS))]
    found: dict[str, list[str]] = {}
    rows = select(table.c.campaign_id, table.c.body).where(table.c.import_id == id, table.c.campaign_id.in_(few))
    for campaign_id, body in connection.rows(rows.order_by(table.c.campaign_id, table.c.number)):
        found.setdefault(campaign_id, []).append(body)
    return found


def _merge_all(some: Sequence[_Staged], parts: Mapping[str, list[str]]) -> list[Merged]:
    return [
        Merged(None, [too_many_ads(each.rows, line=each.line)])
        if each.campaign_id not in parts
        else merge_parts(parts[each.campaign_id])
        for each in some
    ]


def merge_parts(bodies: Sequence[str]) -> Merged:
    return merge([_decode(body) for body in bodies])


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
    if row["state"] not in _ENDED:
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

    ended = [each for each in some if each.state in _ENDED and not each.has_counts]
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
    _drop_staged(connection, id)


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
