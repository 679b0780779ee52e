"""Whoever orders at the forge and looks how it goes, over the API."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import uuid4

import httpx2

from tests.services.waiting import PATIENCE_SECONDS

T = TypeVar("T")


async def until(look: Callable[[], Awaitable[T]], fact: Callable[[T], bool], *, what: str) -> T:
    """What was seen when it was so. Raises TimeoutError, saying `what` did not happen."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not fact(seen := await look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {PATIENCE_SECONDS:g} s. Last seen: {seen}")
        await asyncio.sleep(0.02)
    return seen


class Visitor:
    """`region`: of all its orders, so that the workers of one test get no task of another's on the same server."""

    def __init__(self, front: str, back: str) -> None:
        self.front, self.back = front, back
        self.region = f"r{uuid4().hex[:8]}"
        self.client = httpx2.AsyncClient(timeout=PATIENCE_SECONDS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.aclose()

    async def order(self, *kinds: str, **fields: Any) -> str:
        """The operation's id."""
        body = {"kinds": kinds or ["hammer"], "region": self.region, **fields}
        return str((await self._ask("POST", f"{self.front}/orders", body))["id"])

    async def operation(self, id: str) -> dict[str, Any]:
        return await self._ask("GET", f"{self.back}/api/operations/{id}")

    async def task(self, id: str, position: int = 0) -> dict[str, Any]:
        """Of an operation."""
        return await self._ask("GET", f"{self.back}/api/tasks/{id}-{position}")

    async def steer(self, id: str, verb: str) -> None:
        """cancel, pause, resume."""
        await self._ask("POST", f"{self.back}/api/operations/{id}/{verb}")

    async def until_worker(self, name: str, fact: Callable[[dict[str, Any]], bool], *, what: str) -> dict[str, Any]:
        """The line about a worker in the list of them, once there is one and this is true of it."""

        async def look() -> list[dict[str, Any]]:
            workers = (await self._ask("GET", f"{self.back}/api/workers"))["workers"]
            return [worker for worker in workers if worker["id"] == name]

        [found] = await until(look, lambda workers: len(workers) == 1 and fact(workers[0]), what=what)
        return found

    async def claim(self, **fields: Any) -> list[dict[str, Any]]:
        """As a worker of this region that is written by hand."""
        body = {"worker": "hand", "shop": "forge", "tasks": ["hammer"], "region": self.region, **fields}
        tasks: list[dict[str, Any]] = (await self._ask("POST", f"{self.back}/api/work/claim", body))["tasks"]
        return tasks

    async def say(self, verb: str, task: str, **body: Any) -> httpx2.Response:
        """A verb of a worker's, whatever it is answered."""
        return await self.client.post(f"{self.back}/api/work/{task}/{verb}", json=body)

    async def until_task(self, id: str, fact: Callable[[dict[str, Any]], bool], *, what: str) -> dict[str, Any]:
        """The operation's first task, once this is true of it."""
        return await until(lambda: self.task(id), fact, what=what)

    async def until(self, id: str, status: str) -> dict[str, Any]:
        """The operation, once it has this status; at once if it can have it no more."""
        ended = await until(
            lambda: self.operation(id),
            lambda operation: operation["status"] == status or operation["finished_at"] is not None,
            what=f"operation {id} is {status}",
        )
        assert ended["status"] == status, ended
        return ended

    async def _ask(self, method: str, url: str, body: object = None) -> dict[str, Any]:
        answer = await self.client.request(method, url, json=body)
        assert answer.is_success, answer.text
        read: dict[str, Any] = answer.json()
        return read
