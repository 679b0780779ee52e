"""Clients who send a byte now and then hold no connection for long, and keep nobody from his coffee."""

import asyncio
import contextlib
import json
import re
import select
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2
import pytest

from orderup.cli.process import raise_open_files_limit
from tests.serving import ServerProcess, sqlite_url

SLOW, DRIPPING, CUSTOMERS = 2000, 100, 20
# How often each of them sends a byte; never so seldom that the server would close it for being idle alone.
BETWEEN_BYTES = 0.5
CLOSED_WITHIN, SERVED_WITHIN = 60.0, 60.0
HEAD = b"POST /order/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
HASTY = {"HEAD_SECONDS": "1", "BODY_SECONDS": "1"}


class SlowCrowd:
    """Each of them sends `first` at once, and then a letter now and then, until the server has closed the connection.

    On plain sockets, in a thread: so many at work in the event loop of the customers would make these slow as well.
    """

    def __init__(self, port: int, firsts: Sequence[bytes]) -> None:
        self.port, self.firsts = port, firsts
        self.answers: list[bytes] = []
        self._open: dict[int, socket.socket] = {}
        self._poll = select.poll()

    def run(self) -> None:
        """Return when all are closed. Raises TimeoutError."""
        deadline = time.monotonic() + CLOSED_WITHIN
        try:
            for first in self.firsts:
                self._join(first)
            while self._open:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{len(self._open)} slow clients still have their connections")
                for descriptor, _ in self._poll.poll(BETWEEN_BYTES * 1000):
                    self._hear(descriptor)
                for connection in self._open.values():
                    _say(connection, b"x")
        finally:
            for connection in self._open.values():
                connection.close()

    def _join(self, first: bytes) -> None:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=CLOSED_WITHIN)
        connection.setblocking(False)  # noqa: FBT003  its only argument
        self._open[connection.fileno()] = connection
        self._poll.register(connection, select.POLLIN)
        _say(connection, first)

    def _hear(self, descriptor: int) -> None:
        connection = self._open[descriptor]
        try:
            received = connection.recv(4096)
        except ConnectionError:
            received = b""
        if received:
            self.answers.append(received)
            return
        self._poll.unregister(descriptor)
        del self._open[descriptor]
        connection.close()


def _say(connection: socket.socket, words: bytes) -> None:
    # who was closed meanwhile is heard of in the next round
    with contextlib.suppress(ConnectionError):
        connection.sendall(words)


async def barista(client: httpx2.AsyncClient, back: str, finished: list[str]) -> None:
    while True:
        started = await client.get(f"{back}/start/", params={"barista": "bea", "wait": 5})
        assert started.status_code in {200, 204}
        if started.status_code == 200:
            order = started.json()["order_id"]
            done = await client.post(f"{back}/finish/", params={"order_id": order})
            assert done.status_code == 200
            finished.append(order)


@pytest.fixture
def bar(tmp_path: Path) -> ServerProcess:
    """Not started yet."""
    return ServerProcess("coffee", folder=tmp_path, database_url=sqlite_url(tmp_path), environment=HASTY)


@pytest.mark.timeout(240)
async def test_two_thousand_slow_clients_are_all_cut_off_while_customers_get_their_coffee(bar: ServerProcess) -> None:
    raise_open_files_limit()
    with bar.start():
        slow = [b"POST /order/ HTTP/1.1\r\nX-Slow: "] * SLOW + [HEAD + b"\r\n"] * DRIPPING
        crowd = SlowCrowd(bar.front_port, slow)
        finished: list[str] = []
        async with httpx2.AsyncClient(timeout=SERVED_WITHIN) as client, asyncio.TaskGroup() as group:
            all_closed = group.create_task(asyncio.to_thread(crowd.run), name="slow crowd")
            working = group.create_task(barista(client, bar.back, finished), name="barista")
            orders = [group.create_task(client.post(f"{bar.front}/order/")) for _ in range(CUSTOMERS)]
            answers = await asyncio.gather(*orders)
            assert [answer.status_code for answer in answers] == [200] * CUSTOMERS
            await all_closed
            working.cancel()
        assert {answer.json()["order_id"] for answer in answers} == set(finished)
        assert crowd.answers == []
        assert "Traceback" not in bar.printed(), bar.last_lines(80)


async def test_who_sends_nothing_is_cut_off_and_who_waits_for_his_coffee_is_not(bar: ServerProcess) -> None:
    """And his connection is good for another coffee."""
    with bar.start():
        reader, writer = await asyncio.open_connection("127.0.0.1", bar.front_port)
        async with httpx2.AsyncClient(base_url=bar.back) as client, asyncio.timeout(CLOSED_WITHIN):
            for _ in range(2):
                writer.write(b"POST /order/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
                started = (await client.get("/start/", params={"wait": 30})).json()
                assert await until_closed(bar.front_port, b"") == b""
                assert await until_closed(bar.front_port, HEAD + b"\r\nx") == b""
                await client.post("/finish/", params={"order_id": started["order_id"]})
                answer = await reader.readuntil(b"\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 200 ")
                [length] = re.findall(rb"content-length: (\d+)", answer)
                assert json.loads(await reader.readexactly(int(length)))["order_id"] == started["order_id"]
        writer.close()


async def until_closed(port: int, first: bytes) -> bytes:
    """What the server says to that before it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(first)
        return await reader.read()
    finally:
        writer.close()
