"""Functions that share a transaction on PostgreSQL: fewer commits, and nobody suffers for another."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest
from sqlalchemy import func, select

from orderup.db.connect import open_database
from orderup.db.database import ReadConnection, WriteConnection
from orderup.db.postgres import PostgresDatabase
from orderup.db.tables import facts

COUNT = 40


@pytest.fixture
async def database(prepared_postgres: str) -> AsyncIterator[PostgresDatabase]:
    database = open_database(prepared_postgres)
    assert isinstance(database, PostgresDatabase)
    await database.open()
    yield database
    await database.close()


def note(number: int) -> Callable[[WriteConnection], int]:
    def write(connection: WriteConnection) -> int:
        connection.insert_or_ignore(facts, {"name": f"told {number}", "value": number})
        return number

    return write


def fail(connection: WriteConnection, *, number: int) -> int:
    note(number)(connection)
    raise LookupError(str(number))


def count(connection: ReadConnection) -> int:
    told = select(func.count()).select_from(facts).where(facts.c.name.startswith("told"))
    found: int = connection.execute(told).scalar_one()
    return found


async def test_those_that_come_together_share_commits_and_each_is_told_its_own(database: PostgresDatabase) -> None:
    before = database.commits
    told = await asyncio.gather(*(database.write(note(number), about=-number) for number in range(COUNT)))
    assert told == list(range(COUNT))
    assert await database.read(count) == COUNT
    assert database.commits - before < COUNT / 4


async def test_one_that_fails_takes_no_other_with_it_and_leaves_nothing(database: PostgresDatabase) -> None:
    works = [partial(fail, number=number) if number % 10 == 3 else note(number) for number in range(COUNT)]
    each = (database.write(work, about=number) for number, work in enumerate(works))
    told = await asyncio.gather(*each, return_exceptions=True)
    failed = [value for value in told if isinstance(value, LookupError)]
    assert [value for value in told if not isinstance(value, LookupError)] == [
        number for number in range(COUNT) if number % 10 != 3
    ]
    assert sorted(map(str, failed)) == ["13", "23", "3", "33"]
    assert await database.read(count) == COUNT - len(failed)
