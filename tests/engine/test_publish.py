"""The publisher on both databases, with a webhook as its target and a real server that receives it."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import func, select, update
from starlette.responses import Response

from orderup.cli.assembly import House
from orderup.db.database import WriteConnection
from orderup.db.deliveries import Outcome, keep_target, list_deliveries, read_hold, settle, take_target, target_states
from orderup.db.tables import deliveries, targets
from orderup.engine.claim import claim_now, queues_for
from orderup.engine.complete import complete_task
from orderup.engine.place import place_order
from orderup.engine.prune import prune
from orderup.engine.publish import Publisher, register_targets
from orderup.engine.wait import remember
from orderup.errors import Unavailable
from orderup.integrations.webhook import Webhook
from orderup.model.delivery import Delivery, DeliveryState
from orderup.model.ids import read_id, show_id
from orderup.model.operation import OperationStatus
from orderup.model.plan import Plan, PlannedTask
from orderup.model.retry import Retry
from orderup.web.orders import load
from orderup.web.views import view_event
from tests.integrations.receiver import SECRET, Receiver, always, fine
from tests.services.postgres import PostgresCluster
from tests.services.waiting import PATIENCE_SECONDS
from tests.web.house import DATABASES, open_test_house, settings_for

SAW = Plan([PlannedTask("saw")])
QUICK = Retry(attempts=1_000, first=timedelta(milliseconds=10), longest=timedelta(milliseconds=50))
LEASE, DEADLINE = timedelta(seconds=20), timedelta(seconds=10)


@pytest.fixture(params=DATABASES)
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    is_file = request.param == "sqlite"
    values = {} if is_file else {"database_url": request.getfixturevalue("prepared_postgres")}
    async with open_test_house(settings_for(tmp_path, **values)) as house:
        yield house


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver
        assert receiver.forged == []


@asynccontextmanager
async def publishing(
    house: House, receiver: Receiver, *, kind: type[Webhook] = Webhook, **options: Any
) -> AsyncIterator[asyncio.Task[None]]:
    """A publisher at work; another process's would be as good."""
    async with kind(receiver.url, SECRET, show=view_event) as webhook:
        await register_targets(house.engine, [webhook])
        given = {"lease": LEASE, "deadline": DEADLINE, "retry": QUICK, **options}
        async with asyncio.TaskGroup() as group:
            task = group.create_task(Publisher(house.engine, webhook, **given).run(), name="publisher")
            yield task
            task.cancel()


async def carry_out(house: House, plan: Plan = SAW) -> str:
    """Place and do an order whose tasks are done by hand, one after the other; its id."""
    operation = await place_order(house.engine, "workshop", plan)
    for task in plan.tasks:  # as a chain has them
        claims = await claim_now(
            house.engine,
            queues_for("workshop", [task.kind or task.name], None),
            worker="w1",
            most=1,
            own_lease=False,
            request=None,
        )
        [claimed] = claims.claimed
        place, token = (claimed.operation_id, claimed.task.position), claimed.task.token
        assert token is not None
        # told in the log, and nobody's business outside
        await remember(house.engine, *place, token=token, memo='"half done"')
        await complete_task(house.engine, *place, token=token, result=None)
    return show_id(operation.id)


# placed, started, task.completed, operation.completed; what was remembered between is internal
EVENTS = 4
NUMBERS = [1, 2, 4, 5]


async def rows(house: House) -> list[Delivery]:
    found = await house.database.read(lambda connection: list_deliveries(connection, most=10_000))
    return list(reversed(found))


