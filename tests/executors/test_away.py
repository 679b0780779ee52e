"""The database goes away and comes back while an executor is at work."""

import asyncio
from collections.abc import Callable

import pytest
import structlog

from orderup.db.postgres import PostgresDatabase
from orderup.model.operation import OperationStatus
from orderup.model.plan import Plan, PlannedTask
from orderup.model.task import TaskStatus
from orderup.shop import Context, Shop
from tests.executors.test_local import AT_ONCE, Crew, shop_with
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


@pytest.mark.parametrize("is_ended", [True, False], ids=["ended by another", "told to stop"])
async def test_a_result_that_waits_for_the_database_is_let_go_with_its_claim(
    postgres_cluster: Callable[[], PostgresCluster], *, is_ended: bool
) -> None:
    cluster = await asyncio.to_thread(postgres_cluster)
    database = PostgresDatabase(cluster.url)
    await database.open()
    has_begun, may_end = asyncio.Event(), asyncio.Event()

    async def bake(_context: Context) -> None:
        has_begun.set()
        await may_end.wait()

    crew = Crew(database, shop_with(bake))
    with structlog.testing.capture_logs() as lines:
        async with crew.at_work():
            order = await crew.place()
            await has_begun.wait()
            await asyncio.to_thread(cluster.stop)
            may_end.set()
            while not _says(lines, "a result cannot be stored yet"):  # noqa: ASYNC110  a log tells nobody
                await asyncio.sleep(0.01)
            await asyncio.to_thread(cluster.start)
            if is_ended:
                crew.executor.end(crew.executor.begun())  # as the log says once it can be read again
                while crew.executor.begun():  # noqa: ASYNC110  an executor tells nobody
                    await asyncio.sleep(0.01)
        status = (await crew.operation(order)).tasks[0].status
        held = await crew.held()
    await database.close()
    if is_ended:
        assert _says(lines, "a claim has ended; what carried it out was cancelled")
    else:
        assert (status in (TaskStatus.PENDING, TaskStatus.COMPLETED), held) == (True, 0), (
            "back, unless it was stored before"
        )


def _says(lines: list[structlog.types.EventDict], words: str) -> bool:
    return any(str(line["event"]).startswith(words) for line in lines)
