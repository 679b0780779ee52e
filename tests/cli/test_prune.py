import asyncio
import re
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from orderup.db.database import Key, WriteConnection
from orderup.db.tables import events, keys, operations, tasks
from orderup.engine.place import place_order
from orderup.engine.steer import cancel_operation
from orderup.model.plan import Plan
from orderup.model.times import as_micros
from orderup.shop import Shop
from orderup.shops.pizza import shop as pizza
from orderup.shops.pizza.plan import example
from tests.cli import slow_shop
from tests.cli.running import assert_refused, opened, run
from tests.serving import sqlite_url

DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgres_url"))]
DAY_US = as_micros(timedelta(days=1))
EXAMPLE = example()


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return sqlite_url(tmp_path)
    found: str = request.getfixturevalue("postgres_database")
    return found


async def _store(url: str, *, ended_days_ago: list[float], under_way: int, shop: Shop, plan: Plan) -> None:
    """Operations that ended so many days ago, and others that have not; each was placed under a key."""
    async with opened(url, [shop]) as engine:
        for number, days in enumerate([*ended_days_ago, *[None] * under_way]):
            made_at = engine.now() - int((days or 0) * DAY_US)
            key = Key(f"{shop.name} key {number}", "fingerprint", made_at)
            operation = await place_order(engine, shop.name, plan, key=key)
            if days is None:
                continue
            await cancel_operation(engine, operation.id, reason="enough")
            age = update(operations).where(operations.c.id == operation.id).values(finished_at=made_at)

            def write(connection: WriteConnection, age: object = age) -> None:
                connection.execute(age)  # type: ignore[arg-type]  # an update

            await engine.database.write(write)


def store(url: str, *, ended_days_ago: list[float], under_way: int, shop: Shop = pizza, plan: Plan = EXAMPLE) -> None:
    asyncio.run(_store(url, ended_days_ago=ended_days_ago, under_way=under_way, shop=shop, plan=plan))


def counts(url: str) -> dict[str, int]:
    return asyncio.run(_counts(url))


async def _counts(url: str) -> dict[str, int]:
    async with opened(url, [pizza]) as engine:
        tables = {"operations": operations, "tasks": tasks, "events": events, "keys": keys}
        return {
            name: await engine.database.read(
                lambda connection, table=table: connection.execute(  # type: ignore[misc]  # a table
                    select(func.count()).select_from(table)
                ).scalar_one()
            )
            for name, table in tables.items()
        }


def test_it_deletes_what_ended_before_the_retention_time_and_says_how_much(url: str) -> None:
    store(url, ended_days_ago=[100, 45, 31, 29, 1], under_way=2)
    result = run("prune", DATABASE_URL=url)
    assert result.exit_code == 0, result.output
    assert re.search(r"^Deleted 3 operations that ended before 20\S+Z\.$", result.stdout, re.MULTILINE)
    assert re.search(r"^Forgot 2 keys used before 20\S+Z\.$", result.stdout, re.MULTILINE)
    found = counts(url)
    assert (found["operations"], found["tasks"], found["keys"]) == (4, 16, 5)


def test_the_days_may_be_said(url: str) -> None:
    store(url, ended_days_ago=[3, 1.5, 0.5], under_way=1)
    assert "Deleted 2 operations" in run("prune", "--days", 1, DATABASE_URL=url).stdout
    assert "Deleted 1 operation " in run("prune", "--days", 0, DATABASE_URL=url).stdout
    assert counts(url)["operations"] == 1
    assert counts(url)["keys"] == 4


def test_pruned_twice_there_is_nothing_left_to_do(url: str) -> None:
    store(url, ended_days_ago=[50], under_way=0)
    run("prune", DATABASE_URL=url)
    assert "Deleted 0 operations" in run("prune", DATABASE_URL=url).stdout


def test_orders_of_a_shop_that_is_not_here_stay_and_it_says_so(url: str) -> None:
    store(url, ended_days_ago=[100, 99], under_way=0)
    store(url, ended_days_ago=[100, 99, 98], under_way=0, shop=slow_shop.shop, plan=slow_shop.PLAN)
    result = run("prune", DATABASE_URL=url)
    assert "Deleted 2 operations" in result.stdout
    assert "Left alone: operations of the shop slow, which is not here. Name it with --shop.\n" in result.stdout
    assert counts(url)["operations"] == 3
    named = run("prune", "--shop", "tests.cli.slow_shop:shop", DATABASE_URL=url)
    assert "Deleted 3 operations" in named.stdout
    assert "Left alone" not in named.stdout


def test_a_time_that_is_none_is_refused(tmp_path: Path) -> None:
    result = run("prune", "--days", "-1", DATABASE_URL=sqlite_url(tmp_path))
    assert result.exit_code == 2
    assert_refused(run("prune", RETENTION_DAYS="0", DATABASE_URL=sqlite_url(tmp_path)), "RETENTION_DAYS")
