"""`WS /api/work`: tasks are pushed; what is said of them is answered under ids of ours.

A push counts once the back has answered that it was received: what was not, it hands to somebody else when the socket
goes, or pushes again over the next one, which says how far it got. So nothing is begun here that the back does not know
to be here.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from itertools import count
from random import Random
from typing import Any
from uuid import uuid4

import msgspec
import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from orderup.errors import OrderupError, Refused, Unavailable
from orderup.worker.http_link import Http, HttpLink
from orderup.worker.link import (
    ANSWER_SECONDS,
    CLAIM_SECONDS,
    ENDS,
    NO_TIME,
    Claim,
    ClaimEnded,
    Patience,
    Wish,
    error_of,
    is_here,
)

log = structlog.get_logger("orderup.worker")
# The back takes frames of 64 KiB; what is larger is sent as a request.
LARGEST_BODY = 60_000
CLOSE_SECONDS = 2.0
CONNECTIONS_A_LEASE = 8


class _Frame(msgspec.Struct, frozen=True):
    """An answer, or tasks pushed."""

    id: int | None = None
    status: int = 200
    body: Any = None
    retry_after: float | None = None
    n: int = 0
    tasks: Sequence[Claim] = ()


class SocketLink:
    """`http`: to the same back."""

    def __init__(self, http: Http, wish: Wish, *, token: str | None, random: Random) -> None:
        self.http, self.wish, self.random = HttpLink(http, wish), wish, random
        self.url = f"ws{http.server.removeprefix('http')}/api/work"
        self.headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.request = uuid4()
        self._n = 0
        self._ids = count(1)
        self._socket: ClientConnection | None = None
        self._refusal: Refused | None = None
        self._answers: dict[int, asyncio.Future[_Frame]] = {}
        self._unconfirmed = 0
        # Tokens of tasks that came over the present socket and have not ended.
        self._here: set[str] = set()
        self._inbox: deque[Claim] = deque()
        self._shortest_lease = math.inf
        self._changed = asyncio.Event()

    # the connection

    async def run(self) -> None:
        patience = Patience(self.random)
        while self._refusal is None:
            error = await self._connect_and_read(patience)
            self._lost(error)
            if isinstance(error, Refused):
                self._refusal = error
                self._changed.set()
            else:
                await asyncio.sleep(self._pause(patience, error))

    def _pause(self, patience: Patience, error: Unavailable) -> float:
        """Not so long that leases run out for want of heartbeats, unless the server asks for it."""
        asked = error.retry_after.total_seconds()
        return max(asked, min(patience.seconds(error), self._shortest_lease / CONNECTIONS_A_LEASE))

    async def _connect_and_read(self, patience: Patience) -> Refused | Unavailable:
        """Until the connection is lost, or there is none: why."""
        try:
            async with self._connection() as socket:
                self._socket = socket
                self._changed.set()
                async for message in socket:
                    patience.reset()
                    await self._hear(socket, msgspec.json.decode(message, type=_Frame))
                return Unavailable(f"The server closed the connection: {socket.close_reason}", retry_after=NO_TIME)
        except InvalidStatus as error:
            answer = error.response
            return error_of(
                answer.status_code, bytes(answer.body or b""), retry_after=answer.headers.get("Retry-After")
            )
        except (OSError, InvalidHandshake, ConnectionClosed, msgspec.DecodeError) as error:
            return Unavailable(
                f"No connection to {self.url}: {str(error) or type(error).__name__}", retry_after=NO_TIME
            )

    def _connection(self) -> connect:
        return connect(
            self.url,
            additional_headers=self.headers,
            compression=None,
            open_timeout=ANSWER_SECONDS,
            close_timeout=CLOSE_SECONDS,
            max_size=None,
            proxy=None if is_here(self.url) else True,
        )

    def _lost(self, error: Refused | Unavailable) -> None:
        self._socket = None
        self._here.clear()
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            if not answer.done():
                answer.set_exception(error)
        self._changed.set()

    async def _until(self, fact: Callable[[], bool]) -> None:
        """Raises what the back refuses the connection with."""
        while not fact():
            if self._refusal is not None:
                raise self._refusal
            self._changed.clear()
            await self._changed.wait()

    # hearing

    async def _hear(self, socket: ClientConnection, frame: _Frame) -> None:
        if frame.tasks:
            self._unconfirmed += 1
            confirmed = await self._ask(socket, "received", msgspec.json.encode({"n": frame.n}))
            confirmed.add_done_callback(lambda answer: self._confirm(frame, answer))
        elif (answer := self._answers.pop(frame.id or 0, None)) is not None and not answer.done():
            answer.set_result(frame)

    def _confirm(self, pushed: _Frame, answer: asyncio.Future[_Frame]) -> None:
        self._unconfirmed -= 1
        if not answer.cancelled() and answer.exception() is None and answer.result().status == HTTPStatus.OK:
            self._n = pushed.n
            self._here |= {claim.token for claim in pushed.tasks}
            self._inbox.extend(pushed.tasks)
            self._shortest_lease = min(self._shortest_lease, *(claim.lease_seconds for claim in pushed.tasks))
        self._changed.set()

    # saying

    async def _ask(
        self, socket: ClientConnection, verb: str, body: bytes, *, task: str | None = None
    ) -> asyncio.Future[_Frame]:
        """The answer to come. Raises ConnectionClosed."""
        id = next(self._ids)
        answer: asyncio.Future[_Frame] = asyncio.get_running_loop().create_future()
        self._answers[id] = answer
        await socket.send(_frame(id, verb, body, task=task), text=True)
        return answer

    async def _say(self, verb: str, body: bytes, *, task: str | None = None) -> Any:
        """What it is answered. Raises Unavailable, and what the back refused with."""
        socket = None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._until(lambda: self._socket is not None)
                socket = self._socket
                assert socket is not None
                frame = await (await self._ask(socket, verb, body, task=task))
        except ConnectionClosed as error:
            raise Unavailable(f"The connection was lost: {error}", retry_after=NO_TIME) from error
        except TimeoutError as error:
            if socket is not None:
                socket.transport.abort()  # whoever does not answer for so long is gone, though nobody told us
            raise Unavailable("The server does not answer", retry_after=NO_TIME) from error
        if frame.status != HTTPStatus.OK:
            raise error_of(frame.status, frame.body, retry_after=frame.retry_after)
        return frame.body

    async def send(self, verb: str, claim: Claim, body: bytes) -> Any:
        try:
            if len(body) > LARGEST_BODY:
                answer = await self.http.send(verb, claim, body)
                await self._tell_of_request(claim)
            else:
                answer = await self._say(verb, body, task=claim.id)
        except ClaimEnded:
            self._here.discard(claim.token)
            raise
        if verb in ENDS:
            self._here.discard(claim.token)
        return answer

    async def _tell_of_request(self, claim: Claim) -> None:
        """The socket counts a task as unfinished until it hears of it, and pushes no other in its place."""
        if claim.token in self._here:
            with suppress(OrderupError):
                await self._say("heartbeat", msgspec.json.encode({"token": claim.token}), task=claim.id)

    # claiming

    async def claim(self, *, most: int) -> Sequence[Claim]:
        try:
            async with asyncio.timeout(CLAIM_SECONDS):
                while not self._inbox:
                    await self._until(lambda: bool(self._inbox) or self._socket is not None)
                    if not self._inbox:
                        await self._wait_here(most)
        except TimeoutError:
            return []
        return [self._inbox.popleft() for _ in range(min(most, len(self._inbox)))]

    async def _wait_here(self, most: int) -> None:
        """For tasks to come over the present socket, as long as there is that one."""
        socket = self._socket
        await self._wish(most + len(self._here))
        await self._until(lambda: bool(self._inbox) or self._socket is not socket)

    async def _wish(self, most: int) -> None:
        """To hold so many tasks of this socket at once."""
        wish = {**msgspec.structs.asdict(self.wish), "max": most, "request": self.request, "after": self._n}
        await self._say("claim", msgspec.json.encode(wish))

    async def release(self) -> Sequence[Claim]:
        try:
            if self._socket is not None:
                await self._wish(0)
                await self._until(lambda: not self._unconfirmed)
        except (Refused, Unavailable) as error:
            log.debug("the last wish cannot be withdrawn", error=str(error))
        claims = list(self._inbox)
        self._inbox.clear()
        return claims


def _frame(id: int, verb: str, body: bytes, *, task: str | None) -> bytes:
    return msgspec.json.encode({"id": id, "verb": verb, "task": task, "body": msgspec.Raw(body)})
