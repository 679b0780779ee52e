"""A service that is asked for JSON, and may fail, hang, drip or talk nonsense.

One client a service, so that a slow one starves no other. Each call has a deadline for the whole of it, a largest
answer, and a place among those in flight; a breaker leaves a service alone that is down. What is asked for is read
only: a call may be made again.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

import httpx2
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from orderup.errors import UpstreamFailed, UpstreamRefused
from orderup.integrations.breaker import Breaker, BreakerState
from orderup.integrations.webhook import read_retry_after

CONNECT_SECONDS = 5.0
LARGEST_ANSWER_BYTES = 64 * 1024
MOST_IDLE_CONNECTIONS = 100
NOT_THERE, TOO_MANY, UNAVAILABLE = 404, 429, 503
BUSY_SECONDS = 1.0
# 5 ms, a service next door, to a minute and a half, one that hangs.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 90)


class Resting(Exception):
    """It is not asked now: it is down, or as many are asking it as may. Not a failure; come back in `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"not asked for {seconds:.1f} s")


class UpstreamMetrics:
    """Of all services of a process."""

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
    """`name`: for people and metrics. deadline: of a whole call. most: calls in flight."""

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        metrics: UpstreamMetrics,
        deadline: timedelta,
        most: int,
        breaker: Breaker | None = None,
    ) -> None:
        self.name, self.base_url, self.metrics = name, base_url.rstrip("/"), metrics
        self.deadline, self.most, self.breaker = deadline.total_seconds(), most, breaker or Breaker()
        self.in_flight = 0
        self.last_error: str | None = None
        self.client = httpx2.AsyncClient(
            timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=MOST_IDLE_CONNECTIONS),
            # some services answer only those who say that they speak JSON, even where nothing is sent
            headers={"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "orderup"},
            follow_redirects=False,
        )
        metrics.breaker.labels(name).set_function(lambda: _as_number(self.breaker.state))
        metrics.in_flight.labels(name).set_function(lambda: self.in_flight)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.aclose()

    async def get(self, path: str, *, about: str) -> Mapping[str, Any] | None:
        """The object that it answers with, numbers with a point as Decimal; None: there is no such thing.

        `about`: what is asked for. Raises Resting, UpstreamFailed, UpstreamRefused.
        """
        if self.in_flight >= self.most:
            raise Resting(BUSY_SECONDS)
        if seconds := self.breaker.ask():
            raise Resting(seconds)
        with self._counted():
            try:
                async with asyncio.timeout(self.deadline):
                    status, retry_after, body = await self._fetch(path)
            except TimeoutError as error:
                raise self._failed("timeout", f"did not answer within {self.deadline:g} s") from error
            except (httpx2.TransportError, httpx2.InvalidURL) as error:
                raise self._failed("unreachable", f"cannot be reached ({type(error).__name__})") from error
            except asyncio.CancelledError:
                self.breaker.dropped()
                raise
            return self._read(status, retry_after, body, about=about)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.in_flight += 1
        began = time.perf_counter()
        try:
            yield
        finally:
            self.in_flight -= 1
            self.metrics.seconds.labels(self.name).observe(time.perf_counter() - began)

    async def _fetch(self, path: str) -> tuple[int, str | None, bytes | None]:
        """Status, Retry-After and body; no body if it is larger than an answer may be."""
        async with self.client.stream("GET", f"{self.base_url}{path}") as answer:
            return answer.status_code, answer.headers.get("Retry-After"), await _read_some(answer.aiter_bytes())

    def _read(
        self, status: int, retry_after: str | None, body: bytes | None, *, about: str
    ) -> Mapping[str, Any] | None:
        if status == NOT_THERE:
            self._succeeded("not_there")
            return None
        if status == TOO_MANY or (status == UNAVAILABLE and retry_after):
            self._succeeded("refused")  # it is there, and says when
            raise UpstreamFailed(f"The {self.name} answered {status}", retry_after=read_retry_after(retry_after))
        if 400 <= status < 500:
            self._succeeded("refused")
            raise UpstreamRefused(f"The {self.name} answered {status}")
        found = _object(body) if 200 <= status < 300 else None
        if found is None:
            said = f"answered {status}" if not 200 <= status < 300 else "answered what is no JSON object"
            raise self._failed("failed", said, about=about)
        self._succeeded("answered")
        return found

    def _succeeded(self, outcome: str) -> None:
        self.breaker.succeeded()
        self.metrics.calls.labels(self.name, outcome).inc()

    def _failed(self, outcome: str, said: str, *, about: str | None = None) -> UpstreamFailed:
        self.breaker.failed(about)
        self.metrics.calls.labels(self.name, outcome).inc()
        self.last_error = said
        return UpstreamFailed(f"The {self.name} {said}")


def _as_number(state: BreakerState) -> float:
    return {BreakerState.CLOSED: 0.0, BreakerState.HALF_OPEN: 0.5, BreakerState.OPEN: 1.0}[state]


async def _read_some(parts: AsyncIterator[bytes]) -> bytes | None:
    body = bytearray()
    async for part in parts:
        body += part
        if len(body) > LARGEST_ANSWER_BYTES:
            return None
    return bytes(body)


def _object(body: bytes | None) -> Mapping[str, Any] | None:
    if body is None:
        return None
    with suppress(ValueError, RecursionError):
        found = json.loads(body, parse_float=Decimal, parse_constant=_no_number)
        if isinstance(found, dict):
            return found
    return None


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number")
