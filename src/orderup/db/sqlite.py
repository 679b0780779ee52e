"""SQLite: one file, one writer thread a process, right with several processes too.

All writes of a process go through one thread, which takes whatever waits, up to `MOST_IN_A_BATCH`, writes it in one
transaction and tells the event loop of all of it at once. WAL with `synchronous=FULL`: what was answered is on disk.
Transactions begin IMMEDIATE, because one that reads first could not be made a writer once another process has written;
and the lock is tried for in short random steps of our own, because SQLite's busy handler lets writers starve.
"""

import asyncio
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import structlog
from sqlalchemy import Table, create_engine, select
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from orderup.db.claims import SqliteClaims
from orderup.db.database import (
    Ask,
    Change,
    Claims,
    CommitObserver,
    GateClosed,
    KeyTaken,
    Placing,
    ReadConnection,
    Refusal,
    WriteConnection,
    sole_key,
    tellable,
)
from orderup.db.migrate import Schema, migrate
from orderup.db.recent import RecentEvents
from orderup.db.rows import EVENT_COLUMNS, read_event
from orderup.db.sqlite_rows import quoted
from orderup.db.sqlite_write import SqliteWrite, load_operations
from orderup.errors import IdTaken, Misconfigured, StorageFull, Unavailable
from orderup.model.event import Event
from orderup.model.operation import Operation

T = TypeVar("T")
OLDEST_VERSION = (3, 35)  # the first with `returning`
# More would let the event loop and the writer wait longer for each other, and win nothing. A power of two: its rows go
# into the fewest statements (sqlite_rows.py).
MOST_IN_A_BATCH = 512
# Batches with the writer: it goes on with the next while the event loop works on what came of the last.
MOST_BATCHES = 2
# As many must wait before a second batch is made.
ENOUGH_FOR_ANOTHER = 64
# Turns of the event loop between the wish to write and the writing: in that time others join the batch.
ROUNDS = 3
# How often the writer looks whether another process has written. Each time it may have to wait for the interpreter.
LOOK_EVERY_SECONDS = 0.03
LOCK_PATIENCE_SECONDS = 10.0
# Pages in the log before the writer copies them back: few and it stalls often, many and it stalls long.
CHECKPOINT_PAGES = 4_000
log = structlog.get_logger(__name__)


Item = Placing | Change | Ask | Callable[[WriteConnection], Any]
Entry = tuple[Item, "asyncio.Future[Any]"]


