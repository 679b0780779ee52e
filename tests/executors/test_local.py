"""The local executor: what it does with handlers of every sort, and how it stops."""

import asyncio
import contextlib
import io
import json
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import BigInteger, Column, MetaData, Table, insert, select

from orderup.db.database import Database, WriteConnection
from orderup.db.tables import events, queues, tasks, workers
from orderup.engine.claim import claim_now
from orderup.engine.clock import Clock
from orderup.engine.engine import Engine
from orderup.engine.lease import held_by
from orderup.engine.place import place_order
from orderup.engine.prune import prune_operations
from orderup.engine.rescue import Rescuer
from orderup.engine.steer import cancel_operation, pause_operation, resume_operation
from orderup.errors import OutcomeUnknown, Resting, TaskFailed, UpstreamFailed, UpstreamRefused
from orderup.executors.local import LocalExecutor
from orderup.executors.upkeep import end_lease, keep_lease
from orderup.model.event import Audience
from orderup.model.ids import show_id, show_task_id
from orderup.model.operation import Operation, OperationStatus
from orderup.model.plan import Plan, PlannedTask
from orderup.model.retry import Retry
from orderup.model.task import Task, TaskStatus
from orderup.settings import LogFormat, Settings
from orderup.shop import Context, Shop, Wait
from orderup.web.logs import configure_logs
from tests.engine.conftest import Doors
from tests.journeys.scene import until

PATIENCE_SECONDS = 60.0
MINUTE = timedelta(minutes=1)
LEASE = timedelta(seconds=30)
AT_ONCE = Retry(attempts=3, first=timedelta(0))
BAKE = Plan([PlannedTask("bake")])
ENDS = ("operation.completed", "operation.errored", "operation.cancelled")
oven_book = Table("shop_book", MetaData(), Column("operation_id", BigInteger, primary_key=True, autoincrement=False))


class Crew:
    """A shop's executor at work in a process of its own: engine, clock, lease."""

    def __init__(self, database: Database, shop: Shop, *, slots: int = 100) -> None:
        self.database, self.shop = database, shop
        self.engine = Engine(database, {shop.name: shop.kinds})
        self.executor = LocalExecutor(self.engine, [shop], slots=slots)

    @asynccontextmanager
    async def at_work(self, *, lease: timedelta = LEASE) -> AsyncIterator[None]:
        """Everything in it has to happen in time. Whatever still runs at the end is cancelled."""
        async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
            self.running = [
                group.create_task(self.engine.run()),
                group.create_task(Clock(self.engine).run()),
                group.create_task(self.executor.run()),
                group.create_task(keep_lease(self.engine, self.executor, kind="local", lease=lease)),
            ]
            yield
            for task in self.running:
                task.cancel()

    async def place(self, plan: Plan = BAKE) -> Operation:
        return await place_order(self.engine, self.shop.name, plan)

    async def until(self, order: Operation, *types: str) -> Operation:
        """The order once it has told of one of these, by default of its end."""
        follow = self.engine.feed.follow(operation_id=order.id, audience=Audience.INTERNAL)
        async with aclosing(follow) as batches:
            async for batch in batches:
                if any(event.type in (types or ENDS) for event in batch):
                    break
        return await self.operation(order)

    async def until_idle(self) -> None:
        """What it did is stored before it is told of."""
        await until(lambda: not self.executor.begun(), what="everything is told")

    async def operation(self, order: Operation) -> Operation:
        return (await self.database.load([order.id]))[order.id]

    async def told(self, order: Operation) -> list[str]:
        statement = select(events.c.type).where(events.c.operation_id == order.id).order_by(events.c.n)
        return [row[0] for row in await self.database.read(lambda connection: connection.rows(statement))]

    async def held(self) -> int:
        return len(await self.database.read(lambda connection: held_by(connection, self.executor.id)))

    async def leases(self) -> list[str]:
        rows = await self.database.read(lambda connection: connection.rows(select(workers.c.id)))
        return [row[0] for row in rows]


