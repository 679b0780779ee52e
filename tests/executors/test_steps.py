"""Steps are done in the change that makes them ready, where all they do is to write rows; else as any other task."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import JSON, BigInteger, Column, MetaData, Table, Text, select

from orderup.db.database import Database, WriteConnection
from orderup.engine.steer import pause_operation, resume_operation
from orderup.errors import TaskFailed
from orderup.model.ids import read_id
from orderup.model.operation import Operation, OperationStatus
from orderup.model.plan import Plan, PlannedTask
from orderup.model.retry import Retry
from orderup.model.task import TaskStatus
from orderup.shop import Context, Shop
from tests.executors.at_work import AtWork, run_shop

book = Table(
    "shop_book",
    MetaData(),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Text),
    Column("said", Text),
)
AT_ONCE = Retry(attempts=2, first=timedelta(0))
BAKE_NOTE = Plan.chain(PlannedTask("bake"), PlannedTask("note"))


def shop_that_bakes() -> Shop:
    shop = Shop("shop")

    @shop.handler("bake")
    async def bake(_context: Context) -> Any:
        return {"name": "rye"}

    return shop


@asynccontextmanager
async def at_work(database: Database, shop: Shop, table: Table = book) -> AsyncIterator[AtWork]:
    async with run_shop(database, shop) as crew:

        def make(connection: WriteConnection) -> None:
            table.drop(connection.connection, checkfirst=True)
            table.create(connection.connection)

        await database.write(make)
        yield crew


async def pages(crew: AtWork) -> Sequence[tuple[Any, ...]]:
    return await crew.engine.database.read(lambda connection: connection.rows(select(book).order_by("number")))


async def end_of(crew: AtWork, plan: Plan = BAKE_NOTE) -> Operation:
    order = await crew.place(plan)
    return (await crew.ended([order]))[order.id]


async def test_a_step_is_done_in_the_change_that_makes_it_ready(database: Database) -> None:
    shop = shop_that_bakes()
    runs: list[int] = []

    @shop.step("note")
    def note(connection: WriteConnection, context: Context) -> Any:
        runs.append(context.attempt)
        connection.insert_row(book, {"number": read_id(context.operation_id), "name": context.inputs["bake"]["name"]})
        return {"page": 1}

    async with at_work(database, shop) as crew:
        order = await end_of(crew)
        assert await pages(crew) == [(order.id, "rye", None)]
        told = [
            (event.type, event.at) for event in await crew.told(order, lambda each: each.type.endswith("completed"))
        ]
    assert runs == [1]
    assert [task.result for task in order.tasks] == ['{"name":"rye"}', '{"page":1}']
    assert order.tasks[1].attempt == 1
    times = [at for type, at in told if type not in ("operation.placed", "task.started")]
    assert len(times) == 3, told
    assert len(set(times)) == 1, "one change is of one moment"


async def test_several_steps_follow_each_other(database: Database) -> None:
    """The second one updates what the first has inserted."""
    shop = shop_that_bakes()

    @shop.step("note")
    def note(connection: WriteConnection, _context: Context) -> None:
        connection.insert_row(book, {"number": 1, "name": "noted"})

    @shop.step("amend")
    def amend(connection: WriteConnection, _context: Context) -> None:
        connection.update_row(book, {"number": 1, "name": "amended"}, key="number")

    @shop.step("look")
    def look(_connection: WriteConnection, _context: Context) -> str:
        return "seen"

    plan = Plan.chain(*(PlannedTask(name) for name in ("bake", "look", "note", "amend")))
    async with at_work(database, shop) as crew:
        order = await end_of(crew, plan)
        assert await pages(crew) == [(1, "amended", None)]
    assert order.status is OperationStatus.COMPLETED
    assert order.tasks[1].result == '"seen"'


async def test_what_a_step_updates_twice_is_updated_twice(database: Database) -> None:
    shop = shop_that_bakes()

    @shop.step("note")
    def note(connection: WriteConnection, _context: Context) -> None:
        connection.insert_row(book, {"number": 1, "name": "first"})
        connection.update_row(book, {"number": 1, "name": "second"}, key="number")
        connection.update_row(book, {"number": 1, "said": "third"}, key="number")

    async with at_work(database, shop) as crew:
        await end_of(crew)
        assert await pages(crew) == [(1, "second", "third")]


async def test_orders_that_update_the_same_row_lose_none_of_it(database: Database) -> None:
    shop = shop_that_bakes()

    def update(connection: WriteConnection, context: Context) -> None:
        connection.update_row(book, {"number": 1, context.name: "written"}, key="number")

    for name in ("name", "said"):
        shop.step(name)(update)
    async with at_work(database, shop) as crew:
        await database.write(lambda connection: connection.insert_row(book, {"number": 1}))
        plans = [Plan.chain(PlannedTask("bake"), PlannedTask(name)) for name in ("name", "said") * 20]
        await crew.ended(await asyncio.gather(*map(crew.place, plans)))
        assert await pages(crew) == [(1, "written", "written")]


async def test_a_step_that_reads_sees_what_is_there(database: Database) -> None:
    shop = shop_that_bakes()

    @shop.step("note")
    def note(connection: WriteConnection, context: Context) -> int:
        page = len(connection.rows(select(book.c.number)))
        connection.insert_row(book, {"number": read_id(context.operation_id)})
        return page

    async with at_work(database, shop) as crew:
        orders = [await end_of(crew) for _ in range(3)]
    assert [order.tasks[1].result for order in orders] == ["0", "1", "2"]


async def test_what_came_before_a_step_that_fails_is_kept(database: Database) -> None:
    shop = shop_that_bakes()

    @shop.step("note", retry=AT_ONCE)
    def note(connection: WriteConnection, context: Context) -> None:
        connection.insert_row(book, {"number": 1})
        if context.attempt < 2:
            raise TaskFailed("no pencil")

    async with at_work(database, shop) as crew:
        order = await end_of(crew)
        assert await pages(crew) == [(1, None, None)]
    assert (order.status, order.tasks[1].failures, order.tasks[0].attempt) == (OperationStatus.COMPLETED, 1, 1)


@pytest.mark.parametrize("number", [1, 2**70], ids=["taken", "too large"])
async def test_a_row_that_cannot_be_written_is_the_step_s_failure_alone(database: Database, number: int) -> None:
    shop = shop_that_bakes()

    @shop.step("note", retry=Retry(attempts=1))
    def note(connection: WriteConnection, _context: Context) -> None:
        connection.insert_row(book, {"number": number})

    @shop.step("good")
    def good(connection: WriteConnection, context: Context) -> None:
        connection.insert_row(book, {"number": read_id(context.operation_id)})

    async with at_work(database, shop) as crew:
        await database.write(lambda connection: connection.insert_row(book, {"number": 1}))
        others = Plan.chain(PlannedTask("bake"), PlannedTask("good"))
        orders = await asyncio.gather(*map(crew.place, [others, BAKE_NOTE, others]))
        ended = await crew.ended(orders)
    status = [ended[order.id].status for order in orders]
    assert status == [OperationStatus.COMPLETED, OperationStatus.ERRORED, OperationStatus.COMPLETED]
    bad = ended[orders[1].id]
    assert [task.status for task in bad.tasks] == [TaskStatus.COMPLETED, TaskStatus.ERRORED]
    assert bad.tasks[0].attempt == 1


async def test_what_a_step_returns_that_is_no_json_is_its_failure(database: Database) -> None:
    shop = shop_that_bakes()

    @shop.step("note", retry=Retry(attempts=1))
    def note(_connection: WriteConnection, _context: Context) -> object:
        return object()

    async with at_work(database, shop) as crew:
        order = await end_of(crew)
    assert [task.status for task in order.tasks] == [TaskStatus.COMPLETED, TaskStatus.ERRORED]


async def test_a_step_of_a_limited_queue_waits_for_its_turn(database: Database) -> None:
    shop = shop_that_bakes()

    @shop.step("note", rate="1/second")
    def note(connection: WriteConnection, context: Context) -> None:
        connection.insert_row(book, {"number": read_id(context.operation_id)})

    async with at_work(database, shop) as crew:
        orders = await asyncio.gather(*(crew.place(BAKE_NOTE) for _ in range(3)))
        ended = sorted(order.tasks[1].started_at or 0 for order in (await crew.ended(orders)).values())
    assert all(later - earlier >= 900_000 for earlier, later in pairwise(ended))


async def test_a_step_of_a_paused_order_waits_until_it_goes_on(database: Database) -> None:
    shop = Shop("shop")
    begun, may_end = asyncio.Event(), asyncio.Event()

    @shop.handler("bake")
    async def bake(_context: Context) -> None:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await may_end.wait()

    @shop.step("note")
    def note(connection: WriteConnection, _context: Context) -> None:
        connection.insert_row(book, {"number": 1})

    async with at_work(database, shop) as crew:
        order = await crew.place(BAKE_NOTE)
        await begun.wait()
        await pause_operation(crew.engine, order.id)
        may_end.set()
        await crew.told(order, lambda event: event.type == "task.completed")
        assert await pages(crew) == []
        await resume_operation(crew.engine, order.id)
        assert (await crew.ended([order]))[order.id].status is OperationStatus.COMPLETED
        assert await pages(crew) == [(1, None, None)]


# What is not as plain as it looks is written on a connection, and each has its own outcome.

odd_book = Table(
    "shop_odd_book",
    MetaData(),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("code", Text, unique=True),
    Column("words", JSON),
    Column("colour", Text, default="red"),
    Column("x", BigInteger),
    Column("y", BigInteger, onupdate=7),
)


def misspelt(connection: WriteConnection, number: int) -> None:
    connection.insert_row(odd_book, {"number": number, "nummer": 1})


def ends_by_itself(connection: WriteConnection, number: int) -> None:
    connection.insert_row(odd_book, {"number": number})
    raise asyncio.CancelledError


def leaves(connection: WriteConnection, number: int) -> None:
    connection.insert_row(odd_book, {"number": number})
    raise GeneratorExit


@pytest.mark.parametrize("bad", [misspelt, ends_by_itself, leaves])
async def test_a_step_that_goes_wrong_in_an_odd_way_spoils_no_other(database: Database, bad: Any) -> None:
    shop = shop_that_bakes()
    runs: list[str] = []

    @shop.step("note", retry=Retry(attempts=1))
    def note(connection: WriteConnection, context: Context) -> None:
        if context.inputs["bake"]["name"] == "rye" and not runs:
            runs.append(context.operation_id)
        number = read_id(context.operation_id)
        if context.operation_id in runs:
            bad(connection, number)
        connection.insert_row(odd_book, {"number": number, "code": str(number), "colour": "blue"})

    async with at_work(database, shop, odd_book) as crew:
        orders = await asyncio.gather(*(crew.place(BAKE_NOTE) for _ in range(8)))
        ended = await crew.ended(orders)
        written = await database.read(lambda connection: connection.rows(select(odd_book.c.number)))
    status = {order.id: ended[order.id].status for order in orders}
    [culprit] = [read_id(id) for id in runs]
    assert status.pop(culprit) is OperationStatus.ERRORED
    assert ended[culprit].tasks[0].status is TaskStatus.COMPLETED
    assert set(status.values()) == {OperationStatus.COMPLETED}
    assert {number for (number,) in written} == set(status)


def by_two_keys(connection: WriteConnection) -> None:
    connection.update_row(odd_book, {"number": 1, "x": 5}, key="number")
    connection.update_row(odd_book, {"code": "one", "colour": "blue"}, key="code")


def one_after_the_other(connection: WriteConnection) -> None:
    connection.update_row(odd_book, {"number": 1, "x": 5, "colour": "blue"}, key="number")
    connection.insert_row(odd_book, {"number": 2, "colour": "green", "x": 0})


def one_dictionary(connection: WriteConnection) -> None:
    row: dict[str, Any] = {"number": 1, "x": 5, "colour": "blue"}
    connection.update_row(odd_book, row, key="number")
    row["x"] = 6


def nothing_named(connection: WriteConnection) -> None:
    connection.update_row(odd_book, {"number": 1, "x": 5, "colour": "blue"}, key="number")
    connection.update_row(odd_book, {"number": None, "x": 6}, key="number")


def looks_in_vain(connection: WriteConnection) -> int:
    connection.update_row(odd_book, {"number": 1, "x": 5, "colour": "blue"}, key="number")
    found = -1
    try:
        found = len(connection.rows(select(odd_book.c.x).where(odd_book.c.x == 5)))
    finally:
        return found  # noqa: B012  it is what a shop may write


@pytest.mark.parametrize("write", [by_two_keys, one_after_the_other, one_dictionary, nothing_named, looks_in_vain])
async def test_what_a_step_writes_is_what_a_connection_would(database: Database, write: Any) -> None:
    shop = shop_that_bakes()

    @shop.step("note")
    def note(connection: WriteConnection, _context: Context) -> Any:
        return write(connection)

    async with at_work(database, shop, odd_book) as crew:
        row = {"number": 1, "code": "one", "words": "1", "x": 1, "y": 1}
        await database.write(lambda connection: connection.insert_row(odd_book, row))
        order = await end_of(crew)
        here = select(odd_book.c.x, odd_book.c.y, odd_book.c.colour, odd_book.c.words).where(odd_book.c.number == 1)
        [found] = await database.read(lambda connection: connection.rows(here))
    assert found == (5, 7, "blue", "1")
    assert order.tasks[1].result == ("1" if write is looks_in_vain else "null")


async def test_what_columns_make_of_values_is_stored(database: Database) -> None:
    shop = shop_that_bakes()

    @shop.step("note")
    def note(connection: WriteConnection, _context: Context) -> None:
        connection.insert_row(odd_book, {"number": 1, "words": "5"})

    async with at_work(database, shop, odd_book) as crew:
        await end_of(crew)
        found = await database.read(
            lambda connection: connection.rows(select(odd_book.c.number, odd_book.c.words, odd_book.c.colour))
        )
    assert found == [(1, "5", "red")]
