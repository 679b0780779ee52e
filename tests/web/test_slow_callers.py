"""How long the server waits for what a caller sends, and for him to take what it answers.

That time has passed is seen by another caller, who came later and was cut off.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator

import pytest
import uvloop
from fastapi import WebSocket
from starlette.requests import Request
from starlette.responses import StreamingResponse
from websockets.asyncio.client import connect

from orderup.settings import Settings
from orderup.web.app import MountedShop, OrderupApp, build_app
from orderup.web.auth import OPEN
from orderup.web.routes import Router
from tests.services.waiting import PATIENCE_SECONDS
from tests.web.sample import caller, exchange, serving

HASTY = Settings(head_seconds=0.3, body_seconds=0.3)
BETWEEN_BYTES = 0.05
HELLO = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
PIECE = bytes(1 << 20)


class House:
    """Says hello; and answers where it waits for a word, or never comes to an end."""

    def __init__(self) -> None:
        self.word, self.has_ended = asyncio.Event(), asyncio.Event()
        routes = Router()
        routes.get("/hello", dependencies=[OPEN])(self.hello)
        routes.post("/hello", dependencies=[OPEN])(self.read)
        routes.get("/wait", dependencies=[OPEN])(self.wait)
        routes.get("/pour", dependencies=[OPEN])(self.pour)
        routes.websocket("/echo", dependencies=[OPEN])(self.echo)
        self.app: OrderupApp = build_app("front", HASTY, shops=[MountedShop("house", routes, "")])

    async def hello(self) -> str:
        return "hello"

    async def read(self, request: Request) -> int:
        return len(await request.body())

    async def wait(self) -> str:
        await self.word.wait()
        return "waited"

    async def pour(self) -> StreamingResponse:
        return StreamingResponse(self._pour())

    async def _pour(self) -> AsyncIterator[bytes]:
        try:
            while True:
                yield PIECE
                await asyncio.sleep(0)
        finally:
            self.has_ended.set()

    async def echo(self, websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(text)


async def until_cut_off(port: int) -> None:
    """More time has passed than there is for a head and a body."""
    assert await exchange(port, POST + b"x") == b""
    assert await exchange(port) == b""


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes = HELLO) -> bytes:
    """The head of the answer."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    [length] = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    await reader.readexactly(int(length.split(b":")[1]))
    return head


async def drip(writer: asyncio.StreamWriter, drops: bytes) -> None:
    """One after the other, again and again, until the other end is closed."""
    with contextlib.suppress(ConnectionError):
        while True:
            for drop in drops:
                writer.write(bytes([drop]))
                await writer.drain()
                await asyncio.sleep(BETWEEN_BYTES)


async def until_closed(port: int, first: bytes, drops: bytes) -> None:
    async with caller(port) as (reader, writer):
        writer.write(first)
        dripping = asyncio.create_task(drip(writer, drops), name="drip")
        try:
            with contextlib.suppress(ConnectionError):
                while await reader.read(1024):
                    continue
        finally:
            dripping.cancel()


async def test_a_connection_that_sends_nothing_is_closed() -> None:
    async with serving(House().app, HASTY) as port:
        assert await exchange(port) == b""


@pytest.mark.parametrize(
    ("first", "drops"),
    [
        (b"G", b"ET /hello" + b"o" * 500),
        (b"GET /hello HTTP/1.1\r\nHost: localhost\r\n", b"X: y\r\n"),
        (b"", b"\r\n"),
        (HELLO, b"\r\n"),
        (HELLO, b"G" * 500),
        (POST, b"x"),
        (b"POST /hello HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n", b"x"),
    ],
    ids=["line", "headers", "blank", "blank after one", "second head", "body", "chunks", "body for nobody"],
)
async def test_whoever_sends_a_byte_now_and_then_is_cut_off(first: bytes, drops: bytes) -> None:
    async with serving(House().app, HASTY) as port:
        await until_closed(port, first, drops)


async def test_a_body_that_comes_after_the_answer_and_then_nothing_is_cut_off() -> None:
    """It has come in time, and the pause between two requests began before it."""
    head = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n"
    async with serving(House().app, HASTY) as port, caller(port) as (reader, writer):
        assert b" 404 " in await ask(reader, writer, head)
        writer.write(b"x")
        assert await reader.read() == b""


async def test_who_waits_for_his_answer_has_all_the_time_in_the_world() -> None:
    house = House()
    async with serving(house.app, HASTY) as port, caller(port) as (reader, writer):
        writer.write(HELLO.replace(b"hello", b"wait"))
        await until_cut_off(port)
        house.word.set()
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")


async def test_a_connection_is_used_again_later_than_a_head_may_take() -> None:
    async with serving(House().app, HASTY) as port, caller(port) as (reader, writer):
        for _ in range(3):
            assert b" 200 " in await ask(reader, writer)
            await until_cut_off(port)
        assert b" 200 " in await ask(reader, writer, POST + b"x" * 1000)
        assert b" 200 " in await ask(reader, writer)


async def test_a_websocket_stays_open_longer_than_a_head_and_a_body_may_take() -> None:
    async with serving(House().app, HASTY) as port, connect(f"ws://127.0.0.1:{port}/echo") as websocket:
        for text in ("one", "two", "three"):
            await websocket.send(text)
            assert await websocket.recv() == text
            await until_cut_off(port)


async def test_a_websocket_on_a_connection_that_was_used_before_stays_open_as_well() -> None:
    upgrade = (
        b"GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    hi = b"\x81\x82\0\0\0\0hi"  # a text, masked with zeros
    async with serving(House().app, HASTY) as port, caller(port) as (reader, writer):
        assert b" 200 " in await ask(reader, writer)
        writer.write(upgrade)
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        await until_cut_off(port)
        writer.write(hi)
        assert await reader.readexactly(4) == b"\x81\x02hi"


async def test_who_takes_nothing_of_what_he_is_answered_is_cut_off() -> None:
    house = House()
    async with serving(house.app, HASTY) as port, asyncio.timeout(PATIENCE_SECONDS):
        with socket.create_connection(("127.0.0.1", port)) as hoarder:
            hoarder.sendall(HELLO.replace(b"hello", b"pour"))
            await house.has_ended.wait()


async def test_who_takes_all_of_a_long_answer_is_not_cut_off() -> None:
    house = House()
    async with serving(house.app, HASTY) as port, caller(port) as (reader, writer):
        writer.write(HELLO.replace(b"hello", b"pour"))
        waiting = asyncio.create_task(until_cut_off(port), name="time passes")
        while not waiting.done():
            assert await reader.read(1 << 20)
        assert not house.has_ended.is_set()


def test_a_server_that_stood_still_reads_what_came_meanwhile_before_it_cuts_anybody_off() -> None:
    """On uvloop, as `serve` runs it: its timers go before what can be read."""

    async def post_slowly() -> bytes:
        async with serving(House().app, HASTY) as port, caller(port) as (reader, writer):
            writer.write(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
            assert b" 100 " in await reader.readuntil(b"\r\n\r\n")
            # past the loop, which would let the server read it in the same round
            assert os.write(writer.get_extra_info("socket").fileno(), b"x" * 1000) == 1000
            time.sleep(2 * HASTY.body_seconds)  # noqa: ASYNC251  to stand still is the point
            return await reader.readuntil(b"\r\n\r\n")

    assert b" 200 " in uvloop.run(post_slowly())