def shop_with(handler: Any, *, retry: Retry = AT_ONCE, **options: Any) -> Shop:
    """A shop that bakes."""
    shop = Shop("shop")
    shop.handler("bake", retry=retry, **options)(handler)
    return shop


async def bake_once(database: Database, handler: Any, **options: Any) -> Task:
    """What becomes of the one task of an order, done by this handler."""
    crew = Crew(database, shop_with(handler, **options))
    async with crew.at_work():
        order = await crew.until(await crew.place())
    return order.tasks[0]


class Oven:
    """A handler that begins, and ends when it is told to."""

    def __init__(self) -> None:
        self.begun, self.may_end = asyncio.Queue[str](), asyncio.Event()

    async def __call__(self, context: Context) -> str:
        self.begun.put_nowait(context.name)
        await self.may_end.wait()
        return context.name


# What a handler is given.


async def test_a_handler_is_given_all_it_needs(database: Database) -> None:
    seen: list[dict[str, Any]] = []

    async def handler(context: Context) -> dict[str, Any]:
        seen.append({name: getattr(context, name) for name in ("operation_id", "task_id", "name", "attempt", "memo")})
        assert 0 < context.deadline <= 60
        return {"params": context.params, "inputs": dict(context.inputs)}

    shop = shop_with(handler, timeout=MINUTE)
    crew = Crew(database, shop)
    plan = Plan.chain(
        PlannedTask("first", kind="bake", params={"degrees": 250}), PlannedTask("second", kind="bake", params={})
    )
    async with crew.at_work():
        order = await crew.until(await crew.place(plan))
    assert [each["task_id"] for each in seen] == [show_task_id(order.id, 0), show_task_id(order.id, 1)]
    assert seen[0] | {"task_id": ""} == {
        "operation_id": show_id(order.id),
        "task_id": "",
        "name": "first",
        "attempt": 1,
        "memo": None,
    }
    assert order.tasks[0].result == '{"params":{"degrees":250},"inputs":{}}'
    assert order.tasks[1].result == ('{"params":{},"inputs":{"first":{"params":{"degrees":250},"inputs":{}}}}')


async def test_what_it_remembers_is_committed_at_once_and_there_for_the_next_attempt(database: Database) -> None:
    memos: list[Any] = []

    async def handler(context: Context) -> None:
        memos.append(context.memo)
        if context.attempt == 1:
            await context.remember({"sent": 1})
            memos.append(context.memo)
            raise TaskFailed("hung up")

    task = await bake_once(database, handler)
    assert memos == [None, {"sent": 1}, {"sent": 1}]
    assert (task.status, task.memo) == (TaskStatus.COMPLETED, '{"sent":1}')


async def test_a_handler_that_asks_to_be_called_again_is_called_again_and_holds_nothing_meanwhile(
    database: Database,
) -> None:
    calls: list[int] = []

    async def handler(context: Context) -> Any:
        calls.append(context.memo or 0)
        return Wait(0.001, memo=len(calls)) if len(calls) < 4 else "done"

    task = await bake_once(database, handler)
    assert calls == [0, 1, 2, 3]
    assert (task.result, task.attempt, task.failures) == ('"done"', 4, 0)


# Errors.


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (TaskFailed("the oven is cold"), "the oven is cold"),
        (UpstreamFailed("502 from the gasworks"), "502 from the gasworks"),
        (LookupError("no such recipe"), "LookupError: no such recipe"),
        (TimeoutError("the gasworks hang"), "TimeoutError: the gasworks hang"),
        (ValueError("odd\0 \ud800"), "ValueError: odd\N{REPLACEMENT CHARACTER} ?"),
    ],
)
async def test_an_error_is_a_failed_attempt_tried_again_as_the_policy_says(
    database: Database, error: Exception, kept: str
) -> None:
    async def handler(_context: Context) -> None:
        raise error

    task = await bake_once(database, handler)
    assert (task.status, task.failures, task.attempt, task.error) == (TaskStatus.ERRORED, 3, 3, kept)


