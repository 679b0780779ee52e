"""How fast messages go out that waited for a broker which was away. The goal: 5,000 a second, from one process.

Orders are placed while nothing answers where the broker should be, until each has its delivery waiting. Then the broker
is there, and the time is taken until all is confirmed and written down. Each message's body is read from the orders'
rows, as a shop's would be.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aio_pika
import uvloop
from sqlalchemy import func, select

from bench.contenders.figures import clock
from bench.orders import RABBITMQ, postgres_database, sqlite_file
from orderup.db.connect import open_database
from orderup.db.database import ReadConnection
from orderup.db.tables import deliveries, operations
from orderup.engine.engine import Engine
from orderup.engine.place import place_order
from orderup.engine.publish import Publisher, register_targets
from orderup.integrations.rabbitmq import RabbitMQ
from orderup.model.event import Event
from orderup.model.ids import show_id
from orderup.model.plan import Plan, PlannedTask
from orderup.model.times import show_time
from orderup.shop import Shop
from orderup.web.views import view_event

AT_ONCE = 500
NOBODY = "amqp://127.0.0.1:1/"
PLAN = Plan([PlannedTask("work")])


def order_created(connection: ReadConnection, events: Sequence[Event]) -> list[Mapping[str, Any]]:
    columns = operations.c.id, operations.c.placed_at, operations.c.status
    ids = [event.operation_id for event in events]
    rows = connection.rows(select(*columns).where(connection.among(operations.c.id, ids)))
    placed = {id: (placed_at, status) for id, placed_at, status in rows}
    return [_body(event, *placed[event.operation_id]) for event in events]


def _body(event: Event, placed_at: int, status: str) -> Mapping[str, Any]:
    order = {"order_id": show_id(event.operation_id), "created_at": show_time(placed_at), "status": status}
    told = {"customer_fullname": "Ada Lovelace", "product_name": "The classic box", "total_amount": 9.99}
    return {"producer": "bench", "sent_at": show_time(event.at), "type": event.type, "payload": {"order": order | told}}


def make_shop(exchange: str) -> Shop:
    shop = Shop("bench")
    shop.remote("work")
    shop.publish(exchange, routing_key="created_order", events=["operation.placed"], shape=order_created)
    return shop


async def count_waiting(engine: Engine) -> int:
    statement = select(func.count()).select_from(deliveries).where(deliveries.c.state == "pending")
    return await engine.database.read(lambda connection: connection.execute(statement).scalar_one())


class Arrivals:
    """Counts what the broker has confirmed: to ask the database all the while would slow it down."""

    def __init__(self, wanted: int) -> None:
        self.wanted, self.are_all = wanted, asyncio.Event()

    def note(self, _target: str, count: int, _seconds: float) -> None:
        self.wanted -= count
        if self.wanted <= 0:
            self.are_all.set()


async def until_waiting(engine: Engine, count: int) -> None:
    while await count_waiting(engine) != count:  # noqa: ASYNC110  a database rings no bell here
        await asyncio.sleep(0.05)


@asynccontextmanager
async def publishing(engine: Engine, shop: Shop, url: str, arrivals: Arrivals) -> Any:
    async with RabbitMQ(url, shop.name, shop.publications, show=view_event) as target, asyncio.TaskGroup() as group:
        await register_targets(engine, [target])
        task = group.create_task(Publisher(engine, target, observe=arrivals.note).run(), name="publisher")
        yield
        task.cancel()


async def place_many(engine: Engine, count: int) -> None:
    for _ in range(count // AT_ONCE):
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(place_order(engine, "bench", PLAN))


async def measure(where: str, count: int) -> tuple[float, float]:
    """Messages a second, and microseconds of this process's processor that each took."""
    name = f"bench-{uuid4().hex[:8]}"
    shop = make_shop(name)
    database = open_database(where)
    await database.open()
    broker = await aio_pika.connect(RABBITMQ)
    channel = await broker.channel()
    exchange = await channel.declare_exchange(name, aio_pika.ExchangeType.TOPIC, durable=True)
    queue = await channel.declare_queue(name, durable=True)
    await queue.bind(exchange, "created_order")
    try:
        engine = Engine(database, {shop.name: shop.kinds})
        async with asyncio.TaskGroup() as group:
            running = group.create_task(engine.run(), name="engine")
            arrivals = Arrivals(count)
            async with publishing(engine, shop, NOBODY, arrivals):
                await place_many(engine, count)
                await until_waiting(engine, count)
            began, used = clock(), time.process_time()
            async with publishing(engine, shop, RABBITMQ, arrivals):
                await arrivals.are_all.wait()
                await until_waiting(engine, 0)
                seconds, used = clock() - began, time.process_time() - used
            running.cancel()
        found = (await channel.declare_queue(name, passive=True)).declaration_result.message_count
        if found != count:
            raise RuntimeError(f"{count} messages went out, and the queue has {found}.")
    finally:
        await queue.delete(if_unused=False, if_empty=False)
        await exchange.delete()
        await broker.close()
        await database.close()
    return count / seconds, used / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.outbox", description=__doc__)
    parser.add_argument("--messages", type=int, default=50_000)
    count = parser.parse_args().messages
    for name, storage in (("SQLite", sqlite_file), ("PostgreSQL", postgres_database)):
        load = os.getloadavg()[0]
        with storage() as where:
            rate, used = uvloop.run(measure(where, count))
        print(
            f"{name}: {count:,} waiting messages went out, {rate:,.0f} a second, {used:.0f} µs of processor each; "
            f"load of the machine before: {load:.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
