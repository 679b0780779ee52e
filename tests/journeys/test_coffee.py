"""The coffee bar when its process is killed, stopped, or one of two."""

import asyncio
import contextlib
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from tests.journeys.scene import Scene
from tests.services.postgres import PostgresCluster, new_database
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import ServerProcess, sqlite_url
from tests.shops.coffee.barista import CoffeeBar, Customer

CUSTOMERS, BREWING = 200, 10


@asynccontextmanager
async def bar_of(server: ServerProcess) -> AsyncIterator[CoffeeBar]:
    bar = CoffeeBar(server.front, server.back)
    async with bar.client:
        yield bar
        for customer in bar.customers:
            if not customer.task.done():
                await customer.hang_up()


async def finish_all(bar: CoffeeBar) -> None:
    """One barista, until nobody waits."""
    while (order_id := await bar.start("zoe", wait=1)) is not None:
        assert (await bar.finish(order_id)).status_code == 200


async def test_killed_with_hundreds_waiting_nobody_loses_his_place_and_nobody_is_served_twice(tmp_path: Path) -> None:
    async with Scene(1, sqlite_url(tmp_path), tmp_path) as scene:
        server = scene.server("coffee").start()
        async with bar_of(server) as bar:
            first = [bar.ask(key=f"k{number}") for number in range(CUSTOMERS)]
            await bar.until_open(CUSTOMERS)
            brewing = [await bar.start(f"b{number}") for number in range(BREWING)]
            in_line = await bar.open_orders()
            server.kill()
            assert [await each.answer() for each in first] == [None] * CUSTOMERS
            server.start()
            # what was started stays started: no other barista is given it
            again = [bar.ask(key=f"k{number}") for number in range(CUSTOMERS)]
            for order_id in brewing:
                assert (await bar.finish(order_id)).json()["status"] == "ready"
            await finish_all(bar)
            served = Counter([(await each.coffee())["order_id"] for each in again])
        assert served == Counter(in_line)
        starts = Counter(
            event.operation_id
            for operation in scene.rows().operations.values()
            for event in operation.events
            if event.type == "task.started"
        )
        assert set(starts.values()) == {1}
        scene.check()


async def test_orders_of_a_killed_process_can_be_started_for_a_while_and_then_leave(tmp_path: Path) -> None:
    async with Scene(2, sqlite_url(tmp_path), tmp_path) as scene:
        server = scene.server("coffee", environment={"COFFEE_ORPHAN_SECONDS": "4"}).start()
        async with bar_of(server) as bar:
            for _ in range(3):
                await bar.order()
            server.kill()
            server.start()
            assert (await bar.finish(await bar.start())).json()["status"] == "ready"
            await bar.until_open(0)
            assert Counter(each["status"] for each in await bar.operations()) == {"completed": 1, "cancelled": 2}
        scene.check()


async def test_stopped_it_answers_those_that_become_ready_and_hangs_up_on_the_rest(tmp_path: Path) -> None:
    async with Scene(3, sqlite_url(tmp_path), tmp_path) as scene:
        server = scene.server("coffee", options=["--grace", "5"]).start()
        async with bar_of(server) as bar:
            lucky, unlucky = await bar.order(), await bar.order()
            order_id = await bar.start()
            server.send(signal.SIGTERM)
            assert await bar.ask().answer() is None
            await bar.finish(order_id)
            assert (await lucky.coffee())["order_id"] == order_id
            assert await unlucky.answer() is None
            assert server.wait() == 0
        scene.check()
        scene.assert_no_crash()


async def test_it_waits_for_nobody_when_nobody_waits(tmp_path: Path) -> None:
    async with Scene(4, sqlite_url(tmp_path), tmp_path) as scene:
        server = scene.server("coffee", options=["--grace", "3600"]).start()
        async with bar_of(server) as bar:
            customer = await bar.order()
            await bar.serve()
            await customer.coffee()
        server.terminate()
        assert server.wait() == 0


async def test_who_hangs_up_while_it_stops_leaves_the_line_to_those_who_wait(tmp_path: Path) -> None:
    async with Scene(8, sqlite_url(tmp_path), tmp_path) as scene:
        server = scene.server("coffee", options=["--grace", "30"]).start()
        async with bar_of(server) as bar:
            leaving, staying = await bar.order(), await bar.order()
            server.send(signal.SIGTERM)
            assert await bar.ask().answer() is None
            await leaving.hang_up()
            await bar.until_open(1)
            order_id = await bar.start()
            assert (await bar.finish(order_id)).status_code == 200
            assert (await staying.coffee())["order_id"] == order_id
        assert server.wait() == 0
        scene.check()


