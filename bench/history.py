"""What a long history costs: claim, list and approve with a million finished operations, beside none.

Each verb alone, one call after the other, on the same machine in the same run; the figure is the ratio of the medians.
"""

import argparse
import statistics
from collections.abc import Awaitable, Callable

import uvloop
from sqlalchemy import text

from bench.contenders.figures import clock
from bench.orders import postgres_database, sqlite_file
from orderup.db.connect import open_database
from orderup.db.database import Database, WriteConnection
from orderup.db.read import list_operations, list_rfas
from orderup.engine.claim import claim_now
from orderup.engine.decide import approve_rfa
from orderup.engine.engine import Engine
from orderup.engine.place import place_order
from orderup.model.operation import OperationStatus
from orderup.model.plan import Approval, Plan, PlannedTask
from orderup.shop import Shop

CALLS = 300
SLICE = 50_000
shop = Shop("bench")
shop.remote("work")
ASKED = Plan([PlannedTask("work")], approval=Approval("Do it?"))
READY = Plan([PlannedTask("work")])

# One finished operation of one task with three events, for every number of a series.
HISTORY = (
    """insert into operations (id, shop, status, version, "open", moving, placed_at, started_at, finished_at, source)
 select i, 'bench', 'completed', 3, 0, 0, i, i, i, 'request' from series""",
    """insert into tasks (operation_id, position, name, kind, queue, status, "after", "next", priority, params, retry,
  within_us, lease_us, blocked_by, attempt, failures, losses, ready_at, started_at, finished_at, result)
 select i, 0, 'work', 'work', 'bench/work', 'completed', '', '', 0, '{}', '5,1000000,300000000',
  86400000000, 30000000, 0, 1, 0, 0, i, i, i, '{}' from series""",
    """insert into events (operation_id, n, at, type, shop, task, task_name, status, message, audience)
 select i, n, i, 'task.completed', 'bench', 0, 'work', 'completed', '', 1 from series, (
  select 1 as n union all select 2 union all select 3) as three""",
    """insert into rfas (operation_id, shop, status, question, asked_at, expires_at, decided_at, decided_by)
 select i, 'bench', 'approved', 'Do it?', i, i, i, 'staff' from series""",
)
SERIES = {
    "sqlite": "with recursive series(i) as (select {0} union all select i + 1 from series where i + 1 < {1})",
    "postgresql": "with series as (select generate_series({0}, {1} - 1) as i)",
}


async def load_history(database: Database, count: int) -> None:
    for first in range(1, count + 1, SLICE):
        series = SERIES[database.name].format(first, min(first + SLICE, count + 1))

        def insert(connection: WriteConnection, series: str = series) -> None:
            for statement in HISTORY:
                head, _, tail = statement.partition(" select ")
                is_sqlite = database.name == "sqlite"
                written = f"{head} {series} select {tail}" if is_sqlite else f"{series} {statement}"
                connection.connection.execute(text(written))

        await database.write(insert)


async def median_of(calls: int, call: Callable[[int], Awaitable[object]]) -> float:
    """Milliseconds."""
    seconds = []
    for number in range(calls):
        began = clock()
        await call(number)
        seconds.append(clock() - began)
    return statistics.median(seconds) * 1000


async def measure(database: Database) -> dict[str, float]:
    engine = Engine(database, {shop.name: shop.kinds})
    asked = [(await place_order(engine, shop.name, ASKED)).id for _ in range(CALLS)]
    for _ in range(CALLS):
        await place_order(engine, shop.name, READY)

    async def claim(_number: int) -> None:
        claims = await claim_now(engine, ["bench/work"], worker="bench", most=1)
        if len(claims.claimed) != 1:
            raise RuntimeError("A claim found nothing.")

    async def list_newest(_number: int) -> None:
        statuses = list(OperationStatus)
        await database.read(
            lambda connection: list_operations(connection, shops=["bench"], statuses=statuses, before=None, most=50)
        )

    async def list_inbox(_number: int) -> None:
        await database.read(
            lambda connection: list_rfas(connection, status="pending", shops=["bench"], after=None, most=50)
        )

    async def approve(number: int) -> None:
        await approve_rfa(engine, asked[number], by="bench")

    return {
        "list operations": await median_of(CALLS, list_newest),
        "list RFAs": await median_of(CALLS, list_inbox),
        "claim": await median_of(CALLS, claim),
        "approve": await median_of(CALLS, approve),
    }


async def compare(where: str, count: int) -> tuple[dict[str, float], dict[str, float]]:
    """Medians in milliseconds without and with history, by verb."""
    database = open_database(where)
    await database.open()
    try:
        without = await measure(database)
        await load_history(database, count)
        if database.name == "postgresql":
            await database.write(lambda connection: connection.connection.execute(text("analyze")))
        return without, await measure(database)
    finally:
        await database.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.history", description=__doc__)
    parser.add_argument("--operations", type=int, default=1_000_000)
    count = parser.parse_args().operations
    print(f"| median ms | none | {count:,} finished | ratio |\n| --- | --- | --- | --- |")
    for name, storage in (("SQLite", sqlite_file), ("PostgreSQL", postgres_database)):
        with storage() as where:
            without, history = uvloop.run(compare(where, count))
        for verb, alone in without.items():
            print(f"| {name}: {verb} | {alone:.2f} | {history[verb]:.2f} | {history[verb] / alone:.2f} |", flush=True)


if __name__ == "__main__":
    main()
