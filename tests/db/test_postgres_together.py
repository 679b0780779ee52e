"""Functions that share a transaction on PostgreSQL: fewer commits, and nobody suffers for another."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest
from msgspec.structs import replace
from sqlalchemy import func, select, text

from orderup.db.connect import open_database
from orderup.db.database import Change, ReadConnection, WriteConnection
from orderup.db.postgres import PostgresDatabase
from orderup.db.tables import facts
from orderup.model.operation import Operation
from tests.db.test_postgres_step import change_beside
from tests.db.test_write import placed, started

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


def start(connection: WriteConnection, *, operation_id: int) -> None:
    operation = connection.load(operation_id)
    assert operation is not None
    assert connection.change(started(operation)) is None


def starting(operation: Operation) -> Callable[[WriteConnection], None]:
    return partial(start, operation_id=operation.id)


async def test_their_changes_are_written_by_a_few_statements(database: PostgresDatabase) -> None:
    operations = [await placed(database) for _ in range(COUNT)]
    await asyncio.gather(*(database.write(starting(each), about=each.id) for each in operations))
    written = text("select count(*), count(distinct (xmin::text, cmin::text)) from events where n = 2")
    [(events, statements)] = await database.read(lambda connection: connection.rows(written))
    assert events == COUNT
    assert statements < COUNT / 4


async def test_one_that_was_changed_meanwhile_runs_again_and_the_others_are_written(database: PostgresDatabase) -> None:
    first, *others = [await placed(database) for _ in range(10)]
    seen: list[int] = []

    def change_first(connection: WriteConnection) -> None:
        operation = connection.load(first.id)
        assert operation is not None
        seen.append(operation.version)
        if len(seen) == 1:
            change_beside(database.url, first.id)
        assert connection.change(started(operation)) is None

    each = (database.write(starting(other), about=other.id) for other in others)
    await asyncio.gather(database.write(change_first, about=first.id), *each)
    assert seen == [1, 2]
    assert {row.version for row in (await database.load([other.id for other in others])).values()} == {2}
    assert (await database.load([first.id]))[first.id].version == 3


async def test_what_the_caller_knows_is_not_loaded(database: PostgresDatabase) -> None:
    operation = await placed(database)
    seen: list[Operation | None] = []

    def look_and_start(connection: WriteConnection) -> None:
        seen.append(connection.load(operation.id))
        start(connection, operation_id=operation.id)

    await database.write(look_and_start, about=operation.id, known=operation)
    assert seen[0] is operation
    assert len(seen) == 1
    assert (await database.load([operation.id]))[operation.id].version == 2


async def test_what_was_worked_out_of_stale_knowledge_is_worked_out_again(database: PostgresDatabase) -> None:
    operation = await placed(database)
    change_beside(database.url, operation.id)
    await database.write(starting(operation), about=operation.id, known=operation)
    assert (await database.load([operation.id]))[operation.id].version == 3


async def test_nobody_is_told_no_on_the_strength_of_stale_knowledge(database: PostgresDatabase) -> None:
    operation = await placed(database)
    change_beside(database.url, operation.id)
    seen: list[int] = []

    def refuse_the_old(connection: WriteConnection) -> None:
        found = connection.load(operation.id)
        assert found is not None
        seen.append(found.version)
        if found.version == 1:
            raise LookupError("too old")
        assert connection.change(started(found)) is None

    await database.write(refuse_the_old, about=operation.id, known=operation)
    assert seen == [1, 2]
    with pytest.raises(ZeroDivisionError):
        await database.write(lambda _: 1 / 0, about=operation.id, known=operation)


async def test_two_that_change_one_operation_are_written_one_after_the_other(database: PostgresDatabase) -> None:
    operation = await placed(database)

    def rename(connection: WriteConnection, *, reason: str) -> str | None:
        found = connection.load(operation.id)
        assert found is not None
        after = replace(found, version=found.version + 1, reason=reason)
        assert connection.change(Change(found, after, [], [])) is None
        return found.reason

    renames = (database.write(partial(rename, reason=reason), about=operation.id) for reason in ("late", "later"))
    assert await asyncio.gather(*renames) == [None, "late"]
    assert (await database.load([operation.id]))[operation.id].version == operation.version + 2
