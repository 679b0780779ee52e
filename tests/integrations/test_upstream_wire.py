"""A third party that is called, as bytes on a line: what is sent, and what comes of each way to answer."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from orderup.errors import OutcomeUnknown, UpstreamFailed
from orderup.integrations.upstream import LARGEST_ANSWER_BYTES, Upstream, UpstreamMetrics

PATIENCE = timedelta(seconds=20)
Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Answering = Callable[[bytes, asyncio.StreamWriter], Awaitable[bool]]


class Service:
    """Answers each request by `answering`, which says whether the connection is kept. heads: what was asked.
    connections: how many there were."""

    def __init__(self, answering: Answering) -> None:
        self.answering = answering
        self.heads: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                if not await self.answering(head, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def says(body: bytes, *, status: str = "200 OK", headers: str = "", keeps: bool = True) -> Answering:
    async def answer(_head: bytes, writer: asyncio.StreamWriter) -> bool:
        writer.write(f"HTTP/1.1 {status}\r\n{headers}content-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        return keeps

    return answer


def writes(raw: bytes) -> Answering:
    """Says so much, and hangs up."""

    async def answer(_head: bytes, writer: asyncio.StreamWriter) -> bool:
        writer.write(raw)
        await writer.drain()
        return False

    return answer


async def hangs(_head: bytes, _writer: asyncio.StreamWriter) -> bool:
    return True


async def drips(_head: bytes, writer: asyncio.StreamWriter) -> bool:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


@asynccontextmanager
async def calling(answering: Answering, *, deadline: timedelta = PATIENCE) -> AsyncIterator[tuple[Service, Upstream]]:
    service = Service(answering)
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    metrics = UpstreamMetrics(CollectorRegistry())
    upstream = Upstream("service", f"http://127.0.0.1:{port}", metrics=metrics, deadline=deadline, most=10)
    async with server, upstream:
        yield service, upstream


async def test_what_is_asked_for_goes_out_as_it_was_quoted_with_our_headers_and_no_cookie() -> None:
    async with calling(says(b'{"price":9.90}', headers="set-cookie: a=b; path=/\r\n")) as (service, upstream):
        for _ in range(2):
            found = await upstream.get("/things/a%2Fb%20%C3%A9", about="a")
            assert str(found) == "{'price': Decimal('9.90')}"
    assert service.connections == 1
    for head in service.heads:
        request, *headers = head.decode().lower().split("\r\n")
        assert request == "get /things/a%2fb%20%c3%a9 http/1.1"
        assert "content-type: application/json" in headers
        assert "accept: application/json" in headers
        assert "cookie:" not in head.decode().lower()


async def test_what_was_given_besides_goes_with_a_call() -> None:
    async with calling(says(b"{}")) as (service, upstream):
        await upstream.call("GET", "/a?b=1", about="a", query={"c": "d e"}, headers={"Authorization": "Bearer x"})
    [head] = service.heads
    assert head.startswith((b"GET /a?b=1&c=d+e HTTP/1.1", b"GET /a?b=1&c=d%20e HTTP/1.1"))
    assert b"Authorization: Bearer x" in head


async def test_a_connection_that_was_closed_meanwhile_is_no_failure() -> None:
    async with calling(says(b"{}", keeps=False)) as (service, upstream):
        for _ in range(5):
            assert await upstream.get("/a", about="a") == {}
    assert service.connections == 5


async def test_nobody_is_followed_elsewhere() -> None:
    async with calling(says(b"", status="302 Found", headers="location: /there\r\n")) as (service, upstream):
        with pytest.raises(UpstreamFailed, match="answered 302"):
            await upstream.get("/a", about="a")
    assert len(service.heads) == 1


@pytest.mark.parametrize(
    ("answering", "said"),
    [
        (writes(b""), "broke off"),
        (writes(b"nonsense\r\n\r\n"), "broke off"),
        (writes(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"), "broke off"),
        (writes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n"), "broke off"),
        (writes(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nabcd"), "broke off"),
        (writes(b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 100_000 + b"\r\n\r\n"), "broke off"),
        (says(b"[]"), "answered what cannot be read"),
        (says(b" " * (LARGEST_ANSWER_BYTES + 1)), "answered more than an answer may have"),
        (says(b"", status="500 No"), "answered 500"),
    ],
)
async def test_each_way_to_fail_is_told_apart(answering: Answering, said: str) -> None:
    async with calling(answering) as (_, upstream):
        with pytest.raises(UpstreamFailed, match=said):
            await upstream.get("/a", about="a")
        assert upstream.in_flight == 0
        # of what may not be sent twice nobody knows whether it took effect
        with pytest.raises(OutcomeUnknown, match=said):
            await upstream.call("POST", "/a", about="a", json={}, reads=_no_list)


def _no_list(reply: Any) -> Any:
    return None if reply.body == b"[]" else reply


@pytest.mark.parametrize("answering", [hangs, drips])
async def test_the_deadline_is_of_the_whole_call(answering: Answering) -> None:
    async with calling(answering, deadline=timedelta(seconds=0.3)) as (_, upstream):
        with pytest.raises(UpstreamFailed, match=r"did not answer within 0\.3 s"):
            await upstream.get("/a", about="a")
        assert upstream.in_flight == 0


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "", "http://127.0.0.1:99999999", "gopher://127.0.0.1"])
async def test_where_nobody_is_nothing_was_sent(address: str) -> None:
    metrics = UpstreamMetrics(CollectorRegistry())
    async with Upstream("service", address, metrics=metrics, deadline=PATIENCE, most=1) as upstream:
        with pytest.raises(UpstreamFailed, match="cannot be reached") as raised:
            await upstream.call("POST", "/a", about="a", json={})
        assert raised.value.was_sent is False
        assert not isinstance(raised.value, OutcomeUnknown)
