"""A small shop at work: engine, clock and local executor on a database, without web servers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from orderup.db.database import Database
from orderup.engine.clock import Clock
from orderup.engine.engine import Engine
from orderup.engine.place import place_order
from orderup.executors.local import SLOTS, LocalExecutor
from orderup.executors.upkeep import keep_lease
from orderup.model.event import Audience, Event
from orderup.model.ids import OperationId
from orderup.model.operation import Operation
from orderup.model.plan import Plan
from orderup.shop import Shop
from tests.services.waiting import PATIENCE_SECONDS


class AtWork:
    def __init__(self, engine: Engine, shop: Shop) -> None:
        self.engine, self.shop = engine, shop

    async def place(self, plan: Plan) -> Operation:
        return await place_order(self.engine, self.shop.name, plan)

    async def told(self, operation: Operation, until: Callable[[Event], bool]) -> list[Event]:
        """What has been told of an operation, from its first event to the first such one."""
        heard: list[Event] = []
        async for batch in self.engine.feed.follow(operation_id=operation.id, audience=Audience.INTERNAL):
            heard += batch
            if any(until(event) for event in batch):
                break
        return heard

    async def ended(self, operations: Sequence[Operation]) -> Mapping[int, Operation]:
        """Operations, by id, once all of them have ended, as the database has them."""
        for operation in operations:
            await self.told(operation, _ends)
        return await self.engine.database.load([OperationId(each.id) for each in operations])


def _ends(event: Event) -> bool:
    return event.type in ("operation.completed", "operation.errored", "operation.cancelled")


@asynccontextmanager
async def open_shop(database: Database, shop: Shop, *, slots: int = SLOTS) -> AsyncIterator[AtWork]:
    """As `run_shop`, on a database of its own."""
    await database.open()
    async with run_shop(database, shop, slots=slots) as at_work:
        yield at_work
    await database.close()


@asynccontextmanager
async def run_shop(database: Database, shop: Shop, *, slots: int = SLOTS) -> AsyncIterator[AtWork]:
    """Everything in it has to happen within PATIENCE_SECONDS."""
    engine = Engine(database, {shop.name: shop.kinds})
    executor = LocalExecutor(engine, [shop], slots=slots)
    lease = engine.limits.lease
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        running = [
            group.create_task(engine.run()),
            group.create_task(Clock(engine).run()),
            group.create_task(executor.run()),
            group.create_task(keep_lease(engine, executor, kind="local", lease=lease)),
        ]
        await asyncio.sleep(0)  # each of them has begun
        # until it knows that nothing waits there it leaves what becomes ready to its own claims
        for queue in executor.queues:
            await executor.look(queue)
        yield AtWork(engine, shop)
        for task in running:
            task.cancel()