async def until(fact: Callable[[], Any]) -> None:
    """Wait for what the database is to say."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await fact():  # noqa: ASYNC110  a database rings no bell here
            await asyncio.sleep(0.02)


async def until_all_are(house: House, state: DeliveryState, count: int) -> None:
    async def are() -> bool:
        return [each.state for each in await rows(house)] == [state] * count

    await until(are)


def check_order(receiver: Receiver) -> dict[str, list[int]]:
    """Of each operation the numbers of its events as they were accepted, which is in order, whole, and each once."""
    by_operation: dict[str, list[int]] = defaultdict(list)
    for each in receiver.accepted:
        by_operation[each.operation].append(each.event["n"])
    assert all(numbers == sorted(numbers) for numbers in by_operation.values())
    return by_operation


async def test_all_that_staff_may_see_goes_out_as_the_live_feed_shows_it(house: House, receiver: Receiver) -> None:
    async with publishing(house, receiver):
        id = await carry_out(house)
        await receiver.until(lambda: len(receiver.accepted) == EVENTS)
        await until_all_are(house, DeliveryState.DELIVERED, EVENTS)
    assert [each.event["type"] for each in receiver.received] == [
        "operation.placed",
        "task.started",
        "task.completed",
        "operation.completed",
    ]
    assert check_order(receiver) == {id: NUMBERS}
    assert {each.tries for each in await rows(house)} == {1}


async def test_what_happened_before_there_was_a_target_does_not_go_out(house: House, receiver: Receiver) -> None:
    before = await carry_out(house)
    async with publishing(house, receiver):
        after = await carry_out(house)
        await receiver.until(lambda: len(receiver.accepted) == EVENTS)
    assert {each.operation for each in receiver.received} == {after} != {before}


async def test_an_order_waits_for_no_receiver_and_what_it_missed_comes_when_it_is_back(
    house: House, receiver: Receiver
) -> None:
    await receiver.die()
    async with publishing(house, receiver):
        ids = [await carry_out(house) for _ in range(5)]

        async def were_tried() -> bool:
            found = await rows(house)
            return (len(found), sum(each.tries > 0 for each in found)) == (5 * EVENTS, len(ids))

        await until(were_tried)
        [state] = await house.database.read(target_states)
        assert (state.pending, state.failed, state.error) == (5 * EVENTS, 0, "cannot be reached (ConnectError)")
        for id in ids:
            assert (await load(house.engine, read_id(id))).status is OperationStatus.COMPLETED
        await receiver.start()
        await receiver.until(lambda: len(receiver.accepted) == 5 * EVENTS)
        await until_all_are(house, DeliveryState.DELIVERED, 5 * EVENTS)
    assert check_order(receiver) == dict.fromkeys(ids, NUMBERS)


async def test_an_event_that_is_answered_with_an_error_comes_again_under_its_id_before_those_behind_it(
    house: House, receiver: Receiver
) -> None:
    refusals = 3

    async def fail_at_first(_event: dict[str, Any]) -> Response:
        return Response(status_code=500 if len(receiver.received) < refusals else 200)

    receiver.answer = fail_at_first
    async with publishing(house, receiver):
        await carry_out(house)
        await until_all_are(house, DeliveryState.DELIVERED, EVENTS)
    assert [each.event["n"] for each in receiver.received] == [1, 1, 1, 1, 2, 4, 5]
    assert len({each.id for each in receiver.received}) == EVENTS
    assert [each.tries for each in await rows(house)] == [4, 1, 1, 1]


async def test_what_the_receiver_does_not_want_is_given_up_at_once_and_holds_up_nothing(
    house: House, receiver: Receiver
) -> None:
    async def refuse_starts(event: dict[str, Any]) -> Response:
        return Response(status_code=410 if event["type"] == "task.started" else 200)

    receiver.answer = refuse_starts
    async with publishing(house, receiver):
        await carry_out(house)
        await receiver.until(lambda: len(receiver.accepted) == EVENTS - 1)

        async def all_have_ended() -> bool:
            return all(each.ended_at for each in await rows(house))

        await until(all_have_ended)
    assert [each.state for each in await rows(house)] == ["delivered", "failed", "delivered", "delivered"]
    assert [each.event["n"] for each in receiver.received] == NUMBERS


async def test_an_event_is_given_up_after_its_last_try(house: House, receiver: Receiver) -> None:
    receiver.answer = always(500)
    async with publishing(house, receiver, retry=Retry(attempts=3, first=QUICK.first, longest=QUICK.longest)):
        await carry_out(house)
        await until_all_are(house, DeliveryState.FAILED, EVENTS)
    assert [each.event["n"] for each in receiver.received] == [n for n in NUMBERS for _ in range(3)]
    assert {(each.tries, each.error, each.next_try_at) for each in await rows(house)} == {(3, "answered 500", None)}


async def test_one_that_hangs_holds_up_its_own_operation_only_and_is_tried_again(
    house: House, receiver: Receiver
) -> None:
    let_go = asyncio.Event()
    slow: list[str] = []

    async def hang(event: dict[str, Any]) -> Response:
        if event["operation_id"] in slow and not let_go.is_set():
            await let_go.wait()
        return Response(status_code=200)

    receiver.answer = hang
    async with publishing(house, receiver, deadline=timedelta(seconds=2)):
        first = await place_order(house.engine, "workshop", Plan([PlannedTask("polish")]))
        slow.append(show_id(first.id))
        second = await carry_out(house)
        await receiver.until(lambda: [each.operation for each in receiver.accepted].count(second) == EVENTS)

        async def was_given_time() -> bool:
            return any(each.error == "no answer within 2 s" for each in await rows(house))

        await until(was_given_time)
        let_go.set()
        await until_all_are(house, DeliveryState.DELIVERED, EVENTS + 1)
    check_order(receiver)


class Shaky(Webhook):
    """The first time that it is asked for anything, something in it is cancelled by itself."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.shaken: list[str] = []

    async def reach(self) -> None:
        await self._shake("reach")
        await super().reach()

    async def send(self, prepared: Sequence[Any]) -> Sequence[None]:
        await self._shake("send")
        return await super().send(prepared)

    async def _shake(self, what: str) -> None:
        if what not in self.shaken:
            self.shaken.append(what)
            cut_off: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            cut_off.cancel()
            await cut_off


