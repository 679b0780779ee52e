"""Following the log: every event once, in order, whatever commits late or not at all."""

import asyncio
from collections.abc import Callable, Sequence

import psycopg
import pytest
from msgspec.structs import replace
from sqlalchemy import delete, select

from orderup.db.database import Database, LogReader, WriteConnection
from orderup.db.postgres import PostgresDatabase
from orderup.db.sqlite import SqliteDatabase
from orderup.db.tables import events, operations, tasks
from orderup.model.event import Event
from tests.db.test_write import placed, placing_of, started
from tests.engine.conftest import Doors
from tests.services.postgres import new_database
from tests.services.waiting import PATIENCE_SECONDS

WRITERS = 4
INSERT = """
insert into events (operation_id, n, at, type, shop, status, message, audience)
values (%s, 1, 1, 'operation.placed', 'diner', 'running', '', 0) returning seq"""


async def read_until(reader: LogReader, is_enough: Callable[[Sequence[Event]], bool]) -> list[Event]:
    """Read, as often as it takes, until what was read is enough."""
    found: list[Event] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not is_enough(found):
            found += await reader.read(100)
            await asyncio.sleep(0.001)
    return found


async def all_seqs(database: Database) -> list[int]:
    statement = select(events.c.seq).order_by(events.c.seq)
    return await database.read(lambda connection: list(connection.execute(statement).scalars()))


async def write_some(database: Database, orders: int) -> None:
    """Orders placed and changed one after the other; one in ten is undone, and its numbers with it."""
    for number in range(orders):
        if number % 10 == 7:
            with pytest.raises(LookupError):
                await database.write(_place_and_fail)
            continue
        await database.change(started(await placed(database)))


def _place_and_fail(connection: WriteConnection) -> None:
    connection.place(placing_of())
    raise LookupError


async def test_a_follower_misses_and_repeats_nothing_while_many_write_and_some_fail(doors: Doors) -> None:
    many = [await doors.open() for _ in range(WRITERS)]
    reader = (await doors.open()).log(0)
    async with asyncio.TaskGroup() as group:
        writing = [group.create_task(write_some(door, 50)) for door in many for _ in range(2)]
        following = group.create_task(read_until(reader, lambda _: all(task.done() for task in writing)))
    last = await all_seqs(doors.first)
    followed = following.result() + await read_until(reader, lambda _: reader.position == last[-1])
    assert [event.seq for event in followed] == last
    assert len(last) == 2 * 45 * 2 * WRITERS


async def test_a_batch_is_as_long_as_was_asked_for_at_most(database: Database) -> None:
    start = await database.end_of_log()
    await asyncio.gather(*(database.place(placing_of()) for _ in range(7)))
    reader = database.log(start + 2)
    assert [event.seq - start for event in await reader.read(3)] == [3, 4, 5]
    assert [event.seq - start for event in await reader.read(3)] == [6, 7]
    assert list(await reader.read(3)) == []


async def test_an_event_is_read_as_it_was_told(database: Database) -> None:
    change = started(await placed(database))
    start = await database.end_of_log()
    await database.change(change)
    assert list(await database.log(start).read(10)) == [replace(change.events[0], seq=start + 1)]


async def test_a_log_in_which_nothing_happened_has_no_end() -> None:
    database = SqliteDatabase(None)
    await database.open()
    assert await database.end_of_log() == 0
    await database.close()


async def test_a_log_in_which_nothing_happened_has_no_end_on_postgresql(cupboard: PostgresDatabase) -> None:
    assert await cupboard.end_of_log() == 0


async def test_what_is_committed_lies_before_the_end_of_the_log(database: Database) -> None:
    start = await database.end_of_log()
    await asyncio.gather(*(database.place(placing_of()) for _ in range(7)))
    assert await database.end_of_log() == start + 7


async def test_the_end_of_the_log_stays_where_it_is_when_retention_takes_all_of_it(database: Database) -> None:
    await asyncio.gather(*(database.place(placing_of()) for _ in range(7)))
    end = await database.end_of_log()
    await database.write(_take_everything)
    assert await database.end_of_log() == end


def _take_everything(connection: WriteConnection) -> None:
    for table in (events, tasks, operations):
        connection.execute(delete(table))


async def test_the_end_of_the_log_waits_for_numbers_that_are_being_written(cupboard: PostgresDatabase) -> None:
    with psycopg.connect(cupboard.url) as other:
        [(in_flight,)] = other.execute(INSERT, [1]).fetchall()
        await placed(cupboard)
        ending = asyncio.create_task(cupboard.end_of_log())
        await _until_it_waits(cupboard, ending)
        other.commit()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await ending > in_flight


async def _until_it_waits(database: Database, task: "asyncio.Task[int]") -> None:
    """Some commits later it has not ended."""
    for _ in range(20):
        await placed(database)
        assert not task.done()


async def test_a_number_that_is_being_written_is_waited_for(cupboard: PostgresDatabase) -> None:
    reader = cupboard.log(0)
    with psycopg.connect(cupboard.url) as other:
        other.execute(INSERT, [1])
        for _ in range(20):
            await placed(cupboard)
            assert list(await reader.read(100)) == []
        other.commit()
    followed = await read_until(reader, lambda found: len(found) == 21)
    assert [event.seq for event in followed] == list(range(1, 22))


async def test_a_number_that_came_to_nothing_is_passed_over_whoever_else_writes(
    cupboard: PostgresDatabase, postgres_url: str
) -> None:
    reader = cupboard.log(0)
    with new_database(postgres_url) as elsewhere, psycopg.connect(elsewhere) as stranger:
        stranger.execute("create table long as select 1 as work")
        with psycopg.connect(cupboard.url) as other, psycopg.connect(cupboard.url) as busy:
            busy.execute("insert into facts values ('a long transaction', 1)")
            other.execute(INSERT, [1])
            other.rollback()
            await placed(cupboard)
            assert [event.seq for event in await read_until(reader, bool)] == [2]
            busy.rollback()
        stranger.rollback()


async def test_a_follower_is_woken_for_a_number_that_came_to_nothing(cupboard: PostgresDatabase) -> None:
    woken = asyncio.Event()
    cupboard.on_commit(woken.set)
    reader = cupboard.log(0)
    with psycopg.connect(cupboard.url) as other:
        other.execute(INSERT, [1])
        other.rollback()
    await placed(cupboard)
    found: list[Event] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not found:
            await woken.wait()
            woken.clear()
            found += await reader.read(100)
    assert [event.seq for event in found] == [2]
