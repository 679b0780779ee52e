"""From the request to the coffee, as customers and baristas see it."""

import asyncio
from random import uniform
from typing import Any

import httpx2
import psycopg
import pytest
from psycopg import sql

from orderup.shops.coffee.bar import RETRY_SECONDS
from tests.services.postgres import new_database
from tests.shops.coffee.barista import PATIENCE_SECONDS, CoffeeBar, open_bar, settings_of


async def test_a_customer_is_answered_when_his_coffee_is_ready_and_not_before(bar: CoffeeBar) -> None:
    customer = await bar.order()
    order_id = await bar.start()
    assert not customer.task.done()
    assert (await bar.finish(order_id)).json() == {"order_id": order_id, "status": "ready"}
    coffee = await customer.coffee()
    assert coffee.pop("waited_seconds") > 0
    assert coffee == {"order_id": order_id, "status": "ready"}


async def test_the_oldest_order_is_started_first(bar: CoffeeBar) -> None:
    customers = [await bar.order() for _ in range(3)]
    served = [await bar.serve() for _ in customers]
    assert [(await each.coffee())["order_id"] for each in customers] == served


async def test_nobody_to_brew_for_is_204(bar: CoffeeBar) -> None:
    answer = await bar.client.get(f"{bar.back}/start/")
    assert (answer.status_code, answer.content) == (204, b"")


async def test_a_barista_who_waits_gets_the_next_order_as_soon_as_it_is_there(bar: CoffeeBar) -> None:
    starting = asyncio.create_task(bar.start(wait=20))
    customer = bar.ask()
    order_id = await starting
    await bar.finish(order_id)
    assert (await customer.coffee())["order_id"] == order_id


@pytest.mark.parametrize("size", [0, 200_000], ids=["no body", "a body nobody wants"])
async def test_a_barista_who_went_away_while_he_waited_takes_no_order_with_him(bar: CoffeeBar, size: int) -> None:
    async with httpx2.AsyncClient() as phone:
        with pytest.raises(httpx2.ReadTimeout):
            await phone.request(
                "GET", f"{bar.back}/start/", params={"wait": "30"}, content=bytes(size) or None, timeout=0.5
            )
    await bar.order()
    assert await bar.start(wait=10) is not None


async def test_who_hangs_up_before_his_coffee_is_started_leaves_the_line(bar: CoffeeBar) -> None:
    customer = await bar.order()
    await customer.hang_up()
    await bar.until_open(0)
    assert await bar.start(wait=0) is None


async def test_hanging_up_after_the_start_does_not_disturb_the_barista(bar: CoffeeBar) -> None:
    customer = await bar.order()
    order_id = await bar.start()
    await customer.hang_up()
    assert (await bar.finish(order_id)).json()["status"] == "ready"


async def test_finishing_twice_changes_nothing(bar: CoffeeBar) -> None:
    await bar.order()
    order_id = await bar.serve()
    before = (await bar.client.get(f"{bar.back}/api/operations/{order_id}")).json()
    again = await bar.finish(order_id)
    assert (again.status_code, again.json()["status"]) == (200, "ready")
    assert (await bar.client.get(f"{bar.back}/api/operations/{order_id}")).json() == before


async def test_what_was_never_started_cannot_be_finished(bar: CoffeeBar) -> None:
    await bar.order()
    [order_id] = await bar.open_orders()
    answer = await bar.finish(order_id)
    assert answer.status_code == 409
    assert "never started" in answer.json()["detail"]


@pytest.mark.parametrize("order_id", ["0dvx1y1ygg5bw", "nothing", "../../etc", "1 or 1=1", "x" * 400, "%00", "ä"])
async def test_an_order_that_is_none_is_not_found(bar: CoffeeBar, order_id: str) -> None:
    answer = await bar.finish(order_id)
    assert answer.status_code == 404, answer.text


async def test_finish_says_what_is_missing(bar: CoffeeBar) -> None:
    answer = await bar.client.post(f"{bar.back}/finish/")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "query.order_id"


async def test_with_a_key_his_order_is_kept_and_he_finds_it_in_its_old_place(bar: CoffeeBar) -> None:
    first = await bar.order(key="mine")
    await bar.order()
    [_, order_id] = await bar.open_orders()
    await first.hang_up()
    again = bar.ask(key="mine")
    assert await bar.start() == order_id
    await bar.finish(order_id)
    assert (await again.coffee())["order_id"] == order_id
    answer = await again.answer()
    assert answer is not None
    assert answer.headers["Idempotency-Replayed"] == "true"


async def test_the_key_of_a_coffee_that_is_ready_gets_the_same_answer_again(bar: CoffeeBar) -> None:
    first = await bar.order(key="mine")
    await bar.serve()
    assert (await bar.ask(key="mine").coffee()) == await first.coffee()


async def test_two_requests_with_one_key_at_once_are_one_order_and_both_are_answered(bar: CoffeeBar) -> None:
    customers = [bar.ask(key="mine") for _ in range(4)]
    await bar.until_open(1)
    order_id = await bar.serve()
    assert [(await each.coffee())["order_id"] for each in customers] == [order_id] * 4
    assert len(await bar.operations()) == 1


async def test_who_does_not_come_back_for_his_order_leaves_the_line(database_url: str) -> None:
    async with open_bar(settings_of(database_url, coffee_keep_seconds=0.2)) as bar:
        customer = await bar.order(key="mine")
        await customer.hang_up()
        await bar.until_open(0)
        # the key is his, still: he is at the end of the line now
        again = bar.ask(key="mine")
        await bar.until_open(1)
        order_id = await bar.serve()
        assert (await again.coffee())["order_id"] == order_id
        assert len(await bar.operations()) == 2


