"""Where every change of an operation is decided: one after the other, on what the database holds, told when written."""

import asyncio
import contextlib
from functools import partial
from typing import TypeVar

import pytest
from sqlalchemy import insert, select

from orderup.db.database import WriteConnection
from orderup.db.tables import facts, keys, operations
from orderup.engine import desk
from orderup.engine.decide import approve_rfa
from orderup.engine.desk import Decision, Replayed
from orderup.engine.steer import cancel_operation, pause_operation, resume_operation
from orderup.errors import AlreadyDecided, Conflict, Invalid, NotFound, StaleToken
from orderup.model import steer, work
from orderup.model.operation import Draft, OperationStatus
from orderup.model.plan import Plan, PlannedTask
from orderup.model.task import TaskStatus
from tests.engine.conftest import Doors
from tests.engine.kitchen import ASKED, CHAIN, DOUGH, Kitchen, Time, key_of, token_of

T = TypeVar("T")


def pause_then_stumble(draft: Draft, *, now: int) -> None:
    """A decision that has already altered the draft when it raises."""
    steer.pause(draft, now=now)
    message = "stumbled"
    raise Conflict(message)


def remember_by_force(draft: Draft, memo: str, *, at: int = 0) -> None:
    """Give a task a memo, running or not."""
    draft.tell("task.remembered", at=1, task=draft.set_task(at, memo=memo))


async def in_turn(kitchen: Kitchen, operation_id: int, decision: Decision[T]) -> T:
    """Asks when its turn comes, as the verbs do, not when it is called."""
    return await kitchen.engine.desk.decide(operation_id, decision)


# Those who come at the same time.