async def test_what_is_cancelled_in_the_code_of_a_target_ends_no_publisher_and_loses_nothing(
    house: House, receiver: Receiver
) -> None:
    at_once = Retry(attempts=1_000, first=timedelta(milliseconds=1), longest=timedelta(milliseconds=1))
    async with publishing(house, receiver, kind=Shaky, away=at_once) as publisher:
        await carry_out(house)
        await until_all_are(house, DeliveryState.DELIVERED, EVENTS)
        assert not publisher.done()
    assert {each.tries for each in await rows(house)} == {1}
    check_order(receiver)


async def test_a_receiver_that_asks_for_a_rest_gets_it_from_every_operation(house: House, receiver: Receiver) -> None:
    rest = 2

    async def ask_once(_event: dict[str, Any]) -> Response:
        if receiver.received:
            return Response(status_code=200)
        return Response(status_code=429, headers={"Retry-After": str(rest)})

    receiver.answer = ask_once
    async with publishing(house, receiver):
        await carry_out(house)
        await receiver.until(lambda: receiver.received)

        async def is_noted() -> bool:
            return any(each.tries for each in await rows(house))

        await until(is_noted)
        await carry_out(house)
        await until_all_are(house, DeliveryState.DELIVERED, 2 * EVENTS)
    asked, then, *_ = receiver.received
    assert then.at - asked.at >= rest


async def test_whatever_fails_each_operation_is_told_in_order(house: House, receiver: Receiver) -> None:
    random = Random(11)

    async def stumble(_event: dict[str, Any]) -> Response:
        return Response(status_code=random.choice([200, 200, 500, 503]))

    receiver.answer = stumble
    async with publishing(house, receiver):
        ids = [await carry_out(house) for _ in range(20)]
        await until_all_are(house, DeliveryState.DELIVERED, 20 * EVENTS)
    assert check_order(receiver) == dict.fromkeys(ids, NUMBERS)


async def test_another_publisher_takes_over_from_one_that_has_ended(house: House, receiver: Receiver) -> None:
    async with publishing(house, receiver) as one, publishing(house, receiver):
        first = await carry_out(house)
        await receiver.until(lambda: len(receiver.accepted) == EVENTS)
        one.cancel()
        second = await carry_out(house)
        await until_all_are(house, DeliveryState.DELIVERED, 2 * EVENTS)
    assert check_order(receiver) == {first: NUMBERS, second: NUMBERS}


async def test_a_publisher_that_lives_keeps_its_target(house: House, receiver: Receiver) -> None:
    async def holder() -> str | None:
        return (await house.database.read(lambda connection: read_hold(connection, "webhook"))).holder

    async with publishing(house, receiver):
        await until(holder)
        first = await holder()
        async with publishing(house, receiver):
            for _ in range(5):
                await carry_out(house)
            await until_all_are(house, DeliveryState.DELIVERED, 5 * EVENTS)
            assert await holder() == first


async def test_a_publisher_takes_over_from_one_whose_beat_stands_still(house: House, receiver: Receiver) -> None:
    # of a process that nobody here knows: it may live, on another machine
    await hold_as(house, receiver, "stranger")
    async with publishing(house, receiver, lease=timedelta(seconds=3), deadline=timedelta(seconds=1)):
        await carry_out(house)
        await until_all_are(house, DeliveryState.DELIVERED, EVENTS)


