"""Completing a task: its result is stored and its dependants are released, in one transaction."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import BigInteger, Column, MetaData, Table, Text, insert

from orderup.db.database import WriteConnection
from orderup.engine.complete import complete_by_step, complete_task
from orderup.engine.rescue import Rescuer
from orderup.engine.steer import cancel_operation, pause_operation
from orderup.errors import NotFound, StaleToken, TaskFailed
from orderup.model.event import Audience
from orderup.model.ids import show_task_id
from orderup.model.plan import Plan, PlannedTask
from orderup.model.task import TaskStatus
from tests.engine.kitchen import CHAIN, DIAMOND, DOUGH, NOON, Kitchen, Time, place_of, token_of

SECOND = timedelta(seconds=1)
diary = Table(
    "diner_diary",
    MetaData(),
    Column("operation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("line", Text, nullable=False),
)


async def test_the_result_is_stored_and_the_claim_is_over(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    time.advance(SECOND)
    await kitchen.complete(claimed, {"grams": 300})
    task = await kitchen.task(order, "dough")
    assert (task.status, task.result, task.finished_at) == (TaskStatus.COMPLETED, '{"grams":300}', NOON + 1_000_000)
    assert (task.token, task.lease_until, task.due_at, task.error) == (None, None, None, None)


async def test_the_next_task_is_released_and_its_time_begins(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(CHAIN)
    time.advance(SECOND)
    await kitchen.do("dough")
    assert await kitchen.state(order) == "running: dough completed, top pending, bake blocked"
    top = await kitchen.task(order, "top")
    assert (top.ready_at, top.deadline_at) == (NOON + 1_000_000, NOON + 1_000_000 + top.within_us)


async def test_completion_is_told_to_staff_and_the_end_to_the_customer(kitchen: Kitchen) -> None:
    order = await kitchen.place(DOUGH)
    await kitchen.do("dough")
    completed, ended = await kitchen.events(order, after=2)
    assert (completed.type, completed.audience) == ("task.completed", Audience.STAFF)
    assert (ended.type, ended.status, ended.message) == ("operation.completed", "completed", "Done")
    assert ended.audience == Audience.CUSTOMER


async def test_the_order_is_complete_with_its_last_task(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(CHAIN)
    for kind in ("dough", "top", "bake"):
        time.advance(SECOND)
        await kitchen.do(kind)
    operation = await kitchen.operation(order)
    assert (operation.status, operation.open, operation.moving) == ("completed", 0, 0)
    assert operation.finished_at == NOON + 3_000_000
    assert await kitchen.told(order) == [
        "operation.placed",
        *(f"task.{verb} {kind}" for kind in ("dough", "top", "bake") for verb in ("started", "completed")),
        "operation.completed",
    ]


async def test_a_task_that_joins_two_waits_for_both(kitchen: Kitchen) -> None:
    order = await kitchen.place(DIAMOND)
    await kitchen.do("dough")
    await kitchen.do("top")
    assert (await kitchen.task(order, "deliver")).status is TaskStatus.BLOCKED
    await kitchen.do("bake")
    assert (await kitchen.task(order, "deliver")).status is TaskStatus.PENDING


async def test_two_that_end_at_the_same_moment_release_what_joins_them_once(kitchen: Kitchen) -> None:
    order = await kitchen.place(DIAMOND)
    await kitchen.do("dough")
    top, bake = await kitchen.take("top"), await kitchen.take("bake")
    await asyncio.gather(kitchen.complete(top, 1), kitchen.complete(bake, 2))
    assert await kitchen.state(order) == "running: dough completed, top completed, bake completed, deliver pending"
    assert (await kitchen.take("deliver")).inputs == {"top": "1", "bake": "2"}


async def test_a_thousand_that_end_at_once_are_all_counted(kitchen: Kitchen) -> None:
    order = await kitchen.place(Plan([PlannedTask(f"d{number}", kind="dough") for number in range(1_000)]))
    claimed = await kitchen.claim("dough", most=1_000)
    await asyncio.gather(*(kitchen.complete(each) for each in claimed))
    operation = await kitchen.operation(order)
    assert (operation.status, operation.open, operation.version) == ("completed", 0, 2_002)


# The same write again, and late ones.


async def test_the_same_completion_sent_again_changes_nothing_and_is_no_error(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await kitchen.complete(claimed, 1, answer="complete:1")
    before = await kitchen.operation(order)
    await kitchen.complete(claimed, 1, answer="complete:1")
    assert await kitchen.operation(order) == before


async def test_the_same_completion_sent_ten_times_at_once_counts_once(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await asyncio.gather(*(kitchen.complete(claimed, 1, answer="complete:1") for _ in range(10)))
    assert await kitchen.told(order, after=2) == ["task.completed dough"]


async def test_a_second_completion_with_another_result_is_refused(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await kitchen.complete(claimed, 1, answer="complete:1")
    async with kitchen.refused(StaleToken, order, match="this claim has ended and the task is completed"):
        await kitchen.complete(claimed, 2, answer="complete:2")


async def test_of_two_different_completions_at_once_one_is_accepted(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    answers = await asyncio.gather(
        *(kitchen.complete(claimed, number, answer=f"complete:{number}") for number in range(10)),
        return_exceptions=True,
    )
    [accepted] = [number for number, answer in enumerate(answers) if answer is None]
    assert (await kitchen.task(order, "dough")).result == str(accepted)
    assert sum(isinstance(answer, StaleToken) for answer in answers) == 9


async def test_the_same_completion_is_known_again_after_the_order_went_on(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await kitchen.complete(claimed, 1, answer="complete:1")
    await kitchen.do("top")
    await kitchen.do("bake")
    before = await kitchen.operation(order)
    await kitchen.complete(claimed, 1, answer="complete:1")
    assert await kitchen.operation(order) == before


async def test_a_made_up_token_is_refused(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    async with kitchen.refused(StaleToken, order, match="another worker has the task"):
        await complete_task(kitchen.engine, *place_of(claimed), token="made up", result=None)


async def test_a_task_that_nobody_claimed_is_not_completed(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    async with kitchen.refused(StaleToken, order, match="the task is pending"):
        await complete_task(kitchen.engine, order.id, 0, token="t", result=None)
    async with kitchen.refused(StaleToken, order, match="the task is blocked"):
        await complete_task(kitchen.engine, order.id, 1, token="t", result=None)


async def test_after_the_order_was_cancelled_a_completion_is_refused(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await cancel_operation(kitchen.engine, order.id, reason="changed my mind")
    async with kitchen.refused(StaleToken, order, match="was cancelled"):
        await kitchen.complete(claimed, 1)


async def test_a_result_sent_after_the_lease_ran_out_changes_nothing(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(CHAIN)
    late = await kitchen.take("dough", worker="ann")
    rescuer = Rescuer(kitchen.engine, monotonic=time.monotonic)
    for _ in range(40):
        await rescuer.look()
        time.advance(SECOND)
    async with kitchen.refused(StaleToken, order, match="the task is pending"):
        await kitchen.complete(late, "late")
    current = await kitchen.take("dough", worker="bob")
    async with kitchen.refused(StaleToken, order, match="another worker has the task"):
        await kitchen.complete(late, "late")
    await kitchen.complete(current, "in time")
    assert (await kitchen.task(order, "dough")).result == '"in time"'


async def test_a_completion_in_a_paused_order_is_accepted_and_what_follows_is_paused(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await pause_operation(kitchen.engine, order.id)
    await kitchen.complete(claimed)
    assert await kitchen.state(order) == "paused: dough completed, top paused, bake blocked"


@pytest.mark.parametrize("position", [3, 99, 9_999_999])
async def test_a_task_beyond_the_plan_is_not_found(kitchen: Kitchen, position: int) -> None:
    order = await kitchen.place(CHAIN)
    async with kitchen.refused(NotFound, order, match=show_task_id(order.id, position)):
        await complete_task(kitchen.engine, order.id, position, token="t", result=None, answer="a")


async def test_an_order_that_is_not_there_is_not_found(kitchen: Kitchen) -> None:
    with pytest.raises(NotFound, match="no operation"):
        await complete_task(kitchen.engine, 7, 0, token="t", result=None)


async def test_an_order_of_another_shop_is_not_found(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    async with kitchen.refused(NotFound, order):
        await complete_task(
            kitchen.engine, *place_of(claimed), token=token_of(claimed), result=None, shop="another shop"
        )


# Steps: run inside the completing transaction.


async def make_diary(kitchen: Kitchen) -> None:
    """The shop's own table, empty."""

    def make(connection: WriteConnection) -> None:
        diary.drop(connection.connection, checkfirst=True)
        diary.create(connection.connection)

    await kitchen.database.write(make)


