"""Who waits for his answer: that he left is seen, whatever he sent ahead; and what he is told when the server ends."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest
import uvloop
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from orderup.web.app import MountedShop, OrderupApp, build_app
from orderup.web.auth import OPEN, AsAnyone
from orderup.web.direct import Call, Direct, Reply, directly
from orderup.web.metrics import Metrics
from orderup.web.observe import HUNG_UP
from orderup.web.routes import Router
from orderup.web.server import MOST_AHEAD, MOST_BYTES_AHEAD
from orderup.web.wire import told_when_gone
from tests.web.sample import LAPTOP, caller, exchange, serving

PLAIN = b"POST /wait HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
# Goes through the layers.
USUAL = PLAIN.replace(b"\r\n\r\n", b"\r\nPurpose: none\r\n\r\n")
# Its body has not come yet.
READING = PLAIN.replace(b"/wait", b"/read").replace(b": 0", b": 9\r\nContent-Type: application/json")
POUR = b"GET /pour HTTP/1.1\r\nHost: localhost\r\n\r\n"
HELLO = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"
LONG = b"POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (2 * MOST_BYTES_AHEAD)


class Nothing(BaseModel):
    pass


class Room:
    """Where callers wait for a word, and it is seen when they leave."""

    def __init__(self) -> None:
        self.word, self.came, self.left = asyncio.Event(), asyncio.Event(), asyncio.Event()
        metrics, routes = Metrics(), Router()
        self.registry = metrics.registry
        routes.get("/hello", dependencies=[OPEN])(self.hello)
        routes.get("/pour", dependencies=[OPEN])(self.pour)
        routes.post("/wait")(directly(self.wait, never_fails=True)(self._endpoint()))
        routes.post("/read")(directly(self.wait, reads=Nothing, never_fails=True)(self._endpoint()))
        self.app: OrderupApp = build_app("front", LAPTOP, shops=[MountedShop("room", routes, "")], metrics=metrics)

    def _endpoint(self) -> Callable[..., Awaitable[Response]]:
        async def endpoint(caller: AsAnyone) -> Response:
            return Direct(self.wait, caller)

        return endpoint

    async def hello(self) -> str:
        return "hello"

    async def wait(self, call: Call) -> Reply:
        with told_when_gone(call.scope, call.receive, self.left.set):
            self.came.set()
            await self.word.wait()
        return Reply("waited")

    async def pour(self) -> StreamingResponse:
        return StreamingResponse(self._pour())

    async def _pour(self) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"more"
                self.came.set()
                await asyncio.sleep(0.01)
        finally:
            self.left.set()

    def noted(self, status: int) -> float:
        """How many who waited were noted so."""
        labels = {"app": "front", "route": "/wait", "method": "POST", "status": str(status)}
        return self.registry.get_sample_value("orderup_http_requests_total", labels) or 0


async def leave(first: bytes, *ahead: bytes) -> None:
    """Ask, send this ahead, and leave; return when that was seen."""
    room = Room()
    async with serving(room.app, LAPTOP) as port, caller(port) as (_, writer):
        writer.write(first)
        await room.came.wait()
        for data in ahead:
            writer.write(data)
            # each is read for itself
            await asyncio.sleep(0.05)
        writer.close()
        await room.left.wait()
        room.word.set()


@pytest.mark.parametrize("first", [PLAIN, USUAL, PLAIN + HELLO, USUAL + PLAIN], ids=["plain", "usual", "two", "both"])
@pytest.mark.parametrize(
    "ahead",
    [[], [HELLO], [PLAIN], [HELLO, HELLO + PLAIN], [HELLO, b"GET /he"], [LONG]],
    ids=["nothing", "hello", "the same", "some", "half of one", "a body"],
)
async def test_who_leaves_is_seen_to_leave_whatever_he_sent_ahead(first: bytes, ahead: list[bytes]) -> None:
    await leave(first, *ahead)


def test_he_is_seen_to_leave_on_the_loop_that_serve_uses() -> None:
    uvloop.run(leave(PLAIN, HELLO, HELLO))


async def test_who_leaves_a_stream_and_sent_more_with_it_is_seen_to_leave() -> None:
    await leave(POUR + HELLO)


@pytest.mark.parametrize("is_later", [False, True], ids=["at once", "later"])
async def test_what_was_sent_ahead_is_answered_in_its_order(*, is_later: bool) -> None:
    room, ahead = Room(), HELLO * MOST_AHEAD
    async with serving(room.app, LAPTOP) as port, caller(port) as (reader, writer):
        writer.write(PLAIN if is_later else PLAIN + ahead)
        await room.came.wait()
        writer.write(ahead if is_later else b"")
        await asyncio.sleep(0.05)
        room.word.set()
        assert (await reader.readuntil(b'"waited"')).count(b" 200 ") == 1
        for _ in range(MOST_AHEAD):
            assert b" 200 " in await reader.readuntil(b'"hello"')


@pytest.mark.parametrize(
    ("first", "ahead"),
    [(PLAIN + HELLO * (MOST_AHEAD + 1), b""), (PLAIN, HELLO * (MOST_AHEAD + 1)), (PLAIN, LONG + bytes(100_000))],
    ids=["at once", "later", "a body"],
)
async def test_who_sends_too_much_ahead_is_cut_off(first: bytes, ahead: bytes) -> None:
    room = Room()
    async with serving(room.app, LAPTOP) as port, caller(port) as (reader, writer):
        writer.write(first)
        await room.came.wait()
        writer.write(ahead)
        with suppress(ConnectionError):
            assert await reader.read() == b""
        await room.left.wait()
        room.word.set()


@pytest.mark.parametrize("request_", [PLAIN, USUAL, READING], ids=["plain", "usual", "reading"])
async def test_who_waits_when_the_server_ends_is_hung_up_on(request_: bytes, caplog: pytest.LogCaptureFixture) -> None:
    room = Room()
    async with serving(room.app, LAPTOP) as port:
        asking = asyncio.create_task(exchange(port, request_), name="ask")
        if request_ is READING:
            await asyncio.sleep(0.1)
        else:
            await room.came.wait()
    assert await asking == b""
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR and each.exc_info]
    if request_ is not READING:
        assert room.noted(HUNG_UP) == 1
