from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, insert, select, text

from orderup.db.connect import open_database
from orderup.db.database import Database, ReadConnection, WriteConnection
from orderup.db.tables import operations
from orderup.db.today import (
    HOUR_US,
    HOURS,
    LAST_ORDERS,
    MOST_IN_AN_HOUR,
    WHOLE,
    Spread,
    Today,
    Took,
    read_today,
    spread,
)
from orderup.engine.decide import approve_rfa
from orderup.engine.steer import cancel_operation
from orderup.model.ids import OperationId, first_operation_id, new_operation_id
from orderup.model.operation import Operation
from orderup.model.plan import Plan
from orderup.model.times import as_micros
from tests.engine.kitchen import ASKED, DOUGH, HOUR, MINUTE, NOON, SHOP, Kitchen, Time
from tests.web.house import DATABASES

NOW = NOON + HOUR_US // 2


@pytest.fixture(params=DATABASES)
async def grown(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A database with a busy hour, the one that NOW lies in, and a past ten times as long before the day."""
    file = f"sqlite:///{tmp_path / 'orderup.db'}"
    database = open_database(file if request.param == "sqlite" else request.getfixturevalue("prepared_postgres"))
    await database.open()
    await database.write(_fill)
    yield database
    await database.close()


def _fill(connection: WriteConnection) -> None:
    ended = {"finished_at": NOW, "status": "completed", "open": 0, "moving": 0, "version": 1, "source": "request"}
    first, past = first_operation_id(NOON), first_operation_id(NOON - 40 * HOUR_US)
    ids = [*range(first, first + MOST_IN_AN_HOUR + 5), *range(past, past + 10 * MOST_IN_AN_HOUR)]
    for begin in range(0, len(ids), 2_000):
        rows = [{"id": id, "shop": SHOP, "placed_at": NOON, **ended} for id in ids[begin : begin + 2_000]]
        connection.execute(insert(operations), rows)
    if connection.connection.dialect.name == "postgresql":
        connection.execute(text("analyze operations"))


async def place_now(kitchen: Kitchen, plan: Plan = DOUGH) -> Operation:
    """With an id of this moment: after tests of a later day, the ids that a process makes are of that day."""
    [(count,)] = await kitchen.database.read(lambda found: found.rows(select(func.count(operations.c.id))))
    return await kitchen.place(plan, operation_id=OperationId(first_operation_id(kitchen.time.now()) + count))


async def day_of(kitchen: Kitchen, *, shop: str = SHOP) -> Today:
    now = kitchen.time.now()
    return await kitchen.database.read(lambda connection: read_today(connection, shops=[shop], now=now))


async def test_what_was_placed_is_counted_by_its_hour_and_by_what_became_of_it(kitchen: Kitchen, time: Time) -> None:
    await place_now(kitchen)
    await kitchen.do("dough")
    time.advance(HOUR)
    cancelled = await place_now(kitchen)
    await cancel_operation(kitchen.engine, cancelled.id, reason="closed")
    await place_now(kitchen, ASKED)
    today = await day_of(kitchen)
    assert len(today.hours) == HOURS
    assert [hour.begin for hour in today.hours[-2:]] == [NOON, NOON + HOUR_US]
    told = [{status: count for status, count in hour.counts.items() if count} for hour in today.hours]
    assert told[-2:] == [{"completed": 1}, {"cancelled": 1, "pending": 1}]
    assert not any(told[:-2])
    assert today.counts[SHOP, "pending"] == 1


async def test_an_operation_leaves_the_day_with_its_hour(kitchen: Kitchen, time: Time) -> None:
    await place_now(kitchen)
    time.advance(HOUR * (HOURS - 1))
    assert await counted(kitchen) == 1
    time.advance(HOUR)
    assert await counted(kitchen) == 0


async def counted(kitchen: Kitchen) -> int:
    return sum(sum(hour.counts.values()) for hour in (await day_of(kitchen)).hours)


async def test_another_shops_are_not_counted(kitchen: Kitchen) -> None:
    await place_now(kitchen)
    await kitchen.do("dough")
    await place_now(kitchen)
    today = await day_of(kitchen, shop="bakery")
    assert not any(any(hour.counts.values()) for hour in today.hours)
    assert (today.took, today.queues) == ([], [])


async def test_waiting_and_making_are_told_apart_by_kind(kitchen: Kitchen, time: Time) -> None:
    asked = await place_now(kitchen, ASKED)
    time.advance(MINUTE)
    await approve_rfa(kitchen.engine, asked.id, by="ann", notes=None)
    for kind, waits, takes in (("dough", 2, 3), ("top", 4, 5)):
        time.advance(MINUTE * waits)
        task = await kitchen.take(kind)
        time.advance(MINUTE * takes)
        await kitchen.complete(task)
    today = await day_of(kitchen)

    def minutes(count: int) -> Spread:
        return Spread(count * 60.0, count * 60.0)

    assert today.took == [
        Took(SHOP, WHOLE, 1, minutes(3), minutes(12)),
        Took(SHOP, "approval", 1, minutes(1), None),
        Took(SHOP, "dough", 1, minutes(2), minutes(3)),
        Took(SHOP, "top", 1, minutes(4), minutes(5)),
    ]


async def test_only_the_last_orders_tell_how_long_it_takes(kitchen: Kitchen, time: Time) -> None:
    for takes in (60, *[1] * LAST_ORDERS):
        await place_now(kitchen)
        task = await kitchen.take("dough")
        time.advance(timedelta(seconds=takes))
        await kitchen.complete(task)
    today = await day_of(kitchen)
    assert today.took[0] == Took(SHOP, WHOLE, LAST_ORDERS, Spread(0.0, 0.0), Spread(1.0, 1.0))


async def test_the_queue_whose_first_task_waits_longest_comes_first(kitchen: Kitchen, time: Time) -> None:
    await place_now(kitchen)
    await kitchen.do("dough")
    await place_now(kitchen, ASKED)
    for _ in range(2):
        await place_now(kitchen)
        time.advance(MINUTE)
    today = await day_of(kitchen)
    assert [(queue.name, queue.pending, queue.oldest_ready_at) for queue in today.queues] == [
        (f"{SHOP}/dough", 2, NOON)
    ]


def test_of_ten_the_fifth_and_the_ninth_are_told() -> None:
    assert spread((0, n * 1_000_000) for n in range(10, 0, -1)) == Spread(5.0, 9.0)
    assert spread([(None, 5), (3, None)]) is None


def test_ids_are_in_the_order_of_time() -> None:
    now = as_micros(datetime.now(UTC))
    assert first_operation_id(now - 1_000) < first_operation_id(now) <= new_operation_id(now)


async def test_counting_stops_at_a_bound_and_says_so(grown: Database) -> None:
    today = await grown.read(lambda found: read_today(found, shops=[SHOP], now=NOW))
    assert today.hours[-1].counts["completed"] == MOST_IN_AN_HOUR
    assert today.hours[-1].at_least == {"completed"}
    assert not any(any(hour.counts.values()) for hour in today.hours[:-1])


async def test_nothing_that_grows_with_history_is_read_through(grown: Database) -> None:
    steps = await grown.read(how_it_is_read)
    assert any("operations_list" in step for step in steps)
    through = ("SCAN operations", "SCAN tasks", "SCAN rfas", "Seq Scan on operations")
    assert [step for step in steps if any(each in step for each in through)] == []


def how_it_is_read(connection: ReadConnection) -> list[str]:
    """The database's plans of all statements that the day takes, a step each."""
    statements: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        statements.append((statement, parameters))

    event.listen(connection.connection, "before_cursor_execute", note)
    read_today(connection, shops=[SHOP], now=NOW)
    event.remove(connection.connection, "before_cursor_execute", note)
    is_sqlite = connection.connection.dialect.name == "sqlite"
    explain = "explain query plan" if is_sqlite else "explain"
    plans = [connection.connection.exec_driver_sql(f"{explain} {each}", given) for each, given in statements]
    return [row[3] if is_sqlite else row[0] for plan in plans for row in plan]
