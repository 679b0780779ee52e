"""A third party that is called by HTTP, and may fail, hang, drip or talk nonsense.

One client a service, so that a slow one starves no other. Each call has a deadline for the whole of it, a largest
answer, and a place among those in flight; a breaker leaves a service alone that is down, or that refuses who we are.
What came of a call is judged once, here: whether it failed, was refused, or may have taken effect although nobody
said so.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from types import TracebackType
from typing import Any, ClassVar, NoReturn, Self, TypeVar
from urllib.parse import urlencode
from weakref import WeakKeyDictionary

import aiohttp
import msgspec
from aiohttp.abc import AbstractStreamWriter
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from yarl import URL

from orderup.errors import OutcomeUnknown, Resting, UpstreamFailed, UpstreamRefused
from orderup.integrations.breaker import Breaker, BreakerState
from orderup.integrations.webhook import read_retry_after

CONNECT_SECONDS = 5.0
# A connection that nobody has used for so long is not used again: many servers, uvicorn and Node among them, close
# theirs after 5 s, and of a POST that meets the close on its way nobody knows what became.
IDLE_SECONDS = 4.0
LARGEST_ANSWER_BYTES = 64 * 1024
UNAUTHENTICATED, NOT_THERE, TOO_MANY, UNAVAILABLE = 401, 404, 429, 503
# Whatever was asked for, it may come to something when it is asked again: time-out, too early.
TRY_AGAIN = frozenset({408, 425})
BUSY_SECONDS, LONGEST_TURN, TURNS = 1.0, 60.0, 4
# Who refuses our credentials is asked again after this: somebody has to renew them first.
REFUSED_REST = timedelta(minutes=5)
LONGEST_SAYING = 300
# What changes nothing, or the same again when it is sent twice.
REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
# 5 ms, a service next door, to a minute and a half, one that hangs.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 90)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a service said. `headers`: by names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    def read(self, kind: type[T]) -> T | None:
        """The body as a msgspec type; None: it is no such thing."""
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return msgspec.json.decode(self.body, type=kind)
        return None

    @property
    def saying(self) -> str:
        """The beginning of the body, on one line, for people."""
        return " ".join(self.body[:LONGEST_SAYING].decode(errors="replace").split())


def rest_of(reply: Reply) -> timedelta | None:
    """How long a service asks to be left alone, as HTTP has it: 429, or 503 with a Retry-After."""
    asked = read_retry_after(reply.headers.get("retry-after")) or None
    if reply.status == TOO_MANY:
        return asked or timedelta(seconds=BUSY_SECONDS)
    return asked if reply.status == UNAVAILABLE else None


class _Timely(aiohttp.payload.BytesPayload):
    """A body that is not sent after a moment, however long this process stood still just before. What was sent of the
    request by then is not enough to be one."""

    def __init__(self, value: bytes, ends_at: float) -> None:
        super().__init__(value)
        self._ends_at = ends_at

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        if time.monotonic() >= self._ends_at:
            raise TimeoutError
        await super().write_with_length(writer, content_length)


# By `time.monotonic`, until when what is being asked may be sent.
_ends_at: ContextVar[float] = ContextVar("ends_at", default=float("inf"))


class _TimelyRequest(aiohttp.ClientRequest):
    """One that is not begun after that, however long this process stood still just before: others may by then take it
    to be over, and what it counts against a limit."""

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        if time.monotonic() >= _ends_at.get():
            raise TimeoutError
        return await super().send(conn)


class UpstreamMetrics:
    """Of all services of a process, whichever shop asks them."""

    _of: ClassVar["WeakKeyDictionary[CollectorRegistry, UpstreamMetrics]"] = WeakKeyDictionary()

    @classmethod
    def of(cls, registry: CollectorRegistry) -> "UpstreamMetrics":
        """The same for all that ask with one registry."""
        if registry not in cls._of:
            cls._of[registry] = cls(registry)
        return cls._of[registry]

    def __init__(self, registry: CollectorRegistry) -> None:
        self.seconds = Histogram(
            "orderup_upstream_seconds",
            "Seconds that a call to a third party took.",
            ("upstream",),
            buckets=BUCKETS,
            registry=registry,
        )
        self.calls = Counter(
            "orderup_upstream_calls_total",
            "Calls to a third party, by what came of them: answered, not_there, failed, refused, timeout, unreachable.",
            ("upstream", "outcome"),
            registry=registry,
        )
        self.breaker = Gauge(
            "orderup_upstream_breaker_open",
            "Whether a third party is left alone because it is down: 1, half open 0.5, else 0.",
            ("upstream",),
            registry=registry,
        )
        self.in_flight = Gauge(
            "orderup_upstream_in_flight", "Calls to a third party under way.", ("upstream",), registry=registry
        )


class Upstream:
    """`name`: for people and metrics, such as "user service". deadline: of a whole call. most: calls in flight.
    headers: of every call, such as who we are. rest: how long a reply asks for rest, where a service has its own way
    of saying it. resends: whether a GET whose connection breaks goes out once more by itself; not where the service
    counts what it is asked.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        metrics: UpstreamMetrics,
        deadline: timedelta,
        most: int,
        headers: Mapping[str, str] | None = None,
        rest: Callable[[Reply], timedelta | None] = rest_of,
        breaker: Breaker | None = None,
        resends: bool = True,
    ) -> None:
        self.name, self.base_url, self.metrics = name, base_url.rstrip("/"), metrics
        self.deadline, self.most, self.breaker = deadline.total_seconds(), most, breaker or Breaker()
        self.rest, self.resends = rest, resends
        self.in_flight, self._next_turn = 0, float("-inf")
        self.last_error: str | None = None
        # some services answer only those who say that they speak JSON, even where nothing is sent
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": "orderup",
            **(headers or {}),
        }
        self._session: aiohttp.ClientSession | None = None
        metrics.breaker.labels(name).set_function(lambda: _as_number(self.breaker.state))
        metrics.in_flight.labels(name).set_function(lambda: self.in_flight)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            # how many there may be is counted here, and whoever comes too late is told
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            request_class=_TimelyRequest,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            trust_env=False,
        )
        # there is no other way to tell it
        self._session._retry_connection = self.resends  # noqa: SLF001
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, *, about: str) -> Mapping[str, Any] | None:
        """The object that it answers with, numbers with a point as Decimal; None: there is no such thing.

        `about`: what is asked for. Raises Resting, UpstreamFailed, UpstreamRefused.
        """
        reply = await self.call("GET", path, about=about, reads=_object)
        if reply.status == NOT_THERE:
            return None
        return _object(reply) if reply.is_success else self.refuse(reply)

    async def call(
        self,
        method: str,
        path: str,
        *,
        about: str,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        reads: Callable[[Reply], object] | None = None,
        judges: Collection[int] = (),
        is_repeatable: bool | None = None,
        largest: int = LARGEST_ANSWER_BYTES,
        ends_at: float | None = None,
    ) -> Reply:
        """2xx and 4xx are answers, for the caller to judge (`refuse` says no for him); all else is raised.

        path: parts that came from elsewhere are quoted by the caller. json: what msgspec encodes. reads: gives None
        for a success that says nonsense. judges: statuses besides that the caller judges. is_repeatable: whether this
        may be sent a second time; unless told, all but POST and PATCH may. ends_at: by `time.monotonic`, when somebody
        else may take it to be over, at the deadline at the latest: a process that stood still until then does not send
        any more. Raises Resting (nothing was sent), UpstreamFailed, and its OutcomeUnknown: what may not be repeated
        was sent, and nobody knows what came of it.
        """
        if self.in_flight >= self.most:
            raise self._turned_away()
        if seconds := self.breaker.ask():
            raise Resting(seconds, is_down=True)
        looks = self.breaker.state is BreakerState.HALF_OPEN
        may_repeat = method in REPEATABLE if is_repeatable is None else is_repeatable
        content = urlencode(form).encode() if form is not None else None if json is None else msgspec.json.encode(json)
        now = time.monotonic()
        ends_at = min(now + self.deadline, float("inf") if ends_at is None else ends_at)
        sent = None if content is None else _Timely(content, ends_at)
        with self._counted():
            try:
                url = _url(f"{self.base_url}{path}", query)
                _ends_at.set(ends_at)
                async with asyncio.timeout(max(0, ends_at - now)):
                    reply = await self._fetch(method, url, sent, _typed(headers, form), largest)
                return self._judge(reply, about=about, may_repeat=may_repeat, judges=judges, reads=reads)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
                said = f"cannot be reached ({type(error).__name__})"
                raise self._failed("unreachable", said, may_repeat=True, was_sent=False) from error
            except TimeoutError as error:
                said = f"did not answer within {self.deadline:g} s"
                raise self._failed("timeout", said, may_repeat=may_repeat) from error
            except (aiohttp.ClientError, OSError) as error:
                said = f"broke off ({type(error).__name__})"
                raise self._failed("unreachable", said, may_repeat=may_repeat) from error
            finally:
                if looks:
                    self.breaker.dropped()  # if nothing was found out, the next one may ask

    def refuse(self, reply: Reply, *, because: str | None = None) -> NoReturn:
        """Trying again will not help. `because`: what it said, where that is not the body's beginning."""
        said = because if because is not None else reply.saying
        raise UpstreamRefused(f"{self.called} answered {reply.status}{f': {said}' if said else ''}")

    def _turned_away(self) -> Resting:
        """Those who find no place come back one after the other, as many in a second as could have one four times: else
        however many they are all would come each second."""
        now = time.monotonic()
        self._next_turn = min(max(self._next_turn + 1 / (TURNS * self.most), now + BUSY_SECONDS), now + LONGEST_TURN)
        return Resting(self._next_turn - now)

    @property
    def called(self) -> str:
        """At the beginning of a sentence: of what has no name of its own, such as "user service", with its article."""
        return self.name if self.name[0].isupper() else f"The {self.name}"

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.in_flight += 1
        began = time.perf_counter()
        try:
            yield
        finally:
            self.in_flight -= 1
            self.metrics.seconds.labels(self.name).observe(time.perf_counter() - began)

    async def _fetch(
        self, method: str, url: URL, content: "bytes | _Timely | None", headers: Mapping[str, str], largest: int
    ) -> Reply | None:
        """None: the body is larger than an answer may be."""
        assert self._session is not None
        asked = self._session.request(method, url, data=content, headers=headers, allow_redirects=False)
        async with asked as answer:
            body = await _read_some(answer.content.iter_any(), largest)
        return None if body is None else Reply(answer.status, answer.headers, body)

    def _judge(
        self,
        reply: Reply | None,
        *,
        about: str,
        may_repeat: bool,
        judges: Collection[int],
        reads: Callable[[Reply], object] | None,
    ) -> Reply:
        if reply is None:
            raise self._failed("failed", "answered more than an answer may have", may_repeat=may_repeat, about=about)
        if reply.status in judges:
            self._succeeded("answered" if reply.is_success else "refused")
            return reply
        if (rest := self.rest(reply)) is not None:
            self._succeeded("refused")  # it is there, and says when
            self.last_error = f"answered {reply.status}, and asks for a rest of {rest.total_seconds():g} s"
            # of what somebody on the way answers for it nobody knows whether it had arrived
            failed = UpstreamFailed if may_repeat or reply.status < 500 else OutcomeUnknown
            raise failed(f"{self.called} answered {reply.status}", retry_after=rest)
        if reply.status == UNAUTHENTICATED:
            raise self.unknown_to_it()
        if 400 <= reply.status < 500 and reply.status not in TRY_AGAIN:
            self._succeeded("not_there" if reply.status == NOT_THERE else "refused")
            return reply
        if not reply.is_success:
            raise self._failed("failed", f"answered {reply.status}", may_repeat=may_repeat, about=about)
        if reads is not None and reads(reply) is None:
            raise self._failed("failed", "answered what cannot be read", may_repeat=may_repeat, about=about)
        self._succeeded("answered")
        return reply

    def unknown_to_it(self) -> Resting:
        """It does not take our credentials: nobody asks it for a while, and staff reads why."""
        self.metrics.calls.labels(self.name, "refused").inc()
        self.last_error = "does not take our credentials (401): renew them, and start again"
        self.breaker.open(REFUSED_REST)
        return Resting(REFUSED_REST.total_seconds(), is_down=True)

    def _succeeded(self, outcome: str) -> None:
        self.breaker.succeeded()
        self.metrics.calls.labels(self.name, outcome).inc()

    def _failed(
        self, outcome: str, said: str, *, may_repeat: bool, about: str | None = None, was_sent: bool = True
    ) -> UpstreamFailed | Resting:
        """Resting, where this has shown that it is down: whoever asked waits with all the others."""
        self.breaker.failed(about)
        self.metrics.calls.labels(self.name, outcome).inc()
        self.last_error = said
        text = f"{self.called} {said}"
        if may_repeat and (left := self.breaker.left):
            return Resting(left, is_down=True, was_sent=was_sent)
        return UpstreamFailed(text, was_sent=was_sent) if may_repeat else OutcomeUnknown(text)


