"""Limits of queues: rates and how many run at once, exact across processes; and pausing by hand."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from orderup.db.busy import queue_states
from orderup.db.database import Claimed
from orderup.db.tables import events, permits
from orderup.engine.claim import ClaimDesk, queues_for
from orderup.engine.complete import complete_by_step
from orderup.engine.due import end_waits, pass_deadlines
from orderup.engine.engine import Engine
from orderup.engine.hand_back import hand_back_all
from orderup.engine.limit import pause_queue, resume_queue
from orderup.engine.rescue import Rescuer
from orderup.engine.steer import cancel_operation, cancel_task, pause_operation
from orderup.model.kind import Kind, Rate
from orderup.model.operation import OperationStatus
from orderup.model.plan import Plan, PlannedTask
from orderup.model.retry import NEVER
from tests.engine.conftest import KINDS as DATABASES, Doors
from tests.engine.kitchen import HOUR, KINDS, MINUTE, SHOP, Kitchen, Time, place_of, token_of
from tests.services.waiting import PATIENCE_SECONDS

SECOND = timedelta(seconds=1)
OVEN = Plan([PlannedTask("oven")])
PERIOD = timedelta(milliseconds=200)
# Tight enough that the time between two windows matters, quick enough that several windows pass in a test.
QUICK: Mapping[str, Kind] = {
    **KINDS,
    "phone": Kind("phone", rate=Rate(10, PERIOD)),
    "fryer": Kind("fryer", rate=Rate(10, PERIOD), concurrency=3),
}
Way = Callable[[Kitchen, Claimed], Awaitable[object]]


def plan_of(kind: str, count: int) -> Plan:
    return Plan([PlannedTask(f"{kind}{number}", kind=kind) for number in range(count)])


async def times_taken(kitchen: Kitchen, kind: str) -> list[int]:
    """When each permit was taken, by the clock that the limit goes by, in microseconds."""
    rows = await kitchen.rows(permits)
    return sorted(row["taken_at"] for row in rows if row["queue"] == f"{SHOP}/{kind}")


def most_in_any_window(times: Sequence[int], period: timedelta) -> int:
    """Counted in every window that begins with a permit: no other can hold more."""
    length = period // timedelta(microseconds=1)
    return max(sum(begin <= at < begin + length for at in times) for begin in times)


async def most_at_once(kitchen: Kitchen, kind: str) -> int:
    """How many tasks of this kind ran at the same time, by what the log tells in its order."""
    statement = select(events.c.type, events.c.task_name).order_by(events.c.seq)
    running = most = 0
    for type, name in await kitchen.database.read(lambda connection: connection.rows(statement)):
        if (name or "").startswith(kind):
            # what came too late for who asked for it was handed back
            running += {"task.started": 1, "task.completed": -1, "task.handed_back": -1}.get(type, 0)
            most = max(most, running)
    return most


async def work_off(kitchens: Sequence[Kitchen], kind: str, count: int, *, completes: bool) -> None:
    """Workers of every process wait for tasks of this kind, until all have been claimed."""
    left = count

    async def work(kitchen: Kitchen, desk: ClaimDesk, worker: str) -> None:
        nonlocal left
        while left:
            waiting = desk.claim(queues_for(SHOP, [kind], None), worker=worker, most=4, wait_seconds=0.5)
            for claimed in await waiting:
                left -= 1
                if completes:
                    await kitchen.complete(claimed)

    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        watching = [group.create_task(kitchen.engine.run()) for kitchen in kitchens]
        async with asyncio.TaskGroup() as workers:
            for number, kitchen in enumerate(kitchens):
                desk = ClaimDesk(kitchen.engine, workers)
                for each in range(2):
                    workers.create_task(work(kitchen, desk, f"w{number}-{each}"))
        for task in watching:
            task.cancel()


# Rates.


async def test_no_more_is_claimed_at_once_than_the_rate_allows(kitchen: Kitchen) -> None:
    await kitchen.place(plan_of("post", 20))
    assert len(await kitchen.claim("post", most=20)) == 5
    assert await kitchen.claim("post", most=20) == []


async def test_in_no_window_more_is_claimed_than_the_rate_allows_by_four_processes(doors: Doors, time: Time) -> None:
    kitchens = [Kitchen(await doors.open(), time, kinds=QUICK) for _ in range(4)]
    await kitchens[0].place(plan_of("phone", 60))
    await work_off(kitchens, "phone", 60, completes=False)
    times = await times_taken(kitchens[0], "phone")
    assert len(times) == 60
    assert most_in_any_window(times, PERIOD) <= 10


async def test_what_is_completed_at_once_still_counts_in_its_window(doors: Doors, time: Time) -> None:
    kitchens = [Kitchen(await doors.open(), time, kinds=QUICK) for _ in range(4)]
    order = await kitchens[0].place(plan_of("phone", 40))
    began = asyncio.get_running_loop().time()
    await work_off(kitchens, "phone", 40, completes=True)
    passed = asyncio.get_running_loop().time() - began
    assert (await kitchens[0].operation(order)).status is OperationStatus.COMPLETED
    assert passed >= 3 * PERIOD.total_seconds(), "forty in tens: three windows lie between the first and the last"


async def test_who_claims_is_told_when_the_next_permit_comes(kitchen: Kitchen) -> None:
    await kitchen.place(plan_of("post", 20))
    await kitchen.claim("post", most=20)
    wait = await kitchen.next_permit_in("post")
    assert wait is not None
    assert 0 < wait <= 60.05


async def test_the_claim_that_uses_up_the_rate_is_told_so_and_one_that_does_not_is_not(kitchen: Kitchen) -> None:
    await kitchen.place(plan_of("post", 3))
    assert (await kitchen.ask("post", most=2)).next_permit_in is None
    assert (await kitchen.ask("post", most=2)).next_permit_in is None
    await kitchen.place(plan_of("post", 9))
    used_up = await kitchen.ask("post", most=9)
    assert len(used_up.claimed) == 2
    assert used_up.next_permit_in is not None


async def test_all_regions_of_a_queue_share_its_limits(kitchen: Kitchen) -> None:
    regions = ("rome", "paris", None)
    await kitchen.place(Plan([PlannedTask(f"call{n}", kind="post", region=regions[n % 3]) for n in range(12)]))
    assert len(await kitchen.claim("post", region="rome", most=3)) == 3
    assert len(await kitchen.claim("post", region="paris", most=9)) == 2


async def test_a_queue_at_its_limit_holds_up_no_other(kitchen: Kitchen, time: Time) -> None:
    await kitchen.place(plan_of("post", 20))
    await kitchen.place(plan_of("oven", 9))
    time.advance(SECOND)
    await kitchen.place(plan_of("dough", 3))
    claimed = await kitchen.claim("post", "oven", "dough", most=50)
    kinds = [each.task.kind for each in claimed]
    assert {kind: kinds.count(kind) for kind in kinds} == {"post": 5, "oven": 2, "dough": 3}


# How many run at once.


async def test_no_more_run_at_once_than_the_queue_allows(kitchen: Kitchen) -> None:
    await kitchen.place(plan_of("oven", 9))
    first, second = await kitchen.claim("oven", most=9)
    assert await kitchen.claim("oven", most=9) == []
    assert await kitchen.next_permit_in("oven") is None, "that is not a matter of time"
    await kitchen.complete(first)
    [third] = await kitchen.claim("oven", most=9)
    assert token_of(third) not in {token_of(first), token_of(second)}


async def test_never_more_run_at_once_than_the_queue_allows_in_four_processes(doors: Doors, time: Time) -> None:
    kitchens = [Kitchen(await doors.open(), time) for _ in range(4)]
    await kitchens[0].place(plan_of("oven", 30))
    await work_off(kitchens, "oven", 30, completes=True)
    assert 1 <= await most_at_once(kitchens[0], "oven") <= 2


async def test_a_queue_may_have_both_limits(doors: Doors, time: Time) -> None:
    kitchens = [Kitchen(await doors.open(), time, kinds=QUICK) for _ in range(2)]
    await kitchens[0].place(plan_of("fryer", 30))
    await work_off(kitchens, "fryer", 30, completes=True)
    assert 1 <= await most_at_once(kitchens[0], "fryer") <= 3


@pytest.mark.parametrize("doors", DATABASES[1:], indirect=True)
async def test_limits_hold_across_real_processes(doors: Doors, time: Time) -> None:
    kitchen = Kitchen(await doors.open(), time, kinds=QUICK)
    await kitchen.place(plan_of("phone", 40))
    await kitchen.place(plan_of("oven", 20))
    command = [sys.executable, "-m", "tests.engine.claimer", doors.url]
    processes = [await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE) for _ in range(3)]
    async with asyncio.timeout(PATIENCE_SECONDS):
        told = [(await process.communicate())[0].decode().split() for process in processes]
    assert sum(int(phone) for phone, _ in told) == 40
    assert sum(int(oven) for _, oven in told) == 20
    times = await times_taken(kitchen, "phone")
    assert most_in_any_window(times, PERIOD) <= 10
    assert await most_at_once(kitchen, "oven") <= 2


# Permits come back, however a task stops running.


async def lose(kitchen: Kitchen, _claimed: Claimed) -> None:
    rescuer = Rescuer(kitchen.engine, monotonic=kitchen.time.monotonic)
    for _ in range(40):
        await rescuer.look()
        kitchen.time.advance(SECOND)


async def run_out_of_time(kitchen: Kitchen, _claimed: Claimed) -> None:
    kitchen.time.advance(48 * HOUR)
    assert await pass_deadlines(kitchen.engine) == 1


async def complete_in_a_paused_order(kitchen: Kitchen, claimed: Claimed) -> None:
    await pause_operation(kitchen.engine, claimed.operation_id)
    assert await kitchen.held_permits(claimed.task.kind) == 1, "what runs goes on, and holds its permit"
    await kitchen.complete(claimed)


WAYS: dict[str, Way] = {
    "completed": lambda kitchen, claimed: kitchen.complete(claimed),
    "completed by a step": lambda kitchen, claimed: complete_by_step(
        kitchen.engine, *place_of(claimed), token=token_of(claimed), step=lambda _: None
    ),
    "failed, to be tried again": lambda kitchen, claimed: kitchen.fail(claimed),
    "failed for good": lambda kitchen, claimed: kitchen.fail(claimed, final=True),
    "waiting": lambda kitchen, claimed: kitchen.wait(claimed, 30),
    "handed back": lambda kitchen, claimed: kitchen.hand_back(claimed),
    "lost": lose,
    "out of time": run_out_of_time,
    "cancelled": lambda kitchen, claimed: cancel_task(kitchen.engine, *place_of(claimed)),
    "in a cancelled order": lambda kitchen, claimed: cancel_operation(
        kitchen.engine, claimed.operation_id, reason="enough"
    ),
    "completed in a paused order": complete_in_a_paused_order,
}


@pytest.mark.parametrize("way", WAYS)
async def test_the_permit_is_free_again_when_the_task_is(kitchen: Kitchen, way: str) -> None:
    await kitchen.place(OVEN)
    claimed = await kitchen.take("oven")
    assert await kitchen.held_permits("oven") == 1
    await WAYS[way](kitchen, claimed)
    assert await kitchen.held_permits("oven") == 0
    await kitchen.place(plan_of("oven", 5))
    fresh = [each for each in await kitchen.claim("oven", most=9) if each.task.name != "oven"]
    assert 1 <= len(fresh) <= 2


@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("lost", "out of time")])
async def test_whoever_waits_for_room_hears_of_it(kitchen: Kitchen, way: str) -> None:
    await kitchen.place(OVEN)
    claimed = await kitchen.take("oven")
    ear = kitchen.engine.bell.listen(queues_for(SHOP, ["oven"], "rome"))
    ear.clear()
    await WAYS[way](kitchen, claimed)
    assert ear.rang == {f"{SHOP}/oven", f"{SHOP}/oven@rome"}


@pytest.mark.parametrize("way", WAYS)
async def test_what_was_claimed_counts_against_the_rate_however_it_ended(kitchen: Kitchen, way: str) -> None:
    await kitchen.place(plan_of("fryer", 1))
    claimed = await kitchen.take("fryer")
    await WAYS[way](kitchen, claimed)
    assert len(await times_taken(kitchen, "fryer")) == 1


async def test_a_process_that_does_not_have_the_shop_frees_its_permits_too(kitchen: Kitchen, time: Time) -> None:
    await kitchen.place(OVEN)
    await kitchen.take("oven")
    elsewhere = Engine(kitchen.database, {"laundry": {}}, now=time.now)
    rescuer = Rescuer(elsewhere, monotonic=time.monotonic)
    for _ in range(40):
        await rescuer.look()
        time.advance(SECOND)
    assert await kitchen.held_permits("oven") == 0


async def test_a_claim_that_nobody_got_gives_its_permit_back_to_the_rate(kitchen: Kitchen) -> None:
    await kitchen.place(plan_of("post", 20))
    claimed = await kitchen.claim("post", most=20)
    await hand_back_all(kitchen.engine, claimed[:3])
    assert len(await times_taken(kitchen, "post")) == 2
    assert len(await kitchen.claim("post", most=20)) == 3


async def test_an_attempt_that_sent_nothing_gives_its_permit_back_to_the_rate(kitchen: Kitchen) -> None:
    await kitchen.place(plan_of("post", 20))
    claimed = await kitchen.claim("post", most=20)
    await kitchen.fail(claimed[0], "no connection", was_sent=False)
    await kitchen.fail(claimed[1], "hung up")
    assert len(await times_taken(kitchen, "post")) == 4
    assert len(await kitchen.claim("post", most=20)) == 1


async def test_a_permit_is_refunded_once(kitchen: Kitchen) -> None:
    await kitchen.place(Plan([PlannedTask("post", retry=NEVER)]))
    claimed = await kitchen.take("post")
    await kitchen.fail(claimed, was_sent=False, answer="fail:1")
    await kitchen.fail(claimed, was_sent=False, answer="fail:1")
    assert await kitchen.rows(permits) == []


async def test_permits_from_before_the_clock_was_set_back_count_as_of_now(kitchen: Kitchen) -> None:
    # on SQLite the clock of rates is the host's, which starts anew with it; on PostgreSQL the server's may be set
    await kitchen.place(plan_of("post", 20))
    for claimed in await kitchen.claim("post", most=20):
        await kitchen.complete(claimed)
    later = update(permits).values(taken_at=permits.c.taken_at + 3_600_000_000)
    await kitchen.database.write(lambda connection: connection.execute(later))
    wait = await kitchen.next_permit_in("post")
    assert wait is not None
    assert 30 < wait <= 60.05


# Pausing by hand.


async def test_from_a_paused_queue_nothing_is_claimed_until_it_is_resumed(kitchen: Kitchen, time: Time) -> None:
    await kitchen.place(plan_of("dough", 3))
    [running] = await kitchen.claim("dough")
    await pause_queue(kitchen.engine, f"{SHOP}/dough", by="ada")
    time.advance(48 * HOUR - MINUTE)
    assert await kitchen.claim("dough", most=9) == []
    await kitchen.complete(running)
    await resume_queue(kitchen.engine, f"{SHOP}/dough")
    assert len(await kitchen.claim("dough", most=9)) == 2


@pytest.mark.parametrize("kind", ["dough", "post", "oven"])
async def test_a_paused_queue_holds_up_no_other_and_rests_in_every_region(kitchen: Kitchen, kind: str) -> None:
    await kitchen.place(Plan([PlannedTask("a", kind=kind), PlannedTask("b", kind=kind, region="rome")]))
    await kitchen.place(plan_of("bake", 1))
    await pause_queue(kitchen.engine, f"{SHOP}/{kind}", by="ada")
    assert [each.task.kind for each in await kitchen.claim(kind, "bake", region="rome", most=9)] == ["bake"]


async def test_resuming_rings_for_those_who_wait_and_undoes_a_rest_too(kitchen: Kitchen) -> None:
    await kitchen.place(plan_of("dough", 2))
    await kitchen.fail(await kitchen.take("dough"), retry_after=HOUR, pauses_queue=True)
    await pause_queue(kitchen.engine, f"{SHOP}/dough", by="ada")
    ear = kitchen.engine.bell.listen([f"{SHOP}/dough"])
    ear.clear()
    await resume_queue(kitchen.engine, f"{SHOP}/dough")
    assert ear.heard.is_set()
    assert [each.task.name for each in await kitchen.claim("dough", most=9)] == ["dough1"]


async def test_a_queue_paused_in_one_process_is_paused_in_all(doors: Doors, time: Time) -> None:
    here, elsewhere = Kitchen(await doors.open(), time), Kitchen(await doors.open(), time)
    await here.place(plan_of("dough", 1))
    await asyncio.gather(*(pause_queue(each.engine, f"{SHOP}/dough", by="ada") for each in (here, elsewhere)))
    assert await elsewhere.claim("dough") == []
    await resume_queue(elsewhere.engine, f"{SHOP}/dough")
    assert len(await here.claim("dough")) == 1


async def test_how_busy_queues_are_can_be_seen(kitchen: Kitchen, time: Time) -> None:
    await kitchen.place(plan_of("oven", 5))
    await kitchen.claim("oven", most=9)
    await pause_queue(kitchen.engine, f"{SHOP}/oven", by="ada")
    [state] = await kitchen.database.read(lambda connection: queue_states(connection, [f"{SHOP}/oven"]))
    assert (state.name, state.pending, state.held_permits, state.is_paused) == (f"{SHOP}/oven", 3, 2, True)
    assert (state.paused_by, state.oldest_ready_at) == ("ada", time.now())


async def test_waits_that_end_in_a_queue_at_its_limit_wait_for_room(kitchen: Kitchen, time: Time) -> None:
    await kitchen.place(plan_of("oven", 3))
    first, second = await kitchen.claim("oven", most=9)
    await kitchen.wait(first, 1)
    third = await kitchen.take("oven")
    time.advance(SECOND)
    assert await end_waits(kitchen.engine) == 1
    assert await kitchen.claim("oven") == []
    await kitchen.complete(second)
    assert (await kitchen.take("oven")).task.name == first.task.name
    await kitchen.complete(third)


def test_counting_in_windows_finds_the_fullest() -> None:
    assert most_in_any_window([0, 1, 2, 1_000_000, 1_000_001], SECOND) == 3
