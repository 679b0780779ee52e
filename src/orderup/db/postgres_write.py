"""Rare writes on PostgreSQL, and those that come with rows of a shop: functions in threads, on psycopg.

The hot statements run here, too, on the driver's own cursor: one text for both drivers.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from random import Random
from typing import Any, TypeVar

import psycopg
from sqlalchemy import create_engine
from sqlalchemy.engine import Connection, Engine

from orderup.db.database import (
    Change,
    GateClosed,
    Key,
    KeyTaken,
    Placing,
    ReadConnection,
    Refusal,
    WriteConnection,
    tellable,
)
from orderup.db.postgres_batch import CHANNEL, KEY_COLUMNS, change_arguments, place_arguments, quoted
from orderup.db.postgres_link import (
    BORN,
    CONNECT_SECONDS,
    DRIVER_ERRORS,
    SETTINGS,
    SILENCE_SECONDS,
    connecting,
    is_conflict,
    is_lost,
    translate,
)
from orderup.db.postgres_load import LOAD, read_loaded
from orderup.errors import Unavailable
from orderup.model.operation import Operation

T = TypeVar("T")
_random = Random()  # noqa: S311  # spreads retries, guards nothing
WRITERS, READERS = 2, 3
# Transactions that met, or a connection that was lost before the commit: the function runs again, for so long.
PATIENCE_SECONDS = 2.0

_INSERT_KEYS = (
    f"insert into keys ({quoted(KEY_COLUMNS)})"
    " select * from unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[]) u(key) order by u.key"
    " on conflict do nothing returning key"
)
_KEYS = "select key, operation_id, fingerprint from keys where key = any($1::text[])"
_LOCK = "select id from operations where id = any($1::bigint[]) order by id for update"
_NOTIFY = f"select pg_notify('{CHANNEL}', $1::text)"


class Outdated(Exception):
    """Of changes that were to be written together, those of these operations found the gate closed."""

    def __init__(self, operation_ids: Collection[int]) -> None:
        self.operation_ids = operation_ids


class PostgresWrite(WriteConnection):
    """A write transaction; hot statements go straight to the driver."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._cursor = psycopg.RawCursor(_driver(connection))
        self._loaded: dict[int, Operation] = {}
        # by operation; None: each change is written at once
        self._changes: dict[int, Change] | None = None

    def share(self, ids: Sequence[int]) -> None:
        """Several are about to change an operation each, one after the other: these are loaded now, and what becomes
        of them is written at the end."""
        self.load_all(ids)
        self._changes = {}

    def finish(self) -> None:
        """Write what has been left for the end. Raises Outdated."""
        if self._changes:
            changes, self._changes = self._changes, {}
            outcomes = self.change_all([*changes.values()])
            if outdated := [id for id, outcome in zip(changes, outcomes, strict=True) if outcome is not None]:
                raise Outdated(outdated)

    def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        """Rows of a statement with `$1` placeholders."""
        self._cursor.execute(statement, arguments)
        return self._cursor.fetchall()

    def load_all(self, ids: Sequence[int]) -> None:
        """Those that are about to be asked for, one by one. The gate tells of one that was changed since."""
        self._loaded = dict(read_loaded(self.fetch(LOAD, ids)))

    def load(self, operation_id: int) -> Operation | None:
        if self._changes and operation_id in self._changes:
            self.finish()
        # what was asked for may have been changed since
        known = self._loaded.pop(operation_id, None)
        return known or read_loaded(self.fetch(LOAD, [operation_id])).get(operation_id)

    def place(self, placing: Placing) -> KeyTaken | None:
        return self.place_all([placing])[0]

    def change(self, change: Change) -> Refusal | None:
        if self._changes is None or change.key is not None or change.also is not None:
            return self.change_all([change])[0]
        self._changes[change.after.id] = change
        return None

    def place_all(self, placings: Sequence[Placing]) -> list[KeyTaken | None]:
        """An outcome for each. No key may be there twice."""
        taken = self._take([(each.key, each.operation.id) for each in placings if each.key is not None])
        outcomes = [taken.get(each.key.key) if each.key is not None else None for each in placings]
        ours = [each for each, outcome in zip(placings, outcomes, strict=True) if outcome is None]
        for placing in ours:
            if placing.also is not None:
                placing.also(self)
        if ours:
            statement, arguments = place_arguments([_without_key(each) for each in ours], tag=None)
            self.fetch(statement, *arguments)
        return outcomes

    def change_all(self, changes: Sequence[Change]) -> list[Refusal | None]:
        """An outcome for each. No key and no operation may be there twice.

        Waits for whoever holds one of the operations; in the order of their ids, so that no two wait for each other.
        """
        taken = self._take([(each.key, each.after.id) for each in changes if each.key is not None])
        ours = [each for each in changes if each.key is None or each.key.key not in taken]
        accepted: set[int] = set()
        if ours:
            self.fetch(_LOCK, [each.after.id for each in ours])
            statement, arguments = change_arguments(ours, tag=None)
            accepted = {row[0] for row in self.fetch(statement, *arguments)}
        refused = [each.key.key for each in ours if each.key is not None and each.after.id not in accepted]
        if refused:
            self.fetch("delete from keys where key = any($1::text[]) returning key", refused)
        for change in ours:
            if change.also is not None and change.after.id in accepted:
                change.also(self)
        return [
            None
            if change.after.id in accepted
            else (taken.get(change.key.key) if change.key is not None else None) or GateClosed()
            for change in changes
        ]

    def _take(self, keys: Sequence[tuple[Key, int]]) -> dict[str, KeyTaken]:
        """Make the keys ours; those that are not, and whose they are."""
        if not keys:
            return {}
        names = [key.key for key, _ in keys]
        rows = (names, [id for _, id in keys], [key.fingerprint for key, _ in keys], [key.made_at for key, _ in keys])
        ours = {row[0] for row in self.fetch(_INSERT_KEYS, *rows)}
        others = [name for name in names if name not in ours]
        return {row[0]: KeyTaken(row[1], row[2]) for row in self.fetch(_KEYS, others)} if others else {}