@pytest.mark.parametrize("error", [UpstreamRefused("no such account"), TaskFailed("nonsense", final=True)])
async def test_an_error_that_is_final_is_not_tried_again(database: Database, error: Exception) -> None:
    async def handler(_context: Context) -> None:
        raise error

    task = await bake_once(database, handler)
    assert (task.status, task.failures, task.attempt) == (TaskStatus.ERRORED, 1, 1)


async def test_a_handler_that_hangs_times_out_and_is_tried_again(database: Database) -> None:
    cancelled: list[int] = []

    async def handler(context: Context) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(context.attempt)

    task = await bake_once(database, handler, timeout=timedelta(milliseconds=20))
    assert cancelled == [1, 2, 3]
    assert (task.status, task.failures) == (TaskStatus.ERRORED, 3)
    assert task.error == "It took longer than 0.02 s"


async def test_what_a_handler_and_its_libraries_log_carries_the_ids_of_its_task(
    database: Database, stream: io.StringIO
) -> None:
    configure_logs(Settings(log_format=LogFormat.JSON), stream=stream)
    ids: list[dict[str, str]] = []

    async def handler(context: Context) -> None:
        ids.append({"operation_id": context.operation_id, "task_id": context.task_id})
        context.log.info("the oven is hot")
        logging.getLogger("gasworks").warning("low pressure")

    await bake_once(database, handler)
    lines = {line["event"]: line for line in map(json.loads, stream.getvalue().splitlines())}
    for said in ("the oven is hot", "low pressure"):
        assert {name: lines[said].get(name) for name in ids[0]} == ids[0]


@pytest.mark.parametrize(
    ("error", "told", "finals"),
    [
        (TaskFailed("the oven is cold"), "the oven is cold", [False, False, True]),
        (UpstreamFailed("502 from the gasworks"), "502 from the gasworks", [False, False, True]),
        (UpstreamRefused("no such account"), "no such account", [True]),
        (LookupError("no such recipe"), "LookupError: no such recipe", [False, False, True]),
        (TaskFailed("asked https://gas/?token=canary"), "asked https://gas/?token=[hidden]", [False, False, True]),
        (None, "It took longer than 0.02 s", [False, False, True]),
    ],
)
async def test_of_each_failed_attempt_the_log_says_why_and_whether_there_will_be_another(
    database: Database, stream: io.StringIO, error: Exception | None, told: str, finals: list[bool]
) -> None:
    configure_logs(Settings(log_format=LogFormat.JSON), stream=stream)

    async def handler(_context: Context) -> None:
        if error is not None:
            raise error
        await asyncio.Event().wait()

    crew = Crew(database, shop_with(handler, timeout=timedelta(milliseconds=20)))
    async with crew.at_work():
        order = await crew.until(await crew.place())
        await crew.until_idle()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    failed = [line for line in lines if line["event"] == "an attempt failed"]
    assert [line["final"] for line in failed] == finals, stream.getvalue()
    assert {(line["level"], line["kind"], line["error"]) for line in failed} == {("info", "bake", told)}
    assert {(line["operation_id"], line["task_id"]) for line in failed} == {
        (show_id(order.id), show_task_id(order.id, 0))
    }
    assert "canary" not in stream.getvalue()


@pytest.mark.parametrize("outcome", [TaskFailed("the oven is cold", final=True), Wait(3600)])
async def test_a_claim_that_ends_by_what_came_of_it_was_cancelled_by_nobody(
    database: Database, stream: io.StringIO, outcome: Any
) -> None:
    """Neither one that failed for good, nor one that would have to wait longer than its task has."""
    configure_logs(Settings(log_format=LogFormat.JSON), stream=stream)

    async def handler(_context: Context) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    crew = Crew(database, shop_with(handler, within=MINUTE))
    async with crew.at_work():
        orders = [await crew.place() for _ in range(20)]
        for order in orders:
            await crew.until(order)
        await crew.executor.drain(timedelta(seconds=10))
    assert {(await crew.operation(order)).tasks[0].status for order in orders} == {TaskStatus.ERRORED}
    said = {json.loads(line)["event"] for line in stream.getvalue().splitlines()}
    assert not said & {"a claim has ended; what carried it out was cancelled", "a result came too late"}


