"""Rows of shops on PostgreSQL: where it is known which, those of many are written by one statement."""

import asyncio
from collections.abc import Callable

import pytest
from msgspec.structs import replace
from sqlalchemy import func, select, text

from orderup.db.database import ShopRow, WriteConnection
from orderup.db.noted import NeedsConnection, NoConnection
from orderup.db.postgres import PostgresDatabase
from orderup.db.tables import facts
from orderup.errors import Invalid
from orderup.model.operation import Operation
from tests.db.test_write import count, placed, placing_of, started
from tests.engine.kitchen import key_of

COUNT = 40


def row(name: str, value: int = 1) -> Callable[[WriteConnection], None]:
    return lambda connection: connection.insert_row(facts, {"name": name, "value": value})


def starting(operation: Operation, name: str) -> Callable[[WriteConnection], None]:
    """As a step does: the operation is loaded, a row is written, the operation is changed."""

    def write(connection: WriteConnection) -> None:
        found = connection.load(operation.id)
        assert found is not None
        connection.update_row(facts, {"name": name, "value": 2}, key="name")
        assert connection.change(started(found)) is None

    return write


async def statements_that_wrote(database: PostgresDatabase, value: int) -> tuple[int, int]:
    """How many rows there are of this value, and by how many statements they were written."""
    written = text(f"select count(*), count(distinct (xmin::text, cmin::text)) from facts where value = {value}")
    [(rows, statements)] = await database.read(lambda connection: connection.rows(written))
    return rows, statements


async def test_rows_of_many_are_inserted_with_their_operations_by_a_few_statements(cupboard: PostgresDatabase) -> None:
    placings = [placing_of(also=row(f"row {number}"), key=key_of(str(number))) for number in range(COUNT)]
    assert await asyncio.gather(*map(cupboard.place, placings)) == [None] * COUNT
    rows, statements = await statements_that_wrote(cupboard, 1)
    assert rows == COUNT
    assert statements < COUNT / 4


async def test_rows_of_many_are_updated_with_their_operations_by_a_few_statements(cupboard: PostgresDatabase) -> None:
    placings = [placing_of(also=row(f"row {number}")) for number in range(COUNT)]
    await asyncio.gather(*map(cupboard.place, placings))
    writes = [starting(placing.operation, f"row {number}") for number, placing in enumerate(placings)]
    each = zip(writes, placings, strict=True)
    await asyncio.gather(*(cupboard.write(write, about=placing.operation.id) for write, placing in each))
    rows, statements = await statements_that_wrote(cupboard, 2)
    assert rows == COUNT
    assert statements < COUNT / 4


async def test_a_key_that_was_used_before_writes_no_row(cupboard: PostgresDatabase) -> None:
    placings = [placing_of(also=row(f"row {number}"), key=key_of("once")) for number in range(6)]
    outcomes = await asyncio.gather(*map(cupboard.place, placings))
    assert outcomes.count(None) == 1
    assert (await count(cupboard))["facts"] == 1


async def test_a_row_that_cannot_be_stored_fails_alone(cupboard: PostgresDatabase) -> None:
    names = ["one", "two", "one", "no\0text", "five"]
    placings = (placing_of(also=row(name)) for name in names)
    outcomes = await asyncio.gather(*map(cupboard.place, placings), return_exceptions=True)
    failed = [outcome for outcome in outcomes if outcome is not None]
    assert len(failed) == 2
    assert isinstance(failed[1], Invalid)
    assert await count(cupboard) == {"operations": 3, "tasks": 9, "events": 3, "keys": 0, "facts": 3}


async def test_what_no_statement_can_be_made_of_fails_alone(cupboard: PostgresDatabase) -> None:
    placings = [placing_of() for _ in range(4)]
    bad = replace(placings[1], rows=[ShopRow(facts, {"nonsense": 1})])
    outcomes = await asyncio.gather(*map(cupboard.place, [placings[0], bad, *placings[2:]]), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), KeyError, type(None), type(None)]
    assert (await count(cupboard))["operations"] == 3


async def test_rows_that_are_told_by_a_column_without_an_index_are_updated_on_a_connection(
    cupboard: PostgresDatabase,
) -> None:
    """Each of them is searched for in the whole table, which is not for a statement that others share."""
    placing = placing_of(also=row("first", 7))
    await cupboard.place(placing)

    def by_value(connection: WriteConnection) -> None:
        connection.update_row(facts, {"name": "renamed", "value": 7}, key="value")

    with pytest.raises(NeedsConnection):
        by_value(NoConnection())
    await cupboard.write(by_value, about=placing.operation.id)
    assert await cupboard.read(lambda connection: connection.rows(select(facts.c.name))) == [("renamed",)]


async def test_what_asks_for_more_than_rows_runs_on_a_connection(cupboard: PostgresDatabase) -> None:
    def number_it(connection: WriteConnection) -> None:
        connection.insert_row(facts, {"name": "first", "value": 1})
        last = connection.execute(select(func.max(facts.c.value))).scalar_one()
        connection.insert_row(facts, {"name": "next", "value": last + 1})

    assert await cupboard.place(placing_of(also=number_it)) is None
    assert (await count(cupboard))["facts"] == 2


async def test_of_two_that_change_one_operation_the_second_sees_the_first(cupboard: PostgresDatabase) -> None:
    operation = await placed(cupboard)
    seen: list[int] = []

    def start_or_see(connection: WriteConnection) -> None:
        found = connection.load(operation.id)
        assert found is not None
        seen.append(found.version)
        if found.version == operation.version:
            assert connection.change(started(found)) is None

    await asyncio.gather(*(cupboard.write(start_or_see, about=operation.id) for _ in range(2)))
    assert max(seen) == operation.version + 1
    assert (await cupboard.load([operation.id]))[operation.id].version == operation.version + 1


async def test_a_function_that_fails_before_it_writes_is_told_as_ever(cupboard: PostgresDatabase) -> None:
    def fail(_connection: WriteConnection) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await cupboard.place(placing_of(also=fail))
    assert (await count(cupboard))["operations"] == 0
