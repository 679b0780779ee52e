"""The rival of the meal-box shop: a plain FastAPI service that awaits both upstreams, inserts, publishes, answers.

Written as a good engineer would in an afternoon: aiohttp, as orderup has it, SQLAlchemy's async engine on PostgreSQL,
aio-pika with confirms. What it was doing when it is killed is lost, and so is the message if the broker is away.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import aio_pika
import aiohttp
import uvicorn
from aio_pika.abc import AbstractExchange
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import Column, DateTime, MetaData, Numeric, Table, Text, insert
from sqlalchemy.ext.asyncio import create_async_engine

EXCHANGE, ROUTING_KEY = "bench_orders", "created_order"
MOST_CONNECTIONS, DEADLINE_SECONDS = 2_000, 90
metadata = MetaData()
orders = Table(
    "orders",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("product_code", Text, nullable=False),
    Column("customer_fullname", Text, nullable=False),
    Column("product_name", Text, nullable=False),
    Column("total_amount", Numeric, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)


class Order(BaseModel):
    user_id: str
    product_code: str


def new_client() -> aiohttp.ClientSession:
    """In a running event loop."""
    connector = aiohttp.TCPConnector(limit=MOST_CONNECTIONS)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=DEADLINE_SECONDS))


async def look_up(client: aiohttp.ClientSession, services: str, body: Order) -> dict[str, Any]:
    """The order's row, as both services tell of it."""

    async def ask(path: str) -> Any:
        async with client.get(f"{services}{path}", headers={"Content-Type": "application/json"}) as answer:
            if answer.status != 200:
                raise HTTPException(502)
            return await answer.json()

    user, product = await asyncio.gather(ask(f"/users/{body.user_id}"), ask(f"/products/{body.product_code}"))
    return {
        "id": uuid4().hex,
        "user_id": body.user_id,
        "product_code": body.product_code,
        "customer_fullname": f"{user['firstName']} {user['lastName']}",
        "product_name": product["name"],
        "total_amount": Decimal(str(product["price"])),
        "created_at": datetime.now(UTC),
    }


def show(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "total_amount": float(row["total_amount"]), "created_at": row["created_at"].isoformat()}


def message_of(shown: Mapping[str, Any]) -> bytes:
    told = {"producer": "plain", "sent_at": datetime.now(UTC).isoformat(), "payload": {"order": shown}}
    return json.dumps(told).encode()


async def publish(exchange: AbstractExchange, body: bytes) -> None:
    """Returns once it is confirmed."""
    message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
    await exchange.publish(message, ROUTING_KEY, mandatory=False)


def build(database: str, broker: str, services: str) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        url = database.replace("postgresql://", "postgresql+asyncpg://")
        engine = create_async_engine(url, pool_size=20, max_overflow=20)
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
        async with new_client() as client, await aio_pika.connect(broker) as rabbit:
            channel = await rabbit.channel()
            app.state.exchange = await channel.declare_exchange(EXCHANGE, aio_pika.ExchangeType.TOPIC)
            app.state.engine, app.state.client = engine, client
            yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)

    @app.post("/orders", status_code=201)
    async def order(body: Order) -> dict[str, Any]:
        row = await look_up(app.state.client, services, body)
        async with app.state.engine.begin() as connection:
            await connection.execute(insert(orders).values(row))
        shown = show(row)
        await publish(app.state.exchange, message_of(shown))
        return shown

    return app


if __name__ == "__main__":
    database, broker, services, port = sys.argv[1:]
    uvicorn.run(build(database, broker, services), port=int(port), log_level="warning", access_log=False, backlog=4096)