async def test_a_handler_gets_no_more_time_than_its_task_has_left(database: Database) -> None:
    async def handler(_context: Context) -> None:
        await asyncio.Event().wait()

    task = await bake_once(database, handler, within=timedelta(seconds=1))
    assert (task.status, task.attempt) == (TaskStatus.ERRORED, 1)
    assert (task.error or "").startswith("It took longer than 0.")


async def test_something_that_is_cancelled_under_a_handler_is_a_failed_attempt(database: Database) -> None:
    async def handler(_context: Context) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    task = await bake_once(database, handler)
    assert (task.status, task.failures) == (TaskStatus.ERRORED, 3)
    assert (task.error or "").startswith("Something it waited for was cancelled")


@pytest.mark.parametrize("result", [object(), {(1, 2): 3}, "\ud800"])
async def test_a_result_that_json_cannot_hold_is_final(database: Database, result: object) -> None:
    async def handler(_context: Context) -> object:
        return result

    task = await bake_once(database, handler)
    assert (task.status, task.failures) == (TaskStatus.ERRORED, 1)
    assert (task.error or "").startswith("Its result cannot be stored as JSON")


async def test_a_memo_that_json_cannot_hold_is_final(database: Database) -> None:
    async def handler(_context: Context) -> Wait:
        return Wait(1, memo=object())

    task = await bake_once(database, handler)
    assert (task.status, task.failures) == (TaskStatus.ERRORED, 1)
    assert (task.error or "").startswith("Its memo cannot be stored as JSON")


async def test_a_third_party_that_asks_for_a_rest_pauses_the_queue(database: Database) -> None:
    calls: list[str] = []

    async def handler(context: Context) -> None:
        calls.append(context.name)
        raise UpstreamFailed("slow down", retry_after=MINUTE)

    crew = Crew(database, shop_with(handler), slots=1)
    plan = Plan([PlannedTask(f"bake{number}", kind="bake") for number in range(5)])
    async with crew.at_work():
        order = await crew.place(plan)
        await crew.until(order, "task.retrying")
        await crew.executor.drain(timedelta(seconds=10))
    assert calls == ["bake0"]
    rows = await database.read(lambda connection: connection.rows(select(queues.c.name, queues.c.paused_until)))
    [until] = [until for name, until in rows if name == "shop/bake"]
    assert until > crew.engine.now()


async def test_one_that_lets_in_a_few_at_a_time_has_served_all_in_the_end(database: Database) -> None:
    """Though each may fail three times only, and most are sent away more often."""
    few, rest = 4, timedelta(seconds=0.2)
    let_in: list[float] = []
    sent_away: Counter[str] = Counter()

    async def handler(context: Context) -> None:
        now = time.monotonic()
        if sum(each > now - rest.total_seconds() for each in let_in) >= few:
            sent_away[context.name] += 1
            raise UpstreamFailed("too many", retry_after=rest)
        let_in.append(now)

    crew = Crew(database, shop_with(handler), slots=40)
    plan = Plan([PlannedTask(f"bake{number}", kind="bake", retry=AT_ONCE) for number in range(40)])
    async with crew.at_work():
        order = await crew.place(plan)
        await crew.until(order, "operation.completed")
    assert max(sent_away.values()) > AT_ONCE.attempts
    assert len(let_in) == 40


