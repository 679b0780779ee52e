"""A step on PostgreSQL, where somebody may change its operation while it runs."""

from collections.abc import Callable

import psycopg
import pytest

from orderup.db.database import WriteConnection
from orderup.db.postgres import PostgresDatabase
from orderup.db.tables import facts
from orderup.engine.complete import complete_by_step
from tests.db.test_write import count
from tests.engine.kitchen import DOUGH, Kitchen, Time, place_of, token_of


def by_statement(connection: WriteConnection, name: str) -> None:
    connection.execute(facts.insert().values(name=name, value=1))


def by_row(connection: WriteConnection, name: str) -> None:
    connection.insert_row(facts, {"name": name, "value": 1})


@pytest.mark.parametrize("insert", [by_statement, by_row])
async def test_of_a_step_that_ran_twice_only_the_run_that_counts_has_written(
    cupboard: PostgresDatabase, insert: Callable[[WriteConnection, str], None]
) -> None:
    kitchen = Kitchen(cupboard, Time())
    operation = await kitchen.place(DOUGH)
    claimed = await kitchen.take("dough")
    runs: list[WriteConnection] = []

    def step(connection: WriteConnection) -> int:
        insert(connection, f"run {len(runs)}")
        runs.append(connection)
        if len(runs) == 1:
            change_beside(cupboard.url, operation.id)
        return len(runs)

    await complete_by_step(kitchen.engine, *place_of(claimed), token=token_of(claimed), step=step)
    assert len(runs) == 2
    assert (await kitchen.task(operation, "dough")).result == "2"
    assert (await count(cupboard))["facts"] == 1


def change_beside(url: str, operation_id: int) -> None:
    """As another process changes an operation: the version is raised, and an event tells of it."""
    with psycopg.connect(url) as other:
        [(version,)] = other.execute(
            "update operations set version = version + 1 where id = %s returning version", [operation_id]
        ).fetchall()
        other.execute(
            "insert into events (operation_id, n, at, type, shop, status, message, audience)"
            " values (%s, %s, 1, 'task.remembered', 'diner', 'running', '', 2)",
            [operation_id, version],
        )
