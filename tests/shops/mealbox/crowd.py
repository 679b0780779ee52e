"""Customers who order boxes all the time and do not give up, and one who counts the messages of what they ordered."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import AMQPError
from yarl import URL

from tests.journeys.patience import Patient
from tests.services.waiting import PATIENCE_SECONDS
from tests.shops.mealbox.conftest import GOOD

FLAKY = {**GOOD, "user_id": "e6f24d7d1c7e"}
UNKNOWN = {**GOOD, "product_code": "nothing"}
WISHES = (GOOD, GOOD, GOOD, FLAKY, UNKNOWN)
PREFERENCES = ("wait=1", "wait=1", "respond-async")
QUEUE = "counted"
MOST_LISTED = 500


class Crowd:
    """placed: what was wished, by the id of the order. refused: how many were told that there is no such box."""

    def __init__(self, front: str, random: Random) -> None:
        self.front, self.random, self.patient = front, random, Patient(random)
        self.placed: dict[str, dict[str, str]] = {}
        self.refused = 0
        self.goes_home = False

    async def order(self, name: str) -> None:
        """One box after the other, until it is time to go home."""
        count = 0
        while not self.goes_home:
            count += 1
            wish = self.random.choice(WISHES)
            headers = {"Idempotency-Key": f"{name} {count}", "Prefer": self.random.choice(PREFERENCES)}
            answer = await self.patient.send("POST", f"{self.front}/orders", json=wish, headers=headers)
            if answer.status_code == 422:
                assert wish is UNKNOWN
                self.refused += 1
            else:
                self.placed[answer.json()["id"]] = wish
            await self.patient.pause(0)

    async def all_orders(self) -> dict[str, dict[str, Any]]:
        """As the shop lists them, by id, page by page."""
        found: dict[str, dict[str, Any]] = {}
        query: dict[str, Any] = {"limit": MOST_LISTED}
        while True:
            page = (await self.patient.send("GET", f"{self.front}/orders", params=query)).json()
            found |= {each["id"]: each for each in page["orders"]}
            if page["cursor"] is None:
                return found
            query["cursor"] = page["cursor"]


class Count:
    """Of messages: how often each came, and of which orders they tell."""

    def __init__(self) -> None:
        self.messages: Counter[str] = Counter()
        self.ids: dict[str, set[str]] = defaultdict(set)

    def add(self, message: AbstractIncomingMessage) -> None:
        assert message.message_id is not None
        self.messages[message.message_id] += 1
        self.ids[json.loads(message.body)["payload"]["order"]["order_id"]].add(message.message_id)


@asynccontextmanager
async def counting(url: str) -> AsyncIterator[Count]:
    """A consumer with a durable queue, there from the beginning, who comes again whenever the broker goes away."""
    count, is_there = Count(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        consumer = group.create_task(_count(url, count, is_there), name="consumer")
        async with asyncio.timeout(PATIENCE_SECONDS):
            await is_there.wait()
        yield count
        consumer.cancel()


async def _count(url: str, count: Count, is_there: asyncio.Event) -> None:
    while True:
        # closed also if it never was open: else it is when it is collected, and then nobody waits for that
        with suppress(AMQPError, OSError, TimeoutError):
            async with aio_pika.Connection(URL(url)) as connection:
                await connection.connect(timeout=PATIENCE_SECONDS)
                channel = await connection.channel()
                exchange = await channel.declare_exchange("orders", aio_pika.ExchangeType.TOPIC, durable=True)
                queue = await channel.declare_queue(QUEUE, durable=True)
                await queue.bind(exchange, "created_order")
                is_there.set()
                async with queue.iterator() as messages:
                    async for message in messages:
                        count.add(message)
                        await message.ack()
        await asyncio.sleep(0.1)
