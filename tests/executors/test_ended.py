"""Claims that end while they are carried out: the handler is told, can clean up, and what comes of it is dropped."""

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from orderup.db.database import Database
from orderup.engine.engine import Engine
from orderup.engine.place import place_order
from orderup.engine.steer import cancel_operation, cancel_task
from orderup.errors import TaskFailed
from orderup.executors.ended import ended_by, has_ended
from orderup.executors.upkeep import keep_lease
from orderup.model import work
from orderup.model.event import Event
from orderup.model.operation import Operation, OperationStatus
from orderup.model.plan import Plan, PlannedTask
from orderup.model.task import TaskStatus
from orderup.settings import LogFormat, Settings
from orderup.shop import Context
from orderup.web.logs import configure_logs
from tests.engine.conftest import Doors
from tests.engine.kitchen import Kitchen
from tests.executors.test_local import AT_ONCE, BAKE, PATIENCE_SECONDS, Crew, shop_with

# What somebody does to an order whose first task runs.
Ending = Callable[[Engine, Operation], Awaitable[object]]


async def cancel_all(engine: Engine, order: Operation) -> None:
    await cancel_operation(engine, order.id, reason="enough")


async def cancel_one(engine: Engine, order: Operation) -> None:
    await cancel_task(engine, order.id, 0)


async def lose(engine: Engine, order: Operation) -> None:
    """As a rescuer does who has seen the lease unmoved."""
    token = (await engine.database.load([order.id]))[order.id].tasks[0].token or ""
    await engine.desk.decide(order.id, lambda draft: work.lose(draft, 0, token=token, now=engine.now()))


class Stove:
    """A handler that begins, and ends when it is told to or cancelled; says how."""

    def __init__(self, clean_up: Callable[[], Any] = lambda: None) -> None:
        self.begun, self.ended = asyncio.Queue[str](), asyncio.Queue[str]()
        self.may_end, self.clean_up = asyncio.Event(), clean_up

    async def __call__(self, context: Context) -> object:
        name = f"{context.name} {context.attempt}"
        self.begun.put_nowait(name)
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.ended.put_nowait(f"{name} cancelled")
            if (instead := self.clean_up()) is not None:
                return instead
            raise
        else:
            self.ended.put_nowait(f"{name} done")
            return name


@pytest.mark.parametrize("end", [cancel_all, cancel_one])
async def test_a_handler_whose_order_or_task_is_cancelled_is_cancelled(database: Database, end: Ending) -> None:
    stove = Stove()
    crew = Crew(database, shop_with(stove))
    async with crew.at_work():
        order = await crew.place()
        await stove.begun.get()
        await end(crew.engine, order)
        assert await stove.ended.get() == "bake 1 cancelled"
        assert (await crew.operation(order)).status is OperationStatus.CANCELLED


@pytest.mark.parametrize("end", [cancel_all, cancel_one])
async def test_it_makes_no_difference_which_process_cancels(doors: Doors, end: Ending) -> None:
    stove = Stove()
    crew = Crew(await doors.open(), shop_with(stove))
    elsewhere = Engine(await doors.open(), {"shop": crew.shop.kinds})
    async with crew.at_work():
        order = await crew.place()
        await stove.begun.get()
        await end(elsewhere, order)
        assert await stove.ended.get() == "bake 1 cancelled"


async def test_only_what_has_ended_is_cancelled(database: Database) -> None:
    stove = Stove()
    crew = Crew(database, shop_with(stove))
    plan = Plan([PlannedTask(name, kind="bake") for name in ("first", "second")])
    async with crew.at_work():
        one, two, other = await crew.place(plan), await crew.place(plan), await crew.place()
        for _ in range(5):
            await stove.begun.get()
        await cancel_one(crew.engine, one)
        assert await stove.ended.get() == "first 1 cancelled"
        await cancel_all(crew.engine, two)
        assert {await stove.ended.get() for _ in range(2)} == {"first 1 cancelled", "second 1 cancelled"}
        stove.may_end.set()
        assert (await crew.until(other)).status is OperationStatus.COMPLETED
        assert [task.status for task in (await crew.until(one)).tasks] == ["cancelled", "completed"]
        assert {await stove.ended.get() for _ in range(2)} == {"second 1 done", "bake 1 done"}


