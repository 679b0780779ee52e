"""RabbitMQ: events as messages of an exchange, as a shop's publications say.

The exchange is durable and of the type topic; it is declared whenever the broker is reached. Messages are persistent,
and one has arrived once the broker confirms it. `message_id` is the event's, however often it comes: a message comes
twice only where a confirm was lost. Whoever publishes reconnects, by `reach`; nobody waits for a broker at the start.

A message that no queue takes is sent back by the broker, and confirmed: it is counted, warned of once, and done with,
since nobody need have bound a queue yet; or it is tried again, where the owner wants that.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aio_pika
import msgspec
import structlog
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import (
    CONNECTION_EXCEPTIONS,
    AMQPChannelError,
    AuthenticationError,
    ConnectionClosed,
    DeliveryError,
    ProbableAuthenticationError,
)
from aiormq import Channel
from aiormq.abc import ChannelFrame, DeliveredMessage
from pamqp import frame as amqp
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader
from yarl import URL

from orderup.errors import TaskFailed, UpstreamFailed, UpstreamRefused
from orderup.model.delivery import Publication, TargetAway, message_id
from orderup.model.event import Event
from orderup.model.ids import show_id
from orderup.model.times import show_time

log = structlog.get_logger(__name__)
# What it says of each try, the publisher says once.
logging.getLogger("aiormq").setLevel(logging.CRITICAL)
CONNECT_SECONDS, CLOSE_SECONDS = 5.0, 2.0
CONFIRM = timedelta(seconds=10)
# A connection that is cut without a word is noticed after three of them.
HEARTBEAT_SECONDS = 10
# Twice what is read at once: half of it is looked up and written down while the other half is on its way.
MOST_IN_FLIGHT, MOST_TOGETHER = 1_000, 100
# What RabbitMQ 4 takes. It closes the channel of whoever sends more, and with it all that is on its way.
LARGEST_BODY = 16 << 20
PERSISTENT = 2
encode = msgspec.json.Encoder(decimal_format="number").encode
Confirm = asyncio.Future[Any]
# The broker itself said them, and why.
REFUSALS = (AuthenticationError, ProbableAuthenticationError, AMQPChannelError, ConnectionClosed)


class Message(msgspec.Struct, frozen=True):
    """at: seconds since the epoch."""

    id: str
    exchange: str
    routing_key: str
    type: str
    content_type: str
    at: int
    body: bytes


class RabbitMQ:
    """What one shop publishes. show: an event as it is in a CloudEvent. needs_queue: a message that no queue takes has
    not arrived. note_returned: called with the target's name for each such message. confirm: how long the broker may
    take to confirm one; less than a publisher's deadline."""

    most_in_flight, most_together = MOST_IN_FLIGHT, MOST_TOGETHER

    def __init__(
        self,
        url: str,
        shop: str,
        publications: Sequence[Publication],
        *,
        show: Callable[[Event], Mapping[str, Any]],
        needs_queue: bool = False,
        note_returned: Callable[[str], None] = lambda _target: None,
        confirm: timedelta = CONFIRM,
    ) -> None:
        self.confirm = confirm.total_seconds()
        self.shop, self.show, self.needs_queue, self.note_returned = shop, show, needs_queue, note_returned
        # of its own for each shop: a process may serve some of them only, and must pass over no other's events
        self.name = f"rabbitmq_{shop}"
        parts = urlsplit(url)
        self.place = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
        self._url = URL(url).update_query({"heartbeat": str(HEARTBEAT_SECONDS), "name": f"orderup {shop}"})
        self._publications = {type: each for each in publications for type in each.events}
        self._connection: AbstractConnection | None = None
        self._channel: Channel | None = None
        # of messages that the broker has and did not confirm in time: not to be sent again while it may still do so
        self._late: dict[str, Confirm] = {}
        self._warned: set[tuple[str, str]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    # what goes out

    def wants(self, event: Event) -> bool:
        return event.shop == self.shop and event.type in self._publications

    def prepare(self, connection: Any, events: Sequence[Event]) -> list[Message | None]:
        """Raises what the shapes raise, and ValueError of a shape that gives fewer bodies or more."""
        by_publication: dict[Publication, list[Event]] = defaultdict(list)
        for event in events:
            # none: it was declared when the event came in, and is not any more
            if (publication := self._publications.get(event.type)) is not None:
                by_publication[publication].append(event)
        found: dict[int, Message] = {}
        for publication, those in by_publication.items():
            bodies = publication.shape(connection, those) if publication.shape else map(self._cloud_event, those)
            for event, body in zip(those, bodies, strict=True):
                if body is not None:
                    found[event.seq] = _message(publication, event, body)
        return [found.get(event.seq) for event in events]

    def _cloud_event(self, event: Event) -> Mapping[str, Any]:
        return {
            "specversion": "1.0",
            "id": message_id(event),
            "source": f"/orderup/{event.shop}",
            "type": f"orderup.{event.type}",
            "subject": show_id(event.operation_id),
            "time": show_time(event.at),
            "datacontenttype": "application/json",
            "data": self.show(event),
        }

    # the connection

    async def reach(self) -> None:
        """Raises TargetAway: nothing answers, it refuses, or it has no room now."""
        if self._channel is not None and not self._channel.is_closed:
            await self._check_for_room()
            return
        await self._close()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._open()
        except TimeoutError as error:
            raise TargetAway(f"no answer within {CONNECT_SECONDS:g} s") from error
        except CONNECTION_EXCEPTIONS as error:
            raise TargetAway(_said(error)) from error

    async def _open(self) -> None:
        self._connection = connection = aio_pika.Connection(self._url)
        await connection.connect()
        channel = connection.channel(on_return_raises=False)
        await channel.initialize()
        for exchange in sorted({each.exchange for each in self._publications.values()}):
            await channel.declare_exchange(exchange, aio_pika.ExchangeType.TOPIC, durable=True)
        underlay = await channel.get_underlay_channel()
        assert isinstance(underlay, Channel)
        self._channel = underlay

    async def _check_for_room(self) -> None:
        """A broker that is short of memory or disk says so, and then reads nothing from whoever publishes."""
        assert self._connection is not None
        assert self._connection.transport is not None
        try:
            async with asyncio.timeout(0):
                await self._connection.transport.ready()
        except TimeoutError as error:
            raise TargetAway("takes nothing for now: it is short of memory or disk") from error

    async def _close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        self._late.clear()
        if connection is not None:
            with suppress(TimeoutError, *CONNECTION_EXCEPTIONS):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await connection.close()

    # sending

    async def send(self, messages: Sequence[Message]) -> list[TaskFailed | None]:
        channel = self._channel
        if channel is None or channel.is_closed:
            raise TargetAway("the connection was cut")
        known = [self._late.pop(message.id, None) for message in messages]
        fresh = [message for message, confirm in zip(messages, known, strict=True) if confirm is None]
        try:
            async with asyncio.timeout(self.confirm):
                published = iter(await self._publish(channel, fresh))
        except (TimeoutError, *CONNECTION_EXCEPTIONS) as error:
            raise TargetAway(_said(error)) from error
        confirms = [confirm or next(published) for confirm in known]
        _, late = await asyncio.wait(confirms, timeout=self.confirm)
        if late:
            await self._wait_on(channel, messages, confirms)
        return [self._came_of(message, confirm) for message, confirm in zip(messages, confirms, strict=True)]

    async def _publish(self, channel: Channel, messages: Sequence[Message]) -> list[Confirm]:
        """As `channel.basic_publish` does it, for many at once: that takes a seventh of the time (bench/outbox.py)."""
        confirms, frames = [], []
        try:
            async with channel.lock:
                for message in messages:
                    channel.delivery_tag += 1
                    confirm = channel.create_future()
                    channel.confirmations[channel.delivery_tag] = confirm
                    channel.message_id_delivery_tag[message.id] = channel.delivery_tag
                    confirms.append(confirm)
                    frames.append(_frames(message, channel))
                await channel.write_queue.put(ChannelFrame(b"".join(frames), should_close=False))
        except BaseException:
            # it may count messages now that were not sent
            self._give_up(channel)
            raise
        return confirms

    def _give_up(self, channel: Channel) -> None:
        if self._channel is channel:
            self._channel = None

    async def _wait_on(self, channel: Channel, messages: Sequence[Message], confirms: Sequence[Confirm]) -> None:
        """Some were not confirmed in time. Those stay on their way if the broker has said why; else it is given up."""
        if self._channel is not channel:
            return  # it was, already
        try:
            await self._check_for_room()
        except TargetAway:
            pairs = zip(messages, confirms, strict=True) if self._channel is channel else ()
            self._late.update({message.id: confirm for message, confirm in pairs if not confirm.done()})
        else:
            self._give_up(channel)

    def _came_of(self, message: Message, confirm: Confirm) -> TaskFailed | None:
        if not confirm.done():
            return TargetAway(f"no confirm within {self.confirm:g} s")
        if self._channel is not None:
            self._channel.message_id_delivery_tag.pop(message.id, None)
        error = asyncio.CancelledError() if confirm.cancelled() else confirm.exception()
        if isinstance(error, DeliveryError):
            return UpstreamFailed("the broker could not take it")
        if error is not None:
            return TargetAway(_said(error))
        return self._returned(message) if isinstance(confirm.result(), DeliveredMessage) else None

    def _returned(self, message: Message) -> TaskFailed | None:
        self.note_returned(self.name)
        way = message.exchange, message.routing_key
        if way not in self._warned:
            self._warned.add(way)
            log.warning("no queue takes these messages", exchange=message.exchange, routing_key=message.routing_key)
        return UpstreamFailed("no queue takes it") if self.needs_queue else None


def _message(publication: Publication, event: Event, body: Any) -> Message:
    """Raises UpstreamRefused of one that is too large."""
    encoded = encode(body)
    if len(encoded) > LARGEST_BODY:
        raise UpstreamRefused(f"its message has {len(encoded)} bytes, more than the {LARGEST_BODY} that a broker takes")
    way = publication.exchange, publication.routing_key
    return Message(message_id(event), *way, event.type, publication.content_type, event.at // 1_000_000, encoded)


def _frames(message: Message, channel: Channel) -> bytes:
    properties = Basic.Properties(
        message_id=message.id,
        content_type=message.content_type,
        message_type=message.type,
        timestamp=datetime.fromtimestamp(message.at, UTC),
        delivery_mode=PERSISTENT,
        app_id="orderup",
    )
    header = ContentHeader(body_size=len(message.body), properties=properties)
    size = channel.max_content_size
    body = [ContentBody(message.body[first : first + size]) for first in range(0, len(message.body), size)]
    head = _method(message.exchange, message.routing_key, channel.number) + amqp.marshal(header, channel.number)
    return head + b"".join(amqp.marshal(part, channel.number) for part in body)


@lru_cache(maxsize=1_000)
def _method(exchange: str, routing_key: str, channel: int) -> bytes:
    """Where a message goes. It is sent back if no queue is there."""
    return amqp.marshal(Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=True), channel)


def _said(error: BaseException) -> str:
    """In the broker's own words, if it said any; a driver's might hold the address with its password."""
    if isinstance(error, REFUSALS):
        return f"says no: {error}"[:300]
    return f"cannot be reached ({type(error).__name__})"
