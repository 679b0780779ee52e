"""An order as plain as can be is taken past the layers of the framework, and answered as any other."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from orderup.web.direct import LARGEST_PLAIN_BODY
from tests.serving import sqlite_url
from tests.shops.mealbox.conftest import GOOD, Kiosk, open_kiosk

JSON = "application/json"
# Nobody reads it, and it takes the usual way.
COOKIE = "Cookie: a=b\r\n"
# What is new each time.
OWN = {"id", "created_at", "links"}


def port_of(kiosk: Kiosk) -> int:
    return int(kiosk.front.rpartition(":")[2])


def plain(body: bytes, *, kind: str | None = JSON, more: str = "") -> bytes:
    """An order as it is sent."""
    type_line = "" if kind is None else f"Content-Type: {kind}\r\n"
    lines = f"POST /orders HTTP/1.1\r\nHost: localhost\r\n{type_line}Content-Length: {len(body)}\r\n{more}"
    return f"{lines}\r\n".encode() + body


async def answer_to(kiosk: Kiosk, *parts: bytes) -> tuple[int, dict[str, str], Any]:
    """Status, headers and what the body says."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(kiosk))
    try:
        async with asyncio.timeout(60):
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.05)  # so that each is read by itself
            status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            said = await reader.readexactly(int(headers.get("content-length", 0)))
    finally:
        writer.close()
    return int(status.split()[1]), headers, json.loads(said) if said else None


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (GOOD, JSON, 201),
        ({**GOOD, "user_id": "nobody"}, JSON, 422),
        ({**GOOD, "product_code": " x"}, JSON, 422),
        ({**GOOD, "more": 1}, JSON, 422),
        ({"user_id": 7}, JSON, 422),
        ([GOOD], JSON, 422),
        (b"", JSON, 422),
        (b'{"user_id": "a\\u0000", "product_code": "b"}', JSON, 422),
        (b'{"broken', JSON, 400),
        (b"[" * 2000, JSON, 422),
        (b'{"user_id": 1e999}', JSON, 400),
        (b"\xff\xfe", JSON, 400),
        (GOOD, None, 415),
        (GOOD, "text/plain", 415),
        (GOOD, "application/json; charset=utf-8", 201),
        (json.dumps(GOOD).encode().ljust(LARGEST_PLAIN_BODY), JSON, 201),
        (json.dumps(GOOD).encode().ljust(LARGEST_PLAIN_BODY + 1), JSON, 201),
    ],
    ids=str,
)
async def test_the_short_way_answers_as_the_usual_one_does(
    one_kiosk: Kiosk, body: Any, kind: str | None, status: int
) -> None:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    answers = []
    for more in ("", COOKIE):
        code, headers, said = await answer_to(one_kiosk, plain(sent, kind=kind, more=more))
        if code == 201:
            assert headers.pop("location") == said["links"]["self"]
            assert set(said) > OWN
            said = {name: value for name, value in said.items() if name not in OWN}
        answers.append((code, {name: headers[name] for name in headers if name != "date"}, said))
    assert answers[0] == answers[1]
    assert answers[0][0] == status


async def test_a_body_may_come_in_pieces(one_kiosk: Kiosk) -> None:
    body = json.dumps(GOOD).encode()
    status, _, said = await answer_to(one_kiosk, plain(body)[: -len(body)], body[:10], body[10:])
    assert (status, said["status"]) == (201, "completed")


async def test_a_body_that_is_wrong_is_refused_also_when_it_comes_in_pieces(one_kiosk: Kiosk) -> None:
    sent = plain(b'{"user_id"}')
    status, _, said = await answer_to(one_kiosk, sent[:-5], sent[-5:])
    assert (status, said["title"]) == (400, "Malformed request")


async def test_who_leaves_in_the_middle_of_his_order_has_placed_none(one_kiosk: Kiosk) -> None:
    body = json.dumps(GOOD).encode()
    _reader, writer = await asyncio.open_connection("127.0.0.1", port_of(one_kiosk))
    # what there is of it would be an order
    writer.write(plain(body + b"     ")[:-5])
    await writer.drain()
    writer.close()
    assert (await answer_to(one_kiosk, plain(body)))[0] == 201
    listed = (await one_kiosk.client.get(f"{one_kiosk.front}/orders")).json()["orders"]
    assert len(listed) == 1


async def test_a_wish_is_heard_on_the_short_way(one_kiosk: Kiosk) -> None:
    status, headers, said = await answer_to(
        one_kiosk, plain(json.dumps(GOOD).encode(), more="Prefer: respond-async\r\n")
    )
    assert (status, headers["preference-applied"], said["status"]) == (202, "respond-async", "pending")


async def test_the_owners_limit_is_kept(tmp_path: Path) -> None:
    async with open_kiosk(sqlite_url(tmp_path), max_body_bytes=1_024) as kiosk:
        body = json.dumps(GOOD).encode()
        sizes = {size: await answer_to(kiosk, plain(body.ljust(size))) for size in (1_024, 1_025)}
    assert {size: status for size, (status, _, _) in sizes.items()} == {1_024: 201, 1_025: 413}


async def test_the_owners_limit_of_heads_is_kept(tmp_path: Path) -> None:
    async with open_kiosk(sqlite_url(tmp_path), max_header_bytes=4_096) as kiosk:
        body, statuses = json.dumps(GOOD).encode(), []
        for count in (10, 16):
            more = "".join(f"X-{number}: {'x' * 250}\r\n" for number in range(count))
            statuses.append((await answer_to(kiosk, plain(body, more=more)))[0])
    assert statuses == [201, 431]
