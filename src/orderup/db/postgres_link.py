"""Connections to PostgreSQL that come back, and what its errors mean to us.

Two drivers share one table of errors, because both hand on the server's SQLSTATE: asyncpg (hot statements) and psycopg
(rare writes and reads, in threads, under SQLAlchemy).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, TypeVar

import asyncpg
import psycopg
import sqlalchemy.exc

from orderup.errors import IdTaken, Invalid, Misconfigured, StorageFull, Unavailable

T = TypeVar("T")
_random = Random()  # noqa: S311  # spreads retries, guards nothing
CONNECT_SECONDS = 5.0
# A statement takes milliseconds; one that takes this long stands behind a lock or on a dead disk.
STATEMENT_SECONDS = 15
# The server gives up first and says so; this ends the wait for a server that says nothing any more.
SILENCE_SECONDS = STATEMENT_SECONDS + 5
# Between tries to come back: from the first to the longest, with jitter.
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.05, 1.0

SETTINGS: Mapping[str, str] = {
    "application_name": "orderup",
    "statement_timeout": f"{STATEMENT_SECONDS}s",
    "idle_in_transaction_session_timeout": f"{STATEMENT_SECONDS}s",
    "default_transaction_isolation": "read committed",  # what the statements here are written for
    "jit": "off",
    # a plan made once, while the tables were empty, would scan them for ever after
    "plan_cache_mode": "force_custom_plan",
}
# Tells a backend from a later one that got the same process id.
BORN = "select backend_start from pg_stat_activity where pid = pg_backend_pid()"
# What takes longer than this may follow a plan that was made while the tables were empty, or for all the server knew.
SLOW_SECONDS = 0.25

# For texts that only follow indexes, row by row, and look up what they join in tables of hashes: planned once, whatever
# the tables hold and however many rows come, since planning a batch would take an eighth of its time.
PLANNED_ONCE: Mapping[str, str] = {
    **SETTINGS,
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_mergejoin": "off",
    "enable_hashjoin": "off",
}

DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    psycopg.Error,
    sqlalchemy.exc.DBAPIError,
    OSError,  # TimeoutError is one, NotLetIn another
)
_FULL = {"53100", "58030"}  # disk full, I/O error
_CONFLICT = {"40001", "40P01", "55P03"}  # serialization failure, deadlock, lock not available
# classes: connection, password, name of the database, insufficient resources, operator intervention; codes: read-only
# (a standby), idle in transaction
_AWAY_CLASSES, _AWAY = {"08", "28", "3D", "53", "57"}, {"25006", "25P03"}
_LOST = {"57P01", "57P02", "57P03", "25P03"}  # the server shut down, crashed, is starting; it ended the session
_SETUP_CLASSES = {"28", "3D", "42"}  # password, name of the database, privileges


class NotLetIn(ConnectionError):
    """The server answered, and let nobody in, with an error that would be a statement's own fault: connecting revoked,
    the database closed to all. To a process that was in before, it is away. The cause is the driver's error."""


@contextmanager
def connecting() -> Iterator[None]:
    """Around the making of a connection: see `NotLetIn`."""
    try:
        yield
    except DRIVER_ERRORS as error:
        if is_storage(error):
            raise
        raise NotLetIn(_short(error)) from error


def sqlstate(error: BaseException) -> str | None:
    state: str | None = getattr(_driver_error(error), "sqlstate", None)
    return state


def _driver_error(error: BaseException) -> BaseException:
    return error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) and error.orig is not None else error


def _constraint(error: BaseException) -> str | None:
    """The constraint that was violated, by name."""
    original = _driver_error(error)
    teller = original.diag if isinstance(original, psycopg.Error) else original
    name: str | None = getattr(teller, "constraint_name", None)
    return name


def is_conflict(error: BaseException) -> bool:
    """Whether transactions met and this one gave way: the same again will help."""
    return sqlstate(error) in _CONFLICT


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, so that nobody knows whether what was being committed was."""
    state, original = sqlstate(error), _driver_error(error)
    if state is not None:
        return state.startswith("08") or state in _LOST
    if isinstance(original, asyncpg.InterfaceError | asyncpg.InternalClientError):
        return not isinstance(original, asyncpg.DataError)
    # libpq tells of a broken connection without a SQLSTATE
    return isinstance(original, OSError | psycopg.OperationalError | psycopg.InterfaceError)


def is_storage(error: BaseException) -> bool:
    """Whether the server is at fault, not the statement."""
    state = sqlstate(error) or ""
    return state[:2] in _AWAY_CLASSES or state in _FULL | _AWAY | _CONFLICT or is_lost(error)


def translate(error: BaseException) -> Exception:
    """A driver's error as ours; one that is neither the server's fault nor that of the data stays as it is."""
    state = sqlstate(error) or ""
    if state in _FULL:
        return StorageFull(f"The database cannot be written: {_short(error)}. Nothing was changed. Make room there.")
    if is_storage(error):
        return Unavailable(f"The database does not answer: {_short(error)}.")
    if state == "22021" or isinstance(_driver_error(error), asyncpg.DataError | psycopg.DataError):
        return Invalid(f"PostgreSQL cannot store this: {_short(error)}")
    if state == "23505" and _constraint(error) == "operations_pkey":
        return IdTaken("There is an operation of this id already. Nothing was changed.")
    assert isinstance(error, Exception)
    return error


def translate_first(error: BaseException) -> Exception:
    """As `translate`, for the first connection of a process: a wrong password is the owner's turn."""
    state = sqlstate(error) or ""
    if state[:2] in _SETUP_CLASSES or isinstance(error, NotLetIn | asyncpg.ClientConfigurationError):
        return Misconfigured(f"DATABASE_URL does not lead to a database: {_short(error)}")
    return translate(error)