async def test_a_third_party_that_is_left_alone_costs_no_attempt_and_no_memo(database: Database) -> None:
    """However often it is: this task may fail once only, and has not failed."""
    seen: list[int] = []

    async def handler(context: Context) -> str:
        seen.append(context.memo or 0)
        if len(seen) < 4:
            await context.remember(len(seen))
            raise Resting(0.001)
        return "done"

    task = await bake_once(database, handler, retry=Retry(attempts=1))
    assert seen == [0, 1, 2, 3]
    assert (task.status, task.failures, task.error) == (TaskStatus.COMPLETED, 0, None)


async def test_of_what_asks_a_third_party_that_is_down_no_more_is_claimed_than_may_be_asked(database: Database) -> None:
    """Though none of them was asked, and each permit was given back."""
    calls: list[str] = []

    async def handler(context: Context) -> None:
        calls.append(context.name)
        raise Resting(60, is_down=True)

    shop = Shop("shop")
    shop.handler("bake", allowance=shop.allowance("oven", "3/minute"))(handler)
    crew = Crew(database, shop)
    async with crew.at_work():
        order = await crew.place(Plan([PlannedTask(f"bake{number}", kind="bake") for number in range(20)]))
        await crew.until(order, "task.waiting")
        for _ in range(3):  # each time there is room
            await crew.executor.look("shop/bake")
    assert 1 <= len(calls) <= 6


@pytest.mark.parametrize("in_vain", [Resting(0.05, is_down=True), OutcomeUnknown("who knows"), LookupError("a bug")])
async def test_one_looks_whether_a_third_party_is_back_and_then_all_go_on(
    database: Database, in_vain: Exception
) -> None:
    count, calls, at_once, most, is_down = 20, 0, 0, 0, True
    looked = asyncio.Event()

    async def handler(_context: Context) -> None:
        nonlocal calls, at_once, most
        calls, at_once = calls + 1, at_once + 1
        if calls > count:
            most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        if calls > count + 3:
            looked.set()
        if is_down:
            raise Resting(0.05, is_down=True) if calls <= count else in_vain

    shop = Shop("shop")
    shop.handler("bake", third_party="oven", retry=Retry(attempts=100, first=timedelta(0)))(handler)
    crew = Crew(database, shop)
    async with crew.at_work():
        order = await crew.place(Plan([PlannedTask(f"bake{number}", kind="bake") for number in range(count)]))
        await looked.wait()
        assert most == 1
        is_down = False
        assert (await crew.until(order)).status is OperationStatus.COMPLETED


async def test_a_look_that_was_cancelled_and_does_not_end_holds_up_nobody(database: Database) -> None:
    is_down, looks, released = True, asyncio.Event(), asyncio.Event()

    async def handler(context: Context) -> None:
        if is_down:
            raise Resting(0.05, is_down=True)
        if context.name == "stuck":
            looks.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            await released.wait()

    shop = Shop("shop")
    shop.handler("bake", third_party="oven")(handler)
    crew = Crew(database, shop)
    async with crew.at_work():
        stuck = await crew.place(Plan([PlannedTask("stuck", kind="bake")]))
        await crew.until(stuck, "task.waiting")
        is_down = False
        await looks.wait()
        order = await crew.place()
        await cancel_operation(crew.engine, stuck.id, reason="too slow")
        assert (await crew.until(order)).status is OperationStatus.COMPLETED
        released.set()


async def test_what_comes_while_a_third_party_is_left_alone_does_not_begin(database: Database) -> None:
    begun: list[str] = []
    shop = Shop("shop")

    @shop.handler("bake", third_party="oven")
    async def bake(context: Context) -> None:
        begun.append(context.name)
        raise Resting(60, is_down=True)

    @shop.handler("box")
    async def box(_context: Context) -> None:
        pass

    crew = Crew(database, shop)
    async with crew.at_work():
        await crew.until(await crew.place(Plan([PlannedTask("first", kind="bake")])), "task.waiting")
        order = await crew.place(Plan([PlannedTask("second", kind="bake"), PlannedTask("box")]))
        await crew.until(order, "task.completed")
    assert begun == ["first"]


