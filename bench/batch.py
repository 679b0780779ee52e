"""The bakery's day: very many open orders of many recipes are marked and summed, as at six in the morning.

Orders are placed as customers place them. What is measured runs in a process of its own, which opens the database and
does what the shop's tasks do up to the text of the issue: how long that took, and how much memory it took at most.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from decimal import Decimal
from random import Random

import uvloop

from bench.orders import postgres_database, sqlite_file
from orderup.db.connect import open_database
from orderup.db.database import Database, WriteConnection
from orderup.engine.engine import Engine
from orderup.engine.place import place_order
from orderup.integrations.adf import is_too_long
from orderup.shops.bakery import shop
from orderup.shops.bakery.amounts import GRAMS, Amount
from orderup.shops.bakery.cakes import add_cake
from orderup.shops.bakery.issues import collect, describe, read_sheet
from orderup.shops.bakery.local_time import today
from orderup.shops.bakery.orders import Wanted, add_order
from orderup.shops.bakery.plan import plan_order

AT_ONCE = 2_000
INGREDIENTS, IN_A_CAKE = 1_000, 12
PLACES: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "SQLite": sqlite_file,
    "PostgreSQL": postgres_database,
}


async def fill(url: str, *, orders: int, recipes: int) -> None:
    random, database = Random(1), open_database(url, shops=[shop])
    await database.open()
    try:
        engine = Engine(database, {shop.name: shop.kinds})
        for number in range(recipes):
            await _write_recipe(engine, number, random)
        for begin in range(0, orders, AT_ONCE):
            await asyncio.gather(*(_place(engine, random, recipes) for _ in range(min(AT_ONCE, orders - begin))))
    finally:
        await database.close()


async def _write_recipe(engine: Engine, number: int, random: Random) -> None:
    lines: dict[str, Amount] = {
        f"ingredient {each}": Amount(Decimal(random.randint(1, 100_000)) / 1000, GRAMS)
        for each in random.sample(range(INGREDIENTS), IN_A_CAKE)
    }
    await engine.database.write(lambda connection: add_cake(connection, f"cake {number}", lines, now=engine.now()))


async def _place(engine: Engine, random: Random, recipes: int) -> None:
    extra: dict[str, Amount] = {}
    if random.random() < 0.2:
        extra = {f"ingredient {random.randrange(INGREDIENTS)}": Amount(Decimal(random.randint(1, 500)), GRAMS)}
    cake = f"cake_{random.randrange(recipes)}"
    wanted = Wanted(cake, "Ada", random.randint(1, 20), random.randint(1, 3), extra=extra)

    def write(connection: WriteConnection, operation_id: int) -> None:
        add_order(connection, operation_id, wanted)

    await place_order(engine, shop.name, plan_order(wanted.to_bake), also=write)


async def run_the_day(database: Database) -> dict[str, float]:
    engine = Engine(database, {shop.name: shop.kinds})
    batch, day = engine.new_id(engine.now()), today("UTC")
    began = time.perf_counter()
    count = await database.write(lambda connection: collect(connection, batch, number=None, day=day))
    collected = time.perf_counter()
    sheet = await database.read(lambda connection: read_sheet(connection, batch))
    text = describe(sheet, link="https://bakery.example/operations/1")
    ended = time.perf_counter()
    if is_too_long(text):
        raise RuntimeError("Jira would not take this text.")
    return {"orders": count, "collect": collected - began, "sum": ended - collected, "lines": len(sheet.lines)}


async def _measure(url: str) -> None:
    """In a process of its own."""
    database = open_database(url, shops=[shop])
    await database.open()
    try:
        before = _peak_mib()
        found = await run_the_day(database)
        print(json.dumps({**found, "before_mib": before, "peak_mib": _peak_mib()}))
    finally:
        await database.close()


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench batch", description=__doc__)
    parser.add_argument("--orders", type=int, default=100_000)
    parser.add_argument("--recipes", type=int, default=500)
    parser.add_argument("--of", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.of is not None:
        uvloop.run(_measure(wanted.of))
        return
    print("| | orders | marked, s | summed and written, s | together | ingredients | peak MiB (of that before) |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, where in PLACES.items():
        with where() as url:
            uvloop.run(fill(url, orders=wanted.orders, recipes=wanted.recipes))
            command = [sys.executable, "-m", "bench.batch", "--of", url]
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
            found = json.loads(done.stdout)
        print(
            f"| {name} | {found['orders']:,} | {found['collect']:.2f} | {found['sum']:.2f} "
            f"| {found['collect'] + found['sum']:.2f} | {found['lines']:,} "
            f"| {found['peak_mib']:.0f} ({found['before_mib']:.0f}) |",
            flush=True,
        )


if __name__ == "__main__":
    main()
