"""Placing an order: one transaction stores the operation, its plan, its RFA, its key, and event 1."""

import asyncio
from itertools import count
from typing import Any

import pytest
from sqlalchemy import BigInteger, Column, MetaData, Table, Text, func, insert, select

from orderup.db.database import Database, ReadConnection, WriteConnection
from orderup.db.tables import events, keys, operations, rfas, tasks
from orderup.engine.desk import Replayed
from orderup.engine.engine import Engine
from orderup.engine.place import place_order, scoped_key
from orderup.errors import IdTaken, Invalid, InvalidPlan, KeyMisused, NotFound
from orderup.model.event import Audience
from orderup.model.ids import OperationId, new_operation_id
from orderup.model.operation import OperationStatus
from orderup.model.plan import Plan, PlannedTask
from orderup.model.rfa import RfaStatus
from orderup.model.task import TaskStatus
from orderup.shop import Shop
from tests.engine.conftest import Doors
from tests.engine.kitchen import ASKED, CHAIN, DIAMOND, DOUGH, KINDS, NOON, SHOP, Kitchen, Time, key_of

HOUR_US = 3_600_000_000
pizzas = Table(
    "diner_pizzas",
    MetaData(),
    Column("operation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("topping", Text, nullable=False),
)


async def make_pizzas(kitchen: Kitchen) -> None:
    """The shop's own table, empty."""

    def make(connection: WriteConnection) -> None:
        pizzas.drop(connection.connection, checkfirst=True)
        pizzas.create(connection.connection)

    await kitchen.database.write(make)


async def test_without_approval_the_first_tasks_can_be_claimed_at_once(kitchen: Kitchen) -> None:
    order = await kitchen.place(DIAMOND)
    assert await kitchen.state(order) == "running: dough pending, top blocked, bake blocked, deliver blocked"
    dough = await kitchen.task(order, "dough")
    assert (dough.ready_at, dough.deadline_at, dough.due_at) == (NOON, NOON + 24 * HOUR_US, NOON + 24 * HOUR_US)


async def test_with_approval_every_task_waits_for_it(kitchen: Kitchen) -> None:
    order = await kitchen.place(ASKED)
    assert await kitchen.state(order) == "pending: dough blocked, top blocked"
    rfa = (await kitchen.operation(order)).rfa
    assert rfa is not None
    assert (rfa.status, rfa.question, rfa.asked_at) == (RfaStatus.PENDING, "One pizza?", NOON)
    assert rfa.expires_at == NOON + 24 * HOUR_US
    assert await kitchen.claim("dough") == []


async def test_the_first_event_tells_the_customer_that_the_order_is_there(kitchen: Kitchen) -> None:
    [told] = await kitchen.events(await kitchen.place(CHAIN))
    assert (told.n, told.type, told.at, told.shop) == (1, "operation.placed", NOON, SHOP)
    assert (told.status, told.message, told.audience) == ("running", "Request received", Audience.CUSTOMER)


async def test_the_plan_may_have_words_of_its_own_for_the_customer(kitchen: Kitchen) -> None:
    order = await kitchen.place(Plan([PlannedTask("dough")], words={"operation.placed": "Your pizza is on its way"}))
    [told] = await kitchen.events(order)
    assert told.message == "Your pizza is on its way"


async def test_what_was_placed_is_what_the_database_gives_back(kitchen: Kitchen) -> None:
    order = await kitchen.place(
        CHAIN, source="event:mail", owner="ada", key_hash="00ff", key_salt="1122", key=key_of("k")
    )
    assert await kitchen.operation(order) == order
    assert (order.source, order.owner, order.key_hash, order.key_salt) == ("event:mail", "ada", "00ff", "1122")


async def test_a_plan_of_ten_thousand_tasks_is_stored_whole(kitchen: Kitchen) -> None:
    ads = [PlannedTask(f"ad{number}", kind="bake", params={"n": number}) for number in range(9_999)]
    order = await kitchen.place(Plan([*ads, PlannedTask("deliver", after=[ad.name for ad in ads])]))
    assert await kitchen.operation(order) == order
    assert (order.open, order.moving) == (10_000, 9_999)
    assert len(await kitchen.claim("bake", most=100)) == 100


def campaign(size: int) -> Plan:
    """So many tasks, of which the last waits for all others."""
    ads = [PlannedTask(f"ad{number}", kind="bake", params={"n": number}) for number in range(size - 1)]
    return Plan([*ads, PlannedTask("deliver", after=[ad.name for ad in ads])])


def seen(connection: ReadConnection, id: OperationId) -> tuple[int, int, int]:
    """How many of its operation, tasks and events are there."""
    counts = [
        select(func.count()).select_from(table).where(column == id).scalar_subquery()
        for table, column in (
            (operations, operations.c.id),
            (tasks, tasks.c.operation_id),
            (events, events.c.operation_id),
        )
    ]
    [(of_operation, of_tasks, of_events)] = connection.rows(select(*counts))
    return of_operation, of_tasks, of_events


async def test_a_plan_of_25_000_tasks_is_one_transaction(kitchen: Kitchen) -> None:
    commits: list[int] = []
    kitchen.database.observe_commits(lambda items, _seconds: commits.append(items))
    order = await kitchen.place(campaign(25_000))
    assert commits == [1]
    assert await kitchen.operation(order) == order
    assert (order.open, order.moving) == (25_000, 24_999)


async def test_a_plan_of_25_000_tasks_is_seen_whole_or_not_at_all_and_others_are_placed_meanwhile(
    doors: Doors, time: Time
) -> None:
    here, elsewhere = [Kitchen(await doors.open(), time) for _ in range(2)]
    id, plan = OperationId(1 << 40), campaign(25_000)
    placing = asyncio.ensure_future(here.place(plan, operation_id=id))
    views: list[tuple[int, int, int]] = []
    placed = 0
    while not placing.done():
        views.append(await elsewhere.database.read(lambda connection: seen(connection, id)))
        for kitchen in (here, elsewhere):
            await kitchen.place(DOUGH)
            placed += 1
    await placing
    views.append(await elsewhere.database.read(lambda connection: seen(connection, id)))
    assert placed
    assert set(views) <= {(0, 0, 0), (1, 25_000, 1)}
    assert views[-1] == (1, 25_000, 1)
    assert len(await elsewhere.claim("dough", most=2 * placed)) == placed
    assert len(await elsewhere.claim("bake", most=100)) == 100


async def test_a_shop_that_is_not_there_gets_no_orders(kitchen: Kitchen) -> None:
    with pytest.raises(NotFound, match="no shop laundry"):
        await place_order(kitchen.engine, "laundry", DOUGH)


async def test_a_kind_that_the_shop_does_not_have_is_refused_and_nothing_is_stored(kitchen: Kitchen) -> None:
    with pytest.raises(InvalidPlan, match="fry"):
        await kitchen.place(Plan([PlannedTask("dough"), PlannedTask("fry")]), key=key_of("k"))
    assert await kitchen.rows(operations) == []
    assert await kitchen.rows(keys) == []


async def wash(_context: object) -> None: ...


@pytest.mark.parametrize(("how", "function"), [("handler", wash), ("step", lambda *_: None)])
async def test_a_region_for_what_a_handler_does_is_refused_and_says_what_to_do(
    database: Database, how: str, function: Any
) -> None:
    """Nobody would ever claim it: executors are in no region."""
    shop = Shop("laundry")
    shop.remote("fetch")
    getattr(shop, how)("wash")(function)
    engine = Engine(database, {"laundry": shop.kinds})
    plan = Plan.chain(PlannedTask("fetch", region="paris"), PlannedTask("whites", kind="wash", region="paris"))
    with pytest.raises(InvalidPlan, match=r'Task whites .* region paris.* shop\.remote\("wash"\)'):
        await place_order(engine, "laundry", plan)
    found = await database.read(lambda connection: connection.rows(select(operations.c.id)))
    assert found == []
    await place_order(engine, "laundry", Plan.chain(plan.tasks[0], PlannedTask("wash")))


# The same request, sent again.


async def test_the_same_key_places_one_order_and_says_which(kitchen: Kitchen) -> None:
    order = await kitchen.place(key=key_of("k"))
    with pytest.raises(Replayed) as replayed:
        await kitchen.place(key=key_of("k"))
    assert replayed.value.operation_id == order.id
    assert [row["id"] for row in await kitchen.rows(operations)] == [order.id]
    assert len(await kitchen.rows(events)) == 1


async def test_the_same_key_with_another_request_is_misused_and_changes_nothing(kitchen: Kitchen) -> None:
    order = await kitchen.place(key=key_of("k"))
    async with kitchen.refused(KeyMisused, order):
        await kitchen.place(key=key_of("k", fingerprint="another request"))
    assert len(await kitchen.rows(operations)) == 1


async def test_of_fifty_sent_at_once_with_one_key_one_is_placed_and_all_hear_of_it(kitchen: Kitchen) -> None:
    answers = await asyncio.gather(*(kitchen.place(key=key_of("k")) for _ in range(50)), return_exceptions=True)
    [row] = await kitchen.rows(operations)
    replayed = [answer.operation_id for answer in answers if isinstance(answer, Replayed)]
    assert replayed == [row["id"]] * 49


async def test_fifty_keys_sent_twice_at_once_place_fifty_orders(kitchen: Kitchen) -> None:
    await asyncio.gather(*(kitchen.place(key=key_of(f"k{n % 50}")) for n in range(100)), return_exceptions=True)
    assert len(await kitchen.rows(operations)) == len(await kitchen.rows(keys)) == 50


async def test_the_same_key_in_another_scope_is_another_key(kitchen: Kitchen) -> None:
    for scope in ("shop", "another shop"):
        await kitchen.place(key=key_of(scoped_key(scope, "POST /pizzas", key="k")))
    assert len(await kitchen.rows(operations)) == 2


def test_parts_of_a_scope_cannot_be_shifted_into_each_other() -> None:
    assert scoped_key("ab", "c", key="k") != scoped_key("a", "bc", key="k")
    assert scoped_key("a", key="k") == scoped_key("a", key="k")


# The shop's own rows, in the same transaction.


async def test_the_shops_rows_are_written_with_the_order(kitchen: Kitchen) -> None:
    await make_pizzas(kitchen)

    def also(connection: WriteConnection, id: OperationId) -> None:
        connection.execute(insert(pizzas).values(operation_id=id, topping="basil"))

    order = await kitchen.place(also=also)
    assert [dict(row) for row in await kitchen.rows(pizzas)] == [{"operation_id": order.id, "topping": "basil"}]


async def test_when_the_shops_rows_are_refused_nothing_of_the_order_is_left(kitchen: Kitchen) -> None:
    await make_pizzas(kitchen)

    def also(connection: WriteConnection, _id: OperationId) -> None:
        connection.execute(insert(pizzas).values(operation_id=1, topping="basil"))
        message = "Basil is out"
        raise Invalid(message, field="body.topping")

    with pytest.raises(Invalid, match="Basil is out"):
        await kitchen.place(ASKED, also=also, key=key_of("k"))
    for table in (operations, tasks, rfas, events, keys, pizzas):
        assert await kitchen.rows(table) == [], table.name
    # a request that was refused stores no key: it may be sent again
    await kitchen.place(ASKED, key=key_of("k"))


async def test_orders_beside_one_that_is_refused_are_placed(kitchen: Kitchen) -> None:
    def refuse(_connection: WriteConnection, _id: OperationId) -> None:
        message = "no"
        raise Invalid(message)

    answers = await asyncio.gather(
        *(kitchen.place(also=refuse if number % 2 else None) for number in range(20)), return_exceptions=True
    )
    assert sum(isinstance(answer, Invalid) for answer in answers) == 10
    assert len(await kitchen.rows(operations)) == 10


async def test_on_a_replay_the_shops_rows_are_not_written_again(kitchen: Kitchen) -> None:
    await make_pizzas(kitchen)

    def also(connection: WriteConnection, id: OperationId) -> None:
        connection.execute(insert(pizzas).values(operation_id=id, topping="basil"))

    await kitchen.place(also=also, key=key_of("k"))
    with pytest.raises(Replayed):
        await kitchen.place(also=also, key=key_of("k"))
    assert len(await kitchen.rows(pizzas)) == 1


# Ids.


async def test_an_id_that_is_taken_is_drawn_again(database: Database, time: Time) -> None:
    drawn = count()

    def new_id(now: int) -> OperationId:
        """The first one twice, then others."""
        number = next(drawn)
        return OperationId(1) if number < 2 else new_operation_id(now)

    engine = Engine(database, {SHOP: KINDS}, now=time.now, new_id=new_id)
    first, second = [await place_order(engine, SHOP, DOUGH, key=key_of(name)) for name in ("a", "b")]
    assert first.id == 1
    assert second.id != 1
    assert next(drawn) == 3


async def test_beside_one_whose_id_is_taken_the_others_are_placed_at_once(database: Database, time: Time) -> None:
    taken = Engine(database, {SHOP: KINDS}, now=time.now, new_id=lambda _: OperationId(3))
    await place_order(taken, SHOP, DOUGH)
    drawn = count(1)
    engine = Engine(database, {SHOP: KINDS}, now=time.now, new_id=lambda _: OperationId(next(drawn)))
    placed = await asyncio.gather(*(place_order(engine, SHOP, DOUGH) for _ in range(5)))
    assert sorted(order.id for order in placed) == [1, 2, 4, 5, 6]


async def test_an_id_of_the_callers_own_that_is_taken_is_told(kitchen: Kitchen) -> None:
    order = await kitchen.place(operation_id=OperationId(7))
    async with kitchen.refused(IdTaken, order):
        await kitchen.place(CHAIN, operation_id=OperationId(7))


async def test_an_order_goes_its_way_when_whoever_placed_it_is_gone(kitchen: Kitchen) -> None:
    ear = kitchen.engine.bell.listen([f"{SHOP}/dough"])
    ear.clear()
    placing = asyncio.ensure_future(kitchen.place(CHAIN))
    await asyncio.sleep(0)  # it is on its way to the database
    placing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await placing
    assert await ear.wait(10)
    [row] = await kitchen.rows(operations)
    assert row["status"] == OperationStatus.RUNNING
    assert (await kitchen.take("dough")).task.status is TaskStatus.RUNNING
