"""The message that tells others of an order, over a real broker."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage

from orderup.db.database import ReadConnection
from orderup.db.read import events_between
from orderup.model.event import Audience
from orderup.model.ids import show_id
from orderup.shops.mealbox.messages import created_order
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import sqlite_url
from tests.shops.mealbox.conftest import Kiosk, open_kiosk

EVERYTHING: dict[str, Any] = {
    "after": 0,
    "until": 1_000,
    "operation_id": None,
    "shop": None,
    "audience": Audience.STAFF,
    "most": 1_000,
}


class Consumer:
    """Of all that goes to the exchange `orders` from when it is there."""

    def __init__(self, queue: aio_pika.abc.AbstractQueue) -> None:
        self.queue = queue

    async def next(self, id: str) -> AbstractIncomingMessage:
        """The next message about this order; others' are passed over."""
        async with self.queue.iterator(timeout=PATIENCE_SECONDS) as messages:
            async for message in messages:
                async with message.process():
                    if json.loads(message.body)["payload"]["order"]["order_id"] == id:
                        return message
        raise AssertionError


@asynccontextmanager
async def consuming(url: str) -> AsyncIterator[Consumer]:
    connection = await aio_pika.connect(url, timeout=PATIENCE_SECONDS)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange("orders", aio_pika.ExchangeType.TOPIC, durable=True)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, "created_order")
        yield Consumer(queue)


@pytest.fixture
async def kiosk_with_broker(tmp_path: Path, rabbitmq_url: str) -> AsyncIterator[Kiosk]:
    async with open_kiosk(sqlite_url(tmp_path), rabbitmq_url=rabbitmq_url) as kiosk:
        yield kiosk


def read(message: AbstractIncomingMessage) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(message.body)
    return told


@pytest.mark.needs("rabbitmq_url")
async def test_an_order_that_is_saved_is_told_once_in_the_agreed_shape(
    kiosk_with_broker: Kiosk, rabbitmq_url: str
) -> None:
    async with consuming(rabbitmq_url) as consumer:
        shown = (await kiosk_with_broker.order()).json()
        message = await consumer.next(shown["id"])
    told = read(message)
    datetime.fromisoformat(told.pop("sent_at"))
    assert told == {
        "producer": "orderup.mealbox",
        "type": "created_order",
        "payload": {
            "order": {
                "order_id": shown["id"],
                "customer_fullname": "Ada Lovelace",
                "product_name": "Classic Box",
                "total_amount": 9.99,
                "created_at": shown["created_at"],
            }
        },
    }
    assert b'"total_amount":9.99' in message.body
    assert message.content_type == "application/json"
    assert message.delivery_mode is aio_pika.DeliveryMode.PERSISTENT
    assert message.message_id is not None
    assert message.message_id.startswith(f"evt_{shown['id']}_")


async def test_what_is_no_order_is_told_to_nobody(one_kiosk: Kiosk) -> None:
    assert (await one_kiosk.order(product_code="nothing", prefer="wait=30")).status_code == 422
    shown = (await one_kiosk.order()).json()

    def messages(connection: ReadConnection) -> list[tuple[str, bool]]:
        events = [event for event in events_between(connection, **EVERYTHING) if event.type == "operation.completed"]
        told = created_order(connection, events)
        return [(show_id(event.operation_id), body is not None) for event, body in zip(events, told, strict=True)]

    first, second = await one_kiosk.house.database.read(messages)
    assert first[1] is False
    assert second == (shown["id"], True)