async def test_whatever_handlers_do_the_executor_goes_on(database: Database) -> None:
    async def handler(context: Context) -> Any:
        what = context.params["what"]
        if what == "raise":
            raise LookupError(what)
        return {"object": object(), "memo": Wait(0, memo=object()), "ok": what}[what]

    crew = Crew(database, shop_with(handler))
    async with crew.at_work():
        for what in ("raise", "object", "memo", "ok"):
            order = await crew.until(await crew.place(Plan([PlannedTask("bake", params={"what": what})])))
            wanted = OperationStatus.COMPLETED if what == "ok" else OperationStatus.ERRORED
            assert order.status is wanted, what


# Steps.


async def make_book(database: Database) -> None:
    def make(connection: WriteConnection) -> None:
        oven_book.drop(connection.connection, checkfirst=True)
        oven_book.create(connection.connection)

    await database.write(make)


async def test_a_step_completes_its_task_and_what_follows_is_done(database: Database) -> None:
    await make_book(database)
    shop = Shop("shop")

    @shop.step("note")
    def note(connection: WriteConnection, context: Context) -> int:
        connection.execute(insert(oven_book).values(operation_id=context.attempt))
        return context.attempt

    @shop.handler("bake")
    async def bake(context: Context) -> Any:
        return context.inputs["note"]

    crew = Crew(database, shop)
    async with crew.at_work():
        order = await crew.until(await crew.place(Plan.chain(PlannedTask("note"), PlannedTask("bake"))))
    assert [task.result for task in order.tasks] == ["1", "1"]
    assert await database.read(lambda connection: connection.rows(select(oven_book))) == [(1,)]


async def test_a_step_that_raises_leaves_nothing_and_is_a_failed_attempt(database: Database) -> None:
    await make_book(database)
    shop = Shop("shop")

    @shop.step("note", retry=AT_ONCE)
    def note(connection: WriteConnection, context: Context) -> None:
        connection.execute(insert(oven_book).values(operation_id=context.attempt))
        if context.attempt < 3:
            raise LookupError("no pencil")

    crew = Crew(database, shop)
    async with crew.at_work():
        order = await crew.until(await crew.place(Plan([PlannedTask("note")])))
    assert (order.status, order.tasks[0].failures) == (OperationStatus.COMPLETED, 2)
    assert await database.read(lambda connection: connection.rows(select(oven_book))) == [(3,)]


# Late results.


async def test_the_result_of_a_cancelled_order_is_dropped_and_the_executor_goes_on(database: Database) -> None:
    oven = Oven()
    crew = Crew(database, shop_with(oven))
    async with crew.at_work():
        order = await crew.place()
        await oven.begun.get()
        await cancel_operation(crew.engine, order.id, reason="enough")
        oven.may_end.set()
        assert (await crew.until(await crew.place())).status is OperationStatus.COMPLETED
        cancelled = await crew.operation(order)
    assert (cancelled.status, cancelled.tasks[0].result) == (OperationStatus.CANCELLED, None)


async def test_the_result_of_an_order_that_is_gone_is_dropped_and_the_executor_goes_on(database: Database) -> None:
    oven = Oven()
    crew = Crew(database, shop_with(oven))
    async with crew.at_work():
        order = await crew.place()
        await oven.begun.get()
        await cancel_operation(crew.engine, order.id, reason="enough")
        await prune_operations(crew.engine, before=crew.engine.now() + 1)
        oven.may_end.set()
        assert (await crew.until(await crew.place())).status is OperationStatus.COMPLETED


# Limits and slots.


async def test_no_more_run_at_once_than_there_are_slots(database: Database) -> None:
    running = most = 0

    async def handler(_context: Context) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    crew = Crew(database, shop_with(handler), slots=3)
    async with crew.at_work():
        order = await crew.until(await crew.place(Plan([PlannedTask(f"b{n}", kind="bake") for n in range(30)])))
    assert order.status is OperationStatus.COMPLETED
    assert most <= 3


