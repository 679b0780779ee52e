"""What goes out: each event of the log to each target, until it has arrived or is given up."""

import re
from enum import StrEnum
from typing import Protocol

import msgspec

from orderup.errors import NotFound
from orderup.model.event import Event

_ID = re.compile(r"([0-9]{1,18})-([a-z][a-z0-9_]{0,39})")


class DeliveryState(StrEnum):
    """PENDING: yet to arrive, tried or not. FAILED: given up; somebody may have it sent again."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Delivery(msgspec.Struct, frozen=True):
    """One event on its way to one target. seq, type, shop, operation_id: the event's. next_try_at: None if it is over,
    or waits for an earlier event of its operation. at: since when it is to go out. ended_at: when it arrived or was
    given up. error: why the last try failed."""

    seq: int
    target: str
    state: DeliveryState
    type: str
    shop: str
    operation_id: int
    tries: int
    next_try_at: int | None
    at: int
    ended_at: int | None
    error: str | None


class Target(Protocol):
    """Where events go. name: lower-case letters and digits. place: where that is, for people, without any secret.
    most_in_flight: how many may be on their way at once."""

    name: str
    place: str
    most_in_flight: int

    async def deliver(self, event: Event) -> None:
        """Return once it has arrived; the same one may come again. Raises UpstreamFailed to be tried again,
        UpstreamRefused to give this one up."""
        ...


def show_delivery_id(seq: int, target: str) -> str:
    return f"{seq}-{target}"


def read_delivery_id(text: str) -> tuple[int, str]:
    """Raises NotFound."""
    found = _ID.fullmatch(text)
    if found is None:
        raise NotFound("delivery", text[:100])
    return int(found[1]), found[2]
