"""What a shop publishes, on both databases, to a real RabbitMQ that is killed, refuses, and has no room."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage
from sqlalchemy import column, select, table

from orderup.cli.assembly import House
from orderup.db.database import ReadConnection
from orderup.db.deliveries import TargetState, target_states
from orderup.db.tables import operations
from orderup.engine.publish import Publisher, register_targets
from orderup.errors import Misconfigured
from orderup.integrations.rabbitmq import RabbitMQ
from orderup.model.delivery import DeliveryState, Shape
from orderup.model.event import Event
from orderup.model.ids import show_id
from orderup.model.retry import Retry
from orderup.shop import Shop
from orderup.web.tokens import Role
from orderup.web.views import view_event
from tests.engine.test_publish import EVENTS, NUMBERS, QUICK, carry_out, rows, until, until_all_are
from tests.services.ports import free_port
from tests.services.rabbitmq import Broker
from tests.services.waiting import PATIENCE_SECONDS
from tests.web.house import DATABASES, client_of, open_test_house, settings_for, token_of, workshop

TYPES = ("operation.placed", "task.started", "task.completed", "operation.completed")
KEY = "work"
SOON = timedelta(seconds=5)
BROKEN = table("no_such_table", column("id"))


@pytest.fixture
def exchange() -> str:
    """A name that no other test has."""
    return f"orders-{uuid4().hex[:12]}"


@pytest.fixture(params=DATABASES)
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    is_file = request.param == "sqlite"
    values = {} if is_file else {"database_url": request.getfixturevalue("prepared_postgres")}
    async with open_test_house(settings_for(tmp_path, **values)) as house:
        yield house


def shop_with(exchange: str, *, events: Sequence[str] = TYPES, shape: Shape | None = None) -> Shop:
    shop = workshop()
    shop.publish(exchange, routing_key=KEY, events=events, shape=shape)
    return shop


@asynccontextmanager
async def publishing(
    house: House, url: str, shop: Shop, *, retry: Retry = QUICK, **options: Any
) -> AsyncIterator[RabbitMQ]:
    async with RabbitMQ(url, shop.name, shop.publications, show=view_event, **options) as target:
        await register_targets(house.engine, [target])
        async with asyncio.TaskGroup() as group:
            publisher = Publisher(house.engine, target, retry=retry, away=QUICK)
            task = group.create_task(publisher.run(), name="publisher")
            yield target
            task.cancel()


@asynccontextmanager
async def channel_to(url: str) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    connection = await aio_pika.connect(url)
    async with connection:
        yield await connection.channel()


async def bind(url: str, exchange: str) -> None:
    """A queue of the exchange's name that takes whatever comes."""
    async with channel_to(url) as channel:
        declared = await channel.declare_exchange(exchange, aio_pika.ExchangeType.TOPIC, durable=True)
        await (await channel.declare_queue(exchange, durable=True)).bind(declared, "#")


async def empty(url: str, exchange: str, count: int) -> list[AbstractIncomingMessage]:
    """Take all messages, so many different ones; nothing of it is left at the broker."""
    found: list[AbstractIncomingMessage] = []
    async with channel_to(url) as channel:
        queue = await channel.get_queue(exchange)
        while (message := await queue.get(no_ack=True, fail=False)) is not None:
            found.append(message)
        assert len({each.message_id for each in found}) == count
        await queue.delete(if_unused=False, if_empty=False)
        await channel.exchange_delete(exchange)
    return found


def first_ones(found: Sequence[AbstractIncomingMessage]) -> dict[str, list[int]]:
    """By operation, the numbers of its events in the order in which they came first."""
    by_operation: dict[str, list[int]] = defaultdict(list)
    for id in dict.fromkeys(message.message_id for message in found):
        assert id is not None
        _, operation, n = id.split("_")
        by_operation[operation].append(int(n))
    return by_operation


async def state_of(house: House) -> TargetState:
    [state] = await house.database.read(target_states)
    return state


async def until_said(house: House, words: str) -> None:
    async def is_said() -> bool:
        return words in ((await state_of(house)).error or "")

    await until(is_said)


def status_of(connection: ReadConnection, events: Sequence[Event]) -> list[dict[str, Any]]:
    statement = select(operations.c.id, operations.c.status)
    found = connection.rows(statement.where(operations.c.id.in_([event.operation_id for event in events])))
    statuses = dict(found)
    return [{"order": show_id(event.operation_id), "status": statuses[event.operation_id]} for event in events]


