"""Claiming: each task once, in order, within limits that hold however many processes claim at once."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import pytest
from msgspec.structs import replace

from orderup.db.database import Ask, Claimed, Database
from orderup.db.tables import queues
from orderup.engine.claim import queues_for
from orderup.model.plan import Plan, PlannedTask
from orderup.model.task import queue_name
from orderup.model.times import as_micros
from tests.engine.conftest import Doors
from tests.engine.kitchen import DIAMOND, DOUGH, KINDS, NOON, SHOP, Kitchen, Time
from tests.services.waiting import PATIENCE_SECONDS

DOORS = 4


def ask_for(*kinds: str, most: int = 1, region: str | None = None) -> Ask:
    names = queues_for(SHOP, kinds, region)
    limits = {queue_name(SHOP, kind): KINDS[kind] for kind in kinds if KINDS[kind].is_limited}
    return Ask("ann", names, most, NOON, own_lease=False, limits=limits)


def names_of(claimed: Sequence[Claimed]) -> list[str]:
    return [each.task.name for each in claimed]


async def claim_all(database: Database, ask: Ask) -> list[Claimed]:
    """As a worker that comes back at once when it is told to come back soon."""
    found: list[Claimed] = []
    while True:
        claims = await database.claim(ask)
        found += claims.claimed
        if not claims.claimed:
            if claims.next_permit_in is None:
                return found
            await asyncio.sleep(min(claims.next_permit_in, 0.01))


async def test_tasks_are_claimed_by_priority_then_in_the_order_in_which_they_became_ready(
    kitchen: Kitchen, time: Time
) -> None:
    for name, priority in (("late", 0), ("early", 0), ("urgent", -1), ("idle", 7)):
        time.advance(timedelta(minutes=-1))
        await kitchen.place(Plan([PlannedTask(name, kind="dough", priority=priority)]))
    claims = await kitchen.database.claim(ask_for("dough", most=10))
    assert names_of(claims.claimed) == ["urgent", "early", "late", "idle"]


async def test_several_queues_are_one_line(kitchen: Kitchen, time: Time) -> None:
    for kind in ("top", "dough", "bake", "top"):
        time.advance(timedelta(seconds=1))
        await kitchen.place(Plan([PlannedTask(f"{kind} at {time.now()}", kind=kind)]))
    first = await kitchen.database.claim(ask_for("bake", "dough", "top", most=3))
    second = await kitchen.database.claim(ask_for("bake", "dough", "top", most=3))
    assert [each.task.kind for each in (*first.claimed, *second.claimed)] == ["top", "dough", "bake", "top"]


async def test_two_tasks_of_one_operation_claimed_at_once_are_told_one_after_the_other(kitchen: Kitchen) -> None:
    operation = await kitchen.place(Plan([PlannedTask("left", kind="top"), PlannedTask("right", kind="bake")]))
    claims = await kitchen.database.claim(ask_for("bake", "top", most=5))
    assert [each.version for each in claims.claimed] == [2, 3]
    assert await kitchen.told(operation, after=1) == [f"task.started {name}" for name in names_of(claims.claimed)]
    assert (await kitchen.operation(operation)).version == 3


async def test_what_is_claimed_is_what_is_stored(kitchen: Kitchen) -> None:
    operation = await kitchen.place(DOUGH)
    [claimed] = (await kitchen.database.claim(ask_for("dough"))).claimed
    stored = await kitchen.operation(operation)
    assert stored.tasks[0] == claimed.task
    assert (stored.version, stored.started_at) == (claimed.version, NOON)
    assert claimed.task.lease_until == NOON + claimed.task.lease_us


async def test_a_claim_comes_with_the_results_of_the_tasks_before(kitchen: Kitchen) -> None:
    await kitchen.place(DIAMOND)
    await kitchen.do("dough")
    await kitchen.do("top", {"olives": 5})
    await kitchen.do("bake", {"degrees": 250})
    [claimed] = (await kitchen.database.claim(ask_for("deliver"))).claimed
    assert claimed.inputs == {"top": '{"olives":5}', "bake": '{"degrees":250}'}


async def test_a_worker_of_a_region_gets_its_tasks_and_those_for_anywhere(kitchen: Kitchen) -> None:
    for region in ("north", "south", None):
        await kitchen.place(Plan([PlannedTask(f"{region}", kind="dough", region=region)]))
    assert names_of(await claim_all(kitchen.database, ask_for("dough", region="north"))) == ["north", "None"]
    assert names_of(await claim_all(kitchen.database, ask_for("dough"))) == []
    assert names_of(await claim_all(kitchen.database, ask_for("dough", region="south"))) == ["south"]


async def test_however_many_claim_at_once_each_task_is_claimed_by_one(doors: Doors) -> None:
    many = [await doors.open() for _ in range(DOORS)]
    kitchen = Kitchen(doors.first, Time())
    fan = Plan([PlannedTask(f"piece {i}", kind="dough") for i in range(5)])
    await asyncio.gather(*(kitchen.place(fan) for _ in range(60)))
    lots = await asyncio.gather(*(claim_all(door, ask_for("dough", most=most)) for door in many for most in (1, 2, 7)))
    claimed = Counter((each.operation_id, each.task.position) for lot in lots for each in lot)
    assert len(claimed) == 300
    assert set(claimed.values()) == {1}


async def test_a_rate_holds_however_many_claim_at_once(doors: Doors) -> None:
    many = [await doors.open() for _ in range(DOORS)]
    kitchen = Kitchen(doors.first, Time())
    await asyncio.gather(*(kitchen.place(Plan([PlannedTask("post")])) for _ in range(20)))
    claims = await asyncio.gather(*(door.claim(ask_for("post", most=2)) for door in many for _ in range(3)))
    rate = KINDS["post"].rate
    assert rate is not None
    assert sum(len(each.claimed) for each in claims) == rate.count
    waits = [each.next_permit_in for each in claims if len(each.claimed) < 2]
    assert all(wait is not None and 0 < wait <= rate.period.total_seconds() + 0.1 for wait in waits)


async def test_a_rate_lets_more_through_when_it_said_it_would(doors: Doors) -> None:
    database = doors.first
    kitchen = Kitchen(database, Time())
    await asyncio.gather(*(kitchen.place(Plan([PlannedTask("phone")])) for _ in range(8)))
    async with asyncio.timeout(PATIENCE_SECONDS):
        claims = await database.claim(ask_for("phone", most=8))
        assert len(claims.claimed) == 5
        later = await claim_all(database, ask_for("phone", most=8))
    assert len(later) == 3


async def test_a_concurrency_holds_however_many_claim_at_once(doors: Doors) -> None:
    many = [await doors.open() for _ in range(DOORS)]
    kitchen = Kitchen(doors.first, Time())
    await asyncio.gather(*(kitchen.place(Plan([PlannedTask("oven")])) for _ in range(10)))
    for _ in range(5):
        claims = await asyncio.gather(*(door.claim(ask_for("oven", most=3)) for door in many))
        running = [claimed for each in claims for claimed in each.claimed]
        assert len(running) == 2
        for claimed in running:
            await kitchen.complete(claimed)


async def test_all_regions_of_a_queue_share_its_limit(kitchen: Kitchen) -> None:
    for region in ("north", "north", "south", "south"):
        await kitchen.place(Plan([PlannedTask("oven", region=region)]))
    north = await kitchen.database.claim(ask_for("oven", region="north"))
    south = await kitchen.database.claim(ask_for("oven", region="south", most=5))
    assert (len(north.claimed), len(south.claimed)) == (1, 1)


async def test_a_queue_at_its_limit_holds_up_no_other(kitchen: Kitchen) -> None:
    for kind in ("oven", "oven", "oven", "dough"):
        await kitchen.place(Plan([PlannedTask(kind)]))
    claims = await kitchen.database.claim(ask_for("oven", "dough", most=5))
    assert sorted(names_of(claims.claimed)) == ["dough", "oven", "oven"]


@pytest.mark.parametrize("kind", ["dough", "oven"])
async def test_nothing_is_claimed_from_a_paused_queue(kitchen: Kitchen, kind: str) -> None:
    await kitchen.place(Plan([PlannedTask(kind)]))
    await _pause(kitchen.database, kind, is_paused=1)
    claims = await kitchen.database.claim(ask_for(kind))
    assert (list(claims.claimed), claims.next_permit_in) == ([], None)


@pytest.mark.parametrize("kind", ["dough", "oven"])
async def test_a_queue_that_pauses_for_a_time_says_for_how_long(kitchen: Kitchen, kind: str) -> None:
    await kitchen.place(Plan([PlannedTask(kind)]))
    await _pause(kitchen.database, kind, paused_until=NOON + as_micros(timedelta(seconds=7)))
    claims = await kitchen.database.claim(ask_for(kind))
    assert not claims.claimed
    assert claims.next_permit_in == pytest.approx(7, abs=2)  # less what it took to be its turn
    later = await kitchen.database.claim(replace(ask_for(kind), now=NOON + as_micros(timedelta(seconds=7))))
    assert len(later.claimed) == 1


async def _pause(database: Database, kind: str, **how: int) -> None:
    row = {"name": queue_name(SHOP, kind), "is_paused": 0, **how}
    await database.write(lambda connection: connection.insert_or_ignore(queues, row))


async def test_the_same_request_gets_the_same_tasks_however_often_it_comes(doors: Doors) -> None:
    many = [await doors.open() for _ in range(DOORS)]
    kitchen = Kitchen(doors.first, Time())
    await asyncio.gather(*(kitchen.place(DOUGH) for _ in range(20)))
    ask = replace(ask_for("dough", most=3), request="a7f0")
    answers = await asyncio.gather(*(door.claim(ask) for door in many for _ in range(2)))
    tokens = {tuple(sorted(each.task.token or "" for each in answer.claimed)) for answer in answers}
    assert len(tokens) == 1
    assert len(tokens.pop()) == 3
    assert len((await kitchen.database.claim(ask_for("dough", most=99))).claimed) == 17


async def test_a_limited_queues_request_spends_its_permits_once(kitchen: Kitchen) -> None:
    await asyncio.gather(*(kitchen.place(Plan([PlannedTask("oven")])) for _ in range(5)))
    ask = replace(ask_for("oven", most=5), request="a7f0")
    first, again = await kitchen.database.claim(ask), await kitchen.database.claim(ask)
    assert [each.task.token for each in first.claimed] == [each.task.token for each in again.claimed]
    assert await kitchen.held_permits("oven") == 2
