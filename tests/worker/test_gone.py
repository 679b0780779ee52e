"""Whoever hangs up before his claim is answered leaves nothing behind: no lease has to run out.

All of it with a kind of work whose lease is longer than any test here waits.
"""

import asyncio
import socket
from urllib.parse import urlsplit

import msgspec
import pytest

from tests.services.waiting import PATIENCE_SECONDS
from tests.worker.hand import wish_of
from tests.worker.visitor import Visitor

MANY = 20
WAIT_SECONDS = 30
# Holds back what is written until it is closed, so that the end of the connection comes along with the request.
CORK: int = getattr(socket, "TCP_CORK", 0) or getattr(socket, "TCP_NOPUSH", 0)


def say_and_hang_up(visitor: Visitor, *, wait: float) -> None:
    """A claim whose caller is gone by the time that it is read."""
    back = urlsplit(visitor.back)
    body = msgspec.json.encode(wish_of(visitor, tasks=["temper"], wait=wait))
    head = (
        f"POST /api/work/claim HTTP/1.1\r\nHost: {back.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((back.hostname, back.port or 0), timeout=PATIENCE_SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, CORK, 1)
        connection.sendall(head.encode() + body)


async def assert_free(visitor: Visitor, *orders: str) -> None:
    """Somebody else gets all of them, and it is their first attempt that counts."""
    left = set(orders)
    while left:
        tasks = await visitor.claim(worker="other", tasks=["temper"], max=len(left), wait=WAIT_SECONDS)
        assert tasks, f"nobody gets {left}"
        assert {task["attempt"] for task in tasks} == {1}
        left -= {task["operation_id"] for task in tasks}
    for order in orders:
        assert (await visitor.task(order))["losses"] == 0


async def test_who_hung_up_while_he_waited_is_given_nothing(visitor: Visitor) -> None:
    for _ in range(MANY):
        await asyncio.to_thread(say_and_hang_up, visitor, wait=WAIT_SECONDS)
    await assert_free(visitor, *[await visitor.order("temper") for _ in range(MANY)])


@pytest.mark.parametrize("wait", [0, WAIT_SECONDS])
async def test_what_was_claimed_for_who_hung_up_meanwhile_is_handed_back(visitor: Visitor, wait: float) -> None:
    orders = [await visitor.order("temper") for _ in range(MANY)]
    await asyncio.gather(*(asyncio.to_thread(say_and_hang_up, visitor, wait=wait) for _ in orders))
    await assert_free(visitor, *orders)
