"""Statements are planned once, and again if a plan turns out to be slow."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from orderup.db.postgres import PostgresDatabase
from orderup.db.postgres_batch import change_arguments
from orderup.db.postgres_link import PLANNED_ONCE, Link, Session
from orderup.model.operation import Operation
from tests.db.test_write import placed, placing_of, started

MANY = 1_000
READ = "select sum(idx_tup_read)::bigint from pg_stat_user_indexes where relname in ('operations', 'tasks')"


@asynccontextmanager
async def session_of(database: PostgresDatabase) -> AsyncIterator[Session]:
    link = Link(database.url, PLANNED_ONCE)
    yield await link.connect()
    await link.close()


async def change(session: Session, operations: Sequence[Operation]) -> int:
    """How many entries of indexes were read to change these."""
    before = await _read(session)
    statement, arguments = change_arguments([started(operation) for operation in operations], tag=None)
    assert len(await session.fetch(statement, *arguments)) == len(operations)
    return await _read(session) - before


async def _read(session: Session) -> int:
    await session.connection.execute("select pg_stat_force_next_flush()")
    return int(await session.connection.fetchval(READ))


@pytest.mark.parametrize("is_slow", [True, False])
async def test_a_plan_of_when_there_was_nothing_is_given_up_once_it_is_slow(
    cupboard: PostgresDatabase, monkeypatch: pytest.MonkeyPatch, *, is_slow: bool
) -> None:
    monkeypatch.setattr("orderup.db.postgres_link.SLOW_SECONDS", 0.0 if is_slow else 60.0)
    async with session_of(cupboard) as session:
        await session.connection.execute("vacuum analyze")
        statement, arguments = change_arguments([started(placing_of().operation)], tag=None)
        assert not await session.fetch(statement, *arguments)
        operations = await asyncio.gather(*(placed(cupboard) for _ in range(MANY)))
        await change(session, operations[:3])
        read = await change(session, operations[3:6])
    assert (read < MANY) == is_slow, read