async def test_a_publisher_that_lost_its_target_writes_nothing_and_sends_nothing_more(
    house: House, receiver: Receiver
) -> None:
    arrived, let_go = asyncio.Event(), asyncio.Event()

    async def hang(_event: dict[str, Any]) -> Response:
        arrived.set()
        await let_go.wait()
        return Response(status_code=200)

    receiver.answer = hang
    async with publishing(house, receiver, lease=timedelta(hours=1), deadline=timedelta(minutes=1)):
        await carry_out(house)
        await arrived.wait()
        await until_queued(house, EVENTS)
        await hold_as(house, receiver, "stranger")
        receiver.answer = fine
        let_go.set()
        await receiver.until(lambda: receiver.received)
        # its next write is refused, with which it ends: the connection of what was under way is closed
        hold = await house.database.read(lambda connection: read_hold(connection, "webhook"))
        assert hold.holder == "stranger"
    assert {(each.state, each.tries) for each in await rows(house)} == {(DeliveryState.PENDING, 0)}
    assert [each.event["n"] for each in receiver.received] == [1]


async def test_what_arrives_while_the_database_is_away_is_not_sent_again(
    postgres_cluster: Callable[[], PostgresCluster], receiver: Receiver, tmp_path: Path
) -> None:
    cluster, let_go = postgres_cluster(), asyncio.Event()

    async def hang(_event: dict[str, Any]) -> Response:
        await let_go.wait()
        return Response(status_code=200)

    receiver.answer = hang
    async with (
        open_test_house(settings_for(tmp_path, database_url=cluster.url)) as house,
        publishing(house, receiver, lease=timedelta(minutes=5)),
    ):
        for _ in range(3):
            await carry_out(house)
        await receiver.until(lambda: receiver.arrived == 3)
        await asyncio.to_thread(cluster.stop)
        let_go.set()
        await receiver.until(lambda: len(receiver.received) == 3)
        for _ in range(2):  # until what the publisher tried to write meanwhile has failed, too
            with pytest.raises(Unavailable):
                await house.database.write(lambda _connection: None)
        await asyncio.to_thread(cluster.start)
        await until_all_are(house, DeliveryState.DELIVERED, 3 * EVENTS)
        assert {each.tries for each in await rows(house)} == {1}
    assert receiver.arrived == 3 * EVENTS
    assert list(check_order(receiver).values()) == [NUMBERS] * 3


async def test_a_publisher_that_lost_its_target_takes_it_again_once_it_can(house: House, receiver: Receiver) -> None:
    async with publishing(house, receiver, lease=timedelta(seconds=3), deadline=timedelta(seconds=1)):
        await carry_out(house)
        await until_all_are(house, DeliveryState.DELIVERED, EVENTS)
        await hold_as(house, receiver, "stranger")  # whose beat stands still
        await carry_out(house)
        await until_all_are(house, DeliveryState.DELIVERED, 2 * EVENTS)


async def until_queued(house: House, count: int) -> None:
    async def are() -> bool:
        return len(await rows(house)) == count

    await until(are)


async def hold_as(house: House, receiver: Receiver, holder: str) -> None:
    async with Webhook(receiver.url, SECRET, show=view_event) as webhook:
        await register_targets(house.engine, [webhook])

    def take(connection: WriteConnection) -> None:
        connection.execute(update(targets).values(holder=holder, process=None, beat=targets.c.beat + 1))

    await house.database.write(take)


async def test_a_target_is_taken_by_one_only_and_kept_by_its_holder_only(house: House, receiver: Receiver) -> None:
    await hold_as(house, receiver, "old")
    seen = await house.database.read(lambda connection: read_hold(connection, "webhook"))

    def take(holder: str) -> Callable[[WriteConnection], bool]:
        return lambda connection: take_target(connection, "webhook", holder=holder, process=None, seen=seen)

    assert [await house.database.write(take("one")), await house.database.write(take("other"))] == [True, False]
    assert await house.database.write(lambda connection: keep_target(connection, "webhook", holder="one"))
    assert not await house.database.write(lambda connection: keep_target(connection, "webhook", holder="old"))


async def test_a_result_that_comes_twice_counts_once(house: House, receiver: Receiver) -> None:
    async with publishing(house, receiver):
        await carry_out(house)
        await until_all_are(house, DeliveryState.DELIVERED, EVENTS)
    [first, *_] = await rows(house)
    late = Outcome(first.seq, first.operation_id, "answered 500", house.engine.now())
    await house.database.write(lambda connection: settle(connection, "webhook", [late], now=house.engine.now()))
    assert (await rows(house))[0] == first


async def test_retention_takes_the_deliveries_of_what_it_takes(house: House, receiver: Receiver) -> None:
    async with publishing(house, receiver):
        await carry_out(house)
        await until_all_are(house, DeliveryState.DELIVERED, EVENTS)
    await prune(house.engine, before=house.engine.now() + 1)
    left = await house.database.read(
        lambda connection: connection.execute(select(func.count()).select_from(deliveries)).scalar_one()
    )
    assert left == 0
