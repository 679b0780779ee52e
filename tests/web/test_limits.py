import asyncio
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from orderup.errors import Invalid
from orderup.settings import Settings
from orderup.web.limits import DEEPEST_JSON, read_json
from orderup.web.problems import MalformedRequest
from orderup.web.server import READ_IN_VAIN
from tests.services.waiting import PATIENCE_SECONDS
from tests.web.sample import LAPTOP, client_of, exchange, sample_app, serving

SMALL = Settings(max_body_bytes=2048, max_header_bytes=8192)
JSON = {"Content-Type": "application/json"}
START = b"POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def status_of(answer: bytes) -> int:
    return int(answer.split()[1])


def problem_of(answer: bytes) -> Any:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    return json.loads(body)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def test_a_body_declared_too_large_is_refused_before_it_is_sent() -> None:
    async with serving(sample_app(SMALL), SMALL) as port:
        answer = await exchange(port, START + b"Connection: close\r\nContent-Length: 2049\r\n\r\n")
    assert status_of(answer) == 413
    assert problem_of(answer)["detail"] == "The body of a request may have 2048 bytes at most."


async def test_a_body_too_large_is_refused_on_routes_that_read_none() -> None:
    async with serving(sample_app(SMALL), SMALL) as port:
        head = b"GET /menu HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 9999999999\r\n\r\n"
        answer = await exchange(port, head)
    assert status_of(answer) == 413


async def test_a_body_in_chunks_is_cut_off_where_it_is_too_large() -> None:
    async with serving(sample_app(SMALL), SMALL) as port:
        head = START + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = await exchange(port, head, *[chunk(b" " * 1024)] * 3)
    assert status_of(answer) == 413
    assert problem_of(answer)["type"] == "urn:orderup:problem:too-large"


async def test_an_endless_body_ends() -> None:
    async with serving(sample_app(SMALL), SMALL) as port:
        head = START + b"Transfer-Encoding: chunked\r\n\r\n"
        answer = await exchange(port, head, *[chunk(b" " * 65_536)] * (2 * READ_IN_VAIN // 65_536))
    assert answer == b""


async def test_a_body_of_exactly_the_limit_is_read() -> None:
    body = b'{"name": "%s"}' % (b"x" * (2048 - 12))
    async with serving(sample_app(SMALL), SMALL) as port:
        for head, sent in [
            (b"Content-Length: 2048\r\nConnection: close\r\n\r\n", body),
            (
                b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
                chunk(body[:1000]) + chunk(body[1000:]) + chunk(b""),
            ),
        ]:
            assert status_of(await exchange(port, START + head + sent)) == 202


@pytest.mark.parametrize("size", [(1 << 20) + 1, 8 << 20])
async def test_the_usual_limit_is_one_mebibyte_and_who_sends_more_is_told(size: int) -> None:
    async with serving(sample_app(LAPTOP), LAPTOP) as port, httpx2.AsyncClient(timeout=PATIENCE_SECONDS) as client:
        for content in (b" " * size, _in_pieces(size)):
            answer = await client.post(f"http://localhost:{port}/orders", content=content, headers=JSON)
            assert answer.status_code == 413
            assert answer.json()["detail"] == "The body of a request may have 1048576 bytes at most."
        assert (await client.get(f"http://localhost:{port}/menu")).status_code == 200


async def _in_pieces(size: int) -> AsyncIterator[bytes]:
    for _ in range(0, size, 65_536):
        yield b" " * 65_536


async def test_a_length_below_the_truth_leaves_a_broken_body_and_a_broken_request_behind() -> None:
    async with serving(sample_app(SMALL), SMALL) as port:
        answer = await exchange(port, START + b"Content-Length: 5\r\n\r\n" + b'{"name": "x"}')
    assert status_of(answer) == 400
    assert b" 202 " not in answer
    assert b"500" not in answer


async def test_who_leaves_before_the_body_is_there_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(sample_app(SMALL), SMALL) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(START + b"Content-Length: 100\r\n\r\n{")
        writer.close()
        await writer.wait_closed()
        answer = await exchange(port, b"GET /menu HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert status_of(answer) == 200
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("length", [b"-1", b"1, 2", b"x", b"0x10", b"+5"])
async def test_a_length_that_is_no_number_is_refused(length: bytes) -> None:
    async with serving(sample_app(SMALL), SMALL) as port:
        answer = await exchange(port, START + b"Content-Length: " + length + b"\r\nConnection: close\r\n\r\n{}")
    assert 400 <= status_of(answer) < 500


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        b"Content-Length: 4\r\nContent-Length: 6\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
    ],
)
async def test_a_body_whose_length_is_said_in_two_ways_is_refused(head: bytes) -> None:
    smuggled = b"0\r\n\r\nDELETE /everything HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    async with serving(sample_app(SMALL), SMALL) as port:
        answer = await exchange(port, START + head + b"\r\n" + smuggled)
    assert status_of(answer) == 400
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "request_", [b"MENU\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", START + b"Transfer-Encoding: 7B%u\r\n\r\n"]
)
async def test_what_is_no_request_is_told_so_like_any_other_problem(request_: bytes) -> None:
    async with serving(sample_app(SMALL), SMALL) as port:
        answer = await exchange(port, request_)
    head = answer.partition(b"\r\n\r\n")[0].lower()
    assert status_of(answer) == 400
    assert problem_of(answer)["type"] == "urn:orderup:problem:malformed-request"
    assert b"\r\nconnection: close" in head
    assert b"\r\nx-content-type-options: nosniff" in head
    assert answer.count(b"HTTP/1.1") == 1