async def test_a_step_writes_and_completes_in_one_transaction(kitchen: Kitchen) -> None:
    await make_diary(kitchen)
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")

    def step(connection: WriteConnection) -> dict[str, int]:
        connection.execute(insert(diary).values(operation_id=order.id, line="kneaded"))
        return {"lines": 1}

    await complete_by_step(kitchen.engine, *place_of(claimed), token=token_of(claimed), step=step)
    assert [row["line"] for row in await kitchen.rows(diary)] == ["kneaded"]
    assert (await kitchen.task(order, "dough")).result == '{"lines":1}'
    assert await kitchen.state(order) == "running: dough completed, top pending, bake blocked"
    assert await kitchen.told(order, after=2) == ["task.completed dough"]


async def test_what_a_step_releases_is_heard_of_by_who_waits(kitchen: Kitchen) -> None:
    await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    ear = kitchen.engine.bell.listen(["diner/top"])
    ear.clear()
    await complete_by_step(kitchen.engine, *place_of(claimed), token=token_of(claimed), step=lambda _: None)
    assert ear.heard.is_set()


async def test_a_step_that_raises_leaves_nothing_and_its_claim_goes_on(kitchen: Kitchen) -> None:
    await make_diary(kitchen)
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")

    def step(connection: WriteConnection) -> None:
        connection.execute(insert(diary).values(operation_id=order.id, line="spilled"))
        message = "There is no flour"
        raise TaskFailed(message)

    before = await kitchen.operation(order)
    with pytest.raises(TaskFailed, match="no flour"):
        await complete_by_step(kitchen.engine, *place_of(claimed), token=token_of(claimed), step=step)
    assert await kitchen.rows(diary) == []
    assert await kitchen.operation(order) == before


