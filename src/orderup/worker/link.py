"""What a worker and the back say to each other, whichever way it goes: `http_link.py`, `socket_link.py`."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from random import Random
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from orderup.errors import (
    Conflict,
    Forbidden,
    Invalid,
    Refused,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from orderup.model.retry import Retry, backoff


class ClaimEnded(Conflict):
    """The task is not this worker's any more: done, cancelled, lost to another, or forgotten."""


ANSWER_SECONDS = 10.0
CLAIM_SECONDS = 30.0
NO_TIME = timedelta(0)
LONGEST_DETAIL = 500
# Statuses of the 400s that ask to come again.
COME_AGAIN = frozenset({408, 425, 429})
# Words of the API for how a claim ends.
ENDS = frozenset({"complete", "fail", "wait", "hand-back"})
REFUSALS: Mapping[int, type[Refused]] = {
    400: Invalid,
    401: Unauthenticated,
    403: Forbidden,
    404: ClaimEnded,
    409: ClaimEnded,
    410: ClaimEnded,
    413: TooLarge,
    422: Invalid,
}
_RECONNECT = Retry(attempts=1 << 62, first=timedelta(seconds=0.2), longest=timedelta(seconds=5))


class Claim(msgspec.Struct, frozen=True):
    """One claimed task, as the back shows it."""

    id: str
    name: str
    kind: str
    operation_id: str
    params: Any
    inputs: Mapping[str, Any]
    memo: Any
    attempt: int
    token: str
    lease_seconds: float
    deadline_seconds: float | None = None


class Wish(msgspec.Struct, frozen=True):
    """Who claims, and what he can do."""

    worker: str
    shop: str
    tasks: Sequence[str]
    region: str | None


class Link(Protocol):
    """Every call has a deadline. Those to the back raise Unavailable if trying again may help, else what it refused
    with; ClaimEnded, if that is why."""

    async def run(self) -> None:
        """Keep the connection, until cancelled."""
        ...

    async def claim(self, *, most: int) -> Sequence[Claim]:
        """Wait a while for tasks. Cancelled, it may leave some to `release`."""
        ...

    async def send(self, verb: str, claim: Claim, body: bytes) -> Any:
        """Say something of a claim. `body`: JSON."""
        ...

    async def release(self) -> Sequence[Claim]:
        """Claim nothing more; what was claimed and never given out by `claim`."""
        ...


class Patience:
    """How long to wait before the next try: longer each time, and never all workers at once."""

    def __init__(self, random: Random) -> None:
        self.random, self.failures = random, 0

    def reset(self) -> None:
        self.failures = 0

    def seconds(self, error: Unavailable) -> float:
        """Not less than the server asked for."""
        self.failures += 1
        wait = backoff(_RECONNECT, failures=self.failures, random=self.random)
        return (error.retry_after + wait).total_seconds()


def error_of(
    status: int, body: bytes | Mapping[str, Any], *, retry_after: str | float | None = None
) -> Refused | Unavailable:
    """What an answer other than 200 means: the error that the back meant by it."""
    detail = f"The server answered {status}: {_detail(body)}"
    if status >= 500 or status in COME_AGAIN:
        return Unavailable(detail, retry_after=_seconds(retry_after))
    return REFUSALS.get(status, Refused)(detail)


def _detail(body: bytes | Mapping[str, Any]) -> str:
    """Of problem details; of anything else, how it begins."""
    problem: Any = body
    if isinstance(body, bytes):
        try:
            problem = msgspec.json.decode(body)
        except msgspec.DecodeError:
            problem = None
    if isinstance(problem, Mapping) and isinstance(problem.get("detail"), str):
        return str(problem["detail"])[:LONGEST_DETAIL]
    return body[:LONGEST_DETAIL].decode(errors="replace") if isinstance(body, bytes) else str(body)[:LONGEST_DETAIL]


def _seconds(retry_after: str | float | None) -> timedelta:
    """Of a Retry-After in seconds; none for its other form, a date, which nothing of ours sends."""
    try:
        return min(max(timedelta(seconds=float(retry_after or 0)), NO_TIME), timedelta(minutes=5))
    except (ValueError, OverflowError):
        return NO_TIME


def is_here(url: str) -> bool:
    """Whether a server is on this very machine: then no proxy leads to it."""
    return (urlsplit(url).hostname or "") in {"localhost", "127.0.0.1", "::1"}
