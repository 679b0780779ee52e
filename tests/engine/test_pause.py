"""Pausing a queue holds for tasks that become ready in this process, too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orderup.db.sqlite import SqliteDatabase
from orderup.engine.engine import Engine
from orderup.engine.limit import note_paused_queues, pause_queue, resume_queue
from orderup.engine.place import place_order
from orderup.executors.local import LocalExecutor
from orderup.model.event import Audience
from orderup.model.operation import Operation
from orderup.model.plan import Plan, PlannedTask
from orderup.model.task import TaskStatus
from orderup.shop import Context, Shop
from tests.services.waiting import PATIENCE_SECONDS

CHAIN = Plan.chain(PlannedTask("knead"), PlannedTask("bake"))


class Bakery:
    """A shop of two tasks in a row: the first is done when `may_knead` is set, the second says so with `has_baked`."""

    def __init__(self) -> None:
        self.shop = Shop("bakery")
        self.is_kneading, self.may_knead, self.has_baked = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.shop.handler("knead")(self.knead)
        self.shop.handler("bake")(self.bake)

    async def knead(self, _context: Context) -> None:
        self.is_kneading.set()
        await self.may_knead.wait()

    async def bake(self, _context: Context) -> None:
        self.has_baked.set()


@asynccontextmanager
async def working(bakery: Bakery) -> AsyncIterator[Engine]:
    database = SqliteDatabase(None)
    await database.open()
    engine = Engine(database, {"bakery": bakery.shop.kinds})
    executor = LocalExecutor(engine, [bakery.shop])
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        running = [group.create_task(engine.run()), group.create_task(executor.run())]
        yield engine
        for task in running:
            task.cancel()
    await database.close()


async def after(engine: Engine, operation: Operation, type: str) -> Operation:
    """The operation once this has been told of it."""
    async for events in engine.feed.follow(operation_id=operation.id, audience=Audience.INTERNAL):
        if any(event.type == type for event in events):
            break
    return (await engine.database.load([operation.id]))[operation.id]


async def test_a_task_made_ready_here_stays_in_its_queue_while_that_is_paused() -> None:
    bakery = Bakery()
    async with working(bakery) as engine:
        operation = await place_order(engine, "bakery", CHAIN)
        await bakery.is_kneading.wait()
        await pause_queue(engine, "bakery/bake", by="Ada")
        bakery.may_knead.set()
        kneaded = await after(engine, operation, "task.completed")
        assert kneaded.tasks[1].status is TaskStatus.PENDING
        await resume_queue(engine, "bakery/bake")
        await bakery.has_baked.wait()


async def test_a_pause_made_by_another_process_is_heard_of_at_the_next_look() -> None:
    bakery = Bakery()
    async with working(bakery) as engine:
        elsewhere = Engine(engine.database, engine.kinds)
        await pause_queue(elsewhere, "bakery/bake", by="Ada")
        assert not engine.is_limited("bakery/bake@north")
        await note_paused_queues(engine)
        assert engine.is_limited("bakery/bake@north")
        await resume_queue(elsewhere, "bakery/bake")
        await note_paused_queues(engine)
        assert not engine.is_limited("bakery/bake@north")