async def test_a_step_whose_result_json_cannot_hold_leaves_nothing(kitchen: Kitchen) -> None:
    await make_diary(kitchen)
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")

    def step(connection: WriteConnection) -> object:
        connection.execute(insert(diary).values(operation_id=order.id, line="kneaded"))
        return object()

    with pytest.raises(TypeError):
        await complete_by_step(kitchen.engine, *place_of(claimed), token=token_of(claimed), step=step)
    assert await kitchen.rows(diary) == []
    assert (await kitchen.task(order, "dough")).status is TaskStatus.RUNNING


async def test_a_step_under_a_claim_that_has_ended_does_not_run(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await kitchen.complete(claimed)
    runs: list[WriteConnection] = []
    async with kitchen.refused(StaleToken, order):
        await complete_by_step(kitchen.engine, *place_of(claimed), token=token_of(claimed), step=runs.append)
    assert runs == []


async def test_a_step_tried_many_times_at_once_is_committed_once(kitchen: Kitchen) -> None:
    await make_diary(kitchen)
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")

    def step(connection: WriteConnection) -> None:
        connection.execute(insert(diary).values(operation_id=order.id, line="kneaded"))

    answers = await asyncio.gather(
        *(complete_by_step(kitchen.engine, *place_of(claimed), token=token_of(claimed), step=step) for _ in range(10)),
        return_exceptions=True,
    )
    assert sum(answer is None for answer in answers) == 1
    assert len(await kitchen.rows(diary)) == 1
    assert await kitchen.told(order, after=2) == ["task.completed dough"]


async def test_steps_and_other_completions_of_one_order_do_not_undo_each_other(kitchen: Kitchen) -> None:
    order = await kitchen.place(Plan([PlannedTask(f"d{number}", kind="dough") for number in range(20)]))
    claimed = await kitchen.claim("dough", most=20)
    steps = [
        complete_by_step(kitchen.engine, *place_of(each), token=token_of(each), step=lambda _: "step")
        for each in claimed[::2]
    ]
    await asyncio.gather(*steps, *(kitchen.complete(each, "handler") for each in claimed[1::2]))
    operation = await kitchen.operation(order)
    assert operation.status == "completed"
    assert [task.result for task in operation.tasks] == ['"step"', '"handler"'] * 10