async def test_after_its_lease_was_lost_it_is_cancelled_and_the_next_attempt_is_not(doors: Doors) -> None:
    stove = Stove()
    crew = Crew(await doors.open(), shop_with(stove))
    # a database in memory has one process only, whose bell wakes the executor
    elsewhere = Engine(await doors.open(), {"shop": crew.shop.kinds}) if doors.are_many else crew.engine
    async with crew.at_work():
        order = await crew.place()
        for attempt in range(1, 6):
            assert await stove.begun.get() == f"bake {attempt}"
            await lose(elsewhere, order)
            assert await stove.ended.get() == f"bake {attempt} cancelled"
        assert await stove.begun.get() == "bake 6"
        stove.may_end.set()
        order = await crew.until(order)
        assert (order.status, order.tasks[0].result) == (OperationStatus.COMPLETED, '"bake 6"')


def fail_final() -> None:
    raise TaskFailed("the gas was on", final=True)


def stumble() -> None:
    raise LookupError("where is the lid")


@pytest.mark.parametrize("clean_up", [lambda: "a result", fail_final, stumble])
async def test_what_comes_of_it_is_dropped_quietly_and_the_executor_goes_on(
    database: Database, stream: io.StringIO, clean_up: Callable[[], Any]
) -> None:
    configure_logs(Settings(log_format=LogFormat.JSON), stream=stream)
    stove = Stove(clean_up)
    crew = Crew(database, shop_with(stove), slots=1)
    async with crew.at_work():
        order = await crew.place()
        await stove.begun.get()
        await cancel_all(crew.engine, order)
        await stove.ended.get()
        stove.may_end.set()
        assert (await crew.until(await crew.place())).status is OperationStatus.COMPLETED
    cancelled = (await crew.operation(order)).tasks[0]
    assert (cancelled.status, cancelled.result, cancelled.error) == (TaskStatus.CANCELLED, None, None)
    levels = {line["level"] for line in map(json.loads, stream.getvalue().splitlines())}
    assert levels <= {"info", "debug"}


async def test_many_cancelled_at_once_leave_every_slot_free(database: Database) -> None:
    stove = Stove()
    crew = Crew(database, shop_with(stove), slots=20)
    async with crew.at_work():
        orders = [await crew.place() for _ in range(60)]
        for _ in range(20):
            await stove.begun.get()
        await asyncio.gather(*(cancel_all(crew.engine, order) for order in orders))
        plan = Plan([PlannedTask(f"b{number}", kind="bake") for number in range(20)])
        order = await crew.place(plan)
        names: set[str] = set()
        while len(names) < 20:
            name = await stove.begun.get()
            names |= {name} - {"bake 1"}
        stove.may_end.set()
        assert (await crew.until(order)).status is OperationStatus.COMPLETED


async def test_what_the_log_did_not_tell_is_found_out_with_the_next_beats(database: Database) -> None:
    """As when the event came before the claim was known here."""
    stove = Stove()
    crew = Crew(database, shop_with(stove))
    order = await crew.place()
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        lease = keep_lease(crew.engine, crew.executor, kind="local", lease=timedelta(milliseconds=60))
        running = [group.create_task(crew.executor.run()), group.create_task(lease)]
        await stove.begun.get()
        await cancel_all(crew.engine, order)
        assert await stove.ended.get() == "bake 1 cancelled"
        for task in running:
            task.cancel()


async def test_events_from_before_a_claim_have_not_ended_it(kitchen: Kitchen) -> None:
    order = await kitchen.place(Plan([PlannedTask("dough", retry=AT_ONCE)]))
    first = await kitchen.take("dough")
    await lose(kitchen.engine, order)
    second = await kitchen.take("dough")
    before = ended_by(await kitchen.events(order))
    assert (has_ended(first, before), has_ended(second, before)) == (True, False)
    await cancel_all(kitchen.engine, order)
    assert has_ended(second, ended_by(await kitchen.events(order)))


async def test_events_of_other_orders_and_tasks_do_not_end_it(kitchen: Kitchen) -> None:
    order, other = await kitchen.place(), await place_order(kitchen.engine, "diner", BAKE)
    claimed = await kitchen.take("dough")
    await cancel_all(kitchen.engine, other)
    others: list[Event] = [*await kitchen.events(other)]
    assert not has_ended(claimed, ended_by([*others, *await kitchen.events(order)]))
