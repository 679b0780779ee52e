"""What Celery's workers are told, by real brokers and on both databases; workers themselves are in the journeys."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from orderup.db.database import Database
from orderup.db.sqlite import SqliteDatabase
from orderup.engine.bell import Bell
from orderup.engine.engine import Engine
from orderup.engine.lease import Seen, note_workers
from orderup.engine.limit import pause_queue
from orderup.engine.place import place_order
from orderup.errors import UpstreamFailed
from orderup.executors.celery import Broker, celery_queue, make_app, queue_at
from orderup.executors.dispatch import Dispatcher, Released
from orderup.executors.local import LocalExecutor
from orderup.model.plan import Plan, PlannedTask
from orderup.shop import Context, Shop
from tests.executors.at_work import open_shop
from tests.services.waiting import PATIENCE_SECONDS

QUEUES = ["mill/grind", "mill/sieve"]
PLAN = Plan.chain(PlannedTask("grind"), PlannedTask("sieve"))
BROKERS = [
    pytest.param("rabbitmq_url", marks=pytest.mark.needs("rabbitmq_url")),
    pytest.param("redis_url", marks=pytest.mark.needs("redis_server")),
]


def mill() -> Shop:
    shop = Shop("mill")
    shop.handler("grind")(nothing)
    shop.handler("sieve")(nothing)
    return shop


async def nothing(_context: Context) -> None:
    return


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """With queues of this test's own."""
    url, prefix = request.getfixturevalue(request.param), f"test-{uuid4().hex[:12]}"
    broker = Broker(make_app(url, QUEUES, prefix=prefix), url, prefix=prefix)
    lying(broker)
    yield broker
    with broker.app.connection_for_write() as connection:
        for queue in QUEUES:
            queue_at(url, celery_queue(prefix, queue))(connection.default_channel).delete()


def lying(broker: Broker) -> dict[str, int]:
    """Messages in its queues, seen over a connection of our own: the dispatcher's thread may still be closing its."""
    onlooker = Broker(broker.app, broker.url, prefix=broker.prefix)
    try:
        return onlooker.depths(QUEUES)
    finally:
        onlooker.close()


@asynccontextmanager
async def telling(engine: Engine, broker: Broker, *, sweeps: bool = True) -> AsyncIterator["Told"]:
    """A dispatcher at work beside the engine, and what it says of its messages."""
    told = Told()
    dispatcher = Dispatcher(engine, broker, QUEUES, sweeps=sweeps, observe=told.note)
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        running = [group.create_task(engine.run()), group.create_task(dispatcher.run())]
        await engine.feed.started()
        yield told
        for task in running:
            task.cancel()


class Told:
    def __init__(self) -> None:
        self.sent: list[int] = []
        self.failed = 0
        self._happened = asyncio.Event()

    def note(self, count: int | None) -> None:
        if count is None:
            self.failed += 1
        else:
            self.sent.append(count)
        self._happened.set()

    async def until(self, fact: Callable[[], object]) -> None:
        while not fact():
            await self._happened.wait()
            self._happened.clear()


def engine_on(database: Database) -> Engine:
    return Engine(database, {"mill": mill().kinds})


async def test_an_order_is_told_of_once_and_what_waits_brings_no_more_messages(
    database: Database, broker: Broker
) -> None:
    engine = engine_on(database)
    async with telling(engine, broker) as told:
        for _ in range(20):
            await place_order(engine, "mill", PLAN)
        # two looks at what waits come after them
        await told.until(lambda: len(told.sent) >= 3)
    assert sum(told.sent) == 1
    assert lying(broker) == {"mill/grind": 1, "mill/sieve": 0}


async def test_there_are_as_many_messages_as_processes_that_may_take_them(database: Database, broker: Broker) -> None:
    engine = engine_on(database)
    await note_workers(engine, {f"c{number}": Seen("celery", None, None) for number in range(3)})
    await asyncio.gather(*(place_order(engine, "mill", PLAN) for _ in range(20)))
    async with telling(engine, broker) as told:
        await told.until(lambda: len(told.sent) >= 3)
    assert lying(broker) == {"mill/grind": 3, "mill/sieve": 0}


