"""Placings and changes that write rows of a shop, too, and changes with a key: in threads, a few to a transaction.

If one of them fails, the transaction is undone and each is done again in one of its own: only the culprit fails.
Whoever waits to hear whether a lost commit went through holds up nobody else.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from orderup.db.database import Change, Placing
from orderup.db.postgres_entry import Entry, Item, take
from orderup.db.postgres_link import DRIVER_ERRORS, PLANNED_ONCE, Link, translate
from orderup.db.postgres_settle import settle
from orderup.db.postgres_write import WRITERS, OutcomeUnknown, PostgresThreads, PostgresWrite
from orderup.errors import Unavailable

# Functions of shops take their time, and hold up those who share their transaction.
MOST_IN_A_BATCH = 32
ROUNDS = 3
# How often a connection may be lost over one item.
MOST_TRIES = 3
CLOSE_SECONDS = 5.0


class PostgresAlso:
    """`committed`: see `PostgresWriters`."""

    def __init__(self, url: str, threads: PostgresThreads, *, committed: Callable[[int, float], None]) -> None:
        self._threads, self._committed = threads, committed
        self._waiting: deque[Entry[Item]] = deque()
        self._writing: set[asyncio.Task[None]] = set()
        self._is_due = False
        self._settle_link, self._turn = Link(url, PLANNED_ONCE), asyncio.Lock()
        self._settling: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Write what waits, as far as that goes quickly."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + CLOSE_SECONDS
        while (self._waiting or self._writing or self._settling) and loop.time() < give_up:  # noqa: ASYNC110  # once in a life, at its end
            await asyncio.sleep(0.01)
        for task in (*self._writing, *self._settling):
            task.cancel()
        await asyncio.gather(*self._writing, *self._settling, return_exceptions=True)
        for entry in self._waiting:
            entry.fail(Unavailable("The database was closed."))
        await self._settle_link.close()

    def submit(self, item: Item) -> asyncio.Future[Any]:
        """Put an item into the next batch."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(Entry(item, future))
        self._come_soon()
        return future

    def _come_soon(self) -> None:
        if self._waiting and not self._is_due and len(self._writing) < WRITERS:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._start, ROUNDS)

    def _start(self, rounds: int) -> None:
        if rounds:
            asyncio.get_running_loop().call_soon(self._start, rounds - 1)
            return
        self._is_due = False
        task = asyncio.create_task(self._write(take(self._waiting, MOST_IN_A_BATCH)), name="postgres: write with rows")
        self._writing.add(task)
        task.add_done_callback(self._done)
        self._come_soon()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._writing.discard(task)
        self._come_soon()

    async def _write(self, batch: Sequence[Entry[Item]]) -> None:
        items = [entry.item for entry in batch]
        began = time.perf_counter()
        outcome: list[Any] | BaseException
        work = self._threads.write(lambda connection: write_all(connection, items))
        try:
            [outcome] = await asyncio.gather(work, return_exceptions=True)
        except asyncio.CancelledError:
            for entry in batch:
                entry.fail(Unavailable("The database was closed before it was known whether this was written."))
            raise
        if not isinstance(outcome, BaseException):
            for entry, each in zip(batch, outcome, strict=True):
                entry.end(each)
            self._committed(len(batch), time.perf_counter() - began)
        elif isinstance(outcome, OutcomeUnknown):
            self._settle_beside(batch, outcome)
        elif len(batch) == 1 or isinstance(outcome, Unavailable):
            for entry in batch:
                entry.fail(outcome)
        else:
            for entry in batch:
                await self._write([entry])

    def _settle_beside(self, batch: Sequence[Entry[Item]], unknown: OutcomeUnknown) -> None:
        """Find out what was committed, while others are written."""
        task = asyncio.create_task(self._settle(batch, unknown), name="postgres: settle rows")
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settle(self, batch: Sequence[Entry[Item]], unknown: OutcomeUnknown) -> None:
        try:
            async with self._turn:
                items = [entry.item for entry in batch]
                stored = await settle(self._settle_link, items, pid=unknown.pid, born=unknown.born)
        except DRIVER_ERRORS as error:
            for entry in batch:
                entry.fail(translate(error))
            return
        except asyncio.CancelledError:
            for entry in batch:
                entry.fail(unknown)
            raise
        if any(stored):
            self._committed(sum(stored), 0.0)
        for entry, is_stored in zip(batch, stored, strict=True):
            entry.tries += 1
            if is_stored:
                entry.end(None)
            elif entry.tries > MOST_TRIES:
                entry.fail(Unavailable("The connection to the database was lost. Nothing was changed."))
            else:
                self._waiting.append(entry)
        self._come_soon()


def write_all(connection: PostgresWrite, items: Sequence[Item]) -> list[Any]:
    """An outcome for each."""
    outcomes: list[Any] = [None] * len(items)
    placings = [(index, item) for index, item in enumerate(items) if isinstance(item, Placing)]
    changes = [(index, item) for index, item in enumerate(items) if isinstance(item, Change)]
    for (index, _), outcome in zip(placings, connection.place_all([each for _, each in placings]), strict=True):
        outcomes[index] = outcome
    for (index, _), refusal in zip(changes, connection.change_all([each for _, each in changes]), strict=True):
        outcomes[index] = refusal
    return outcomes