class SqliteDatabase:
    """See `Database`. `path` None keeps everything in memory, seen by this process alone. `schemas`: shops' tables."""

    name = "sqlite"

    def __init__(self, path: Path | None, *, schemas: Sequence[Schema] = ()) -> None:
        self.path, self.schemas = path, schemas
        self._waiting: list[Entry] = []
        self._is_due = False
        self._handed_over = 0
        self._batches: queue.SimpleQueue[list[Entry] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._local = threading.local()
        self._engine: Engine | None = None
        self._own_listeners: list[Callable[[], None]] = []
        self._other_listeners: list[Callable[[], None]] = []
        self._observers: list[CommitObserver] = []
        self.recent = RecentEvents()
        self._data_version = 0
        self._looks_at = 0.0
        self.commits = 0

    # opening and closing

    async def open(self) -> None:
        if sqlite3.sqlite_version_info < OLDEST_VERSION:
            oldest = ".".join(map(str, OLDEST_VERSION))
            raise Misconfigured(
                f"This Python comes with SQLite {sqlite3.sqlite_version}. orderup needs {oldest} or newer: use another "
                "Python, or PostgreSQL (DATABASE_URL)."
            )
        self._loop = asyncio.get_running_loop()
        self._engine = await asyncio.to_thread(self._make_engine)
        try:
            await asyncio.to_thread(migrate, self._engine, self.schemas)
        except (sqlite3.Error, DBAPIError) as error:
            raise translate_first(error, self.path) from error
        started: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run_writer, args=(started,), name="sqlite-writer", daemon=True)
        self._thread.start()
        try:
            await started
        except BaseException:
            self._thread = None
            self._engine.dispose()
            raise
        if self.path is not None:
            self._readers = ThreadPoolExecutor(4, thread_name_prefix="sqlite-reader")

    def _make_engine(self) -> Engine:
        if self.path is None:
            return create_engine(
                "sqlite://",
                poolclass=StaticPool,
                isolation_level="AUTOCOMMIT",
                connect_args={"check_same_thread": False, "cached_statements": 256},
                hide_parameters=True,  # names of customers do not belong into logs
            )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Misconfigured(
                f"The folder {self.path.parent} for the database cannot be made: {error.strerror}. Set DATABASE_URL to "
                "a file in another one."
            ) from error
        return create_engine(
            f"sqlite:///{self.path}",
            isolation_level="AUTOCOMMIT",
            connect_args={"check_same_thread": False, "timeout": 0, "cached_statements": 256},
            hide_parameters=True,  # names of customers do not belong into logs
        )

    async def close(self) -> None:
        if self._thread is not None:
            self._batches.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None
        if self._readers is not None:
            await asyncio.to_thread(self._readers.shutdown)
        if self._engine is not None:
            self._engine.dispose()

    # hot verbs

    def place(self, placing: Placing) -> "asyncio.Future[KeyTaken | None]":
        return self.submit(placing)

    def change(self, change: Change) -> "asyncio.Future[Refusal | None]":
        return self.submit(change)

    async def claim(self, ask: Ask) -> Claims:
        return await self.submit(ask)  # type: ignore[no-any-return]

    async def write(
        self,
        fn: Callable[[WriteConnection], T],
        *,
        about: int | None = None,  # noqa: ARG002  # all share
        known: Operation | None = None,  # noqa: ARG002  # it is loaded without a round trip
    ) -> T:
        return await self.submit(fn)  # type: ignore[no-any-return]

    def submit(self, item: Item) -> asyncio.Future[Any]:
        """Put an item into the next batch."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append((item, future))
        self._come_soon()
        return future

    def _come_soon(self) -> None:
        if self._handed_over == MOST_BATCHES:
            return
        if len(self._waiting) >= MOST_IN_A_BATCH:
            self._hand_over()  # nobody else has room in it
        elif not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._let_join, ROUNDS)

    def _let_join(self, rounds: int) -> None:
        """Let whoever is about to submit join the batch."""
        if rounds:
            self._loop.call_soon(self._let_join, rounds - 1)
            return
        self._is_due = False
        self._hand_over()

    def _hand_over(self) -> None:
        """Give the writer batches."""
        while self._handed_over < MOST_BATCHES and len(self._waiting) >= (
            ENOUGH_FOR_ANOTHER if self._handed_over else 1
        ):
            batch, self._waiting = self._waiting[:MOST_IN_A_BATCH], self._waiting[MOST_IN_A_BATCH:]
            self._handed_over += 1
            self._batches.put(batch)

    async def load(self, ids: Sequence[int]) -> Mapping[int, Operation]:
        return await self.read(lambda connection: load_operations(_driver_of(connection), ids))

    async def look_up(self, table: Table, ids: Sequence[int]) -> Mapping[int, Mapping[str, Any]]:
        key = table.c[sole_key(table)]
        found = select(table).where(key.in_(ids))
        rows = await self.read(lambda connection: connection.execute(found).mappings().all())
        return {row[key.name]: {**row} for row in rows}

    async def read(self, fn: Callable[[ReadConnection], T]) -> T:
        if self._readers is None:
            return await self.write(fn)
        return await self._loop.run_in_executor(self._readers, self._read_in_thread, fn)

    def _read_in_thread(self, fn: Callable[[ReadConnection], T]) -> T:
        connection: Connection | None = getattr(self._local, "connection", None)
        try:
            if connection is None:
                assert self._engine is not None
                connection = self._engine.connect()
                connection.exec_driver_sql("pragma query_only = 1")
                connection.exec_driver_sql("pragma busy_timeout = 5000")
                self._local.connection = connection
            connection.exec_driver_sql("begin")
            try:
                return fn(ReadConnection(connection))
            finally:
                # after an error of the file's SQLite may have ended the transaction itself
                driver: Any = connection.connection.driver_connection
                if driver.in_transaction:
                    connection.exec_driver_sql("rollback")
        except (sqlite3.Error, DBAPIError) as error:
            self._local.connection = None
            if connection is not None:
                # whoever keeps the error keeps this frame, and with it a place among the connections
                connection.invalidate()
                connection.close()
            raise translate(error) from error

    # the log

    def log(self, after: int) -> "SqliteLog":
        return SqliteLog(self, after)

    async def end_of_log(self) -> int:
        return await self.read(
            lambda connection: connection.connection.exec_driver_sql(
                "select coalesce((select seq from sqlite_sequence where name = 'events'), 0)"
            ).scalar_one()
        )

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Call `listener` in the event loop after each commit of this process."""
        self._own_listeners.append(listener)

    def observe_commits(self, observer: CommitObserver) -> None:
        self._observers.append(observer)

    async def watch(self, changed: Callable[[], None]) -> None:
        """Commits of other processes are seen by `PRAGMA data_version`, which our own do not raise."""
        self._other_listeners.append(changed)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._other_listeners.remove(changed)

    # the writer thread

    def _run_writer(self, started: asyncio.Future[None]) -> None:
        assert self._engine is not None
        try:
            connection = self._engine.connect()
            driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
            self._prepare(driver)
        except (sqlite3.Error, DBAPIError, Unavailable) as error:
            self._loop.call_soon_threadsafe(started.set_exception, translate(error))
            return
        writer = Writer(connection, driver)
        self._loop.call_soon_threadsafe(started.set_result, None)
        while (batch := self._next_batch(driver)) is not None:
            began = time.perf_counter()
            outcomes = writer.commit([item for item, _ in batch])
            seconds = time.perf_counter() - began
            self._loop.call_soon_threadsafe(self._tell, batch, outcomes, writer.take_told(), seconds)
            if time.monotonic() >= self._looks_at:
                self._look_for_others(driver)
        connection.close()

    def _prepare(self, driver: sqlite3.Connection) -> None:
        wanted = ["cache_size = -16384"]
        if self.path is not None:
            wanted = ["journal_mode = wal", "synchronous = full", f"wal_autocheckpoint = {CHECKPOINT_PAGES}", *wanted]
        for each in wanted:
            patiently(driver, f"pragma {each}")  # another process may have just opened or closed the file

    def _next_batch(self, driver: sqlite3.Connection) -> list[Entry] | None:
        while True:
            try:
                return self._batches.get(timeout=LOOK_EVERY_SECONDS)
            except queue.Empty:
                self._look_for_others(driver)

    def _look_for_others(self, driver: sqlite3.Connection) -> None:
        self._looks_at = time.monotonic() + LOOK_EVERY_SECONDS
        try:
            version = driver.execute("pragma data_version").fetchone()[0]
        except sqlite3.Error:
            return  # another process opens, closes or mends the file just now, or it is away: the next look will tell
        if version != self._data_version:
            self._data_version = version
            self._loop.call_soon_threadsafe(self._tell_others_wrote)

    def _tell_others_wrote(self) -> None:
        for listener in self._other_listeners:
            listener()

    def _tell(
        self, batch: Sequence[Entry], outcomes: Sequence[Any], told: Sequence[Sequence[Event]], seconds: float
    ) -> None:
        self.commits += 1
        self._handed_over -= 1
        for events in told:
            self.recent.add(events)
        for observer in self._observers:
            observer(len(batch), seconds)
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if future.done():
                continue
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        for listener in self._own_listeners:
            listener()
        # those who were told come back with what follows: they get the same rounds to join the next batch
        if self._waiting:
            self._come_soon()


