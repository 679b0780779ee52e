"""PostgreSQL: any number of processes on any number of hosts.

Each kind of work has connections of its own, so that none waits behind another: three write batches of placings and
changes (`postgres_writers`), two claim (`postgres_claims`), one loads operations, one follows the log (`postgres_log`),
one hears of other processes' commits (`postgres_listen`), and up to five, in threads, run whatever else is written or
read (`postgres_write`). All come back by themselves after the server was away.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from msgspec.structs import replace
from sqlalchemy import Table

from orderup.db.database import (
    Ask,
    Change,
    Claims,
    CommitObserver,
    KeyTaken,
    Placing,
    ReadConnection,
    Refusal,
    WriteConnection,
    sole_key,
)
from orderup.db.migrate import Schema, migrate
from orderup.db.noted import noted_rows
from orderup.db.postgres_also import PostgresAlso
from orderup.db.postgres_claims import PostgresClaims
from orderup.db.postgres_link import DRIVER_ERRORS, PLANNED_ONCE, Link, Links, translate_first
from orderup.db.postgres_listen import PostgresListener
from orderup.db.postgres_load import LOAD, look_up_text, read_loaded
from orderup.db.postgres_log import PostgresLog, end_of_log
from orderup.db.postgres_together import PostgresTogether
from orderup.db.postgres_write import PostgresThreads
from orderup.db.postgres_writers import PostgresWriters
from orderup.errors import Misconfigured
from orderup.model.operation import Operation

T = TypeVar("T")
OLDEST_VERSION = 13
SERVER = "select current_setting('server_version_num')::integer / 10000, current_setting('server_encoding')"


class PostgresDatabase:
    """See `Database`. `url`: as libpq and asyncpg understand it. `schemas`: tables of shops."""

    name = "postgresql"

    def __init__(self, url: str, *, schemas: Sequence[Schema] = ()) -> None:
        self.url, self.schemas = url, schemas
        self.commits = 0
        self._own_listeners: list[Callable[[], None]] = []
        self._observers: list[CommitObserver] = []
        self._listener = PostgresListener(url)
        tag, committed = self._listener.tag, self._committed
        self._writers = PostgresWriters(url, tag=tag, committed=committed)
        self._threads = PostgresThreads(url, tag=tag)
        self._also = PostgresAlso(url, self._threads, committed=committed)
        self._together = PostgresTogether(url, self._threads, self._writers, committed=committed)
        self._claims = PostgresClaims(url, tag=tag, committed=committed)
        self._loads = Links(url, PLANNED_ONCE, 1)
        self._logs = Links(url, PLANNED_ONCE, 1)

    async def open(self) -> None:
        """Raises Misconfigured, and Unavailable if the server does not answer."""
        try:
            await self._check_server()
            await asyncio.to_thread(migrate, self._threads.engine, self.schemas)
            await self._writers.open()
        except BaseException as error:
            await self.close()
            if isinstance(error, DRIVER_ERRORS):
                raise translate_first(error) from error
            raise

    async def _check_server(self) -> None:
        link = Link(self.url, PLANNED_ONCE)
        try:
            session = await link.connect()
            [(version, encoding)] = await session.fetch(SERVER)
        finally:
            await link.close()
        if version < OLDEST_VERSION:
            raise Misconfigured(f"DATABASE_URL leads to PostgreSQL {version}. Use {OLDEST_VERSION} or newer.")
        if encoding != "UTF8":
            raise Misconfigured(
                f"The database's encoding is {encoding}. Make one with: create database … encoding UTF8"
            )

    async def close(self) -> None:
        await self._writers.close()
        await self._also.close()
        await self._together.close()
        await self._claims.close()
        await self._loads.close()
        await self._logs.close()
        await self._threads.close()

    # hot verbs

    def place(self, placing: Placing) -> "asyncio.Future[KeyTaken | None]":
        if placing.also is None:
            return self._writers.submit(placing)
        rows = noted_rows(placing.also)
        if rows is None:
            return self._also.submit(placing)
        return self._writers.submit(replace(placing, also=None, rows=rows))

    def change(self, change: Change) -> "asyncio.Future[Refusal | None]":
        way = self._writers if change.also is None and change.key is None else self._also
        return way.submit(change)

    async def claim(self, ask: Ask) -> Claims:
        return await self._claims.claim(ask)

    async def load(self, ids: Sequence[int]) -> Mapping[int, Operation]:
        return read_loaded(await self._loads.fetch(LOAD, list(ids)))

    async def look_up(self, table: Table, ids: Sequence[int]) -> Mapping[int, Mapping[str, Any]]:
        names = table.columns.keys()
        rows = await self._loads.fetch(look_up_text(table), list(ids))
        at = names.index(sole_key(table))
        return {row[at]: dict(zip(names, row, strict=True)) for row in rows}

    # any function

    async def write(
        self, fn: Callable[[WriteConnection], T], *, about: int | None = None, known: Operation | None = None
    ) -> T:
        if about is not None:
            return await self._together.write(fn, about=about, known=known)
        began = time.perf_counter()
        value = await self._threads.write(fn)
        self._committed(1, time.perf_counter() - began)
        return value

    async def read(self, fn: Callable[[ReadConnection], T]) -> T:
        return await self._threads.read(fn)

    # the log

    def log(self, after: int) -> PostgresLog:
        return PostgresLog(self._logs, after, wake=self._tell_own)

    async def end_of_log(self) -> int:
        return await end_of_log(self._logs)

    async def watch(self, changed: Callable[[], None]) -> None:
        await self._listener.run(changed)

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Call `listener` in the event loop after each commit of this process."""
        self._own_listeners.append(listener)

    def observe_commits(self, observer: CommitObserver) -> None:
        self._observers.append(observer)

    def _committed(self, items: int, seconds: float) -> None:
        self.commits += 1
        for observer in self._observers:
            observer(items, seconds)
        self._tell_own()

    def _tell_own(self) -> None:
        for listener in self._own_listeners:
            listener()
