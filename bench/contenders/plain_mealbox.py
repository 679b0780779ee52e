"""The rival of the meal-box shop: a plain FastAPI service that awaits both upstreams, inserts, publishes, answers.

Written as a good engineer would in an afternoon: httpx2, SQLAlchemy's async engine on PostgreSQL, aio-pika with
confirms. What it was doing when it is killed is lost, and so is the message if the broker is away.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import aio_pika
import httpx2
import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import Column, DateTime, MetaData, Numeric, Table, Text, insert
from sqlalchemy.ext.asyncio import create_async_engine

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


def build(database: str, broker: str, services: str) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        url = database.replace("postgresql://", "postgresql+asyncpg://")
        engine = create_async_engine(url, pool_size=20, max_overflow=20)
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
        limits = httpx2.Limits(max_connections=2_000, max_keepalive_connections=2_000)
        async with httpx2.AsyncClient(limits=limits, timeout=90) as client, await aio_pika.connect(broker) as rabbit:
            channel = await rabbit.channel()
            app.state.exchange = await channel.declare_exchange("bench_orders", aio_pika.ExchangeType.TOPIC)
            app.state.engine, app.state.client = engine, client
            yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)

    async def ask(path: str) -> Any:
        answer = await app.state.client.get(f"{services}{path}", headers={"Content-Type": "application/json"})
        if answer.status_code != 200:
            raise HTTPException(502)
        return answer.json()

    @app.post("/orders", status_code=201)
    async def order(body: Order) -> dict[str, Any]:
        user, product = await asyncio.gather(ask(f"/users/{body.user_id}"), ask(f"/products/{body.product_code}"))
        row = {
            "id": uuid4().hex,
            "user_id": body.user_id,
            "product_code": body.product_code,
            "customer_fullname": f"{user['firstName']} {user['lastName']}",
            "product_name": product["name"],
            "total_amount": Decimal(str(product["price"])),
            "created_at": datetime.now(UTC),
        }
        async with app.state.engine.begin() as connection:
            await connection.execute(insert(orders).values(row))
        shown = {**row, "total_amount": float(row["total_amount"]), "created_at": row["created_at"].isoformat()}
        message = {"producer": "plain", "sent_at": datetime.now(UTC).isoformat(), "payload": {"order": shown}}
        await app.state.exchange.publish(
            aio_pika.Message(json.dumps(message).encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT),
            "created_order",
            mandatory=False,
        )
        return shown

    return app


if __name__ == "__main__":
    database, broker, services, port = sys.argv[1:]
    uvicorn.run(build(database, broker, services), port=int(port), log_level="warning", access_log=False, backlog=4096)