class Writer:
    """Runs in the writer thread: turns a batch into a transaction and an outcome for each item."""

    def __init__(self, connection: Connection, driver: sqlite3.Connection) -> None:
        self.driver = driver
        self.write = SqliteWrite(connection, driver)
        self.events = self.write.events
        self.claims = SqliteClaims(driver, self.events)
        self._told: list[Sequence[Event]] = []

    def take_told(self) -> list[Sequence[Event]]:
        """The events of each transaction committed since this was asked last."""
        told, self._told = self._told, []
        return told

    def commit(self, items: Sequence[Item]) -> list[Any]:
        """An outcome for each item: a value, or the exception that it raised or that kept it from being written."""
        try:
            return self._in_transaction(lambda: self._hot(items))
        except (StorageFull, Unavailable) as error:
            return [error] * len(items)
        except BaseException:  # noqa: BLE001  whatever it was, this thread must live
            # one item broke a constraint, or could not be bound, and took the others with it: each on its own
            return [self._alone(item) for item in items]

    def _alone(self, item: Item) -> Any:
        try:
            return self._in_transaction(lambda: self._hot([item]))[0]
        except (sqlite3.Error, DBAPIError) as error:
            return translate(error)
        except BaseException as error:  # noqa: BLE001  whoever asked is told, whatever it is
            return tellable(error)

    def _in_transaction(self, fn: Callable[[], T]) -> T:
        begin_immediate(self.driver)
        try:
            value = fn()
            told = self.events.take()
            self.driver.execute("commit")
        except BaseException as error:
            self.events.back_to(0)
            if self.driver.in_transaction:
                self.driver.execute("rollback")
            if isinstance(error, sqlite3.OperationalError | DBAPIError) and is_storage(error):
                raise translate(error) from error
            raise
        self._told.append(told)
        return value

    def _hot(self, items: Sequence[Item]) -> list[Any]:
        outcomes: list[Any] = [None] * len(items)
        placings: list[Placing] = []
        changes: dict[int, tuple[int, Change]] = {}
        later: list[int] = []
        for index, item in enumerate(items):
            if isinstance(item, Change) and item.key is None and item.also is None and item.after.id not in changes:
                changes[item.after.id] = index, item
            elif isinstance(item, Placing) and item.key is None and item.also is None:
                placings.append(item)
            else:
                later.append(index)
        if placings:
            self.write.insert(placings)
        if changes:
            open_ones = self.write.gates([change for _, change in changes.values()])
            self.write.store([change for id, (_, change) in changes.items() if id in open_ones])
            for id in changes.keys() - open_ones:
                outcomes[changes[id][0]] = GateClosed()
        for index in later:
            outcomes[index] = self._one(items[index])
        return outcomes

    def _one(self, item: Item) -> Any:
        """An item that may fail by itself, in a savepoint of its own."""
        if isinstance(item, Ask):
            return self.claims.claim(item)
        self.driver.execute("savepoint item")
        mark = self.events.mark()
        try:
            if isinstance(item, Placing):
                outcome: Any = self.write.place(item)
            elif isinstance(item, Change):
                outcome = self.write.change(item)
            else:
                outcome = item(self.write)
        except BaseException as error:
            if isinstance(error, sqlite3.Error | DBAPIError) and is_storage(error):
                raise
            self.driver.execute("rollback to item")
            self.events.back_to(mark)
            outcome = translate(error) if isinstance(error, sqlite3.Error | DBAPIError) else tellable(error)
        self.driver.execute("release item")
        return outcome