async def test_a_head_that_comes_bit_by_bit_and_does_not_end_is_told_why() -> None:
    async with serving(sample_app(SMALL), SMALL) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /menu HTTP/1.1\r\nHost: localhost\r\n")
        await asyncio.sleep(0.1)  # so that it is read in two pieces
        writer.write(b"X-Endless: " + b"x" * SMALL.max_header_bytes)
        async with asyncio.timeout(PATIENCE_SECONDS):
            answer = await reader.read()
        writer.close()
    assert status_of(answer) == 431
    assert problem_of(answer)["type"] == "urn:orderup:problem:head-too-large"


async def test_a_head_too_large_is_refused() -> None:
    async with serving(sample_app(SMALL), SMALL) as port:
        request = b"GET /menu HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Large: %s\r\n\r\n" % (b"x" * 8192)
        answer = await exchange(port, request)
    assert status_of(answer) == 431
    assert problem_of(answer)["type"] == "urn:orderup:problem:head-too-large"


@pytest.mark.parametrize("line", [b"X-Endless: ", b"GET /"])
async def test_a_head_without_end_is_cut_off_before_it_is_complete(line: bytes) -> None:
    start = b"" if line.startswith(b"GET") else b"GET /menu HTTP/1.1\r\nHost: localhost\r\n"
    async with serving(sample_app(SMALL), SMALL) as port:
        answer = await exchange(port, start + line, *[b"x" * 65_536] * 100)
    assert answer == b""


async def test_headers_after_a_body_in_chunks_are_cut_off_as_well() -> None:
    head = START + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b'{"name": "x"}') + b"0\r\nX-Endless: "
    async with serving(sample_app(SMALL), SMALL) as port:
        answer = await exchange(port, head, *[b"x" * 65_536] * 100)
    assert answer == b""


