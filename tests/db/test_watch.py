"""Waking up: a process hears that another one has committed."""

import asyncio

from orderup.db.database import WriteConnection
from orderup.db.tables import facts
from tests.db.test_write import placed, placing_of
from tests.engine.conftest import Doors
from tests.services.waiting import PATIENCE_SECONDS


async def test_a_commit_of_this_process_is_told_to_it(doors: Doors) -> None:
    told = asyncio.Event()
    doors.first.on_commit(told.set)
    await placed(doors.first)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await told.wait()


async def test_a_commit_is_observed_with_how_many_it_was_for(doors: Doors) -> None:
    observed: list[tuple[int, float]] = []
    doors.first.observe_commits(lambda items, seconds: observed.append((items, seconds)))
    await asyncio.gather(*(doors.first.place(placing_of()) for _ in range(20)))
    assert sum(items for items, _ in observed) == 20
    assert all(seconds >= 0 for _, seconds in observed)


def _write_fact(connection: WriteConnection) -> None:
    connection.execute(facts.insert().values(name="a fact", value=1))


async def test_a_commit_of_another_process_is_heard(doors: Doors) -> None:
    other = await doors.open()
    if other is doors.first:
        return  # nobody else can see a database in memory
    heard = asyncio.Event()
    watching = asyncio.create_task(doors.first.watch(heard.set))
    async with asyncio.timeout(PATIENCE_SECONDS):
        for write in (placed(other), other.write(_write_fact)):
            heard.clear()
            await write
            await heard.wait()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