async def test_stopped_while_its_database_is_locked_it_answers_nobody_with_an_error(tmp_path: Path) -> None:
    async with Scene(9, sqlite_url(tmp_path), tmp_path) as scene:
        server = scene.server("coffee", options=["--grace", "1"]).start()
        async with bar_of(server) as bar:
            for key in (None, "mine"):
                await bar.order(key=key)
            with contextlib.closing(sqlite3.connect(scene.database_url.removeprefix("sqlite:///"))) as somebody:
                somebody.execute("begin exclusive")
                for key in (None, None, "mine", "new"):
                    bar.ask(key=key)
                await asyncio.sleep(0.5)
                server.send(signal.SIGTERM)
                assert [await each.answer() for each in bar.customers] == [None] * 6
                somebody.execute("rollback")
            server.wait()


@pytest.mark.needs("postgres_url")
async def test_a_process_that_stood_still_keeps_the_customers_who_are_still_there(
    tmp_path: Path, postgres_url: str
) -> None:
    environment = {"COFFEE_ORPHAN_SECONDS": "5", "LEASE_SECONDS": "4", "HEARTBEAT_SECONDS": "2"}
    with new_database(postgres_url) as url:
        async with Scene(10, url, tmp_path) as scene:
            one = scene.server("coffee", name="one", environment=environment).start()
            async with bar_of(one) as here:
                customers = [await here.order(), await here.order(key="mine")]
                [holder] = await holders(url)
                one.send(signal.SIGSTOP)
                two = scene.server("coffee", name="two", environment=environment).start()
                while await holders(url) == {holder}:  # noqa: ASYNC110  in another process
                    await asyncio.sleep(0.1)
                one.send(signal.SIGCONT)
                while await holders(url) != {holder}:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
                await asyncio.sleep(6)  # longer than an order is kept for nobody
                async with bar_of(two) as there:
                    for customer in customers:
                        order_id = await there.start(wait=10)
                        assert (await there.finish(order_id)).status_code == 200
                        assert (await customer.coffee())["order_id"] == order_id
            scene.check()


async def holders(url: str) -> set[str]:
    """Of open orders."""
    with psycopg.connect(url) as connection:
        return {row[0] for row in connection.execute("select held_by from operations where status = 'running'")}


@pytest.mark.needs("postgres_url")
async def test_customers_of_one_process_are_served_by_baristas_of_another(tmp_path: Path, postgres_url: str) -> None:
    with new_database(postgres_url) as url:
        async with Scene(5, url, tmp_path) as scene:
            one, two = scene.server("coffee", name="one").start(), scene.server("coffee", name="two").start()
            async with bar_of(one) as here, bar_of(two) as there:
                customers = [await here.order() for _ in range(5)]
                served = []
                for _ in customers:
                    order_id = await there.start(wait=10)
                    await there.finish(order_id)
                    served.append(order_id)
                assert [(await each.coffee())["order_id"] for each in customers] == served
            scene.check()


@pytest.mark.needs("postgres_url")
async def test_a_process_takes_over_the_orders_of_one_that_was_killed(tmp_path: Path, postgres_url: str) -> None:
    with new_database(postgres_url) as url:
        async with Scene(6, url, tmp_path) as scene:
            environment = {"COFFEE_ORPHAN_SECONDS": "3"}
            one = scene.server("coffee", name="one", environment=environment).start()
            two = scene.server("coffee", name="two", environment=environment).start()
            async with bar_of(one) as here, bar_of(two) as there:
                rejoining: Customer = await here.order(key="mine")
                await here.order()
                one.kill()
                assert await rejoining.answer() is None
                again = there.ask(key="mine")
                await there.until_open(1)  # the other one has left
                assert (await there.finish(await there.start(wait=10))).status_code == 200
                await again.coffee()
            scene.check()


async def test_without_its_database_customers_wait_and_see_no_error(
    tmp_path: Path, postgres_cluster: Callable[[], PostgresCluster]
) -> None:
    cluster = postgres_cluster()
    async with Scene(7, cluster.url, tmp_path) as scene:
        server = scene.server("coffee").start()
        async with bar_of(server) as bar:
            first = [await bar.order() for _ in range(3)]
            await asyncio.to_thread(cluster.stop)
            # the barista is told that it cannot be done now, once his turn to wait is over
            answer = await bar.client.get(f"{server.back}/start/", timeout=PATIENCE_SECONDS)
            assert answer.status_code == 503
            late = bar.ask()
            assert (await bar.client.get(f"{server.front}/healthz")).status_code == 200
            assert not any(each.task.done() for each in (*first, late))
            await asyncio.to_thread(cluster.start)
            async with asyncio.timeout(PATIENCE_SECONDS):
                served: set[str] = set()
                while len(served) < 4:
                    answer = await bar.client.get(
                        f"{server.back}/start/", params={"wait": "5"}, timeout=PATIENCE_SECONDS
                    )
                    if answer.status_code == 200:
                        order_id = answer.json()["order_id"]
                        assert (await bar.finish(order_id)).status_code == 200
                        served.add(order_id)
            assert {(await each.coffee())["order_id"] for each in (*first, late)} == served
        scene.check()
        scene.assert_no_crash()