async def test_what_waits_in_a_paused_queue_is_not_told(database: Database, broker: Broker) -> None:
    engine = engine_on(database)
    await pause_queue(engine, "mill/grind", by="ann")
    await place_order(engine, "mill", PLAN)
    dispatcher = Dispatcher(engine, broker, QUEUES)
    assert await dispatcher._found() == {}  # noqa: SLF001  what it would send, which is nothing, cannot be waited for


async def test_a_broker_that_says_nothing_keeps_nobody_waiting(database: Database) -> None:
    engine = engine_on(database)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        broker = Broker(make_app(url, QUEUES, prefix="mute"), url, prefix="mute")
        with pytest.raises(UpstreamFailed, match="does not answer"):
            broker.depths(QUEUES)
        async with telling(engine, broker) as told:
            await place_order(engine, "mill", PLAN)
            # it is being asked in vain, and more is taken meanwhile
            await asyncio.gather(*(place_order(engine, "mill", PLAN) for _ in range(20)))
            assert told.failed == 0
            await told.until(lambda: told.failed)
    assert told.sent == []


class Stumbling(Broker):
    """Its library has a fault."""

    calls = 0

    def _declare(self, queue: str) -> int:
        self.calls += 1
        if self.calls == 1:
            raise LookupError("a fault of a library")
        return super()._declare(queue)


async def test_whatever_the_library_raises_the_dispatcher_goes_on(database: Database, broker: Broker) -> None:
    engine = engine_on(database)
    stumbling = Stumbling(broker.app, broker.url, prefix=broker.prefix)
    async with telling(engine, stumbling) as told:
        await place_order(engine, "mill", PLAN)
        await told.until(lambda: sum(told.sent) >= 1)
    assert told.failed == 1
    assert lying(broker) == {"mill/grind": 1, "mill/sieve": 0}


def test_what_other_processes_release_is_theirs_to_tell() -> None:
    bell, released = Bell(), Released(QUEUES)
    ear = bell.listen(QUEUES)
    bell.join(released)
    ear.clear()
    bell.ring_for_others()
    assert (released.take(), ear.rang) == ({}, set(QUEUES))
    bell.ring(["mill/grind", "mill/grind"])
    assert released.take() == {"mill/grind": 2}


def test_the_app_has_what_is_recommended() -> None:
    conf = make_app("amqp://localhost//", QUEUES, prefix="orderup").conf
    assert (conf.task_acks_late, conf.task_reject_on_worker_lost, conf.worker_prefetch_multiplier) == (True, True, 1)
    assert (conf.accept_content, conf.task_serializer, conf.task_ignore_result) == (["json"], "json", True)
    assert conf.broker_transport_options == {"confirm_publish": True}
    queues = {queue.name: queue.queue_arguments for queue in conf.task_queues}
    assert queues == {f"orderup.mill.{kind}": {"x-queue-type": "quorum"} for kind in ("grind", "sieve")}
    on_redis = make_app("redis://localhost/0", QUEUES, prefix="orderup").conf
    assert on_redis.broker_transport_options["visibility_timeout"] > on_redis.task_time_limit


async def test_an_executor_that_is_asked_to_look_has_claimed_when_it_answers(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "orderup.db")
    held = asyncio.Event()
    shop = Shop("mill")

    @shop.handler()
    async def grind(_context: Context) -> None:
        await held.wait()

    async with open_shop(database, shop, slots=1) as at_work:
        elsewhere = Engine(database, {"mill": shop.kinds})
        executor = LocalExecutor(elsewhere, [shop], slots=2, hears_others=False)
        running = asyncio.create_task(executor.run())
        plan = Plan([PlannedTask("grind")])
        placed = [await at_work.place(plan) for _ in range(4)]
        await executor.look("mill/grind")
        assert len(executor.begun()) == 2  # of four one runs already, two have a slot here
        asked_again = asyncio.create_task(executor.look("mill/grind"))
        await asyncio.sleep(0)
        assert not asked_again.done()  # full: meanwhile others are asked
        held.set()
        await asked_again
        ended = await at_work.ended(placed)
        assert {each.status for each in ended.values()} == {"completed"}
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