async def test_a_message_has_the_shops_shape_and_every_property(house: House, rabbitmq_url: str, exchange: str) -> None:
    await bind(rabbitmq_url, exchange)
    shop = shop_with(exchange, events=["operation.completed"], shape=status_of)
    async with publishing(house, rabbitmq_url, shop):
        id = await carry_out(house)
        await until_all_are(house, DeliveryState.DELIVERED, 1)
    [message] = await empty(rabbitmq_url, exchange, 1)
    assert json.loads(message.body) == {"order": id, "status": "completed"}
    told = (message.message_id, message.type, message.content_type, message.app_id)
    assert told == (f"evt_{id}_5", "operation.completed", "application/json", "orderup")
    assert message.delivery_mode is aio_pika.DeliveryMode.PERSISTENT
    [row] = await rows(house)
    assert message.timestamp is not None
    assert abs(message.timestamp - datetime.fromtimestamp(row.at / 1e6, UTC)) < timedelta(seconds=PATIENCE_SECONDS)
    assert (message.exchange, message.routing_key) == (exchange, KEY)


async def test_without_a_shape_messages_are_cloud_events(house: House, rabbitmq_url: str, exchange: str) -> None:
    await bind(rabbitmq_url, exchange)
    async with publishing(house, rabbitmq_url, shop_with(exchange)):
        id = await carry_out(house)
        await until_all_are(house, DeliveryState.DELIVERED, EVENTS)
    found = await empty(rabbitmq_url, exchange, EVENTS)
    assert {message.content_type for message in found} == {"application/cloudevents+json"}
    bodies = [json.loads(message.body) for message in found]
    assert [body["type"] for body in bodies] == [f"orderup.{type}" for type in TYPES]
    for message, body in zip(found, bodies, strict=True):
        assert body == {
            "specversion": "1.0",
            "id": message.message_id,
            "source": "/orderup/workshop",
            "type": f"orderup.{message.type}",
            "subject": id,
            "time": body["data"]["at"],
            "datacontenttype": "application/json",
            "data": body["data"],
        }
    assert [body["data"]["n"] for body in bodies] == NUMBERS


async def test_a_process_publishes_what_its_shops_declare(tmp_path: Path, rabbitmq_url: str, exchange: str) -> None:
    await bind(rabbitmq_url, exchange)
    settings = settings_for(tmp_path, rabbitmq_url=rabbitmq_url)
    async with open_test_house(settings, shops=[shop_with(exchange)]) as house:
        await carry_out(house)
        await until_all_are(house, DeliveryState.DELIVERED, EVENTS)
        async with client_of(house.back, token=token_of(Role.STAFF)) as client:
            metrics = (await client.get("/metrics")).text
            page = (await client.get("/deliveries", headers={"Accept": "text/html"})).text
    assert f'orderup_delivery_seconds_count{{target="rabbitmq_workshop"}} {EVENTS}.0' in metrics
    assert 'orderup_target_failing{target="rabbitmq_workshop"} 0.0' in metrics
    assert 'id="unpublished"' not in page
    await empty(rabbitmq_url, exchange, EVENTS)


async def test_without_a_broker_set_the_page_says_that_events_stay(tmp_path: Path, exchange: str) -> None:
    async with (
        open_test_house(settings_for(tmp_path), shops=[shop_with(exchange)]) as house,
        client_of(house.back, token=token_of(Role.STAFF)) as client,
    ):
        page = (await client.get("/deliveries", headers={"Accept": "text/html"})).text
        assert await rows(house) == []
    assert "Workshop: nothing goes to RabbitMQ" in page


async def test_what_was_ordered_while_the_broker_was_not_there_goes_out_once_it_is(
    house: House, broker: Broker, exchange: str
) -> None:
    await bind(broker.url, exchange)
    await asyncio.to_thread(broker.kill)
    # a broker that has just started may know the exchange before it knows its queues
    async with publishing(house, broker.url, shop_with(exchange), needs_queue=True):
        ids = [await carry_out(house) for _ in range(5)]
        await until_said(house, "cannot be reached")
        await until_some_are(house, DeliveryState.PENDING, 5 * EVENTS)
        assert {each.tries for each in await rows(house)} == {0}
        await asyncio.to_thread(broker.start)
        await until_all_are(house, DeliveryState.DELIVERED, 5 * EVENTS)
    assert first_ones(await empty(broker.url, exchange, 5 * EVENTS)) == dict.fromkeys(ids, NUMBERS)


async def test_a_broker_killed_under_load_gets_every_message_and_each_operations_in_order(
    house: House, broker: Broker, exchange: str
) -> None:
    await bind(broker.url, exchange)
    ids: list[str] = []

    async def order(count: int) -> None:
        for _ in range(count):
            ids.append(await carry_out(house))  # noqa: PERF401  one after the other, known as soon as it is placed

    async with publishing(house, broker.url, shop_with(exchange), needs_queue=True):
        await order(5)
        ordering = asyncio.create_task(order(40))
        await until_some_are(house, DeliveryState.DELIVERED, 5 * EVENTS)
        await asyncio.to_thread(broker.kill)
        await ordering
        await until_said(house, "cannot be reached")
        await asyncio.to_thread(broker.start)
        await until_all_are(house, DeliveryState.DELIVERED, 45 * EVENTS)
    found = await empty(broker.url, exchange, 45 * EVENTS)
    assert first_ones(found) == dict.fromkeys(ids, NUMBERS)


