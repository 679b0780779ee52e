"""Functions that write and may share a transaction, such as the steps of many orders: in threads, a few at a time.

Each by itself they would wait for the disk one after the other. In a transaction they run in the order of the
operations that they are about, so that no two transactions wait for each other; all of these are loaded before the
first one runs. If one fails, the transaction is undone and each runs again in one of its own: only the culprit fails.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from orderup.db.database import WriteConnection
from orderup.db.postgres_write import WRITERS, OutcomeUnknown, PostgresThreads, PostgresWrite
from orderup.errors import Unavailable

T = TypeVar("T")
# Functions of shops take their time, and hold up those who share their transaction.
MOST_IN_A_BATCH = 32
# As many must wait before a second batch is begun beside the first.
ENOUGH_FOR_ANOTHER = 16
ROUNDS = 3
CLOSE_SECONDS = 5.0


class _Entry(NamedTuple):
    about: int
    fn: Callable[[WriteConnection], Any]
    future: "asyncio.Future[Any]"


class PostgresTogether:
    """`committed`: see `PostgresWriters`."""

    def __init__(self, threads: PostgresThreads, *, committed: Callable[[int, float], None]) -> None:
        self._threads, self._committed = threads, committed
        self._waiting: list[_Entry] = []
        self._writing: set[asyncio.Task[None]] = set()
        self._is_due = False

    async def close(self) -> None:
        """Write what waits, as far as that goes quickly."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + CLOSE_SECONDS
        while (self._waiting or self._writing) and loop.time() < give_up:  # noqa: ASYNC110  # once in a life, at its end
            await asyncio.sleep(0.01)
        for task in self._writing:
            task.cancel()
        await asyncio.gather(*self._writing, return_exceptions=True)
        _fail(self._waiting, Unavailable("The database was closed."))

    async def write(self, fn: Callable[[WriteConnection], T], *, about: int) -> T:
        """Raises what `fn` raises, Unavailable, OutcomeUnknown."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Entry(about, fn, future))
        self._come_soon()
        return await future

    def _come_soon(self) -> None:
        enough = ENOUGH_FOR_ANOTHER if self._writing else 1
        if len(self._waiting) >= enough and not self._is_due and len(self._writing) < WRITERS:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._start, ROUNDS)

    def _start(self, rounds: int) -> None:
        """Let whoever is about to write join the batch."""
        if rounds:
            asyncio.get_running_loop().call_soon(self._start, rounds - 1)
            return
        self._is_due = False
        batch, self._waiting = self._waiting[:MOST_IN_A_BATCH], self._waiting[MOST_IN_A_BATCH:]
        batch.sort(key=lambda entry: entry.about)
        task = asyncio.create_task(self._write(batch), name="postgres: write together")
        self._writing.add(task)
        task.add_done_callback(self._done)
        self._come_soon()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._writing.discard(task)
        self._come_soon()

    async def _write(self, batch: Sequence[_Entry]) -> None:
        began = time.perf_counter()
        outcome: list[Any] | BaseException
        work = self._threads.write(lambda connection: _run_all(connection, batch))
        try:
            [outcome] = await asyncio.gather(work, return_exceptions=True)
        except asyncio.CancelledError:
            _fail(batch, Unavailable("The database was closed before it was known whether this was written."))
            raise
        if not isinstance(outcome, BaseException):
            for entry, value in zip(batch, outcome, strict=True):
                if not entry.future.done():
                    entry.future.set_result(value)
            self._committed(len(batch), time.perf_counter() - began)
        elif len(batch) == 1 or isinstance(outcome, Unavailable | OutcomeUnknown):
            _fail(batch, outcome)
        else:
            for entry in batch:
                await self._write([entry])


def _run_all(connection: PostgresWrite, batch: Sequence[_Entry]) -> list[Any]:
    connection.load_all([entry.about for entry in batch])
    return [entry.fn(connection) for entry in batch]


def _fail(entries: Sequence[_Entry], error: BaseException) -> None:
    for entry in entries:
        if not entry.future.done():
            entry.future.set_exception(error)
