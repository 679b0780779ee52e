"""A worker written by hand: says one thing at a time to the back, by requests or over a WebSocket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Protocol

import httpx2
import msgspec
from websockets.asyncio.client import ClientConnection, connect

from tests.services.waiting import PATIENCE_SECONDS
from tests.worker.visitor import Visitor


class Hand(Protocol):
    async def claim(self, **body: Any) -> list[dict[str, Any]]:
        """The tasks that come."""
        ...

    async def say(self, verb: str, task: str | None, **body: Any) -> tuple[int, Any]:
        """Status and body of the answer."""
        ...


def wish_of(visitor: Visitor, **body: Any) -> dict[str, Any]:
    return {"worker": "hand", "shop": "forge", "tasks": ["hammer"], "region": visitor.region, **body}


class HttpHand:
    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor

    async def claim(self, **body: Any) -> list[dict[str, Any]]:
        wish = wish_of(self.visitor, **body)
        answer = await self.visitor.client.post(f"{self.visitor.back}/api/work/claim", json=wish)
        assert answer.is_success, answer.text
        tasks: list[dict[str, Any]] = answer.json()["tasks"]
        return tasks

    async def say(self, verb: str, task: str | None, **body: Any) -> tuple[int, Any]:
        answer: httpx2.Response = await self.visitor.client.post(
            f"{self.visitor.back}/api/work/{task}/{verb}", json=body
        )
        return answer.status_code, answer.json()


class SocketHand:
    """`pushed`: what has come and was not looked at."""

    def __init__(self, visitor: Visitor, socket: ClientConnection) -> None:
        self.visitor, self.socket = visitor, socket
        self.ids = count(1)
        self.pushed: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def claim(self, **body: Any) -> list[dict[str, Any]]:
        status, answer = await self.say("claim", None, **wish_of(self.visitor, **body))
        assert status == 200, answer
        return list((await self.next_push())["tasks"])

    async def next_push(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            if self.pushed.empty():
                self.pushed.put_nowait(await self.hear())
            return self.pushed.get_nowait()

    async def say(self, verb: str, task: str | None, **body: Any) -> tuple[int, Any]:
        id = next(self.ids)
        answer = await self.send(msgspec.json.encode({"id": id, "verb": verb, "task": task, "body": body}).decode())
        assert answer["id"] == id
        return answer["status"], answer["body"]

    async def send(self, frame: str | bytes) -> dict[str, Any]:
        """The answer to a frame; what is pushed before it is kept."""
        await self.socket.send(frame)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "tasks" in (heard := await self.hear()):
                self.pushed.put_nowait(heard)
        return heard

    async def hear(self) -> dict[str, Any]:
        heard: dict[str, Any] = msgspec.json.decode(await self.socket.recv())
        return heard


@asynccontextmanager
async def socket_hand(visitor: Visitor) -> AsyncIterator[SocketHand]:
    async with connect(f"ws{visitor.back.removeprefix('http')}/api/work", compression=None, proxy=None) as socket:
        yield SocketHand(visitor, socket)
