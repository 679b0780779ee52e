"""A connection to PostgreSQL that is lost at the worst moment: each thing is done once, or known not to be done."""

import asyncio
from collections.abc import AsyncIterator
from threading import Barrier

import pytest
from msgspec.structs import replace

from orderup.db.database import Also, KeyTaken, WriteConnection
from orderup.db.postgres import PostgresDatabase
from orderup.db.postgres_write import WRITERS
from orderup.errors import Unavailable
from tests.db.cutter import Cut, Cutter
from tests.db.test_claims import ask_for
from tests.db.test_write import count, fact, placed, placing_of, started
from tests.engine.kitchen import DOUGH, Kitchen, Time, key_of
from tests.journeys.scene import until

SECONDS = 30
CUTS = pytest.mark.parametrize("cut", Cut)


@pytest.fixture
async def cutter(postgres_database: str) -> AsyncIterator[Cutter]:
    async with Cutter(postgres_database).running() as cutter:
        yield cutter


@pytest.fixture
async def far(cutter: Cutter) -> AsyncIterator[PostgresDatabase]:
    """A database at the other end of a line that can be cut."""
    database = PostgresDatabase(cutter.url)
    await database.open()
    yield database
    await database.close()


@CUTS
async def test_an_operation_is_placed_once(far: PostgresDatabase, cutter: Cutter, cut: Cut) -> None:
    cutter.lose(cut)
    operation = await placed(far)
    assert cutter.cuts == 1
    assert await far.load([operation.id]) == {operation.id: operation}
    assert (await count(far))["operations"] == 1


@CUTS
async def test_a_change_is_made_once(far: PostgresDatabase, cutter: Cutter, cut: Cut) -> None:
    change = started(await placed(far))
    cutter.lose(cut)
    assert await far.change(change) is None
    assert cutter.cuts == 1
    assert await far.load([change.after.id]) == {change.after.id: change.after}
    assert (await count(far))["events"] == 2


@CUTS
async def test_a_batch_is_written_once(far: PostgresDatabase, cutter: Cutter, cut: Cut) -> None:
    cutter.lose(cut)
    outcomes = await asyncio.gather(*(far.place(placing_of(key=key_of(str(i)))) for i in range(500)))
    assert outcomes == [None] * 500
    assert cutter.cuts == 1
    assert await count(far) == {"operations": 500, "tasks": 1_500, "events": 500, "keys": 500, "facts": 0}


@CUTS
async def test_rows_of_a_shop_are_written_once(far: PostgresDatabase, cutter: Cutter, cut: Cut) -> None:
    cutter.lose(cut, of=b"COMMIT")
    outcomes = await asyncio.gather(*(far.place(placing_of(also=fact(str(i)))) for i in range(40)))
    assert outcomes == [None] * 40
    assert cutter.cuts == 1
    assert await count(far) == {"operations": 40, "tasks": 120, "events": 40, "keys": 0, "facts": 40}


@CUTS
async def test_a_function_that_was_cut_off_before_its_commit_runs_again(
    far: PostgresDatabase, cutter: Cutter, cut: Cut
) -> None:
    cutter.lose(cut, of=b"INSERT INTO facts")
    await far.write(fact("once"))
    assert cutter.cuts == 1
    assert (await count(far))["facts"] == 1


@CUTS
async def test_a_function_whose_commit_was_cut_off_is_said_to_be_unknown(
    far: PostgresDatabase, cutter: Cutter, cut: Cut
) -> None:
    cutter.lose(cut, of=b"COMMIT")
    with pytest.raises(Unavailable, match="may or may not"):
        await far.write(fact("once"))
    assert (await count(far))["facts"] == (1 if cut is Cut.ANSWER else 0)


@CUTS
async def test_tasks_claimed_under_a_lease_that_goes_on_are_not_forgotten(
    far: PostgresDatabase, cutter: Cutter, cut: Cut
) -> None:
    kitchen = Kitchen(far, Time())
    operation = await kitchen.place(DOUGH)
    ask = replace(ask_for("dough", most=5), own_lease=True)
    await far.claim(replace(ask, queues=["diner/warms up the connection"]))
    cutter.lose(cut)
    claims = [await far.claim(ask), await far.claim(ask)]
    [claimed] = [claimed for each in claims for claimed in each.claimed]
    assert cutter.cuts == 1
    assert (await kitchen.operation(operation)).tasks[0] == claimed.task


@CUTS
async def test_a_read_is_done_again(far: PostgresDatabase, cutter: Cutter, cut: Cut) -> None:
    operation = await placed(far)
    assert set(await far.load([operation.id])) == {operation.id}
    cutter.lose(cut)
    assert set(await far.load([operation.id])) == {operation.id}
    cutter.lose(cut, of=b"FROM tasks")
    assert (await count(far))["tasks"] == 3
    assert cutter.cuts == 2


@CUTS
async def test_the_log_is_read_on(far: PostgresDatabase, cutter: Cutter, cut: Cut) -> None:
    reader = far.log(0)
    await placed(far)
    assert [event.seq for event in await reader.read(10)] == [1]
    await placed(far)
    cutter.lose(cut)
    assert [event.seq for event in await reader.read(10)] == [2]
    assert cutter.cuts == 1


@CUTS
async def test_who_waits_to_hear_of_a_lost_commit_holds_up_nobody_else(
    far: PostgresDatabase, cutter: Cutter, cut: Cut
) -> None:
    together = Barrier(WRITERS, timeout=SECONDS)
    begun: list[str] = []

    def with_others(name: str) -> Also:
        def also(connection: WriteConnection) -> None:
            fact(name)(connection)
            if name not in begun:
                begun.append(name)
                together.wait()

        return also

    async def lose_commits() -> list["asyncio.Future[KeyTaken | None]"]:
        cutter.lose(cut, of=b"COMMIT", times=WRITERS)
        unsure = []
        for number in range(WRITERS):
            unsure.append(asyncio.ensure_future(far.place(placing_of(also=with_others(f"unsure {number}")))))
            await until(lambda: len(begun) == len(unsure), seconds=SECONDS, what="it is being written")
        await until(lambda: cutter.cuts == WRITERS, seconds=SECONDS, what="the commits are lost")
        return unsure

    # from here on all are connected
    await asyncio.gather(*(far.write(lambda _: together.wait()) for _ in range(WRITERS)))
    cutter.is_away = True
    unsure = await lose_commits()
    cutter.cut_all()
    async with asyncio.timeout(SECONDS):
        with pytest.raises(Unavailable):
            await far.place(placing_of(also=fact("told")))
        assert not any(each.done() for each in unsure)
        cutter.is_away = False
        assert await asyncio.gather(*unsure) == [None] * WRITERS
    assert (await count(far))["facts"] == WRITERS
