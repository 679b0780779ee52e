"""One queue of placings and changes, and the connections that write them in batches.

A batch is whatever waits when a connection is free, up to a cap. Another connection joins in only when enough wait to
make two good batches: while the server works on one, the other is put together here. An operation is never in two
batches at once: see `Desk`.

What is refused is told apart: an operation that is at another version (GateClosed), and one that somebody else holds
locked without having changed it yet; that is tried again. A batch that cannot be written because of one row in it is
halved until that row is found. A connection lost in mid-commit leaves nothing to guess: see `settle`.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from orderup.db.database import Change, GateClosed, KeyTaken, Placing
from orderup.db.postgres_batch import change_arguments, place_arguments
from orderup.db.postgres_entry import AnItem, Entry, Item, take
from orderup.db.postgres_link import (
    DRIVER_ERRORS,
    PLANNED_ONCE,
    Link,
    Session,
    is_conflict,
    is_lost,
    is_storage,
    translate,
)
from orderup.db.postgres_settle import settle
from orderup.errors import Unavailable

CONNECTIONS = 3
MOST_IN_A_BATCH = 250
# As many must wait before the second connection takes some, too.
ENOUGH_FOR_ANOTHER = 32
# Turns of the event loop between the wish to write and the writing: in that time others join the batch.
ROUNDS = 3
# How long an item waits for the server to come back before its caller is told that it is away.
PATIENCE_SECONDS = 2.0
# When to try again for an operation that somebody holds locked, and how often.
LOCKED_SECONDS, MOST_TRIES = 0.005, 200
CLOSE_SECONDS = 5.0

_VERSIONS = "select id, version from operations where id = any($1::bigint[])"
_KEYS = "select key, operation_id, fingerprint from keys where key = any($1::text[])"

Write = Callable[[Session, Sequence[Entry[AnItem]]], Awaitable[None]]


class PostgresWriters:
    """`tag`: what other processes are told at a commit, None if nobody listens. `committed` is told how many items a
    commit was for and how many seconds it took."""

    def __init__(self, url: str, *, tag: Callable[[], str | None], committed: Callable[[int, float], None]) -> None:
        self._tag, self._committed = tag, committed
        self._links = [Link(url, PLANNED_ONCE) for _ in range(CONNECTIONS)]
        self._idle = list(self._links)
        self._waiting: deque[Entry[Item]] = deque()
        self._resting: set[Entry[Item]] = set()
        self._writing: set[asyncio.Task[None]] = set()
        self._settle_link, self._settling = Link(url, PLANNED_ONCE), asyncio.Lock()
        self._in_flight = 0
        self._is_due = False
        self._down_since: float | None = None

    async def open(self) -> None:
        """Raises the driver's error if the server is not there."""
        self._loop = asyncio.get_running_loop()
        for link in self._links:
            await link.connect()

    async def close(self) -> None:
        """Write what waits, as far as that goes quickly."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + CLOSE_SECONDS
        while (self._waiting or self._writing or self._resting) and loop.time() < give_up:  # noqa: ASYNC110  # once in a life, at its end
            await asyncio.sleep(0.01)
        for task in self._writing:
            task.cancel()
        await asyncio.gather(*self._writing, return_exceptions=True)
        for entry in (*self._waiting, *self._resting):
            entry.fail(Unavailable("The database was closed."))
        for link in (*self._links, self._settle_link):
            await link.close()

    def submit(self, item: Item) -> asyncio.Future[Any]:
        """Put an item into the next batch."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(Entry(item, future))
        self._come_soon()
        return future

    # putting batches together

    def _come_soon(self) -> None:
        if not self._idle:
            return
        if len(self._waiting) >= MOST_IN_A_BATCH:
            self._start()  # nobody else has room in it
        elif not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._let_join, ROUNDS)

    def _let_join(self, rounds: int) -> None:
        """Let whoever is about to submit join the batch."""
        if rounds:
            self._loop.call_soon(self._let_join, rounds - 1)
            return
        self._is_due = False
        self._start()

    def _start(self) -> None:
        """Start batches."""
        waiting, idle = self._waiting, self._idle
        while waiting and idle and (len(idle) == CONNECTIONS or len(waiting) >= ENOUGH_FOR_ANOTHER):
            self._begin(idle.pop(), self._take())

    def _take(self) -> list[Entry[Item]]:
        """The next batch: about half of what is in flight, so that the other half fills the other connection."""
        waiting = self._waiting
        most = min(MOST_IN_A_BATCH, max(ENOUGH_FOR_ANOTHER, (len(waiting) + self._in_flight) // 2))
        batch = take(waiting, most)
        self._in_flight += len(batch)
        return batch

    def _begin(self, link: Link, batch: Sequence[Entry[Item]]) -> None:
        task = self._loop.create_task(self._carry_out(link, batch), name="postgres: write a batch")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _carry_out(self, link: Link, batch: Sequence[Entry[Item]]) -> None:
        placings = [cast("Entry[Placing]", entry) for entry in batch if isinstance(entry.item, Placing)]
        changes = [cast("Entry[Change]", entry) for entry in batch if isinstance(entry.item, Change)]
        try:
            if placings:
                await self._write(link, self._place, placings)
            if changes:
                await self._write(link, self._change, changes)
        finally:
            for entry in batch:
                if not entry.is_elsewhere:
                    entry.fail(Unavailable("It was not written."))
            self._in_flight -= len(batch)
            self._idle.append(link)
            if self._waiting:
                self._come_soon()

    # writing them

    async def _write(self, link: Link, write: Write[AnItem], entries: Sequence[Entry[AnItem]]) -> None:
        """Give each entry its outcome, or see to it that it is tried again."""
        try:
            session = await self._connect(link)
        except DRIVER_ERRORS as error:
            for entry in entries:
                entry.fail(translate(error))
            return
        began = time.perf_counter()
        try:
            await write(session, entries)
        except DRIVER_ERRORS as error:
            await self._write_failed(link, write, entries, error)
        except Exception as error:  # noqa: BLE001  what is written cannot be put into words: whoever brought it is told
            await self._write_apart(link, write, entries, error)
        else:
            self._committed(len(entries), time.perf_counter() - began)

    async def _connect(self, link: Link) -> Session:
        """Waits for the server as long as it has been away for a moment only. Raises the driver's error."""
        while True:
            try:
                session = await link.connect()
            except DRIVER_ERRORS:
                now = self._loop.time()
                self._down_since = self._down_since or now
                if now - self._down_since > PATIENCE_SECONDS:
                    raise
                await link.rest()
            else:
                self._down_since = None
                return session

    async def _write_failed(
        self, link: Link, write: Write[AnItem], entries: Sequence[Entry[AnItem]], error: BaseException
    ) -> None:
        if is_lost(error):
            session = link.session
            link.drop()
            assert session is not None
            self._settle_beside(session, entries)
        elif is_conflict(error):
            self._try_again(entries, error)
        elif is_storage(error):
            for entry in entries:
                entry.fail(translate(error))
        else:
            await self._write_apart(link, write, entries, translate(error))

    async def _write_apart(
        self, link: Link, write: Write[AnItem], entries: Sequence[Entry[AnItem]], error: Exception
    ) -> None:
        """One of them cannot be stored, and took the others with it."""
        if len(entries) == 1:
            entries[0].fail(error)
            return
        middle = len(entries) // 2
        await self._write(link, write, entries[:middle])
        await self._write(link, write, entries[middle:])

    async def _place(self, session: Session, entries: Sequence[Entry[Placing]]) -> None:
        statement, arguments = place_arguments([entry.item for entry in entries], tag=self._tag())
        rows = await session.fetch(statement, *arguments)
        if len(rows) == len(entries):
            for entry in entries:
                entry.end(None)
            return
        inserted = {row[0] for row in rows}
        for entry in entries:
            if entry.item.operation.id in inserted:
                entry.end(None)
        await self._tell_whose_keys(session, [entry for entry in entries if entry.item.operation.id not in inserted])

    async def _tell_whose_keys(self, session: Session, entries: Sequence[Entry[Placing]]) -> None:
        keys = [entry.item.key.key for entry in entries if entry.item.key is not None]
        found = {row[0]: KeyTaken(row[1], row[2]) for row in await session.fetch(_KEYS, keys)}
        gone = []
        for entry in entries:
            taken = found.get(entry.item.key.key) if entry.item.key is not None else None
            if taken is not None:
                entry.end(taken)
            else:
                gone.append(entry)  # retention took the key between the two looks
        self._try_again(gone)

    async def _change(self, session: Session, entries: Sequence[Entry[Change]]) -> None:
        statement, arguments = change_arguments([entry.item for entry in entries], tag=self._tag())
        rows = await session.fetch(statement, *arguments)
        if len(rows) == len(entries):
            for entry in entries:
                entry.end(None)
            return
        accepted = {row[0] for row in rows}
        refused = []
        for entry in entries:
            if entry.item.after.id in accepted:
                entry.end(None)
            else:
                refused.append(entry)
        versions = dict(await session.fetch(_VERSIONS, [entry.item.after.id for entry in refused]))
        locked = []
        for entry in refused:
            if versions.get(entry.item.after.id) == entry.item.before.version:
                locked.append(entry)
            else:
                entry.end(GateClosed())
        self._try_again(locked)

    # trying again

    def _try_again(self, entries: Sequence[Entry[Any]], error: BaseException | None = None, *, weight: int = 1) -> None:
        """In a moment, up to a number of times; `weight`: as how many tries this one counts."""
        some = []
        for entry in entries:
            entry.tries += weight
            if entry.tries <= MOST_TRIES:
                entry.is_elsewhere = True
                some.append(entry)
            elif error is not None:
                entry.fail(translate(error))
            else:
                entry.end(GateClosed())
        if some:
            self._resting.update(some)
            self._loop.call_later(LOCKED_SECONDS, self._put_back, some)

    def _put_back(self, entries: Sequence[Entry[Item]]) -> None:
        """They have waited longest, so they go first."""
        self._resting.difference_update(entries)
        self._waiting.extendleft(reversed(entries))
        self._come_soon()

    def _settle_beside(self, lost: Session, entries: Sequence[Entry[Any]]) -> None:
        """Find out what was committed, while the link goes on with others."""
        for entry in entries:
            entry.is_elsewhere = True
        task = self._loop.create_task(self._settle(lost, entries), name="postgres: settle a batch")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _settle(self, lost: Session, entries: Sequence[Entry[Item]]) -> None:
        unsure = [entry for entry in entries if not entry.future.done()]
        try:
            async with self._settling:
                stored = await settle(self._settle_link, [entry.item for entry in unsure], pid=lost.pid, born=lost.born)
            for entry, is_stored in zip(unsure, stored, strict=True):
                if is_stored:
                    entry.end(None)
            if any(stored):
                self._committed(sum(stored), 0.0)
            missing = [entry for entry in unsure if not entry.future.done()]
            self._try_again(missing, weight=MOST_TRIES // 3)
        except DRIVER_ERRORS as error:
            for entry in unsure:
                entry.fail(translate(error))
        finally:
            for entry in unsure:
                if entry not in self._resting:
                    entry.fail(Unavailable("The database was closed before it was known whether this was written."))
