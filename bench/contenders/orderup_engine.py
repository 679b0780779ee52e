"""orderup: engine and local executor in one process, on SQLite or PostgreSQL, as `orderup serve` sets them up."""

import asyncio

import uvloop

from bench.contenders.figures import clock, told, wanted
from orderup.cli.process import tune_the_interpreter
from orderup.db.connect import open_database
from orderup.engine.engine import Engine
from orderup.engine.place import place_order
from orderup.executors.local import LocalExecutor
from orderup.model.plan import Plan, PlannedTask
from orderup.shop import Context, Shop

SLOTS = 2_000
shop = Shop("bench")
PLAN = Plan.chain(*(PlannedTask(name) for name in "abcd"))


async def do_nothing(_context: Context) -> None:
    return


for task in PLAN.tasks:
    shop.handler(task.name)(do_nothing)


async def watch_ends(engine: Engine, ends: "asyncio.Queue[str]") -> None:
    async for batch in engine.feed.follow(after=await engine.database.end_of_log()):
        for event in batch:
            if event.type == "operation.completed":
                ends.put_nowait(event.type)


async def measure(where: str, orders: int, lone: int) -> None:
    database = open_database(where)
    await database.open()
    engine = Engine(database, {shop.name: shop.kinds})
    executor = LocalExecutor(engine, [shop], slots=SLOTS)
    async with asyncio.TaskGroup() as group:
        parts = [group.create_task(engine.run()), group.create_task(executor.run())]
        await place_all(engine, orders=orders, lone=lone)
        for part in parts:
            part.cancel()
    await database.close()


async def place_all(engine: Engine, *, orders: int, lone: int) -> None:
    """Warm up with one, then time them, and tell. Whoever carries them out is at work."""
    ends: asyncio.Queue[str] = asyncio.Queue()
    watching = asyncio.create_task(watch_ends(engine, ends))
    await place_order(engine, shop.name, PLAN)
    await ends.get()
    began = clock()
    async with asyncio.TaskGroup() as placing:
        for _ in range(orders):
            placing.create_task(place_order(engine, shop.name, PLAN))
    for _ in range(orders):
        await ends.get()
    seconds = clock() - began
    lone_seconds = []
    for _ in range(lone):
        began = clock()
        await place_order(engine, shop.name, PLAN)
        await ends.get()
        lone_seconds.append(clock() - began)
    watching.cancel()
    told(orders=orders, seconds=seconds, lone_seconds=lone_seconds)


if __name__ == "__main__":
    tune_the_interpreter()
    uvloop.run(measure(*wanted()))
