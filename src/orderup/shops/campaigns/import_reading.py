"""A file of campaigns is read into tables of the shop: what can be placed, and what is wrong."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import func, insert, select, true, update

from orderup.db.database import ReadConnection, WriteConnection
from orderup.engine.engine import Engine
from orderup.errors import Conflict, Invalid
from orderup.model.ids import show_id
from orderup.shops.campaigns.campaign import MOST_ADS, Campaign
from orderup.shops.campaigns.import_forgetting import delete_some, tidy_up
from orderup.shops.campaigns.imports import MOST_ERRORS_KEPT, Import, ImportState, drop_staged, find_import
from orderup.shops.campaigns.reading import Merged, Part, Problem, Slice, merge, read_slices, too_many_ads
from orderup.shops.campaigns.tables import campaigns, import_campaigns, import_errors, import_parts, imports

# So many rows of the file are made into campaigns at once, and so many campaigns of few rows; that is little memory.
ROWS_AT_ONCE, CAMPAIGNS_AT_ONCE = 4_000, 500
_decode = msgspec.json.Decoder(Part).decode
_encode = msgspec.json.Encoder().encode
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
        while await database.write(partial(delete_some, id)):
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


def _end_reading(
    connection: WriteConnection, id: int, state: ImportState, counts: Mapping[str, int], *, now: int
) -> None:
    placed = 0 if state is ImportState.DISCARDED else None
    _get_on(connection, id, {**counts, "state": state, "touched_at": now, "placed": placed})
    if state is ImportState.DISCARDED:
        drop_staged(connection, id)


def _get_on(connection: WriteConnection, id: int, values: Mapping[str, Any]) -> None:
    """Raises Conflict if somebody has given it up meanwhile."""
    here = (imports.c.id == id) & (imports.c.state == ImportState.READING)
    if connection.execute(update(imports).where(here).values(values)).rowcount != 1:
        raise Conflict(f"Import {show_id(id)} was given up: for ten minutes it did not get on. Send the file again.")


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
