"""An allowance: what a third party lets us do, shared by several queues, however long each call is on its way."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import pytest

from orderup.db.database import Claimed
from orderup.engine.claim import claim_now, queues_for
from orderup.engine.engine import shared_allowances
from orderup.engine.fail import fail_task
from orderup.engine.wait import let_task_wait
from orderup.errors import Misconfigured
from orderup.model.kind import Allowance, Kind, Rate
from orderup.model.plan import Plan, PlannedTask
from tests.engine.conftest import Doors
from tests.engine.kitchen import KINDS, SHOP, Kitchen, Time, place_of, token_of
from tests.services.waiting import PATIENCE_SECONDS

COUNT, PERIOD = 10, timedelta(milliseconds=200)
PLATFORM = Allowance("platform", Rate(COUNT, PERIOD))
SLOW = Allowance("platform", Rate(COUNT, timedelta(minutes=1)))
PROCESSES, CALLS = 3, 60
LONGEST_DELAY = 0.15


def kinds(allowance: Allowance) -> dict[str, Kind]:
    return {
        **KINDS,
        "submit": Kind("submit", allowance=allowance),
        "look": Kind("look", allowance=allowance, share=0.5),
        "glance": Kind("glance", allowance=allowance, share=0.5),
    }


def calls(kind: str, count: int) -> Plan:
    priority = 0 if kind == "submit" else 1
    return Plan([PlannedTask(f"{kind}{number}", kind=kind, priority=priority) for number in range(count)])


@pytest.fixture
async def desk(doors: Doors, time: Time) -> Kitchen:
    """Whose allowance does not come back within a test."""
    return Kitchen(await doors.open(), time, kinds=kinds(SLOW))


async def claim(kitchen: Kitchen, *names: str, most: int = 100) -> list[Claimed]:
    queues = queues_for(SHOP, names, None)
    return list((await claim_now(kitchen.engine, queues, worker="ann", most=most)).claimed)


def by_kind(claimed: Sequence[Claimed]) -> Counter[str]:
    return Counter(each.task.kind for each in claimed)


async def test_queues_share_it_and_what_is_more_urgent_goes_first(desk: Kitchen) -> None:
    await desk.place(calls("look", 8))
    await desk.place(calls("submit", 7))
    await desk.place(Plan([PlannedTask("dough")]))
    assert by_kind(await claim(desk, "look", "submit", "dough")) == {"submit": 7, "look": 3, "dough": 1}
    assert await claim(desk, "look", "submit") == []


async def test_a_queue_uses_no_more_than_its_share_and_the_rest_is_left_to_others(desk: Kitchen) -> None:
    await desk.place(calls("look", 20))
    assert by_kind(await claim(desk, "look")) == {"look": 5}
    assert await claim(desk, "look") == []
    await desk.place(calls("submit", 20))
    assert by_kind(await claim(desk, "look", "submit")) == {"submit": 5}


async def test_kinds_with_a_share_use_it_together(desk: Kitchen) -> None:
    await desk.place(calls("look", 3))
    await desk.place(calls("glance", 20))
    assert by_kind(await claim(desk, "glance", "look", "submit")) == {"look": 3, "glance": 2}
    assert await claim(desk, "glance") == []


async def test_who_asks_for_one_of_the_queues_is_limited_by_what_the_others_have_used(desk: Kitchen) -> None:
    await desk.place(calls("submit", 8))
    await desk.place(calls("look", 8))
    assert by_kind(await claim(desk, "submit")) == {"submit": 8}
    assert by_kind(await claim(desk, "look")) == {"look": 2}


async def test_the_claim_that_uses_it_up_is_told_when_there_is_more(desk: Kitchen) -> None:
    await desk.place(calls("submit", 20))
    queues = queues_for(SHOP, ["submit"], None)
    some = await claim_now(desk.engine, queues, worker="ann", most=9)
    assert some.next_permit_in is None
    rest = await claim_now(desk.engine, queues, worker="ann", most=9)
    assert len(rest.claimed) == 1
    assert rest.next_permit_in is not None
    assert 0 < rest.next_permit_in <= 60


async def test_a_call_under_way_counts_however_long_it_takes_and_a_window_after_it_has_ended(
    doors: Doors, time: Time
) -> None:
    kitchen = Kitchen(await doors.open(), time, kinds=kinds(PLATFORM))
    await kitchen.place(calls("submit", 2 * COUNT))
    first = await claim(kitchen, "submit")
    assert len(first) == COUNT
    await asyncio.sleep(2 * PERIOD.total_seconds())
    assert await claim(kitchen, "submit") == [], "they are on their way still"
    for each in first:
        await kitchen.complete(each)
    wait = await kitchen.next_permit_in("submit")
    assert wait is not None
    # by the same clock: the window began with their end, not with the claim
    assert wait > 0
    await asyncio.sleep(2 * PERIOD.total_seconds())
    assert len(await claim(kitchen, "submit")) == COUNT


async def test_nobody_ever_sees_more_than_it_allows_whatever_the_way_takes(doors: Doors, time: Time) -> None:
    """`arrivals`: when each call reached the third party, between its claim and its end."""
    kitchens = [Kitchen(await doors.open(), time, kinds=kinds(PLATFORM)) for _ in range(PROCESSES)]
    await kitchens[0].place(calls("submit", CALLS))
    loop, lots, arrivals = asyncio.get_running_loop(), random.Random(7), list[float]()

    async def call(kitchen: Kitchen, claimed: Claimed) -> None:
        await asyncio.sleep(lots.uniform(0, LONGEST_DELAY))
        arrivals.append(loop.time())
        await asyncio.sleep(lots.uniform(0, LONGEST_DELAY))
        await kitchen.complete(claimed)

    async def work(kitchen: Kitchen) -> None:
        queues = queues_for(SHOP, ["submit"], None)
        async with asyncio.TaskGroup() as group:
            while len(arrivals) < CALLS:
                claims = await claim_now(kitchen.engine, queues, worker="ann", most=4)
                for each in claims.claimed:
                    group.create_task(call(kitchen, each))
                await asyncio.sleep(min(claims.next_permit_in or 0.01, 0.05))

    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        for kitchen in kitchens:
            group.create_task(work(kitchen))
    assert len(arrivals) == CALLS
    arrivals.sort()
    most = max(sum(at <= other < at + PERIOD.total_seconds() for other in arrivals) for at in arrivals)
    assert most <= COUNT


async def test_a_call_that_was_never_made_does_not_count(desk: Kitchen) -> None:
    await desk.place(calls("submit", 2 * COUNT))
    first, second, *_ = await claim(desk, "submit")
    await fail_task(desk.engine, *place_of(first), token=token_of(first), error="no way there", was_sent=False)
    await let_task_wait(desk.engine, *place_of(second), token=token_of(second), seconds=9, memo=None, was_sent=False)
    assert len(await claim(desk, "submit")) == 2


async def test_a_third_party_that_asks_for_a_rest_is_asked_by_none_of_them(desk: Kitchen) -> None:
    await desk.place(calls("submit", 2))
    await desk.place(calls("look", 2))
    [claimed] = await claim(desk, "submit", most=1)
    rest = timedelta(minutes=2)
    await fail_task(
        desk.engine, *place_of(claimed), token=token_of(claimed), error="429", retry_after=rest, pauses_queue=True
    )
    assert await claim(desk, "look", "submit") == []


def test_a_kind_has_an_allowance_or_limits_of_its_own() -> None:
    with pytest.raises(Misconfigured, match="Leave one of them out"):
        Kind("submit", allowance=SLOW, concurrency=1)
    with pytest.raises(Misconfigured, match=r"write 0\.5 for half"):
        Kind("look", allowance=SLOW, share=0)


def test_kinds_of_one_allowance_agree_about_it() -> None:
    with pytest.raises(Misconfigured, match="allowance shop/platform"):
        shared_allowances(
            {"shop/submit": Kind("submit", allowance=SLOW), "shop/look": Kind("look", allowance=PLATFORM)}
        )
