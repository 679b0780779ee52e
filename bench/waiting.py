"""What 100,000 orders that wait for approval cost the process that took them: memory, beside what it had before."""

import argparse
import asyncio
import gc
from pathlib import Path

import uvloop

from bench.orders import postgres_database, sqlite_file
from orderup.db.connect import open_database
from orderup.engine.engine import Engine
from orderup.engine.place import place_order
from orderup.model.plan import Approval, Plan, PlannedTask
from orderup.shop import Shop

AT_ONCE = 1_000
MIB = 1 << 20
shop = Shop("bench")
for name in "abcd":
    shop.remote(name)
PLAN = Plan.chain(*(PlannedTask(name) for name in "abcd"), approval=Approval("Make it?"))


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


async def place_many(engine: Engine, count: int) -> None:
    for _ in range(count // AT_ONCE):
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(place_order(engine, shop.name, PLAN))


async def measure(where: str, count: int) -> float:
    """MiB that `count` waiting orders added."""
    database = open_database(where)
    await database.open()
    engine = Engine(database, {shop.name: shop.kinds})
    async with asyncio.TaskGroup() as group:
        running = group.create_task(engine.run())
        # what the process needs to place orders at all is there before it is looked at
        await place_many(engine, 5 * AT_ONCE)
        gc.collect()
        before = resident_bytes()
        await place_many(engine, count)
        gc.collect()
        added = (resident_bytes() - before) / MIB
        running.cancel()
    await database.close()
    return added


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.waiting", description=__doc__)
    parser.add_argument("--orders", type=int, default=100_000)
    count = parser.parse_args().orders
    for name, storage in (("SQLite", sqlite_file), ("PostgreSQL", postgres_database)):
        with storage() as where:
            added = uvloop.run(measure(where, count))
        print(f"{name}: {count:,} orders waiting for approval added {added:.1f} MiB", flush=True)


if __name__ == "__main__":
    main()