async def test_whoever_is_refused_leaves_nothing_in_what_the_others_of_its_line_write(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    decide = partial(in_turn, kitchen, order.id)
    answers = await asyncio.gather(
        kitchen.remember(claimed, 1),
        decide(partial(pause_then_stumble, now=kitchen.time.now())),
        kitchen.complete(claimed),
        decide(partial(pause_then_stumble, now=kitchen.time.now())),
        decide(partial(steer.pause, now=kitchen.time.now())),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [type(None), Conflict, type(None), Conflict, type(None)]
    assert await kitchen.state(order) == "paused: dough completed, top paused, bake blocked"
    assert await kitchen.told(order, after=2) == ["task.remembered dough", "task.completed dough", "operation.paused"]


async def test_whoever_stumbles_alone_leaves_nothing(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    async with kitchen.refused(Conflict, order, match="stumbled"):
        await kitchen.engine.desk.decide(order.id, partial(pause_then_stumble, now=kitchen.time.now()))


async def test_nobody_is_told_no_before_what_was_decided_is_written(kitchen: Kitchen) -> None:
    order = await kitchen.place(ASKED)
    status = select(operations.c.status).where(operations.c.id == order.id)

    async def decide(by: str) -> str:
        with contextlib.suppress(AlreadyDecided):
            await approve_rfa(kitchen.engine, order.id, by=by)
        return await kitchen.database.read(lambda connection: connection.execute(status).scalar_one())

    assert set(await asyncio.gather(*(decide(f"staff{number}") for number in range(20)))) == {"running"}


async def test_what_was_decided_before_is_what_the_next_decision_sees(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    seen: list[OperationStatus] = []

    def look(draft: Draft) -> None:
        seen.append(draft.status)

    decide = partial(in_turn, kitchen, order.id)
    await asyncio.gather(
        decide(look),
        pause_operation(kitchen.engine, order.id),
        decide(look),
        resume_operation(kitchen.engine, order.id),
        decide(look),
    )
    assert [seen[0], seen[-1]] == ["running", "running"]
    assert "paused" in seen


async def test_a_decision_gives_back_what_it_found(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    assert await kitchen.engine.desk.decide(order.id, lambda draft: draft.open) == 3
    assert await kitchen.told(order, after=1) == []


async def test_a_line_before_an_order_that_is_not_there_is_told_so(kitchen: Kitchen) -> None:
    answers = await asyncio.gather(
        *(cancel_operation(kitchen.engine, 7, reason="") for _ in range(10)), return_exceptions=True
    )
    assert {type(answer) for answer in answers} == {NotFound}


async def test_a_caller_who_goes_away_neither_undoes_his_change_nor_holds_up_the_next(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    gone = asyncio.ensure_future(pause_operation(kitchen.engine, order.id))
    await asyncio.sleep(0)
    behind = asyncio.ensure_future(kitchen.engine.desk.decide(order.id, lambda draft: draft.status))
    await asyncio.sleep(0)
    gone.cancel()
    assert await behind == OperationStatus.PAUSED
    assert (await kitchen.operation(order)).status is OperationStatus.PAUSED


# Keys and rows of others, in the same transaction.


async def test_behind_a_request_that_was_carried_out_before_the_others_go_on(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await pause_operation(kitchen.engine, order.id, key=key_of("k"))
    await resume_operation(kitchen.engine, order.id)
    answers = await asyncio.gather(
        kitchen.remember(claimed, 1),
        pause_operation(kitchen.engine, order.id, key=key_of("k")),
        kitchen.complete(claimed),
        pause_operation(kitchen.engine, order.id, key=key_of("another")),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [type(None), Replayed, type(None), type(None)]
    assert await kitchen.state(order) == "paused: dough completed, top paused, bake blocked"
    assert {row["key"] for row in await kitchen.rows(keys)} == {"k", "another"}


def note(name: str, connection: WriteConnection) -> None:
    connection.execute(insert(facts).values(name=name, value=1))


def refuse(connection: WriteConnection) -> None:
    note("refused", connection)
    message = "not like this"
    raise Invalid(message)


async def test_what_is_written_also_is_written_with_the_change_or_not_at_all(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    decide = partial(kitchen.engine.desk.decide, order.id)
    now = kitchen.time.now()
    async with kitchen.refused(Invalid, order):
        await decide(partial(steer.pause, now=now), also=refuse, key=key_of("k"))
    assert await kitchen.rows(facts) == await kitchen.rows(keys) == []
    await decide(partial(steer.pause, now=now), also=partial(note, "written"), key=key_of("k"))
    assert [row["name"] for row in await kitchen.rows(facts)] == ["written"]
    assert (await kitchen.operation(order)).status is OperationStatus.PAUSED


async def test_beside_one_that_is_refused_by_what_it_writes_also_the_others_are_written(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    decide = partial(kitchen.engine.desk.decide, order.id)
    answers = await asyncio.gather(
        decide(partial(remember_by_force, memo="1")),
        decide(partial(remember_by_force, memo="2"), also=refuse),
        decide(partial(remember_by_force, memo="3"), also=partial(note, "third")),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [type(None), Invalid, type(None)]
    assert (await kitchen.task(order, "dough")).memo == "3"
    assert [row["name"] for row in await kitchen.rows(facts)] == ["third"]


async def test_what_the_database_cannot_take_is_refused_by_itself(kitchen: Kitchen) -> None:
    order, other = await kitchen.place(CHAIN), await kitchen.place(CHAIN)
    decide, half_a_character = kitchen.engine.desk.decide, "\ud83c"
    answers = await asyncio.gather(
        decide(other.id, partial(remember_by_force, memo="1")),
        decide(order.id, partial(remember_by_force, memo="1", at=0)),
        decide(order.id, partial(remember_by_force, memo=half_a_character, at=1)),
        decide(order.id, partial(remember_by_force, memo="3", at=2)),
        return_exceptions=True,
    )
    assert [isinstance(answer, Exception) for answer in answers] == [False, False, True, False]
    assert [task.memo for task in (await kitchen.operation(order)).tasks] == ["1", None, "3"]
    await kitchen.place(DOUGH)


# Several processes, each with knowledge of its own.


@pytest.fixture
async def pair(doors: Doors, time: Time) -> tuple[Kitchen, Kitchen]:
    return Kitchen(await doors.open(), time), Kitchen(await doors.open(), time)


async def test_a_change_worked_out_on_old_knowledge_is_worked_out_again(pair: tuple[Kitchen, Kitchen]) -> None:
    here, elsewhere = pair
    order = await here.place(CHAIN)
    claimed = await here.take("dough")
    await here.remember(claimed, 1)  # from now on it knows the order
    await pause_operation(elsewhere.engine, order.id)
    await here.complete(claimed)
    assert await here.state(order) == "paused: dough completed, top paused, bake blocked"
    assert await here.told(order, after=3) == ["operation.paused", "task.completed dough"]


async def test_a_cancel_elsewhere_refuses_what_is_done_here(pair: tuple[Kitchen, Kitchen]) -> None:
    here, elsewhere = pair
    order = await here.place(CHAIN)
    claimed = await here.take("dough")
    await here.remember(claimed, 1)
    await cancel_operation(elsewhere.engine, order.id, reason="enough")
    async with here.refused(StaleToken, order, match="was cancelled"):
        await here.complete(claimed)


async def test_what_old_knowledge_forbids_is_done_when_the_database_allows_it(pair: tuple[Kitchen, Kitchen]) -> None:
    here, elsewhere = pair
    order = await here.place(CHAIN)
    claimed = await here.take("dough")
    await pause_operation(here.engine, order.id)
    await here.remember(claimed, 1)
    await resume_operation(elsewhere.engine, order.id)
    await pause_operation(here.engine, order.id)
    assert (await here.told(order))[-2:] == ["operation.resumed", "operation.paused"]


async def test_a_claim_elsewhere_is_not_undone_by_a_change_here(pair: tuple[Kitchen, Kitchen]) -> None:
    here, elsewhere = pair
    order = await here.place(Plan([PlannedTask("dough"), PlannedTask("bake")]))
    dough = await here.take("dough")
    await here.remember(dough, 1)
    bake = await elsewhere.take("bake")
    await here.complete(dough)
    assert (await here.task(order, "bake")).token == token_of(bake)
    await elsewhere.complete(bake)
    assert (await here.operation(order)).status is OperationStatus.COMPLETED


async def test_processes_that_change_one_order_at_the_same_time_lose_nothing(pair: tuple[Kitchen, Kitchen]) -> None:
    order = await pair[0].place(Plan([PlannedTask(f"d{number}", kind="dough") for number in range(40)]))
    claimed = await pair[0].claim("dough", most=40)
    await asyncio.gather(*(pair[number % 2].complete(each, number) for number, each in enumerate(claimed)))
    operation = await pair[0].operation(order)
    assert operation.status is OperationStatus.COMPLETED
    assert [task.result for task in operation.tasks] == [str(number) for number in range(40)]


async def test_of_two_processes_that_complete_the_same_claim_one_is_accepted(pair: tuple[Kitchen, Kitchen]) -> None:
    for _ in range(10):
        order = await pair[0].place(DOUGH)
        claimed = await pair[0].take("dough")
        answers = await asyncio.gather(
            *(kitchen.complete(claimed, number, answer=f"{number}") for number, kitchen in enumerate(pair)),
            return_exceptions=True,
        )
        assert sorted(type(answer).__name__ for answer in answers) == ["NoneType", "StaleToken"]
        assert await pair[0].told(order, after=2) == ["task.completed dough", "operation.completed"]


async def test_a_task_is_started_only_while_it_can_be_claimed(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    await kitchen.take("dough")
    start = partial(work.start, position=0, worker="w", token="t", now=kitchen.time.now())
    async with kitchen.refused(Conflict, order, match="dough is running: it cannot be claimed"):
        await kitchen.engine.desk.decide(order.id, start)
    assert (await kitchen.task(order, "dough")).status is TaskStatus.RUNNING


async def test_of_large_orders_only_a_few_are_kept_and_the_others_go_on_all_the_same(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "MOST_TASKS_KEPT", 250)
    many = Plan([PlannedTask(f"dough {number}", kind="dough") for number in range(100)])
    orders = [await kitchen.place(many) for _ in range(5)]
    claims = [await kitchen.take("dough") for _ in range(500)]
    for claimed in claims:
        await kitchen.remember(claimed, 1)
    assert kitchen.engine.desk.tasks_kept <= 250
    for claimed in claims:
        await kitchen.complete(claimed)
    found = await kitchen.database.load([order.id for order in orders])
    assert {operation.status for operation in found.values()} == {OperationStatus.COMPLETED}
    assert kitchen.engine.desk.tasks_kept == 0
