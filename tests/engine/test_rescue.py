"""Rescue: tasks whose worker is gone become claimable again."""

import io
import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import delete, update

from orderup.db.tables import workers
from orderup.engine.claim import claim_now
from orderup.engine.lease import beat_executor, heartbeat
from orderup.engine.rescue import LOOK_EVERY_SECONDS, MOST_SECONDS_A_LOOK, ORPHANS_EVERY_SECONDS, Rescuer
from orderup.engine.steer import pause_operation
from orderup.errors import StaleToken
from orderup.model.event import Audience
from orderup.model.ids import show_id, show_task_id
from orderup.model.kind import Kind
from orderup.model.operation import OperationStatus
from orderup.model.plan import Plan, PlannedTask
from orderup.model.task import TaskStatus
from orderup.model.times import as_micros
from orderup.model.work import MOST_LOSSES
from orderup.settings import LogFormat, Settings
from orderup.web.logs import configure_logs
from tests.engine.child import Child
from tests.engine.conftest import Doors
from tests.engine.kitchen import CHAIN, HOUR, KINDS, NOON, Kitchen, Time, place_of, token_of

SECOND = timedelta(seconds=1)
LEASE = timedelta(seconds=30)
A_LOOK = timedelta(seconds=LOOK_EVERY_SECONDS)


@pytest.fixture
def rescuer(kitchen: Kitchen, time: Time) -> Rescuer:
    return Rescuer(kitchen.engine, monotonic=time.monotonic)