async def until_some_are(house: House, state: DeliveryState, count: int) -> None:
    async def are() -> bool:
        return [each.state for each in await rows(house)].count(state) >= count

    await until(are)


async def test_a_broker_without_room_is_waited_for_and_gets_each_message_once(
    house: House, broker: Broker, exchange: str
) -> None:
    await bind(broker.url, exchange)
    async with publishing(house, broker.url, shop_with(exchange), confirm=SOON):
        first = await carry_out(house)
        await until_all_are(house, DeliveryState.DELIVERED, EVENTS)
        await asyncio.to_thread(broker.control, "set_vm_memory_high_watermark", "absolute", "1MB")
        second = await carry_out(house)
        await until_said(house, "takes nothing for now")
        third = await carry_out(house)
        await until_some_are(house, DeliveryState.PENDING, 2 * EVENTS)
        assert {each.tries for each in await rows(house) if each.state is DeliveryState.PENDING} == {0}
        await asyncio.to_thread(broker.control, "set_vm_memory_high_watermark", "0.9")
        await until_all_are(house, DeliveryState.DELIVERED, 3 * EVENTS)
    found = await empty(broker.url, exchange, 3 * EVENTS)
    assert first_ones(found) == dict.fromkeys([first, second, third], NUMBERS)
    assert len(found) == 3 * EVENTS


async def test_a_message_that_no_queue_takes_is_counted_warned_of_once_and_done_with(
    house: House, rabbitmq_url: str, exchange: str, capsys: pytest.CaptureFixture[str]
) -> None:
    returned: list[str] = []
    async with publishing(house, rabbitmq_url, shop_with(exchange), note_returned=returned.append):
        await carry_out(house)
        await until_all_are(house, DeliveryState.DELIVERED, EVENTS)
    assert returned == ["rabbitmq_workshop"] * EVENTS
    assert capsys.readouterr().out.count("no queue takes these messages") == 1
    await remove(rabbitmq_url, exchange)


async def remove(url: str, exchange: str) -> None:
    async with channel_to(url) as channel:
        await channel.exchange_delete(exchange)


async def test_where_a_queue_is_needed_a_message_comes_again_until_there_is_one(
    house: House, rabbitmq_url: str, exchange: str
) -> None:
    async with publishing(house, rabbitmq_url, shop_with(exchange), needs_queue=True):
        id = await carry_out(house)
        await until_said(house, "no queue takes it")
        await bind(rabbitmq_url, exchange)
        await until_all_are(house, DeliveryState.DELIVERED, EVENTS)
    assert first_ones(await empty(rabbitmq_url, exchange, EVENTS)) == {id: NUMBERS}


async def test_an_exchange_of_another_type_stops_the_target_and_not_the_orders(
    house: House, rabbitmq_url: str, exchange: str
) -> None:
    async with channel_to(rabbitmq_url) as channel:
        await channel.declare_exchange(exchange, aio_pika.ExchangeType.FANOUT, durable=True)
    # the queue may be bound a moment after the exchange is declared
    async with publishing(house, rabbitmq_url, shop_with(exchange), needs_queue=True):
        id = await carry_out(house)
        await until_said(house, "PRECONDITION_FAILED")
        await until_all_are(house, DeliveryState.PENDING, EVENTS)
        assert {each.tries for each in await rows(house)} == {0}
        await remove(rabbitmq_url, exchange)
        await bind(rabbitmq_url, exchange)
        await until_all_are(house, DeliveryState.DELIVERED, EVENTS)
    assert first_ones(await empty(rabbitmq_url, exchange, EVENTS)) == {id: NUMBERS}


async def test_an_exchange_that_was_deleted_is_declared_again(house: House, rabbitmq_url: str, exchange: str) -> None:
    async with publishing(house, rabbitmq_url, shop_with(exchange)):
        await carry_out(house)
        await until_all_are(house, DeliveryState.DELIVERED, EVENTS)
        await remove(rabbitmq_url, exchange)
        await carry_out(house)
        await until_all_are(house, DeliveryState.DELIVERED, 2 * EVENTS)
    assert {each.tries for each in await rows(house)} == {1}
    await remove(rabbitmq_url, exchange)


