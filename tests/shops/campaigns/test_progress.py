"""How much is still to be submitted: exactly, or at most, or at least, as the page says it."""

from collections.abc import AsyncIterator

import pytest_asyncio
from sqlalchemy import update

from orderup.db.busy import MOST_COUNTED
from orderup.db.connect import open_database
from orderup.db.database import WriteConnection
from orderup.db.tables import operations, tasks
from orderup.engine.engine import Engine
from orderup.model.task import TaskStatus
from orderup.shops.campaigns import shop
from orderup.shops.campaigns.campaign import parse_campaign
from orderup.shops.campaigns.campaigns import add_campaign
from orderup.shops.campaigns.plan import SUBMIT
from orderup.shops.campaigns.progress import Left, read_left
from orderup.shops.campaigns.tables import campaigns
from tests.shops.campaigns.samples import campaign


@pytest_asyncio.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    database = open_database(database_url, shops=[shop])
    await database.open()
    try:
        yield Engine(database, {shop.name: shop.kinds})
    finally:
        await database.close()


async def left(engine: Engine) -> Left:
    return await engine.database.read(lambda connection: read_left(connection, now=engine.now()))


async def place(engine: Engine, name: str) -> int:
    """Of 3 ad groups with 4 ads each."""
    return (await add_campaign(engine, parse_campaign(campaign(name, groups=3, ads=4)))).id


async def submit(engine: Engine, id: int) -> None:
    """All of it is submitted, and nothing judged."""

    def write(connection: WriteConnection) -> None:
        theirs = (tasks.c.operation_id == id) & (tasks.c.kind == SUBMIT)
        done = {"status": TaskStatus.COMPLETED.value, "finished_at": engine.now()}
        count = connection.execute(update(tasks).where(theirs).values(done)).rowcount
        fewer = {"open": operations.c.open - count}
        connection.execute(update(operations).where(operations.c.id == id).values(fewer))

    await engine.database.write(write)


async def call_large(engine: Engine, id: int, *, ads: int, open: int) -> None:
    """Its row and its operation say so; its tasks stay few."""

    def write(connection: WriteConnection) -> None:
        connection.execute(update(campaigns).where(campaigns.c.operation_id == id).values(ads=ads))
        connection.execute(update(operations).where(operations.c.id == id).values(open=open))

    await engine.database.write(write)


async def test_what_is_submitted_and_not_judged_is_not_counted(engine: Engine) -> None:
    first, _ = await place(engine, "first"), await place(engine, "second")
    assert await left(engine) == Left(32, is_at_least=False, is_at_most=False, is_paused=False, rests_until=None)
    await submit(engine, first)
    assert (await left(engine)).submissions == 16


async def test_of_very_many_things_halfway_it_is_told_how_many_there_are_at_most(engine: Engine) -> None:
    few, large, larger = [await place(engine, name) for name in ("few", "large", "larger")]
    await call_large(engine, large, ads=MOST_COUNTED, open=12_000)
    await call_large(engine, larger, ads=2 * MOST_COUNTED, open=2 * (2 * MOST_COUNTED + 4))
    await submit(engine, few)
    found = await left(engine)
    assert (found.submissions, found.is_at_most, found.is_at_least) == (6_000 + 2 * MOST_COUNTED + 4, True, False)
