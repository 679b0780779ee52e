"""The database goes away and comes back while an executor is at work."""

import asyncio
from collections.abc import Callable

import pytest

from orderup.db.postgres import PostgresDatabase
from orderup.model.operation import OperationStatus
from orderup.model.plan import Plan, PlannedTask
from orderup.shop import Context, Shop
from tests.executors.test_local import AT_ONCE, Crew
from tests.services.postgres import PostgresCluster


@pytest.mark.parametrize("way", ["stop", "kill"])
async def test_what_was_done_meanwhile_is_stored_when_the_database_is_back_and_the_order_goes_on(
    postgres_cluster: Callable[[], PostgresCluster], way: str
) -> None:
    cluster = await asyncio.to_thread(postgres_cluster)
    database = PostgresDatabase(cluster.url)
    await database.open()
    shop = Shop("shop")
    calls: list[str] = []
    has_begun, may_end = asyncio.Event(), asyncio.Event()

    @shop.handler("bake", retry=AT_ONCE)
    async def bake(context: Context) -> str:
        calls.append(context.name)
        has_begun.set()
        await may_end.wait()
        await context.heartbeat()  # nobody can say now whether the claim has ended, nor end it
        return context.name

    @shop.step("note", retry=AT_ONCE)
    def note(_connection: object, context: Context) -> str:
        return context.inputs["first"] + "!"  # type: ignore[no-any-return]

    crew = Crew(database, shop)
    plan = Plan.chain(PlannedTask("first", kind="bake"), PlannedTask("note"), PlannedTask("last", kind="bake"))
    async with crew.at_work():
        order = await crew.place(plan)
        await has_begun.wait()
        await asyncio.to_thread(getattr(cluster, way))
        may_end.set()
        await asyncio.to_thread(cluster.start)
        order = await crew.until(order)
        later = await crew.until(await crew.place(Plan([PlannedTask("another", kind="bake")])))
        held = await crew.held()
    await database.close()
    assert (order.status, later.status) == (OperationStatus.COMPLETED, OperationStatus.COMPLETED)
    assert [task.result for task in order.tasks] == ['"first"', '"first!"', '"last"']
    assert {task.failures for task in order.tasks} == {0}, "a database that is away is nobody's failed attempt"
    assert sorted(set(calls)) == ["another", "first", "last"]
    assert held == 0