async def look_on(
    rescuer: Rescuer, time: Time, length: timedelta, *, meanwhile: Callable[[], None] | None = None
) -> int:
    """Look, let a second pass, look, …: how many tasks were rescued in that time. A first look takes no time."""
    rescued = await rescuer.look()
    for _ in range(length // A_LOOK):
        time.advance(A_LOOK)
        if meanwhile is not None:
            meanwhile()
        rescued += await rescuer.look()
    return rescued


async def test_a_claim_that_did_not_move_for_its_whole_lease_is_ended(
    kitchen: Kitchen, time: Time, rescuer: Rescuer
) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    assert await look_on(rescuer, time, LEASE - SECOND) == 0
    assert (await kitchen.task(order, "dough")).status is TaskStatus.RUNNING
    assert await look_on(rescuer, time, SECOND) == 1
    task = await kitchen.task(order, "dough")
    assert (task.status, task.token, task.worker, task.losses) == (TaskStatus.PENDING, None, None, 1)
    async with kitchen.refused(StaleToken, order):
        await kitchen.complete(claimed)


async def test_a_claim_with_a_lease_of_its_own_is_ended_after_that_and_the_next_one_after_its_kinds(
    kitchen: Kitchen, time: Time, rescuer: Rescuer
) -> None:
    order = await kitchen.place(CHAIN)
    [long] = (await claim_now(kitchen.engine, ["diner/dough"], worker="ann", most=1, lease=3 * LEASE)).claimed
    assert (await kitchen.task(order, "dough")).lease_until == NOON + as_micros(3 * LEASE)
    assert await look_on(rescuer, time, 2 * LEASE) == 0
    beat = await heartbeat(kitchen.engine, *place_of(long), token=token_of(long))
    assert beat.lease_seconds == 90.0
    assert (await kitchen.task(order, "dough")).lease_until == as_micros(5 * LEASE) + NOON
    assert await look_on(rescuer, time, 3 * LEASE - SECOND) == 0
    assert await look_on(rescuer, time, SECOND) == 1
    [usual] = (await claim_now(kitchen.engine, ["diner/dough"], worker="bob", most=1)).claimed
    assert (await heartbeat(kitchen.engine, *place_of(usual), token=token_of(usual))).lease_seconds == 30.0
    assert await look_on(rescuer, time, LEASE) == 1


async def test_a_lost_claim_is_told_to_the_customer_and_rings_for_the_next_worker(
    kitchen: Kitchen, time: Time, rescuer: Rescuer
) -> None:
    order = await kitchen.place(CHAIN)
    await kitchen.take("dough")
    ear = kitchen.engine.bell.listen(["diner/dough"])
    ear.clear()
    await look_on(rescuer, time, LEASE)
    [told] = await kitchen.events(order, after=2)
    assert (told.type, told.status, told.audience) == ("task.lost", "pending", Audience.CUSTOMER)
    assert told.message == "This takes longer than planned; somebody else takes over"
    assert ear.heard.is_set()


async def test_the_log_names_the_order_and_the_task_as_everywhere(
    kitchen: Kitchen, time: Time, rescuer: Rescuer, stream: io.StringIO
) -> None:
    configure_logs(Settings(log_format=LogFormat.JSON), stream=stream)
    order = await kitchen.place(CHAIN)
    await kitchen.take("dough")
    await look_on(rescuer, time, LEASE)
    [line] = map(json.loads, stream.getvalue().splitlines())
    assert (line["operation_id"], line["task_id"]) == (show_id(order.id), show_task_id(order.id, 0))


async def test_a_rescued_task_goes_before_those_that_came_after_it(
    kitchen: Kitchen, time: Time, rescuer: Rescuer
) -> None:
    first = await kitchen.place(CHAIN)
    await kitchen.take("dough")
    time.advance(SECOND)
    second = await kitchen.place(CHAIN)
    await look_on(rescuer, time, LEASE)
    claimed = await kitchen.claim("dough", most=2)
    assert [each.operation_id for each in claimed] == [first.id, second.id]
    assert claimed[0].task.attempt == 2


async def test_a_claim_that_is_kept_alive_is_left_alone(kitchen: Kitchen, time: Time, rescuer: Rescuer) -> None:
    await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    for _ in range(10):
        assert await look_on(rescuer, time, LEASE - SECOND) == 0
        await heartbeat(kitchen.engine, *place_of(claimed), token=token_of(claimed))
    await kitchen.complete(claimed)


async def test_a_kind_may_have_a_longer_lease(kitchen: Kitchen, time: Time) -> None:
    kinds = {**KINDS, "dough": Kind("dough", lease=timedelta(minutes=5))}
    patient = Kitchen(kitchen.database, time, kinds=kinds)
    await patient.place(CHAIN)
    await patient.take("dough")
    rescuer = Rescuer(patient.engine, monotonic=time.monotonic)
    assert await look_on(rescuer, time, timedelta(minutes=5) - SECOND) == 0
    assert await look_on(rescuer, time, SECOND) == 1


@pytest.mark.parametrize("by", [HOUR, -HOUR])
async def test_a_wall_clock_that_is_set_neither_ends_a_lease_nor_keeps_it(
    kitchen: Kitchen, time: Time, rescuer: Rescuer, by: timedelta
) -> None:
    await kitchen.place(CHAIN)
    await kitchen.take("dough")
    await rescuer.look()
    time.set_wall_clock(by)
    assert await look_on(rescuer, time, LEASE - SECOND) == 0
    assert await look_on(rescuer, time, SECOND) == 1


@pytest.mark.parametrize("by", [HOUR, -HOUR])
async def test_a_heartbeat_counts_whatever_the_wall_clock_says(
    kitchen: Kitchen, time: Time, rescuer: Rescuer, by: timedelta
) -> None:
    await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    for _ in range(4):
        assert await look_on(rescuer, time, LEASE - SECOND) == 0
        time.set_wall_clock(by)
        await heartbeat(kitchen.engine, *place_of(claimed), token=token_of(claimed))


async def test_time_in_which_the_rescuer_did_not_look_does_not_count(
    kitchen: Kitchen, time: Time, rescuer: Rescuer
) -> None:
    await kitchen.place(CHAIN)
    await kitchen.take("dough")
    await rescuer.look()
    time.advance(HOUR)  # it was frozen, and perhaps the worker with it
    assert await rescuer.look() == 0
    left = LEASE - timedelta(seconds=MOST_SECONDS_A_LOOK)
    assert await look_on(rescuer, time, left - SECOND) == 0
    assert await look_on(rescuer, time, SECOND) == 1


async def test_a_rescuer_that_has_just_started_looks_on_for_a_whole_lease(kitchen: Kitchen, time: Time) -> None:
    await kitchen.place(CHAIN)
    await kitchen.take("dough")
    time.advance(HOUR)
    rescuer = Rescuer(kitchen.engine, monotonic=time.monotonic)
    assert await look_on(rescuer, time, LEASE - SECOND) == 0
    assert await look_on(rescuer, time, SECOND) == 1


async def test_a_new_claim_of_the_same_task_has_a_whole_lease_of_its_own(
    kitchen: Kitchen, time: Time, rescuer: Rescuer
) -> None:
    await kitchen.place(CHAIN)
    first = await kitchen.take("dough")
    await look_on(rescuer, time, LEASE - SECOND)
    await kitchen.hand_back(first)
    second = await kitchen.take("dough")
    assert await look_on(rescuer, time, LEASE - SECOND) == 0
    await kitchen.complete(second)


async def test_of_two_rescuers_one_rescues_and_it_is_told_once(doors: Doors, time: Time) -> None:
    kitchens = [Kitchen(await doors.open(), time) for _ in range(2)]
    order = await kitchens[0].place(CHAIN)
    await kitchens[0].take("dough")
    rescuers = [Rescuer(kitchen.engine, monotonic=time.monotonic) for kitchen in kitchens]
    rescued = 0
    for _ in range(40):
        rescued += await rescuers[0].look() + await rescuers[1].look()
        time.advance(SECOND)
    assert rescued == 1
    assert (await kitchens[0].told(order, after=2)).count("task.lost dough") == 1


async def test_what_is_lost_while_the_order_is_paused_is_paused(kitchen: Kitchen, time: Time, rescuer: Rescuer) -> None:
    order = await kitchen.place(CHAIN)
    await kitchen.take("dough")
    await pause_operation(kitchen.engine, order.id)
    assert await look_on(rescuer, time, LEASE) == 1
    assert await kitchen.state(order) == "paused: dough paused, top blocked, bake blocked"


async def test_a_task_that_twenty_five_workers_in_a_row_did_not_survive_is_errored(
    kitchen: Kitchen, time: Time, rescuer: Rescuer
) -> None:
    order = await kitchen.place(CHAIN)
    for lost in range(1, MOST_LOSSES):
        await kitchen.take("dough", worker=f"w{lost}")
        await look_on(rescuer, time, LEASE)
        assert (await kitchen.task(order, "dough")).losses == lost
    await kitchen.take("dough")
    await look_on(rescuer, time, LEASE)
    assert await kitchen.state(order) == "errored: dough errored, top blocked, bake blocked"
    assert (await kitchen.task(order, "dough")).error == "25 workers in a row vanished while they had this task"
    assert (await kitchen.operation(order)).status is OperationStatus.ERRORED


async def test_a_worker_that_survives_it_begins_the_count_anew(kitchen: Kitchen, time: Time, rescuer: Rescuer) -> None:
    order = await kitchen.place(CHAIN)
    await kitchen.take("dough")
    await look_on(rescuer, time, LEASE)
    await kitchen.wait(await kitchen.take("dough"), 1)
    assert (await kitchen.task(order, "dough")).losses == 0


# Executors, whose claims all hang on one lease.


async def test_when_an_executors_lease_does_not_move_all_it_holds_is_rescued_and_it_is_forgotten(
    kitchen: Kitchen, time: Time, rescuer: Rescuer
) -> None:
    order = await kitchen.place(Plan([PlannedTask(name, kind="dough") for name in "abc"]))
    await beat_executor(kitchen.engine, "local-1", kind="local", lease=LEASE)
    await kitchen.claim("dough", worker="local-1", own_lease=True, most=2)
    assert await look_on(rescuer, time, LEASE - SECOND) == 0
    assert await look_on(rescuer, time, SECOND) == 2
    assert await kitchen.state(order) == "running: a pending, b pending, c pending"
    assert await kitchen.rows(workers) == []


async def test_an_executor_that_beats_keeps_all_it_holds(kitchen: Kitchen, time: Time, rescuer: Rescuer) -> None:
    await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough", worker="local-1", own_lease=True)
    for _ in range(5):
        await beat_executor(kitchen.engine, "local-1", kind="local", lease=LEASE)
        assert await look_on(rescuer, time, LEASE - SECOND) == 0
    await kitchen.complete(claimed)


async def test_an_executor_that_wakes_after_it_was_taken_for_dead_is_an_executor_again(
    kitchen: Kitchen, time: Time, rescuer: Rescuer
) -> None:
    await kitchen.place(CHAIN)
    await beat_executor(kitchen.engine, "local-1", kind="local", lease=LEASE)
    late = await kitchen.take("dough", worker="local-1", own_lease=True)
    await look_on(rescuer, time, LEASE)
    await beat_executor(kitchen.engine, "local-1", kind="local", lease=LEASE)
    with pytest.raises(StaleToken):
        await kitchen.complete(late)
    again = await kitchen.take("dough", worker="local-1", own_lease=True)
    assert await look_on(rescuer, time, LEASE - SECOND) == 0
    await kitchen.complete(again)


async def test_a_process_that_is_known_to_have_ended_needs_no_waiting_for(
    kitchen: Kitchen, time: Time, rescuer: Rescuer
) -> None:
    with Child() as child:
        await kitchen.place(CHAIN)
        await beat_executor(kitchen.engine, "local-1", kind="local", lease=LEASE)
        of_child = update(workers).values(process=child.identity)
        await kitchen.database.write(lambda connection: connection.execute(of_child))
        await kitchen.take("dough", worker="local-1", own_lease=True)
        assert await rescuer.look() == 0
        time.advance(A_LOOK)
        child.die()
        assert await rescuer.look() == 1
    assert await kitchen.rows(workers) == []


async def test_claims_under_a_lease_that_is_not_there_are_found(kitchen: Kitchen, time: Time, rescuer: Rescuer) -> None:
    order = await kitchen.place(CHAIN)
    await beat_executor(kitchen.engine, "local-1", kind="local", lease=LEASE)
    await kitchen.take("dough", worker="local-1", own_lease=True)
    await kitchen.database.write(lambda connection: connection.execute(delete(workers)))
    assert await look_on(rescuer, time, timedelta(seconds=ORPHANS_EVERY_SECONDS) - SECOND) == 0
    assert await look_on(rescuer, time, SECOND) == 1
    assert (await kitchen.task(order, "dough")).status is TaskStatus.PENDING


async def test_what_was_done_meanwhile_is_not_rescued(kitchen: Kitchen, time: Time, rescuer: Rescuer) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await look_on(rescuer, time, LEASE - SECOND)
    await kitchen.complete(claimed)
    assert await look_on(rescuer, time, LEASE) == 0
    assert await kitchen.told(order, after=2) == ["task.completed dough"]
    assert (await kitchen.operation(order)).placed_at == NOON
