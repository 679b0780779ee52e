"""Where a simulation plays: a server, found from one address of it, and how simulated people talk to it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import httpx2
import msgspec

from orderup.errors import Misconfigured, OrderupError, Unavailable
from orderup.model.retry import Retry, backoff
from orderup.settings import Settings
from orderup.web.tokens import Role, mint_token
from orderup.worker.http_link import WELL_KNOWN
from orderup.worker.link import is_here

USUAL_SERVER = "http://localhost:8001"
ANSWER_SECONDS = 20.0
TOKEN_LIFE = timedelta(days=1)
PATIENCE = Retry(attempts=1 << 30, first=timedelta(seconds=0.1), longest=timedelta(seconds=5))
# Answers of a proxy whose server does not answer.
AWAY = frozenset({502, 503, 504})
# Answers that ask to come again.
COME_AGAIN = frozenset({408, 425, 429, 507}) | AWAY


class Answered(OrderupError):
    """The server said no, or something that nobody asked for."""

    def __init__(self, method: str, url: str, status: int, detail: str) -> None:
        self.status = status
        # what follows ? is a key, and keys are in no log
        super().__init__(f"{method} {url.partition('?')[0]}: {status} {detail}")


@dataclass(slots=True)
class Stage:
    """front, back: addresses of the shop there, without a slash at the end; api: of the back itself.

    tokens: by role, for a server that asks for them. speed: how many times faster than life. setbacks: how often
    somebody had to ask again, by status, or `cut off`.
    """

    client: httpx2.AsyncClient
    front: str
    back: str
    api: str
    speed: float
    random: Random
    tokens: dict[Role, str] = field(default_factory=dict)
    setbacks: Counter[str] = field(default_factory=Counter)

    async def ask(
        self,
        method: str,
        url: str,
        *,
        role: Role | None = None,
        key: str | None = None,
        json: Any = None,
        within: float = ANSWER_SECONDS,
        leaves: bool = False,
    ) -> Any:
        """The answer's JSON; None if it has no content. Asked again while the server is away or busy, or has not
        answered for so many seconds, under the same Idempotency-Key. leaves: needs the connection for nothing more.

        Raises Answered for any other answer than a good one.
        """
        headers = {"Idempotency-Key": key} if key else {}
        if leaves:
            headers["Connection"] = "close"
        if role is not None and role in self.tokens:
            headers["Authorization"] = f"Bearer {self.tokens[role]}"
        failures = 0
        while True:
            answer = await self._try(method, url, within=within, headers=headers, json=json)
            if answer is not None and answer.is_success:
                return msgspec.json.decode(answer.content) if answer.content else None
            if answer is not None and answer.status_code not in COME_AGAIN:
                raise Answered(method, url, answer.status_code, _detail(answer))
            failures += 1
            self.setbacks["cut off" if answer is None else str(answer.status_code)] += 1
            await self.rest_after(failures, at_least=_retry_after(answer))

    async def _try(self, method: str, url: str, *, within: float, **options: Any) -> httpx2.Response | None:
        try:
            async with asyncio.timeout(within):
                return await self.client.request(method, url, timeout=within, **options)
        except (httpx2.TransportError, TimeoutError):
            return None

    async def rest_after(self, failures: int, *, at_least: float = 0.0) -> None:
        await asyncio.sleep(at_least + backoff(PATIENCE, failures=failures, random=self.random).total_seconds())

    async def live_for(self, seconds: float) -> None:
        """About so many seconds of simulated life: more or less, as people do, and never more than four times that."""
        if self.speed:
            await asyncio.sleep(min(self.random.expovariate(1.0), 4.0) * seconds / self.speed)


def _detail(answer: httpx2.Response) -> str:
    try:
        return str(msgspec.json.decode(answer.content)["detail"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return answer.text[:200]


def _retry_after(answer: httpx2.Response | None) -> float:
    text = answer.headers.get("Retry-After", "") if answer is not None else ""
    return min(float(text), 10.0) if text.isdigit() else 0.0


class _WellKnown(msgspec.Struct, frozen=True):
    front: str
    back: str
    shops: dict[str, str]


@asynccontextmanager
async def open_stage(
    shop: str, settings: Settings, *, server: str | None, speed: float, random: Random, token: str | None = None
) -> AsyncIterator[Stage]:
    """`server`: front or back; None: as set. `token`: shown by staff and workers; without one, and with SECRET_KEY,
    some are minted.

    Raises Misconfigured if no server of orderup with this shop is there, Unavailable if nothing answers.
    """
    base = settings.base_server_url if server is None else None
    address = (server or base or settings.server_url or USUAL_SERVER).rstrip("/")
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=4.0)
    async with httpx2.AsyncClient(timeout=ANSWER_SECONDS, limits=limits, trust_env=not is_here(address)) as client:
        known = await _look(client, address, shop=shop, is_base=base is not None)
        if shop not in known.shops:
            raise Misconfigured(f"The server at {address} has no shop {shop}. It has: {', '.join(known.shops)}.")
        path = known.shops[shop]
        tokens = _tokens(settings, token)
        yield Stage(client, known.front + path, known.back + path, known.back, speed, random, tokens)


async def _look(client: httpx2.AsyncClient, address: str, *, shop: str, is_base: bool) -> _WellKnown:
    """What the server there says of itself. With `is_base` both apps are at that address, whatever it says; if it
    says nothing, because the proxy there knows the shop's routes only, these are at the root."""
    try:
        answer = await client.get(f"{address}{WELL_KNOWN}")
    except (httpx2.TransportError, httpx2.InvalidURL, TimeoutError) as error:
        raise Unavailable(f"No answer from {address}: {type(error).__name__}. Is it running?") from error
    if answer.status_code in AWAY:
        raise Unavailable(f"{address} answers {answer.status_code}: nobody is behind it. Is the server running?")
    try:
        known = msgspec.json.decode(answer.content, type=_WellKnown)
    except msgspec.DecodeError as error:
        if not is_base:
            raise Misconfigured(f"{address} is no server of orderup.") from error
        known = _WellKnown(address, address, {shop: ""})
    return _WellKnown(address, address, known.shops) if is_base else known


def _tokens(settings: Settings, token: str | None) -> dict[Role, str]:
    roles = (Role.STAFF, Role.WORKER)
    if token is not None:
        return dict.fromkeys(roles, token)
    if settings.secret_key is not None:
        now = datetime.now(UTC)
        return {
            role: mint_token(settings.secret_key, role, f"simulated {role}", now=now, life=TOKEN_LIFE).text
            for role in roles
        }
    return {} if settings.worker_token is None else {Role.WORKER: settings.worker_token.get_secret_value()}