async def test_a_coffee_that_nobody_finishes_goes_back_to_the_head_of_the_line(database_url: str) -> None:
    async with open_bar(settings_of(database_url, coffee_lease_seconds=2, heartbeat_seconds=1)) as bar:
        first = await bar.order()
        lost = await bar.start("ann")
        await bar.order()
        assert await bar.start("bob", wait=0) != lost
        await bar.order()
        async with asyncio.timeout(20):
            while await bar.start("carl", wait=5) != lost:
                pass
        # ann was not gone, only slow: it is her coffee that is drunk
        assert (await bar.finish(lost)).json()["status"] == "ready"
        assert (await first.coffee())["order_id"] == lost


async def test_a_coffee_whose_lease_ran_out_is_ready_when_it_is_finished_all_the_same(database_url: str) -> None:
    async with open_bar(settings_of(database_url, coffee_lease_seconds=2, heartbeat_seconds=1)) as bar:
        customer = await bar.order()
        order_id = await bar.start()
        await bar.until_task(order_id, "pending")
        assert (await bar.finish(order_id)).json()["status"] == "ready"
        assert (await customer.coffee())["order_id"] == order_id
        assert await bar.start(wait=0) is None


async def test_a_barista_gets_no_order_by_looking(bar: CoffeeBar) -> None:
    await bar.order()
    assert (await bar.client.head(f"{bar.back}/start/")).status_code == 405
    prefetch = await bar.client.get(f"{bar.back}/start/", headers={"Sec-Purpose": "prefetch"})
    assert prefetch.status_code == 204
    assert await bar.start() is not None


@pytest.mark.parametrize("query", ["wait=-1", "wait=61", "wait=soon", "wait=nan", "wait=inf", f"barista={'x' * 101}"])
async def test_start_says_what_is_wrong_with_its_query(bar: CoffeeBar, query: str) -> None:
    answer = await bar.client.get(f"{bar.back}/start/?{query}")
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == f"query.{query.partition('=')[0]}"


async def test_who_finds_his_order_cancelled_in_that_moment_is_told_of_no_coffee() -> None:
    """Two ask with one key, the first one hangs up: the other has that order, or a new one, and waits for it."""
    async with open_bar(settings_of("sqlite://", coffee_keep_seconds=0, client_orders_a_minute=10_000)) as bar:
        port = int(bar.front.rpartition(":")[2])

        async def two_with(key: str, *, seconds: float) -> bytes:
            head = f"POST /order/ HTTP/1.1\r\nHost: localhost:{port}\r\nIdempotency-Key: {key}\r\n"
            lines = []
            for _ in range(2):
                lines.append(await asyncio.open_connection("127.0.0.1", port))
                lines[-1][1].write(f"{head}Content-Length: 0\r\n\r\n".encode())
            (_, to_bar), (from_bar, _) = lines
            await asyncio.sleep(seconds)
            to_bar.transport.abort()
            try:
                return await asyncio.wait_for(from_bar.read(100), 0.3)
            except TimeoutError:
                return b""
            finally:
                lines[1][1].transport.abort()

        for number in range(50):
            pairs = [two_with(f"{number}-{each}", seconds=uniform(0, 0.02)) for each in range(8)]
            assert await asyncio.gather(*pairs) == [b""] * 8


async def test_a_coffee_that_could_not_be_made_is_made_again_for_nobody_who_has_left(bar: CoffeeBar) -> None:
    customer = await bar.order()
    ask = {"worker": "w1", "shop": "coffee", "tasks": ["brew"], "wait": 5}
    [task] = (await bar.client.post(f"{bar.back}/api/work/claim", json=ask)).json()["tasks"]
    await customer.hang_up()
    await no_customer_waits(bar)
    said = {"token": task["token"], "error": "No beans."}
    assert (await bar.client.post(f"{bar.back}/api/work/{task['id']}/fail", json=said)).status_code == 200
    await bar.until_open(0)


async def no_customer_waits(bar: CoffeeBar) -> None:
    """And the bar has looked for what that means to their orders."""
    keeper: Any = bar.house.keepers["coffee"]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while keeper.waiting:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)


@pytest.mark.needs("postgres_url")
async def test_who_comes_back_while_nothing_can_be_written_has_asked_once(postgres_url: str) -> None:
    with new_database(postgres_url) as url:
        values = {"client_orders_a_minute": 2}
        async with open_bar(settings_of(url, **values)) as first, open_bar(settings_of(url, **values)) as second:
            await (await first.order(key="mine")).hang_up()
            set_read_only(url, "on")
            again = second.ask(key="mine")
            await asyncio.sleep(6 * RETRY_SECONDS)
            assert not again.task.done()
            set_read_only(url, "off")
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (order_id := await second.start()) is None:
                    pass
            await second.finish(order_id)
            assert (await again.coffee())["order_id"] == order_id


def set_read_only(url: str, switch: str) -> None:
    """To all who connect from here on, which all do."""
    name, others = sql.Identifier(url.rpartition("/")[2]), "datname = current_database() and pid <> pg_backend_pid()"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set default_transaction_read_only = off")
        connection.execute(
            sql.SQL("alter database {} set default_transaction_read_only = {}").format(name, sql.Literal(switch))
        )
        connection.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where {others}")
