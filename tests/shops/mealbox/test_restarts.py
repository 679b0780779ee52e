"""Broker and database go away while customers order all the time: every order ends, each that is complete is told of by
one message, and nobody is answered anything but "here it is", "we have it", "there is none", or "come again"."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from orderup.sandbox import serve_sandbox
from tests.journeys.scene import until
from tests.services.postgres import PostgresCluster
from tests.services.rabbitmq import Broker
from tests.serving import ServerProcess, sqlite_url
from tests.shops.mealbox.conftest import SCALE
from tests.shops.mealbox.crowd import UNKNOWN, Count, Crowd, counting

SECONDS = 240
CUSTOMERS = 8
# How many orders come between two faults.
MORE = 40
CALM = {200, 201, 202, 422, 503}


@asynccontextmanager
async def ordering(seed: int, folder: Path, database_url: str, broker: Broker) -> AsyncIterator[tuple[Crowd, Count]]:
    """A shop in a process of its own, customers who order there, and somebody who counts the messages."""
    async with asyncio.timeout(SECONDS), serve_sandbox(scale=SCALE) as sandbox, counting(broker.url) as count:
        services = f"{sandbox.base_url}/mealbox"
        environment = {
            "USER_SERVICE_URL": services,
            "PRODUCT_SERVICE_URL": services,
            "RABBITMQ_URL": broker.url,
            # a broker that has just started may know its exchange before it knows its queues
            "RABBITMQ_REQUIRE_ROUTE": "1",
            # one user's service fails every other time, whoever asks: nobody shall be out of luck for good
            "MEALBOX_ATTEMPTS": "50",
            "LEASE_SECONDS": "2",
            "HEARTBEAT_SECONDS": "1",
        }
        server = ServerProcess(
            "orderup.shops.mealbox:shop", folder=folder, database_url=database_url, environment=environment
        )
        with server:
            await asyncio.to_thread(server.start)
            crowd = Crowd(server.front, Random(seed))
            async with asyncio.TaskGroup() as customers:
                for number in range(CUSTOMERS):
                    customers.create_task(crowd.order(f"customer {number}"), name=f"customer {number}")
                yield crowd, count
                crowd.goes_home = True
            await check(crowd, count)
        await crowd.patient.client.aclose()


async def more_orders(crowd: Crowd) -> None:
    before = len(crowd.placed)
    await until(lambda: len(crowd.placed) >= before + MORE, what="orders are taken")


async def refusals(crowd: Crowd) -> None:
    before = crowd.patient.statuses[503]
    await until(lambda: crowd.patient.statuses[503] > before, what="somebody was told to come again")


async def check(crowd: Crowd, count: Count) -> None:
    orders = await crowd.all_orders()
    while any(each["status"] == "pending" for each in orders.values()):
        await asyncio.sleep(0.2)
        orders = await crowd.all_orders()
    statuses = Counter(each["status"] for each in orders.values())
    print(f"answers {dict(crowd.patient.statuses)}, unanswered {crowd.patient.unanswered}, orders {dict(statuses)}")
    assert orders.keys() == crowd.placed.keys()
    expected = {id: "failed" if wish is UNKNOWN else "completed" for id, wish in crowd.placed.items()}
    assert {id: each["status"] for id, each in orders.items()} == expected
    created = {id for id, status in expected.items() if status == "completed"}
    await until(lambda: count.ids.keys() >= created, what="every order is told of")
    print(f"messages {len(count.messages)}, came again {count.messages.total() - len(count.messages)}")
    assert count.ids.keys() == created
    assert len(count.messages) == len(created)
    assert set(crowd.patient.statuses) <= CALM
    assert crowd.patient.without_retry_after == 0
    assert crowd.refused


@pytest.mark.timeout(SECONDS + 30)
async def test_a_broker_that_is_killed_under_load_holds_up_no_order_and_hears_of_each(
    seed: int, tmp_path: Path, broker: Broker
) -> None:
    async with ordering(seed, tmp_path, sqlite_url(tmp_path), broker) as (crowd, count):
        await until(lambda: len(count.messages) >= MORE, what="orders are told of")
        for _ in range(2):
            await asyncio.to_thread(broker.kill)
            await more_orders(crowd)
            await asyncio.to_thread(broker.start)
            await more_orders(crowd)


@pytest.mark.timeout(SECONDS + 30)
async def test_a_database_that_is_restarted_under_load_loses_no_order_and_no_message(
    seed: int, tmp_path: Path, broker: Broker, postgres_cluster: Callable[[], PostgresCluster]
) -> None:
    cluster = postgres_cluster()
    async with ordering(seed, tmp_path, cluster.url, broker) as (crowd, _):
        for away in (cluster.stop, cluster.kill):
            await more_orders(crowd)
            await asyncio.to_thread(away)
            await refusals(crowd)
            await asyncio.to_thread(cluster.start)
        await more_orders(crowd)