async def test_what_answers_nothing_is_left_and_tried_again(house: House, rabbitmq_url: str, exchange: str) -> None:
    """Whoever accepts and says nothing, then goes on as a broker does: the way to it, cut and mended."""
    await bind(rabbitmq_url, exchange)
    async with Way(rabbitmq_url) as way, publishing(house, way.url, shop_with(exchange), confirm=SOON):
        first = await carry_out(house)
        await until_all_are(house, DeliveryState.DELIVERED, EVENTS)
        way.carries = False
        second = await carry_out(house)
        await until_said(house, "no ")
        way.carries = True
        way.cut()
        await until_all_are(house, DeliveryState.DELIVERED, 2 * EVENTS)
    found = await empty(rabbitmq_url, exchange, 2 * EVENTS)
    assert first_ones(found) == {first: NUMBERS, second: NUMBERS}


class Way:
    """Between a publisher and its broker. What comes while it does not carry is lost, and the connection with it."""

    def __init__(self, url: str) -> None:
        self.to, self.port, self.carries = urlsplit(url), free_port(), True
        self.url = self.to._replace(netloc=f"guest:guest@127.0.0.1:{self.port}").geturl()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            there = await asyncio.open_connection(self.to.hostname, self.to.port)
            self._writers += [writer, there[1]]
            await asyncio.gather(self._carry(reader, there[1]), self._carry(there[0], writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if self.carries:
                writer.write(data)
                await writer.drain()
        writer.close()


async def test_a_shape_that_gives_nothing_sends_nothing(house: House, rabbitmq_url: str, exchange: str) -> None:
    def only_ends(_connection: ReadConnection, events: Sequence[Event]) -> list[dict[str, Any] | None]:
        return [{"n": event.n} if event.type == "operation.completed" else None for event in events]

    await bind(rabbitmq_url, exchange)
    async with publishing(house, rabbitmq_url, shop_with(exchange, shape=only_ends)):
        await carry_out(house)
        await until_all_are(house, DeliveryState.DELIVERED, EVENTS)
    [message] = await empty(rabbitmq_url, exchange, 1)
    assert json.loads(message.body) == {"n": 5}


@pytest.mark.parametrize("break_it", [lambda _connection: 1 / 0, lambda connection: connection.rows(select(BROKEN))])
async def test_an_event_whose_shape_fails_is_given_up_after_its_last_try_and_holds_up_no_other(
    house: House, rabbitmq_url: str, exchange: str, break_it: Callable[[ReadConnection], Any]
) -> None:
    def shape(connection: ReadConnection, events: Sequence[Event]) -> list[dict[str, Any]]:
        if any(event.type == "task.started" for event in events):
            break_it(connection)
        return status_of(connection, events)

    await bind(rabbitmq_url, exchange)
    few = Retry(attempts=3, first=QUICK.first, longest=QUICK.longest)
    async with publishing(house, rabbitmq_url, shop_with(exchange, shape=shape), retry=few):
        ids = [await carry_out(house) for _ in range(3)]
        await until_some_are(house, DeliveryState.FAILED, len(ids))
        await until_some_are(house, DeliveryState.DELIVERED, len(ids) * (EVENTS - 1))
    given_up = [each for each in await rows(house) if each.state is DeliveryState.FAILED]
    assert {(each.type, each.tries) for each in given_up} == {("task.started", 3)}
    assert all("in the code of the target" in (each.error or "") for each in given_up)
    found = await empty(rabbitmq_url, exchange, len(ids) * (EVENTS - 1))
    assert first_ones(found) == {id: [1, 4, 5] for id in ids}


async def test_nobody_reads_the_password(
    house: House, rabbitmq_url: str, exchange: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = urlsplit(rabbitmq_url)
    wrong = url._replace(netloc=f"guest:canary7f3a@{url.hostname}:{url.port}").geturl()
    async with publishing(house, wrong, shop_with(exchange)) as target:
        await carry_out(house)
        await until_said(house, "says no: ")
        state = await state_of(house)
    captured = capsys.readouterr()
    assert "canary7f3a" not in f"{state} {target.place} {captured.out} {captured.err}"


@pytest.mark.parametrize(
    ("exchange", "routing_key", "events", "words"),
    [
        ("", "key", ["operation.completed"], 'The exchange ""'),
        ("amq.topic", "key", ["operation.completed"], 'The exchange "amq.topic"'),
        ("orders", "k" * 256, ["operation.completed"], "The routing key kkk"),
        ("orders", "key", ["operation.complete"], 'No event "operation.complete"'),
        ("orders", "key", ["task.remembered"], 'No event "task.remembered"'),
        ("others", "key", ["operation.placed"], "publishes operation.placed to orders already"),
    ],
)
def test_a_declaration_that_cannot_be_kept_is_refused(
    exchange: str, routing_key: str, events: list[str], words: str
) -> None:
    shop = shop_with("orders")
    with pytest.raises(Misconfigured, match=words):
        shop.publish(exchange, routing_key=routing_key, events=events)
