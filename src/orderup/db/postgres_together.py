"""Functions that are each about one operation, such as the steps of many orders: written together.

Each function is first run without a connection, in the event loop, on its operation as the caller knows it or as it is
loaded, many at once. If all it does is to change its operation and write rows of its shop that it knows, that goes with
others' changes (see `PostgresWriters`). If it asks for more, or its operation was changed meanwhile, it runs in a
thread, a few of them to a transaction, in the order of their operations. If one fails there, the transaction is undone
and each runs again in one of its own: only the culprit fails.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from msgspec.structs import replace

from orderup.db.database import WriteConnection, tellable
from orderup.db.noted import NeedsConnection, NoConnection, try_without
from orderup.db.postgres_link import PLANNED_ONCE, Link
from orderup.db.postgres_load import LOAD, read_loaded
from orderup.db.postgres_write import WRITERS, OutcomeUnknown, Outdated, PostgresThreads, PostgresWrite
from orderup.db.postgres_writers import PostgresWriters
from orderup.errors import Unavailable
from orderup.model.operation import Operation

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

    def __init__(
        self,
        url: str,
        threads: PostgresThreads,
        writers: PostgresWriters,
        *,
        committed: Callable[[int, float], None],
    ) -> None:
        self._threads, self._writers, self._committed = threads, writers, committed
        self._link = Link(url, PLANNED_ONCE)
        self._new: list[_Entry] = []
        self._loading: asyncio.Task[None] | None = None
        self._waiting: list[_Entry] = []
        self._writing: set[asyncio.Task[None]] = set()
        self._is_due = False

    async def close(self) -> None:
        """Write what waits, as far as that goes quickly."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + CLOSE_SECONDS
        while (self._loading or self._waiting or self._writing) and loop.time() < give_up:  # noqa: ASYNC110  # once in a life, at its end
            await asyncio.sleep(0.01)
        tasks = [*self._writing, *([self._loading] if self._loading else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        _fail([*self._new, *self._waiting], Unavailable("The database was closed."))
        await self._link.close()

    async def write(self, fn: Callable[[WriteConnection], T], *, about: int, known: Operation | None = None) -> T:
        """`known`: see `Database.write`. Raises what `fn` raises, Unavailable, OutcomeUnknown."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        entry = _Entry(about, fn, future)
        if known is None:
            self._load_soon(entry)
        else:
            self._note(entry, known, is_fresh=False)
        return await future

    # without a connection of their own

    def _load_soon(self, entry: _Entry) -> None:
        self._new.append(entry)
        if self._loading is None:
            self._loading = asyncio.create_task(self._load(), name="postgres: load what is written together")

    async def _load(self) -> None:
        try:
            while self._new:
                for _ in range(ROUNDS):
                    await asyncio.sleep(0)  # let whoever is about to write join
                some, self._new = self._new, []
                try:
                    rows = await self._link.fetch(LOAD, list({entry.about for entry in some}))
                except asyncio.CancelledError:
                    _fail(some, Unavailable("The database was closed."))
                    raise
                except Exception as error:  # noqa: BLE001  whatever it is, those who wait are told
                    _fail(some, error)
                    continue
                operations = read_loaded(rows)
                for entry in some:
                    self._note(entry, operations.get(entry.about), is_fresh=True)
        finally:
            self._loading = None

    def _note(self, entry: _Entry, operation: Operation | None, *, is_fresh: bool) -> None:
        """Find out what it writes and hand that to the writers, if no connection is needed for that. `is_fresh`: the
        operation was just loaded; else nobody is told no on the strength of it."""
        if entry.future.done():
            return
        connection = NoConnection(operation)
        try:
            value = try_without(entry.fn, connection)
        except NeedsConnection:
            self._hand_over(entry)
        except BaseException as error:  # noqa: BLE001  of a shop's code: whoever called it is told
            if is_fresh:
                _fail([entry], tellable(error))
            else:
                self._load_soon(entry)
        else:
            if connection.changed is None:
                self._hand_over(entry)
                return
            writing = self._writers.submit(replace(connection.changed, rows=connection.noted))
            writing.add_done_callback(partial(self._written, entry, value))

    def _written(self, entry: _Entry, value: Any, writing: "asyncio.Future[Any]") -> None:
        if entry.future.done():
            return
        if writing.cancelled():
            _fail([entry], Unavailable("The database was closed."))
        elif isinstance(error := writing.exception(), Unavailable):
            _fail([entry], error)
        elif error is not None or writing.result() is not None:
            self._hand_over(entry)  # not to be written so, or changed meanwhile: it runs again
        else:
            entry.future.set_result(value)

    # in a transaction in a thread

    def _hand_over(self, entry: _Entry) -> None:
        self._waiting.append(entry)
        self._come_soon()

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
        elif isinstance(outcome, Outdated):
            late = outcome.operation_ids
            if others := [entry for entry in batch if entry.about not in late]:
                await self._write(others)
            for entry in (entry for entry in batch if entry.about in late):
                await self._write([entry])
        else:
            for entry in batch:
                await self._write([entry])


def _run_all(connection: PostgresWrite, batch: Sequence[_Entry]) -> list[Any]:
    if len(batch) > 1:
        connection.share([entry.about for entry in batch])
    return [entry.fn(connection) for entry in batch]


def _fail(entries: Sequence[_Entry], error: BaseException) -> None:
    for entry in entries:
        if not entry.future.done():
            entry.future.set_exception(error)
