"""Retention: what has finished is deleted when its time is over, whole; keys live longer."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import BigInteger, Column, MetaData, Table, delete, event, func, insert, select

from orderup.db.database import WriteConnection
from orderup.db.sqlite import SqliteDatabase
from orderup.db.tables import events, facts, keys, metadata, operations, permits, revoked_tokens, rfas, tasks
from orderup.engine.decide import decline_rfa
from orderup.engine.desk import Replayed
from orderup.engine.engine import Engine
from orderup.engine.place import place_order
from orderup.engine.prune import MOST_AT_ONCE, MOST_EVENTS_AT_ONCE, forget_keys, left_alone, prune, prune_operations
from orderup.engine.steer import cancel_operation, cancel_task, retry_operation
from orderup.errors import Gone, NotFound
from orderup.model.event import Audience
from orderup.model.ids import OperationId
from orderup.model.operation import Operation
from orderup.model.plan import Plan, PlannedTask
from tests.engine.kitchen import ASKED, CHAIN, DOUGH, HOUR, KINDS, NOON, SHOP, Kitchen, Time, key_of
from tests.services.waiting import PATIENCE_SECONDS

DAY = timedelta(days=1)
RETENTION = 30 * DAY
pizzas = Table("diner_pruned", MetaData(), Column("operation_id", BigInteger, primary_key=True, autoincrement=False))
# Those that hold rows of single operations.
OF_OPERATIONS = (operations, tasks, events, rfas, permits)


async def rows_left(kitchen: Kitchen) -> dict[str, int]:
    """How many rows each table has, those without left out."""
    counts = {}
    for name, table in metadata.tables.items():
        if count := len(await kitchen.rows(table)):
            counts[name] = count
    return counts


async def finished(kitchen: Kitchen, plan: Plan = DOUGH) -> Operation:
    order = await kitchen.place(plan)
    await kitchen.complete(await kitchen.take(plan.tasks[0].kind or plan.tasks[0].name))
    return order


async def test_nothing_is_pruned_before_its_time_and_everything_after(kitchen: Kitchen, time: Time) -> None:
    await finished(kitchen)
    time.advance(RETENTION)
    assert await prune(kitchen.engine) == 0
    time.advance(timedelta(microseconds=1))
    assert await prune(kitchen.engine) == 1
    assert await kitchen.rows(operations) == []


async def test_what_is_pruned_leaves_no_row_behind_in_any_table(kitchen: Kitchen, time: Time) -> None:
    await finished(kitchen, Plan([PlannedTask("oven")]))
    await finished(kitchen, Plan([PlannedTask("phone")]))
    declined = await kitchen.place(ASKED)
    await decline_rfa(kitchen.engine, declined.id, by="ada")
    errored = await kitchen.place(CHAIN)
    await kitchen.fail(await kitchen.take("dough"), final=True)
    assert set(await rows_left(kitchen)) >= {table.name for table in OF_OPERATIONS}
    time.advance(RETENTION + DAY)
    assert await prune(kitchen.engine) == 4
    assert set(await rows_left(kitchen)) - {"queues"} == {"facts"}
    for order in (declined, errored):
        with pytest.raises(NotFound):
            await cancel_operation(kitchen.engine, order.id, reason="too late")


async def test_what_has_not_finished_stays_however_old(kitchen: Kitchen, time: Time) -> None:
    await kitchen.place(ASKED)
    await kitchen.place(CHAIN)
    running = await kitchen.place(Plan([PlannedTask("bake")]))
    await kitchen.take("bake")
    before = await rows_left(kitchen)
    time.advance(3_650 * DAY)
    assert await prune(kitchen.engine) == 0
    assert await rows_left(kitchen) == before
    assert (await kitchen.operation(running)).status == "running"


async def test_what_was_retried_counts_from_its_new_end(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(DOUGH)
    await kitchen.fail(await kitchen.take("dough"), final=True)
    time.advance(RETENTION - HOUR)
    await retry_operation(kitchen.engine, order.id)
    time.advance(2 * HOUR)
    assert await prune(kitchen.engine) == 0
    await kitchen.do("dough")
    time.advance(RETENTION + HOUR)
    assert await prune(kitchen.engine) == 1


async def test_an_order_that_is_retried_while_it_is_pruned_is_pruned_whole_or_stays_whole(
    kitchen: Kitchen, time: Time
) -> None:
    orders = []
    for _ in range(20):
        orders.append(await kitchen.place(DOUGH))
        await kitchen.fail(await kitchen.take("dough"), final=True)
    time.advance(RETENTION + DAY)
    answers = await asyncio.gather(
        prune(kitchen.engine),
        *(retry_operation(kitchen.engine, order.id) for order in orders),
        return_exceptions=True,
    )
    retried = [order.id for order, answer in zip(orders, answers[1:], strict=True) if answer is None]
    assert sorted(row["id"] for row in await kitchen.rows(operations)) == sorted(retried)
    assert {type(answer) for answer in answers[1:]} <= {type(None), NotFound}
    assert len(await kitchen.claim("dough", most=20)) == len(retried)


async def test_the_owner_may_prune_up_to_a_moment_of_his_own(kitchen: Kitchen, time: Time) -> None:
    old = await finished(kitchen)
    time.advance(HOUR)
    await finished(kitchen)
    assert await prune_operations(kitchen.engine, before=NOON + 1) == 1
    assert old.id not in {row["id"] for row in await kitchen.rows(operations)}


async def test_the_shops_rows_go_in_the_same_transaction(kitchen: Kitchen, time: Time) -> None:
    def make(connection: WriteConnection) -> None:
        pizzas.drop(connection.connection, checkfirst=True)
        pizzas.create(connection.connection)

    def also(connection: WriteConnection, id: OperationId) -> None:
        connection.execute(insert(pizzas).values(operation_id=id))

    def prune_pizzas(connection: WriteConnection, ids: Sequence[int]) -> None:
        connection.execute(delete(pizzas).where(pizzas.c.operation_id.in_(ids)))

    await kitchen.database.write(make)
    await kitchen.place(DOUGH, also=also)
    kept = await kitchen.place(CHAIN, also=also)
    await kitchen.complete((await kitchen.claim("dough", most=1))[0])
    time.advance(RETENTION + DAY)
    await prune(kitchen.engine, shops={SHOP: prune_pizzas})
    assert [row["operation_id"] for row in await kitchen.rows(pizzas)] == [kept.id]


async def test_when_the_shop_cannot_delete_its_rows_nothing_is_deleted(kitchen: Kitchen, time: Time) -> None:
    def fail(_connection: WriteConnection, _ids: Sequence[int]) -> None:
        message = "a table is missing"
        raise LookupError(message)

    await finished(kitchen)
    before = await rows_left(kitchen)
    time.advance(RETENTION + DAY)
    with pytest.raises(LookupError):
        await prune(kitchen.engine, shops={SHOP: fail})
    assert await rows_left(kitchen) == before


async def test_a_shop_that_fails_keeps_no_other_from_its_turn(kitchen: Kitchen, time: Time) -> None:
    def fail(_connection: WriteConnection, _ids: Sequence[int]) -> None:
        message = "a table is missing"
        raise LookupError(message)

    await finished(kitchen)
    engine = engine_with(kitchen, "aaa", SHOP)
    first = await place_order(engine, "aaa", DOUGH)
    await cancel_operation(engine, first.id, reason="-")
    time.advance(RETENTION + DAY)
    with pytest.raises(LookupError):
        await prune(engine, shops={"aaa": fail})
    assert [row["shop"] for row in await kitchen.rows(operations)] == ["aaa"]


# Shops that this process does not have.


def engine_with(kitchen: Kitchen, *shops: str) -> Engine:
    """As another process has it, on the same database."""
    return Engine(kitchen.database, dict.fromkeys(shops, KINDS), now=kitchen.time.now)


async def test_orders_of_a_shop_that_this_process_does_not_have_stay_with_all_their_rows(
    kitchen: Kitchen, time: Time
) -> None:
    await finished(kitchen)
    before = await rows_left(kitchen)
    time.advance(RETENTION + DAY)
    asked: list[int] = []
    other = engine_with(kitchen, "bakery", "laundry")
    assert await prune(other, shops={SHOP: lambda _, ids: asked.extend(ids)}) == 0
    assert asked == []
    assert await rows_left(kitchen) == before
    assert await prune(engine_with(kitchen, "bakery", SHOP)) == 1


async def test_the_shops_that_were_left_alone_are_known_by_name(kitchen: Kitchen, time: Time) -> None:
    both = engine_with(kitchen, "bakery", "laundry", SHOP)
    for shop in ("bakery", "laundry", "laundry"):
        await cancel_operation(both, (await place_order(both, shop, DOUGH)).id, reason="enough")
    await finished(kitchen)
    at = time.now()
    time.advance(HOUR)
    await place_order(both, "bakery", DOUGH)
    assert await left_alone(kitchen.engine, before=at) == []
    assert await left_alone(kitchen.engine, before=at + 1) == ["bakery", "laundry"]
    assert await left_alone(engine_with(kitchen, "laundry"), before=at + 1) == ["bakery", SHOP]


async def test_what_others_have_yet_to_prune_is_not_read_through() -> None:
    """It lies in the index before all that is ours, for as long as nobody has its shop."""
    database = SqliteDatabase(None)
    await database.open()
    steps: list[str] = []

    def explain(connection: WriteConnection) -> None:
        """In memory there is one connection, which also reads."""

        def note(_connection: Any, cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
            asked = cursor.connection.execute(f"explain query plan {statement}", parameters)
            steps.extend(step[3] for step in asked.fetchall())

        event.listen(connection.connection, "before_cursor_execute", note)

    try:
        engine = Engine(database, {SHOP: KINDS})
        await database.write(explain)
        await prune_operations(engine, before=NOON)
        await left_alone(engine, before=NOON)
    finally:
        await database.close()
    assert len(steps) == 2
    assert all(step.startswith("SEARCH operations USING") for step in steps)
    assert all("INDEX operations_finished (shop" in step for step in steps)


# Later events, each of an operation that has gone already: what is asked of them only is how many were looked at.
LATER, LOOKED_AT = 20_000, "select idx_tup_fetch + seq_tup_read from pg_stat_xact_user_tables where relname = 'events'"


@pytest.mark.parametrize("doors", ["postgresql"], indirect=True)
@pytest.mark.needs("postgres_url")
async def test_the_log_is_not_walked_through_for_what_is_pruned(kitchen: Kitchen, time: Time) -> None:
    order = await finished(kitchen)
    time.advance(RETENTION + DAY)

    def tell_more(connection: WriteConnection) -> None:
        names = [column.name for column in events.columns if column.name not in {"seq", "operation_id"}]
        some = select(func.generate_series(order.id + 1, order.id + LATER), *(events.c[name] for name in names))
        first = some.where(events.c.operation_id == order.id, events.c.n == 1)
        connection.execute(insert(events).from_select(["operation_id", *names], first))

    looked_at: list[int] = []

    def look(connection: WriteConnection, _ids: Sequence[int]) -> None:
        looked_at.append(connection.connection.exec_driver_sql(LOOKED_AT).scalar_one())

    await kitchen.database.write(tell_more)
    try:
        assert await prune(kitchen.engine, shops={SHOP: look}) == 1
    finally:
        await kitchen.database.write(lambda connection: connection.execute(delete(events)))
    assert looked_at[0] < LATER / 10


# In small transactions.


async def test_many_are_pruned_in_transactions_of_a_bounded_size(kitchen: Kitchen, time: Time) -> None:
    count = 2 * MOST_AT_ONCE + 1
    await asyncio.gather(*(kitchen.place(DOUGH) for _ in range(count)))
    for row in await kitchen.rows(operations):
        await cancel_operation(kitchen.engine, row["id"], reason="enough")
    time.advance(RETENTION + DAY)
    sizes: list[int] = []
    assert await prune(kitchen.engine, shops={SHOP: lambda _, ids: sizes.append(len(ids))}) == count
    assert sizes == [MOST_AT_ONCE, MOST_AT_ONCE, 1]


async def test_orders_with_many_events_go_in_fewer_at_a_time(kitchen: Kitchen, time: Time) -> None:
    ads = [PlannedTask(f"ad{number}", kind="top", after=["dough"]) for number in range(MOST_EVENTS_AT_ONCE * 2 // 5)]
    for _ in range(3):
        order = await kitchen.place(Plan([PlannedTask("dough"), *ads]))
        await cancel_task(kitchen.engine, order.id, 0)  # and each of those that depend on it
    time.advance(RETENTION + DAY)
    sizes: list[int] = []
    assert await prune(kitchen.engine, shops={SHOP: lambda _, ids: sizes.append(len(ids))}) == 3
    assert sizes == [2, 1]


# Keys live longer.


async def test_a_key_outlives_its_order_and_still_keeps_it_from_being_placed_twice(
    kitchen: Kitchen, time: Time
) -> None:
    order = await kitchen.place(DOUGH, key=key_of("k"))
    await kitchen.do("dough")
    time.advance(RETENTION + DAY)
    await prune(kitchen.engine)
    assert [row["key"] for row in await kitchen.rows(keys)] == ["k"]
    with pytest.raises(Replayed) as replayed:
        await kitchen.place(DOUGH, key=key_of("k"))
    assert replayed.value.operation_id == order.id


async def test_a_key_goes_when_its_own_time_is_over(kitchen: Kitchen, time: Time) -> None:
    await kitchen.place(DOUGH, key=key_of("old"))
    time.advance(DAY)
    await kitchen.place(DOUGH, key=key_of("new", made_at=time.now()))
    time.advance(37 * DAY - HOUR)
    assert await forget_keys(kitchen.engine) == 1
    assert [row["key"] for row in await kitchen.rows(keys)] == ["new"]


async def test_revoked_tokens_are_remembered_until_they_expire(kitchen: Kitchen, time: Time) -> None:
    def revoke(connection: WriteConnection) -> None:
        for jti, expires_at in (("a", NOON + 1), ("b", NOON + 10**10)):
            connection.execute(insert(revoked_tokens).values(jti=jti, revoked_at=NOON, expires_at=expires_at))

    await kitchen.database.write(revoke)
    time.advance(HOUR)
    await forget_keys(kitchen.engine)
    assert [row["jti"] for row in await kitchen.rows(revoked_tokens)] == ["b"]
    await kitchen.database.write(lambda connection: connection.execute(delete(revoked_tokens)))


# Who follows the log.


async def test_the_highest_seq_that_was_taken_is_kept(kitchen: Kitchen, time: Time) -> None:
    await finished(kitchen)
    [(highest,)] = await kitchen.database.read(lambda connection: connection.rows(select(func.max(events.c.seq))))
    time.advance(RETENTION + DAY)
    await prune(kitchen.engine)
    assert [(row["name"], row["value"]) for row in await kitchen.rows(facts)] == [("pruned_seq", highest)]
    await kitchen.place(DOUGH)
    assert await kitchen.database.end_of_log() > highest, "a seq that was pruned is never given again"


async def test_who_asks_for_more_than_there_is_is_told_from_where_there_is(kitchen: Kitchen, time: Time) -> None:
    await finished(kitchen)
    end = await kitchen.database.end_of_log()
    time.advance(RETENTION + DAY)
    await prune(kitchen.engine)
    later = await kitchen.place(DOUGH)
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        running = group.create_task(kitchen.engine.run())
        for after in (0, end - 1):
            async with aclosing(kitchen.engine.feed.follow(after=after)) as batches:
                with pytest.raises(Gone, match="past retention") as gone:
                    await anext(batches)
            assert gone.value.oldest == end + 1
        async with aclosing(kitchen.engine.feed.follow(after=end)) as batches:
            assert [event.operation_id for event in await anext(batches)] == [later.id]
        with pytest.raises(Gone):
            await kitchen.engine.feed.check_retained(end - 1)
        await kitchen.engine.feed.check_retained(end)
        running.cancel()


async def test_who_follows_one_order_that_is_still_there_hears_all_of_it(kitchen: Kitchen, time: Time) -> None:
    mine = await kitchen.place(CHAIN)
    time.advance(HOUR)
    await finished(kitchen, Plan([PlannedTask("bake")]))
    time.advance(RETENTION + DAY)
    assert await prune(kitchen.engine) == 1
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        running = group.create_task(kitchen.engine.run())
        feed = kitchen.engine.feed.follow(operation_id=mine.id, audience=Audience.INTERNAL)
        async with aclosing(feed) as batches:
            assert [event.type for event in await anext(batches)] == ["operation.placed"]
        running.cancel()
