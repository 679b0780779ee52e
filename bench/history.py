"""What a long history costs: claim, list and approve with a million finished operations, beside none.

Two databases, one with the history and one without; each verb is called on the one, then on the other, and so on, so
that a noisy moment hits both alike. The figure is the ratio of the medians.
"""

import argparse
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack

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
from orderup.model.ids import OperationId
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


class Bench:
    """What is called, on one database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.engine = Engine(database, {shop.name: shop.kinds})
        self.asked: list[OperationId] = []

    async def prepare(self) -> None:
        self.asked = [(await place_order(self.engine, shop.name, ASKED)).id for _ in range(CALLS)]
        for _ in range(CALLS):
            await place_order(self.engine, shop.name, READY)

    async def list_newest(self, _number: int) -> None:
        statuses = list(OperationStatus)
        await self.database.read(
            lambda connection: list_operations(connection, shops=["bench"], statuses=statuses, before=None, most=50)
        )

    async def list_inbox(self, _number: int) -> None:
        await self.database.read(
            lambda connection: list_rfas(connection, status="pending", shops=["bench"], after=None, most=50)
        )

    async def claim(self, _number: int) -> None:
        claims = await claim_now(self.engine, ["bench/work"], worker="bench", most=1)
        if len(claims.claimed) != 1:
            raise RuntimeError("A claim found nothing.")

    async def approve(self, number: int) -> None:
        await approve_rfa(self.engine, self.asked[number], by="bench")


Verb = Callable[[Bench, int], Awaitable[object]]
VERBS: Mapping[str, Verb] = {
    "list operations": Bench.list_newest,
    "list RFAs": Bench.list_inbox,
    "claim": Bench.claim,
    "approve": Bench.approve,
}


async def medians(verb: Verb, benches: Sequence[Bench]) -> list[float]:
    """Milliseconds, on each."""
    seconds: list[list[float]] = [[] for _ in benches]
    for number in range(CALLS):
        for bench, found in zip(benches, seconds, strict=True):
            began = clock()
            await verb(bench, number)
            found.append(clock() - began)
    return [statistics.median(found) * 1000 for found in seconds]


async def compare(storage: Callable[[], AbstractContextManager[str]], count: int) -> dict[str, list[float]]:
    """Medians in milliseconds without and with history, by verb."""
    async with AsyncExitStack() as stack:
        databases = [open_database(stack.enter_context(storage())) for _ in range(2)]
        for database in databases:
            await database.open()
            stack.push_async_callback(database.close)
        await load_history(databases[1], count)
        if databases[1].name == "postgresql":
            for database in databases:
                await database.write(lambda connection: connection.connection.execute(text("analyze")))
        benches = [Bench(database) for database in databases]
        for bench in benches:
            await bench.prepare()
        return {name: await medians(verb, benches) for name, verb in VERBS.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.history", description=__doc__)
    parser.add_argument("--operations", type=int, default=1_000_000)
    count = parser.parse_args().operations
    print(f"| median ms | none | {count:,} finished | ratio |\n| --- | --- | --- | --- |")
    for name, storage in (("SQLite", sqlite_file), ("PostgreSQL", postgres_database)):
        for verb, (alone, history) in uvloop.run(compare(storage, count)).items():
            print(f"| {name}: {verb} | {alone:.2f} | {history:.2f} | {history / alone:.2f} |", flush=True)


if __name__ == "__main__":
    main()
