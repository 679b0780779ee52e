"""What goes out: each event of the log to each target, until it has arrived or is given up."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from orderup.errors import Misconfigured, NotFound, TaskFailed, UpstreamFailed
from orderup.model.event import EVENT_TYPES, Audience, Event
from orderup.model.ids import show_id
from orderup.model.plan import Plan

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


class TargetAway(UpstreamFailed):
    """A target as a whole does not take anything now. No event's fault: none counts as tried."""


class Target(Protocol):
    """Where events go. name: lower-case letters, digits and underscores, 40 at most. place: where that is, for people,
    without any secret. most_in_flight: how many may be on their way at once; most_together: how many in one `send`."""

    name: str
    place: str
    most_in_flight: int
    most_together: int

    def wants(self, event: Event) -> bool:
        """Whether it goes out at all."""
        ...

    async def reach(self) -> None:
        """Return once events can be sent, which may mean to connect. Raises TargetAway."""
        ...

    def prepare(self, connection: Any, events: Sequence[Event]) -> Sequence[Any]:
        """What `send` is given of each, in their order; None of one of which nothing goes out. `connection` reads.
        Whatever it raises, events are then prepared one by one, and those that fail are tried again."""
        ...

    async def send(self, prepared: Sequence[Any]) -> Sequence[TaskFailed | None]:
        """What came of each: None if it arrived; the same may come again. TargetAway: it is as if it had not been
        tried. Other errors count: UpstreamFailed to be tried again, UpstreamRefused to give it up. One that is raised
        is meant for all of them."""
        ...


@dataclass(frozen=True, slots=True)
class FollowUp:
    """What an event leads to. plan: `(connection, event)`, what is to be placed because of it, or None; it reads, and
    may be asked about an event again. when: whether the owner's settings want it at all; None: they do."""

    plan: Callable[[Any, Event], Plan | None]
    when: Callable[[Any], bool] | None = None


# `(connection, events)`: the body of each event's message, as JSON has it, in their order; None of one that has none.
Shape = Callable[[Any, Sequence[Event]], Sequence[Any]]
LONGEST_EXCHANGE, LONGEST_ROUTING_KEY = 127, 255


@dataclass(frozen=True, slots=True)
class Publication:
    """Events of a shop that go to an exchange, a message each. events: their types, such as "operation.completed".

    shape: gives the messages' bodies, of many events at once, so that one statement reads what they need. It runs when
    they are sent, on a connection that reads; the same event may be asked for again. Without it messages are
    CloudEvents 1.0, structured. body: what the shape gives, a msgspec.Struct, for the description of the API.
    """

    exchange: str
    routing_key: str
    events: Collection[str]
    shape: Shape | None = None
    body: type[msgspec.Struct] | None = None

    @property
    def content_type(self) -> str:
        return "application/json" if self.shape else "application/cloudevents+json"

    def __post_init__(self) -> None:
        if not 0 < len(self.exchange.encode()) <= LONGEST_EXCHANGE or self.exchange.startswith("amq."):
            raise Misconfigured(
                f'The exchange "{self.exchange}" must have a name of 1 to {LONGEST_EXCHANGE} bytes that does not begin '
                "with amq., which is the broker's own."
            )
        if len(self.routing_key.encode()) > LONGEST_ROUTING_KEY:
            raise Misconfigured(f"The routing key {self.routing_key[:40]}… has more than {LONGEST_ROUTING_KEY} bytes.")
        for type in self.events:
            if type not in EVENT_TYPES or EVENT_TYPES[type][0] > Audience.STAFF:
                raise Misconfigured(
                    f'No event "{type}" goes out. See docs/reference/events.md for those that there are.'
                )


def message_id(event: Event) -> str:
    """Of an event, to whomever and however often it goes."""
    return f"evt_{show_id(event.operation_id)}_{event.n}"


def show_delivery_id(seq: int, target: str) -> str:
    return f"{seq}-{target}"


def read_delivery_id(text: str) -> tuple[int, str]:
    """Raises NotFound."""
    found = _ID.fullmatch(text)
    if found is None:
        raise NotFound("delivery", text[:100])
    return int(found[1]), found[2]
