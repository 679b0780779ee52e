"""Orders from their plan to their end, carried out in this process."""

import asyncio
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from orderup.db.sqlite import SqliteDatabase
from orderup.errors import TaskFailed
from orderup.model.operation import OperationStatus
from orderup.model.plan import Plan, PlannedTask
from orderup.model.retry import Retry
from orderup.model.task import TaskStatus
from orderup.shop import Context, Shop, Wait
from tests.executors.at_work import open_shop

FOUR = Plan.chain(*(PlannedTask(name) for name in ("dough", "toppings", "bake", "deliver")))
AT_ONCE = Retry(attempts=3, first=timedelta(0))


@pytest.fixture(params=["file", "memory"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> SqliteDatabase:
    return SqliteDatabase(tmp_path / "orderup.db" if request.param == "file" else None)


def shop_of(*kinds: str, handler: Any) -> Shop:
    shop = Shop("shop")
    for kind in kinds:
        shop.handler(kind)(handler)
    return shop


async def its_name(context: Context) -> str:
    return context.name


async def test_tasks_of_a_chain_are_done_one_after_the_other(database: SqliteDatabase) -> None:
    seen: list[tuple[str, dict[str, Any]]] = []

    async def work(context: Context) -> str:
        seen.append((context.name, dict(context.inputs)))
        return context.name

    async with open_shop(database, shop_of("dough", "toppings", "bake", "deliver", handler=work)) as at_work:
        placed = await at_work.place(FOUR)
        ended = (await at_work.ended([placed]))[placed.id]
        told = await at_work.told(placed, lambda event: event.type == "operation.completed")
    assert seen == [
        ("dough", {}),
        ("toppings", {"dough": "dough"}),
        ("bake", {"toppings": "toppings"}),
        ("deliver", {"bake": "bake"}),
    ]
    assert ended.status is OperationStatus.COMPLETED
    assert [task.status for task in ended.tasks] == [TaskStatus.COMPLETED] * 4
    assert [event.n for event in told] == list(range(1, ended.version + 1))
    assert [event.type for event in told] == [
        "operation.placed",
        *["task.started", "task.completed"] * 4,
        "operation.completed",
    ]
    assert all(earlier.seq < later.seq for earlier, later in pairwise(told))


async def test_a_thousand_tasks_between_two_are_all_done_before_the_last_begins(database: SqliteDatabase) -> None:
    inputs: dict[str, Any] = {}

    async def work(context: Context) -> str:
        if context.name == "join":
            inputs.update(context.inputs)
        return context.name

    middle = [PlannedTask(f"each{number}", kind="each", after=["fan"]) for number in range(1000)]
    plan = Plan([PlannedTask("fan"), *middle, PlannedTask("join", after=[task.name for task in middle])])
    async with open_shop(database, shop_of("fan", "each", "join", handler=work), slots=100) as at_work:
        placed = await at_work.place(plan)
        ended = (await at_work.ended([placed]))[placed.id]
    assert ended.status is OperationStatus.COMPLETED
    assert ended.open == ended.moving == 0
    assert inputs == {task.name: task.name for task in middle}
    assert {task.attempt for task in ended.tasks} == {1}


async def test_many_orders_go_through_few_slots_and_none_is_left(database: SqliteDatabase) -> None:
    running = most = 0

    async def work(_context: Context) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    async with open_shop(database, shop_of("dough", "toppings", "bake", "deliver", handler=work), slots=7) as at_work:
        placed = await asyncio.gather(*(at_work.place(FOUR) for _ in range(200)))
        ended = await at_work.ended(placed)
    assert {each.status for each in ended.values()} == {OperationStatus.COMPLETED}
    assert len(ended) == 200
    assert {task.attempt for each in ended.values() for task in each.tasks} == {1}
    assert 1 < most <= 7


async def test_a_task_that_fails_is_tried_again_and_the_rest_goes_on(database: SqliteDatabase) -> None:
    async def work(context: Context) -> int:
        if context.attempt < 3:
            raise TaskFailed("the oven was cold")
        return context.attempt

    async with open_shop(database, shop_of("first", "second", handler=work)) as at_work:
        placed = await at_work.place(
            Plan.chain(PlannedTask("first", retry=AT_ONCE), PlannedTask("second", retry=AT_ONCE))
        )
        ended = (await at_work.ended([placed]))[placed.id]
    assert ended.status is OperationStatus.COMPLETED
    assert [(task.attempt, task.failures, task.result, task.error) for task in ended.tasks] == [(3, 2, "3", None)] * 2


async def test_a_task_that_keeps_failing_ends_its_order_and_says_why(database: SqliteDatabase) -> None:
    async def work(context: Context) -> None:
        if context.name == "bake":
            raise TaskFailed("no gas")

    async with open_shop(database, shop_of("dough", "toppings", "bake", "deliver", handler=work)) as at_work:
        placed = await at_work.place(
            Plan.chain(PlannedTask("dough"), PlannedTask("bake", retry=AT_ONCE), PlannedTask("deliver"))
        )
        ended = (await at_work.ended([placed]))[placed.id]
    assert (ended.status, ended.reason) == (OperationStatus.ERRORED, "bake: no gas")
    assert [task.status for task in ended.tasks] == [TaskStatus.COMPLETED, TaskStatus.ERRORED, TaskStatus.BLOCKED]
    assert ended.tasks[1].failures == 3


async def test_a_handler_that_hangs_is_stopped_and_tried_again(database: SqliteDatabase) -> None:
    shop = Shop("shop")

    @shop.handler("bake", timeout=timedelta(milliseconds=50), retry=AT_ONCE)
    async def bake(context: Context) -> None:
        if context.attempt == 1:
            await asyncio.Event().wait()

    async with open_shop(database, shop) as at_work:
        placed = await at_work.place(Plan([PlannedTask("bake")]))
        ended = (await at_work.ended([placed]))[placed.id]
    assert ended.status is OperationStatus.COMPLETED
    assert (ended.tasks[0].attempt, ended.tasks[0].failures) == (2, 1)


async def test_a_task_that_waits_is_called_again_with_its_memo(database: SqliteDatabase) -> None:
    async def work(context: Context) -> Any:
        seen = [*(context.memo or []), context.name]
        return Wait(0.001, memo=seen) if len(seen) < 3 else seen

    async with open_shop(database, shop_of("poll", handler=work)) as at_work:
        placed = await at_work.place(Plan([PlannedTask("poll")]))
        ended = (await at_work.ended([placed]))[placed.id]
    assert ended.tasks[0].result == '["poll","poll","poll"]'
    assert ended.tasks[0].failures == 0


async def test_tasks_of_a_higher_priority_are_claimed_first(database: SqliteDatabase) -> None:
    done: list[str] = []

    async def work(context: Context) -> None:
        done.append(context.name)

    rush = [PlannedTask(f"rush{number}", kind="rush", priority=-number, after=["first"]) for number in range(20)]
    async with open_shop(database, shop_of("first", "rush", handler=work), slots=1) as at_work:
        placed = await at_work.place(Plan([PlannedTask("first"), *rush]))
        await at_work.ended([placed])
    assert done == ["first", *(f"rush{number}" for number in reversed(range(20)))]
