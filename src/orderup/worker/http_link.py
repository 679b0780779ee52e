"""The routes under `/api/work`: tasks come by long polling."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

import httpx2
import msgspec

from orderup.errors import Invalid, Refused, Unavailable
from orderup.worker.link import ANSWER_SECONDS, CLAIM_SECONDS, NO_TIME, Claim, Wish, error_of, is_here

# Below the server's own, so that no request is sent into a connection that is just being closed.
KEEP_ALIVE_SECONDS = 4.0
WELL_KNOWN = "/.well-known/orderup"


class _Claimed(msgspec.Struct, frozen=True):
    tasks: list[Claim]


class _Back(msgspec.Struct, frozen=True):
    back: str


class Http:
    """Requests to one server, each with a deadline for all of it."""

    def __init__(self, server: str, *, token: str | None) -> None:
        self.server = server.rstrip("/")
        self.client = httpx2.AsyncClient(
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
            limits=httpx2.Limits(keepalive_expiry=KEEP_ALIVE_SECONDS),
            timeout=httpx2.Timeout(ANSWER_SECONDS, read=CLAIM_SECONDS + ANSWER_SECONDS),
            trust_env=not is_here(server),
        )
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._open.enter_async_context(self.client)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def post(self, path: str, body: bytes, *, seconds: float = ANSWER_SECONDS) -> bytes:
        """The body of a 200. Raises Unavailable, and what the server refused with."""
        return await self._ask(
            "POST", path, seconds=seconds, content=body, headers={"Content-Type": "application/json"}
        )

    async def find_back(self) -> str:
        """The back's address, given that of a front or of the back itself. Raises Unavailable."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self.client.get(self.server + WELL_KNOWN)
        except (httpx2.TransportError, TimeoutError) as error:
            raise _unreachable(self.server, error) from error
        except httpx2.InvalidURL as error:
            raise Invalid(f"{self.server} is no address of a server: {error}.", field="server") from error
        if answer.status_code == 404:
            return self.server
        if answer.status_code != 200:
            raise error_of(answer.status_code, answer.content, retry_after=answer.headers.get("Retry-After"))
        try:
            return msgspec.json.decode(answer.content, type=_Back).back.rstrip("/")
        except msgspec.DecodeError as error:
            raise Invalid(f"{self.server} is no server of orderup: {error}.", field="server") from error

    async def _ask(self, method: str, path: str, *, seconds: float, **options: Any) -> bytes:
        try:
            async with asyncio.timeout(seconds):
                answer = await self.client.request(method, self.server + path, **options)
        except (httpx2.TransportError, httpx2.DecodingError, TimeoutError) as error:
            raise _unreachable(self.server, error) from error
        if answer.status_code != 200:
            raise error_of(answer.status_code, answer.content, retry_after=answer.headers.get("Retry-After"))
        return answer.content


def _unreachable(server: str, error: Exception) -> Unavailable:
    return Unavailable(f"No answer from {server}: {str(error) or type(error).__name__}", retry_after=NO_TIME)


class HttpLink:
    """`http`: to the back."""

    def __init__(self, http: Http, wish: Wish) -> None:
        self.http, self.wish = http, wish
        # Of a claim that was sent and whose answer is not here: asked again under the same name it gets the same tasks.
        self._unanswered: UUID | None = None

    async def run(self) -> None:
        """There is no connection to keep."""
        await asyncio.Event().wait()

    async def claim(self, *, most: int) -> Sequence[Claim]:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        claims = await self._claim(most=most, wait=CLAIM_SECONDS)
        if not claims and loop.time() - asked_at < CLAIM_SECONDS / 2:
            raise Unavailable("The server lets nobody wait for tasks: it stops.", retry_after=NO_TIME)
        return claims

    async def _claim(self, *, most: int, wait: float) -> Sequence[Claim]:
        before = self._unanswered
        request = self._unanswered = before or uuid4()
        body = {**msgspec.structs.asdict(self.wish), "max": most, "wait": wait, "request": request}
        try:
            answer = await self.http.post("/api/work/claim", msgspec.json.encode(body), seconds=wait + ANSWER_SECONDS)
        except Refused:
            self._unanswered = before  # under a new name nothing was claimed
            raise
        claims: list[Claim] = _decode(answer, _Claimed).tasks
        self._unanswered = None
        return claims

    async def send(self, verb: str, claim: Claim, body: bytes) -> Any:
        return _decode(await self.http.post(f"/api/work/{claim.id}/{verb}", body), Any)

    async def release(self) -> Sequence[Claim]:
        if self._unanswered is None:
            return []
        return await self._claim(most=0, wait=0)


def _decode(answer: bytes, type: Any) -> Any:
    try:
        return msgspec.json.decode(answer, type=type)
    except msgspec.DecodeError as error:
        raise Unavailable(f"The server's answer cannot be read: {error}", retry_after=NO_TIME) from error
