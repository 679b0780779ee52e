"""A webhook: each event as a POST to one address, signed as Standard Webhooks (standardwebhooks.com) has it.

The receiver answers 2xx within the deadline. 410 says that it does not want this one; anything else, or nothing, is
tried again. The same event comes under the same id, so that a receiver can tell what it had before.
"""

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2
import msgspec

from orderup.errors import UpstreamFailed, UpstreamRefused
from orderup.model.delivery import message_id
from orderup.model.event import Audience, Event

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 10.0
MOST_IN_FLIGHT = 16
SECRET_PREFIX = "whsec_"  # noqa: S105  what every secret begins with
GONE = 410
# What somebody asks for who does not want to be asked for months would never be looked at again.
LONGEST_REST, MOST_DIGITS = timedelta(days=1), 9
_SECONDS = re.compile("[0-9]+")


class Webhook:
    """secret: `whsec_` and the key in base64. show: the shape of an event."""

    name = "webhook"
    most_in_flight, most_together = MOST_IN_FLIGHT, 1

    def __init__(self, url: str, secret: str, *, show: Callable[[Event], Mapping[str, Any]]) -> None:
        self.url, self.show = url, show
        self.key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
        # a path or a query may be as good as a password
        parts = urlsplit(url)
        self.place = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"
        self.client = httpx2.AsyncClient(
            timeout=httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=MOST_IN_FLIGHT, max_keepalive_connections=MOST_IN_FLIGHT),
            follow_redirects=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.aclose()

    def wants(self, event: Event) -> bool:
        """All that staff may see."""
        return event.audience <= Audience.STAFF

    async def reach(self) -> None:
        """A request connects by itself, and may fail without the next one failing."""

    def prepare(self, _connection: Any, events: Sequence[Event]) -> Sequence[Event]:
        """An event holds all that is sent of it."""
        return events

    async def send(self, events: Sequence[Event]) -> Sequence[None]:
        """One, as `deliver` does it."""
        [event] = events
        await self.deliver(event)
        return [None]

    async def deliver(self, event: Event) -> None:
        """Raises UpstreamFailed, UpstreamRefused."""
        body = msgspec.json.encode(self.show(event))
        headers = {"Content-Type": "application/json", "User-Agent": "orderup"}
        headers |= signed_headers(self.key, id=message_id(event), timestamp=int(time.time()), body=body)
        try:
            # only the head of the answer is read: what else somebody sends is no business of ours
            async with self.client.stream("POST", self.url, content=body, headers=headers) as answer:
                _check(answer.status_code, answer.headers.get("Retry-After"))
        except httpx2.TimeoutException as error:
            raise UpstreamFailed(f"no answer within {ANSWER_SECONDS:g} s") from error
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            raise UpstreamFailed(f"cannot be reached ({type(error).__name__})") from error


def signed_headers(key: bytes, *, id: str, timestamp: int, body: bytes) -> dict[str, str]:
    digest = hmac.digest(key, b"%s.%d.%s" % (id.encode(), timestamp, body), hashlib.sha256)
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": id, "webhook-timestamp": str(timestamp), "webhook-signature": signature}


def _check(status: int, retry_after: str | None) -> None:
    if 200 <= status < 300:
        return
    if status == GONE:
        raise UpstreamRefused(f"answered {status}: it does not want this one")
    raise UpstreamFailed(f"answered {status}", retry_after=read_retry_after(retry_after))


def read_retry_after(text: str | None) -> timedelta | None:
    """Of seconds, or of a date; a day at most. What is neither counts as if it were not there."""
    if text is None:
        return None
    if _SECONDS.fullmatch(text.strip()):
        return min(timedelta(seconds=int(text.strip()[:MOST_DIGITS])), LONGEST_REST)
    try:
        moment = parsedate_to_datetime(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return min(max(timedelta(0), moment - datetime.now(UTC)), LONGEST_REST)