def _short(error: BaseException) -> str:
    text = str(_driver_error(error)) or type(error).__name__
    return text.splitlines()[0][:300]


class Session:
    """One connection as long as it lives, with the statements prepared on it. `born`: tells its backend from a later
    one that got the same process id."""

    def __init__(self, connection: "asyncpg.Connection[Any]", born: Any) -> None:
        self.connection, self.born = connection, born
        self.pid: int = connection.get_server_pid()
        self._prepared: dict[str, Any] = {}
        self._is_slow = False

    async def fetch(self, statement: str, *arguments: Any) -> Sequence[Any]:
        """Rows of a statement that is prepared the first time. After one that took long, all are planned anew."""
        if self._is_slow:
            self._is_slow = False
            await self.connection.execute("discard plans")
        prepared = self._prepared.get(statement)
        if prepared is None:
            prepared = self._prepared[statement] = await self.connection.prepare(statement)
        began = time.monotonic()
        try:
            rows: Sequence[Any] = await prepared.fetch(*arguments)
        finally:
            self._is_slow = time.monotonic() - began > SLOW_SECONDS
        return rows

    @property
    def is_open(self) -> bool:
        return not self.connection.is_closed()


class Link:
    """A connection for one user at a time, made when it is first needed and again when it was lost."""

    def __init__(self, url: str, settings: Mapping[str, str]) -> None:
        self.url, self.settings = url, dict(settings)
        self.session: Session | None = None
        self._wait = FIRST_RETRY_SECONDS
        self._not_before = 0.0
        self._refused_with: Exception | None = None

    async def connect(self) -> Session:
        """The session, a new one if there is none. Raises the driver's error; for a moment after a failure the same
        one again, without trying."""
        if self.session is not None and self.session.is_open:
            return self.session
        if self._refused_with is not None and asyncio.get_running_loop().time() < self._not_before:
            raise self._refused_with
        try:
            self.session = await self._make()
        except DRIVER_ERRORS as error:
            self.session, self._refused_with = None, error
            self._not_before = asyncio.get_running_loop().time() + _random.uniform(self._wait / 2, self._wait)
            self._wait = min(self._wait * 2, LONGEST_RETRY_SECONDS)
            raise
        self._wait, self._refused_with = FIRST_RETRY_SECONDS, None
        return self.session

    async def _make(self) -> Session:
        with connecting():
            connection = await asyncpg.connect(
                self.url,
                timeout=CONNECT_SECONDS,
                command_timeout=SILENCE_SECONDS,
                max_cached_statement_lifetime=0,  # what is prepared here is used for as long as the session lasts
                server_settings=self.settings,
            )
            try:
                born = await connection.fetchval(BORN)
            except BaseException:
                connection.terminate()
                raise
        return Session(connection, born)

    async def connect_some_day(self) -> Session:
        """As `connect`, trying until it succeeds."""
        while True:
            try:
                return await self.connect()
            except DRIVER_ERRORS:
                await self.rest()

    async def rest(self) -> None:
        """Wait until connecting may be tried again."""
        await asyncio.sleep(max(0.0, self._not_before - asyncio.get_running_loop().time()))

    async def fetch(self, statement: str, *arguments: Any) -> Sequence[Any]:
        """For statements that may be repeated: once again on a new connection if it was lost. Raises our errors."""
        for is_last in (False, True):
            try:
                session = await self.connect()
                return await session.fetch(statement, *arguments)
            except DRIVER_ERRORS as error:
                if is_lost(error):
                    self.drop()
                if is_last or not is_lost(error):
                    raise translate(error) from error
        raise AssertionError

    def drop(self) -> None:
        """Forget a connection that failed, without waiting for the server."""
        if self.session is not None:
            self.session.connection.terminate()
            self.session = None

    async def close(self) -> None:
        session, self.session = self.session, None
        if session is None:
            return
        try:
            await session.connection.close(timeout=CONNECT_SECONDS)
        except DRIVER_ERRORS:
            session.connection.terminate()


class Links:
    """A few links that are lent out: whoever comes when all are lent waits in line."""

    def __init__(self, url: str, settings: Mapping[str, str], count: int) -> None:
        self._links = [Link(url, settings) for _ in range(count)]
        self._free: asyncio.LifoQueue[Link] = asyncio.LifoQueue()
        for link in self._links:
            self._free.put_nowait(link)

    async def use(self, work: Callable[[Link], Awaitable[T]]) -> T:
        link = await self._free.get()
        try:
            return await work(link)
        finally:
            self._free.put_nowait(link)

    async def fetch(self, statement: str, *arguments: Any) -> Sequence[Any]:
        """See `Link.fetch`."""
        return await self.use(lambda link: link.fetch(statement, *arguments))

    async def close(self) -> None:
        for link in self._links:
            await link.close()


_END = (
    "select pg_terminate_backend(pid) from pg_stat_activity where pid = $1::integer and backend_start = $2::timestamptz"
)


async def end_backend(session: Session, pid: int, born: Any) -> None:
    """Return when the server no longer works for a connection that we lost: nothing can be committed on it any more."""
    while await session.fetch(_END, pid, born):  # noqa: ASYNC110  # the server tells nobody
        await asyncio.sleep(0.02)