def _without_key(placing: Placing) -> Placing:
    return Placing(placing.operation, placing.events)


class OutcomeUnknown(Unavailable):
    """The connection was lost while the server was asked to commit. `pid`, `born`: of its backend."""

    def __init__(self, *, pid: int, born: Any) -> None:
        self.pid, self.born = pid, born
        super().__init__(
            "The connection to the database was lost while this was being committed: it may or may not have been. "
            "Look before you send it again, or send it again with the same Idempotency-Key."
        )


class _DriverConnection(psycopg.Connection[Any]):
    born: Any = None


class PostgresThreads:
    """Runs functions on connections of their own: writes in a transaction each, reads on one moment's state."""

    def __init__(self, url: str, *, tag: Callable[[], str | None]) -> None:
        self._url, self._tag = url, tag
        self.engine: Engine = create_engine(
            "postgresql+psycopg://",
            creator=self._make,
            pool_size=WRITERS + READERS,
            max_overflow=0,
            hide_parameters=True,  # names of customers do not belong into logs
        )
        self._reading = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="postgres-write")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="postgres-read")

    def _make(self) -> _DriverConnection:
        with connecting():
            connection = _DriverConnection.connect(
                self._url,
                connect_timeout=round(CONNECT_SECONDS),
                options=" ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in SETTINGS.items()),
                keepalives_idle=SILENCE_SECONDS,
                tcp_user_timeout=SILENCE_SECONDS * 1000,
                autocommit=True,
            )
            row = connection.execute(BORN).fetchone()
        assert row is not None
        connection.born = row[0]
        connection.autocommit = False
        return connection

    async def close(self) -> None:
        await asyncio.to_thread(self._writers.shutdown)
        await asyncio.to_thread(self._readers.shutdown)
        await asyncio.to_thread(self.engine.dispose)

    async def write(self, fn: Callable[[PostgresWrite], T]) -> T:
        """Run `fn` in a transaction; more than once if it meets another, or is cut off before the commit.

        Raises what `fn` raises, Unavailable, OutcomeUnknown.
        """
        return await asyncio.get_running_loop().run_in_executor(self._writers, self._repeat, self._write, fn)

    async def read(self, fn: Callable[[ReadConnection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._repeat, self._read, fn)

    def _repeat(self, once: Callable[[Callable[[Any], T]], T], fn: Callable[[Any], T]) -> T:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return once(fn)
            except DRIVER_ERRORS as error:
                if time.monotonic() > give_up or not (is_conflict(error) or is_lost(error)):
                    raise translate(error) from error
            except Exception:
                raise
            except BaseException as error:
                raise tellable(error) from error
            time.sleep(_random.uniform(0.001, 0.05))

    def _read(self, fn: Callable[[ReadConnection], T]) -> T:
        with self._reading.connect() as connection, _given_up_when_lost(connection):
            return fn(ReadConnection(connection))

    def _write(self, fn: Callable[[PostgresWrite], T]) -> T:
        with self.engine.connect() as connection, _given_up_when_lost(connection):
            driver = _driver(connection)
            # The pool asks for "read write" after a read. A standby answers that with an error of its own kind.
            driver.read_only = None
            backend = {"pid": driver.info.backend_pid, "born": driver.born}
            with connection.begin() as transaction:
                write = PostgresWrite(connection)
                value = fn(write)
                write.finish()
                if (tag := self._tag()) is not None:
                    write.fetch(_NOTIFY, tag)
                try:
                    transaction.commit()
                except DRIVER_ERRORS as error:
                    if is_lost(error):
                        connection.invalidate(error)
                        raise OutcomeUnknown(**backend) from error
                    raise
            return value


@contextmanager
def _given_up_when_lost(connection: Connection) -> Iterator[None]:
    """A connection that broke does not go back to the pool."""
    try:
        yield
    except DRIVER_ERRORS as error:
        if is_lost(error) and not connection.invalidated:
            connection.invalidate(error)
        raise


def _driver(connection: Connection) -> _DriverConnection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, _DriverConnection)
    return driver