def begin_immediate(driver: sqlite3.Connection) -> None:
    """Take the write lock. Raises Unavailable."""
    patiently(driver, "begin immediate")


def patiently(driver: sqlite3.Connection, statement: str) -> None:
    """Run what needs a lock, waiting for other processes in short random steps. Raises Unavailable."""
    give_up = time.monotonic() + LOCK_PATIENCE_SECONDS
    while True:
        try:
            driver.execute(statement)
            return
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() > give_up:
                raise translate(error) from error
            time.sleep(random.uniform(0.0001, 0.002))  # noqa: S311  spreads tries, keeps no secret


def _is_busy(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _driver_error(error: BaseException) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR}
AWAY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_CORRUPT}


def is_storage(error: BaseException) -> bool:
    """Whether the file is at fault, not the statement."""
    return getattr(_driver_error(error), "sqlite_errorcode", 0) & 0xFF in FULL | AWAY


def translate(error: BaseException) -> Exception:
    """A driver's error as ours; one that is no fault of the file stays as it is."""
    original = _driver_error(error)
    code = getattr(original, "sqlite_errorcode", 0) & 0xFF
    if code in FULL:
        return StorageFull(f"The database cannot be written: {original}. Nothing was changed. Make room on its disk.")
    if code in AWAY:
        return Unavailable(f"The database does not answer: {original}. Nothing was changed.")
    if isinstance(original, sqlite3.IntegrityError) and "operations.id" in str(original):
        return IdTaken("There is an operation of this id already. Nothing was changed.")
    assert isinstance(error, Exception)
    return error


def translate_first(error: BaseException, path: Path | None) -> Exception:
    """As `translate`, for the first look at a file: one that is no database is the owner's turn."""
    original = _driver_error(error)
    if getattr(original, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_NOTADB:
        return Misconfigured(f"{path} is a file of another kind, not a database. Set DATABASE_URL to another one.")
    return translate(error)


def _driver_of(connection: ReadConnection) -> sqlite3.Connection:
    driver: Any = connection.connection.connection.driver_connection
    return driver  # type: ignore[no-any-return]


class SqliteLog:
    """SQLite has one writer at a time, so `seq` is the order of commits and nothing can appear behind the reader."""

    def __init__(self, database: SqliteDatabase, after: int) -> None:
        self.database = database
        self.position = after

    async def read(self, most: int) -> Sequence[Event]:
        # what is not in memory another process wrote, or this one before it had this reader
        found = self.database.recent.after(self.position, most) or await self._fetch(most)
        if found:
            self.position = found[-1].seq
        return found

    async def _fetch(self, most: int) -> list[Event]:
        statement = f"select seq, {quoted(EVENT_COLUMNS)} from events where seq > ? order by seq limit ?"

        def fetch(connection: ReadConnection) -> list[Event]:
            rows = connection.connection.exec_driver_sql(statement, (self.position, most)).fetchall()
            return [read_event(row) for row in rows]

        return await self.database.read(fetch)