@pytest.mark.parametrize("limits", [{"rate": "5/second"}, {"concurrency": 2}, {"rate": "10/second", "concurrency": 1}])
async def test_a_limited_queue_is_worked_off_by_an_executor_that_nobody_else_wakes(
    database: Database, limits: dict[str, Any]
) -> None:
    done: list[str] = []

    async def handler(context: Context) -> None:
        done.append(context.name)

    crew = Crew(database, shop_with(handler, **limits))
    async with crew.at_work():
        order = await crew.until(await crew.place(Plan([PlannedTask(f"b{n}", kind="bake") for n in range(12)])))
    assert order.status is OperationStatus.COMPLETED
    assert sorted(done) == sorted(f"b{n}" for n in range(12))


async def test_two_executors_share_the_work_and_do_nothing_twice(doors: Doors) -> None:
    done: list[str] = []

    async def handler(context: Context) -> None:
        done.append(context.task_id)

    crews = [Crew(await doors.open(), shop_with(handler), slots=5) for _ in range(2)]
    chain = Plan.chain(*(PlannedTask(f"b{n}", kind="bake") for n in range(4)))
    async with crews[0].at_work(), crews[1].at_work():
        orders = [await crews[n % 2].place(chain) for n in range(30)]
        for order in orders:
            assert (await crews[0].until(order)).status is OperationStatus.COMPLETED
    assert len(done) == len(set(done)) == 120


async def test_a_task_released_paused_and_resumed_in_one_change_is_begun_once(database: Database) -> None:
    oven = Oven()
    crew = Crew(database, shop_with(oven))
    chain = Plan.chain(PlannedTask("first", kind="bake"), PlannedTask("second", kind="bake"))
    async with crew.at_work():
        order = await crew.place(chain)
        assert await oven.begun.get() == "first"
        oven.may_end.set()
        await asyncio.gather(
            *(verb(crew.engine, order.id) for verb in (pause_operation, resume_operation) * 5), return_exceptions=True
        )
        if (await crew.operation(order)).status is OperationStatus.PAUSED:
            await resume_operation(crew.engine, order.id)
        assert (await crew.until(order)).status is OperationStatus.COMPLETED
    assert (await crew.told(order)).count("task.started") == 2


# Stopping.


async def test_drained_it_claims_nothing_more_finishes_what_runs_and_leaves_no_lease(database: Database) -> None:
    oven = Oven()
    crew = Crew(database, shop_with(oven))
    chain = Plan.chain(PlannedTask("first", kind="bake"), PlannedTask("second", kind="bake"))
    async with crew.at_work():
        order = await crew.place(chain)
        await oven.begun.get()
        draining = asyncio.ensure_future(crew.executor.drain(MINUTE))
        await asyncio.sleep(0)
        other = await crew.place()
        oven.may_end.set()
        await draining
        await end_lease(crew.engine, crew.executor)
        assert [task.status for task in (await crew.operation(order)).tasks] == ["completed", "pending"]
        assert (await crew.operation(other)).tasks[0].status == "pending"
        assert await crew.leases() == []
        assert oven.begun.empty()


async def test_what_does_not_finish_in_the_grace_is_handed_back(database: Database) -> None:
    oven = Oven()
    crew = Crew(database, shop_with(oven))
    async with crew.at_work():
        orders = [await crew.place() for _ in range(5)]
        for _ in orders:
            await oven.begun.get()
        await crew.executor.drain(timedelta(0))
        await end_lease(crew.engine, crew.executor)
        for order in orders:
            task = (await crew.operation(order)).tasks[0]
            assert (task.status, task.attempt, task.losses) == (TaskStatus.PENDING, 0, 0)
        assert await crew.leases() == []


async def test_a_handler_that_will_not_end_does_not_keep_it_from_stopping(database: Database) -> None:
    has_begun = asyncio.Event()
    may_end = asyncio.Event()

    async def handler(_context: Context) -> None:
        has_begun.set()
        while not may_end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await may_end.wait()

    crew = Crew(database, shop_with(handler))
    async with crew.at_work():
        await crew.place()
        await has_begun.wait()
        await crew.executor.drain(timedelta(0))
        may_end.set()