async def test_a_large_head_within_the_limit_passes() -> None:
    async with serving(sample_app(LAPTOP), LAPTOP) as port:
        large = b"X-Large: %s\r\n" % (b"x" * 60_000)
        answer = await exchange(
            port, b"GET /menu HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + large + b"\r\n"
        )
    assert status_of(answer) == 200


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/orders/%00", "path"),
        ("/orders/a%FFb", "path"),
        ("/orders/%C3%28", "path"),
        ("/orders/x?key=%00", "query"),
        ("/menu?a=%ff", "query"),
    ],
)
async def test_a_path_or_query_that_is_no_text_is_refused(path: str, field: str) -> None:
    async with serving(sample_app(LAPTOP), LAPTOP) as port:
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        answer = await exchange(port, request.encode())
    assert status_of(answer) == 400
    assert problem_of(answer)["errors"][0]["field"] == field


async def test_text_of_all_languages_passes() -> None:
    async with client_of(sample_app(LAPTOP)) as client:
        assert (await client.get("/orders/%E2%98%83%20%F0%9F%8D%95")).json() == {"id": "☃ 🍕"}
        assert (await client.post("/orders", json={"name": "Crème brûlée ☃"})).json()["name"] == "Crème brûlée ☃"


async def test_a_socket_with_a_path_that_is_no_text_is_refused() -> None:
    handshake = (
        b"GET /orders/%00/live HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    async with serving(sample_app(LAPTOP), LAPTOP) as port:
        assert status_of(await exchange(port, handshake)) == 400


BROKEN = [
    b"{",
    b"{} {}",
    b"'x'",
    b"\xef\xbb\xbf{}",
    b'{"name": NaN}',
    b'{"name": Infinity}',
    b'{"name": "\xff"}',
    b'{"\xff": 1}',
    b'{"name": "\\ud800"}',
    b'{"name": "\x00"}',
    b'{"name": "a\nb"}',
    b"9" * 5000,
    b"\x00",
    b"\xff\xfe{\x00}\x00",
]


@pytest.mark.parametrize("body", BROKEN)
async def test_what_is_no_json_is_a_bad_request_that_names_the_body(body: bytes) -> None:
    async with client_of(sample_app(LAPTOP)) as client:
        answer = await client.post("/orders", content=body, headers=JSON)
    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"][0]["field"] == "body"


@pytest.mark.parametrize("depth", [DEEPEST_JSON + 1, 900, 10_000, 500_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_json_nested_too_deep_is_refused(depth: int, opening: str, closing: str) -> None:
    with pytest.raises(Invalid):
        read_json((opening * depth + "1" + closing * depth).encode())


def test_json_nested_as_deep_as_allowed_is_read() -> None:
    value: object = 1
    for _ in range(DEEPEST_JSON):
        value = [value]
    assert read_json(json.dumps(value).encode()) == value


def test_many_brackets_side_by_side_are_not_deep() -> None:
    value: list[object] = [[{"a": []}] for _ in range(1000)]
    assert read_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"name": "a\0b"}, "body.name"),
        ({"toppings": [{"name": "ham"}, {"name": "\0"}]}, "body.toppings.1.name"),
        ({"a\0": 1}, "body"),
        ("\0", "body"),
    ],
)
def test_a_nul_in_a_text_is_refused_where_it_stands(value: object, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_json(json.dumps(value).encode())
    assert caught.value.field == field


def test_what_only_looks_like_a_nul_is_kept() -> None:
    value = {"name": r"a \u0000 in words"}
    assert read_json(json.dumps(value).encode()) == value


def test_whatever_is_read_any_other_reader_reads_alike_and_the_rest_is_refused() -> None:
    seed = random.randrange(1 << 32)
    draw = random.Random(seed)
    pieces = [
        b'{"a":',
        b"[",
        b"]",
        b"}",
        b",",
        b'"',
        b"\\u0000",
        b"\\ud8",
        b"1e",
        b"-",
        b"\xff",
        b"null",
        b"\x00",
        b" ",
    ]
    read = 0
    for _ in range(20_000):
        body = b"".join(draw.choices(pieces, k=draw.randint(0, 8)))
        try:
            value = read_json(body)
        except (Invalid, MalformedRequest):
            continue
        read += 1
        assert value == json.loads(body), f"seed {seed}"
    assert read > 100, f"seed {seed}"
