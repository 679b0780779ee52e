"""Whoever receives a webhook: a real server on a port of its own, that can be away, hang, fail and come back."""

import asyncio
import base64
import hashlib
import hmac
import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tests.services.ports import free_port
from tests.services.waiting import PATIENCE_SECONDS

KEY = b"0123456789abcdef0123456789abcdef"
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
# For a slow and busy machine.


@dataclass(frozen=True, slots=True)
class Received:
    """A request: its id, the event, when it came by the loop's clock, and what it was answered."""

    id: str
    event: dict[str, Any]
    at: float
    status: int

    @property
    def operation(self) -> str:
        return str(self.event["operation_id"])


Answer = Callable[[dict[str, Any]], Awaitable[Response]]


async def fine(_event: dict[str, Any]) -> Response:
    return Response(status_code=204)


def always(status: int, **headers: str) -> Answer:
    async def answer(_event: dict[str, Any]) -> Response:
        return Response(status_code=status, headers={name.replace("_", "-"): text for name, text in headers.items()})

    return answer


class Receiver:
    """`answer`: what it says to an event; may be replaced at any time. A request whose signature is wrong is noted in
    `forged`."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/hooks/orderup/"
        self.answer: Answer = fine
        self.received: list[Received] = []
        self.forged: list[str] = []
        self.arrived = 0
        self._changed = asyncio.Condition()
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def accepted(self) -> list[Received]:
        """The first time that each event was answered with a yes."""
        found = {each.id: each for each in reversed(self.received) if each.status < 300}
        return [each for each in self.received if found.get(each.id) is each]

    async def start(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port))
        self._server = uvicorn.Server(
            uvicorn.Config(self._app, log_level="critical", lifespan="off", ws="none", interface="asgi3")
        )
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]), name="receiver")

    async def die(self) -> None:
        """Its port is closed, whoever talks to it is cut off."""
        if self._server is not None and self._task is not None:
            self._server.should_exit = self._server.force_exit = True
            await self._task
        self._server = self._task = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.die()

    async def until(self, fact: Callable[[], object]) -> None:
        """Wait for what becomes true by something that is received."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._changed:
            await self._changed.wait_for(fact)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body, at = await request.body(), asyncio.get_running_loop().time()
        self._check(request, body)
        event = json.loads(body)
        async with self._changed:
            self.arrived += 1
            self._changed.notify_all()
        response = await self.answer(event)
        async with self._changed:
            self.received.append(Received(request.headers["webhook-id"], event, at, response.status_code))
            self._changed.notify_all()
        await response(scope, receive, send)

    def _check(self, request: Request, body: bytes) -> None:
        """As a receiver that knows only the secret and the standard does it."""
        id, timestamp = request.headers["webhook-id"], request.headers["webhook-timestamp"]
        signed = b".".join([id.encode(), timestamp.encode(), body])
        expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        path = request.url.path
        if request.headers["webhook-signature"] != f"v1,{expected}" or path != "/hooks/orderup/":
            self.forged.append(id)