async def test_cancelled_without_a_word_it_hands_back_what_it_had(database: Database) -> None:
    oven = Oven()
    crew = Crew(database, shop_with(oven))
    async with crew.at_work():
        order = await crew.place()
        await oven.begun.get()
    task = (await crew.operation(order)).tasks[0]
    assert (task.status, task.token) == (TaskStatus.PENDING, None)


async def test_what_was_claimed_but_not_begun_when_it_stopped_goes_back_with_its_lease(database: Database) -> None:
    crew = Crew(database, shop_with(Oven()))
    for _ in range(20):
        await crew.place()
    async with crew.at_work():
        # the first claim is on its way; its tasks will be made, and cancelled before their first step
        await asyncio.sleep(0)
        await crew.executor.drain(timedelta(0))
        crew.running[2].cancel()
        await asyncio.wait({crew.running[2]})
        await end_lease(crew.engine, crew.executor)
        assert await crew.held() == 0
        assert await crew.leases() == []


# Its lease.


async def test_a_claim_that_it_does_not_know_of_is_given_up_and_done(database: Database, stream: io.StringIO) -> None:
    """As after a commit whose answer was lost."""
    configure_logs(Settings(log_format=LogFormat.JSON), stream=stream)
    done = asyncio.Event()

    async def handler(_context: Context) -> None:
        done.set()

    crew = Crew(database, shop_with(handler))
    order = await crew.place()
    await claim_past(crew)
    async with crew.at_work(lease=timedelta(milliseconds=60)):
        assert (await crew.until(order)).status is OperationStatus.COMPLETED
    assert done.is_set()
    [line] = [line for line in map(json.loads, stream.getvalue().splitlines()) if line["level"] == "warning"]
    assert (line["operation_id"], line["task_id"]) == (show_id(order.id), show_task_id(order.id, 0))
    assert await crew.told(order) == [
        "operation.placed",
        "task.started",
        "task.handed_back",
        "task.started",
        "task.completed",
        "operation.completed",
    ]


async def claim_past(crew: Crew) -> None:
    """Claim everything under the executor's lease, without its knowledge."""
    await claim_now(crew.engine, crew.executor.queues, worker=crew.executor.id, most=100, own_lease=True)


async def test_its_lease_moves_as_long_as_it_lives(database: Database) -> None:
    oven = Oven()
    crew = Crew(database, shop_with(oven))
    rescuer = Rescuer(crew.engine)
    async with crew.at_work(lease=timedelta(milliseconds=300)):
        order = await crew.place()
        await oven.begun.get()
        beats = [beat async for beat in its_beats(crew, 10)]
        assert sorted(set(beats)) == beats
        assert await rescuer.look() == 0
        oven.may_end.set()
        assert (await crew.until(order)).tasks[0].attempt == 1


async def its_beats(crew: Crew, count: int) -> AsyncIterator[int]:
    """The numbers of its next beats, as the database has them."""
    last = 0
    while count:
        is_written = asyncio.Event()
        crew.database.on_commit(is_written.set)
        await is_written.wait()
        rows = await crew.database.read(lambda connection: connection.rows(select(workers.c.beat)))
        if rows and rows[0][0] > last:
            last, count = rows[0][0], count - 1
            yield last


async def test_no_task_of_it_has_a_lease_of_its_own(database: Database) -> None:
    oven = Oven()
    crew = Crew(database, shop_with(oven))
    async with crew.at_work():
        await crew.place(Plan.chain(PlannedTask("first", kind="bake"), PlannedTask("second", kind="bake")))
        await oven.begun.get()
        oven.may_end.set()
        await oven.begun.get()
        rows = await database.read(
            lambda connection: connection.rows(select(tasks.c.lease_until).where(tasks.c.lease_until.is_not(None)))
        )
        assert rows == []
