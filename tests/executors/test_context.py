"""What a handler can ask of its context: whether its claim lives, and a client for third parties."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from orderup.db.database import Database
from orderup.engine.engine import Engine
from orderup.engine.prune import prune_operations
from orderup.engine.steer import cancel_operation
from orderup.errors import StaleToken
from orderup.executors.third_parties import MOST_CONNECTIONS
from orderup.model.operation import Operation, OperationStatus
from orderup.model.plan import Plan, PlannedTask
from orderup.shop import Context
from tests.engine.conftest import Doors
from tests.executors.test_ended import lose
from tests.executors.test_local import PATIENCE_SECONDS, Crew, bake_once, shop_with

# Its heartbeat.


class Asking:
    """A handler that asks whether its claim lives, when it is told to, and says what it heard."""

    def __init__(self) -> None:
        self.begun, self.heard = asyncio.Queue[int](), asyncio.Queue[str]()
        self.may_ask, self.may_end = asyncio.Event(), asyncio.Event()

    async def __call__(self, context: Context) -> None:
        self.begun.put_nowait(context.attempt)
        await self.may_ask.wait()
        try:
            await context.heartbeat()
        except StaleToken as error:
            self.heard.put_nowait(str(error))
            raise
        self.heard.put_nowait("lives")
        await self.may_end.wait()


@asynccontextmanager
async def deaf(crew: Crew) -> AsyncIterator[None]:
    """Its executor at work without following the log: what ends a claim is not told to the handler."""
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        running = group.create_task(crew.executor.run())
        yield
        running.cancel()


async def test_a_heartbeat_of_a_claim_that_lives_says_nothing(database: Database) -> None:
    async def handler(context: Context) -> str:
        await context.heartbeat()
        await context.remember({"asked": 1})
        await context.heartbeat()
        return "lives"

    assert (await bake_once(database, handler)).result == '"lives"'


async def end_by_cancel(engine: Engine, order: Operation) -> None:
    await cancel_operation(engine, order.id, reason="enough")


async def end_by_pruning(engine: Engine, order: Operation) -> None:
    await end_by_cancel(engine, order)
    await prune_operations(engine, before=engine.now() + 1)


@pytest.mark.parametrize(
    ("end", "heard"), [(end_by_cancel, "the task is cancelled"), (end_by_pruning, "the task is gone")]
)
async def test_a_heartbeat_of_a_claim_that_has_ended_is_refused(doors: Doors, end: Any, heard: str) -> None:
    asking = Asking()
    crew = Crew(await doors.open(), shop_with(asking))
    elsewhere = Engine(await doors.open(), {"shop": crew.shop.kinds})
    async with deaf(crew):
        order = await crew.place()
        await asking.begun.get()
        await end(elsewhere, order)
        asking.may_ask.set()
        assert f"this claim has ended and {heard}" in await asking.heard.get()


async def test_a_heartbeat_of_a_claim_that_another_attempt_has_followed_is_refused(doors: Doors) -> None:
    asking = Asking()
    crew = Crew(await doors.open(), shop_with(asking))
    async with deaf(crew):
        order = await crew.place()
        await asking.begun.get()
        await lose(crew.engine, order)
        await asking.begun.get()
        asking.may_ask.set()
        heard = {await asking.heard.get(), await asking.heard.get()}
        assert "lives" in heard
        assert "this claim has ended and another worker has the task" in (heard - {"lives"}).pop()


# Its client.


class House:
    """A third party: answers every request once it may, and counts who is there at once."""

    def __init__(self) -> None:
        self.there = self.most = 0
        self.may_answer, self.is_full = asyncio.Event(), asyncio.Event()
        self.wanted = 1

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.there += 1
        self.most = max(self.most, self.there)
        if self.there >= self.wanted:
            self.is_full.set()
        await reader.readuntil(b"\r\n\r\n")
        await self.may_answer.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi")
        self.there -= 1
        writer.close()


async def ask(database: Database, url: str, *, left: timedelta, **options: Any) -> dict[str, float]:
    """The deadlines with which a handler asks that has so much time left."""
    used: list[dict[str, float]] = []

    async def handler(context: Context) -> str:
        answer = await context.http.get(url, **options)
        used.append(answer.request.extensions["timeout"])
        return answer.text

    assert (await bake_once(database, handler, timeout=left)).result == '"hi"'
    return used[0]


async def test_a_request_has_every_deadline_and_none_beyond_the_attempts(database: Database) -> None:
    house = House()
    house.may_answer.set()
    async with house.open() as url:
        usual = await ask(database, url, left=timedelta(minutes=1))
        assert usual == {"connect": 5.0, "read": 10.0, "write": 10.0, "pool": 10.0}
        short = await ask(database, url, left=timedelta(seconds=4))
        assert set(short) == set(usual)
        assert all(0 < seconds <= 4 for seconds in short.values())
        own = await ask(database, url, left=timedelta(seconds=20), timeout=httpx2.Timeout(None, read=2.0))
        assert own["read"] == 2.0
        assert all(10 < own[of] <= 20 for of in ("connect", "write", "pool")), "None waits no longer than the attempt"


async def test_all_handlers_share_one_client_which_is_closed_when_the_executor_stops(database: Database) -> None:
    clients: list[httpx2.AsyncClient] = []
    house = House()
    house.may_answer.set()

    async def handler(context: Context) -> str:
        clients.append(context.http)
        return (await context.http.get(url)).text

    crew = Crew(database, shop_with(handler))
    async with house.open() as url, crew.at_work():
        for _ in range(3):
            assert (await crew.until(await crew.place())).status is OperationStatus.COMPLETED
        assert not clients[0].is_closed
    assert len(set(map(id, clients))) == 1
    assert clients[0].is_closed


async def test_it_has_no_more_connections_than_its_limit(database: Database) -> None:
    house = House()
    house.wanted = MOST_CONNECTIONS

    async def handler(context: Context) -> str:
        return (await context.http.get(url)).text

    crew = Crew(database, shop_with(handler), slots=MOST_CONNECTIONS + 20)
    plan = Plan([PlannedTask(f"b{number}", kind="bake") for number in range(MOST_CONNECTIONS + 20)])
    async with house.open() as url, crew.at_work():
        order = await crew.place(plan)
        await house.is_full.wait()
        house.may_answer.set()
        assert (await crew.until(order)).status is OperationStatus.COMPLETED
    assert house.most == MOST_CONNECTIONS