def _as_number(state: BreakerState) -> float:
    return {BreakerState.CLOSED: 0.0, BreakerState.HALF_OPEN: 0.5, BreakerState.OPEN: 1.0}[state]


def _url(address: str, query: Mapping[str, str] | None) -> URL:
    """As it is written: what is quoted already stays so. Raises InvalidURL."""
    try:
        url = URL(address, encoded=True)
        is_fine = url.scheme in ("http", "https") and url.port is not None  # whose number is looked at only now
    except ValueError as error:
        raise aiohttp.InvalidURL(address) from error
    if not is_fine:
        raise aiohttp.InvalidURL(address)
    return url if query is None else url.extend_query(query)


def _typed(headers: Mapping[str, str] | None, form: Mapping[str, str] | None) -> Mapping[str, str]:
    typed = {} if form is None else {"Content-Type": "application/x-www-form-urlencoded"}
    return {**typed, **(headers or {})}


async def _read_some(parts: AsyncIterator[bytes], largest: int) -> bytes | None:
    body = bytearray()
    async for part in parts:
        body += part
        if len(body) > largest:
            return None
    return bytes(body)


def _object(reply: Reply) -> Mapping[str, Any] | None:
    with suppress(ValueError, ArithmeticError, RecursionError):
        found = json.loads(reply.body, parse_float=Decimal, parse_constant=_no_number)
        if isinstance(found, dict):
            return found
    return None


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number")
