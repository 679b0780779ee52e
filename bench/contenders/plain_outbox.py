"""The rival that publishes by an outbox, as articles have it: what plain_mealbox.py is, but order and message are
inserted in one transaction, and a loop sends what was not sent.

Once a second it selects the rows that are not marked, publishes one after the other, each confirmed, and marks it. No
message is lost with the process or the broker; an order that was being looked up still is.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aio_pika
import uvicorn
from aio_pika.abc import AbstractExchange
from fastapi import FastAPI
from sqlalchemy import BigInteger, Column, DateTime, Index, LargeBinary, Table, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from bench.contenders.plain_mealbox import (
    EXCHANGE,
    Order,
    look_up,
    message_of,
    metadata,
    new_client,
    orders,
    publish,
    show,
)

log = logging.getLogger(__name__)
POLL_SECONDS, MOST_AT_ONCE = 1.0, 1_000
outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("sent_at", DateTime(timezone=True)),
    Index("outbox_unsent", "id", postgresql_where=text("sent_at is null")),
)


async def send_all(engine: AsyncEngine, exchange: AbstractExchange) -> None:
    """Until nothing is left that was not sent."""
    unsent = select(outbox.c.id, outbox.c.body).where(outbox.c.sent_at.is_(None)).order_by(outbox.c.id)
    while True:
        async with engine.connect() as connection:
            rows = (await connection.execute(unsent.limit(MOST_AT_ONCE))).all()
        for id, body in rows:
            await publish(exchange, body)
            async with engine.begin() as connection:
                await connection.execute(update(outbox).where(outbox.c.id == id).values(sent_at=datetime.now(UTC)))
        if len(rows) < MOST_AT_ONCE:
            return


async def poll(engine: AsyncEngine, exchange: AbstractExchange) -> None:
    while True:
        try:
            await send_all(engine, exchange)
        except Exception:
            log.exception("The outbox could not be sent; it is tried again.")
        await asyncio.sleep(POLL_SECONDS)


def build(database: str, broker: str, services: str) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        url = database.replace("postgresql://", "postgresql+asyncpg://")
        engine = create_async_engine(url, pool_size=20, max_overflow=20)
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
        async with new_client() as client, await aio_pika.connect(broker) as rabbit, asyncio.TaskGroup() as group:
            channel = await rabbit.channel()
            exchange = await channel.declare_exchange(EXCHANGE, aio_pika.ExchangeType.TOPIC)
            app.state.engine, app.state.client = engine, client
            polling = group.create_task(poll(engine, exchange))
            yield
            polling.cancel()
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)

    @app.post("/orders", status_code=201)
    async def order(body: Order) -> dict[str, Any]:
        row = await look_up(app.state.client, services, body)
        shown = show(row)
        async with app.state.engine.begin() as connection:
            await connection.execute(insert(orders).values(row))
            await connection.execute(insert(outbox).values(body=message_of(shown)))
        return shown

    return app


if __name__ == "__main__":
    database, broker, services, port = sys.argv[1:]
    uvicorn.run(build(database, broker, services), port=int(port), log_level="warning", access_log=False, backlog=4096)
