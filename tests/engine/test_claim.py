"""Claiming: who gets which task, and under what."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from orderup.db.database import Claimed
from orderup.engine.claim import ClaimDesk, queues_for
from orderup.engine.steer import cancel_operation, pause_operation
from orderup.errors import Unavailable
from orderup.model.event import Audience
from orderup.model.plan import Plan, PlannedTask
from orderup.model.task import TaskStatus
from tests.engine.conftest import Doors
from tests.engine.kitchen import CHAIN, DIAMOND, DOUGH, NOON, SHOP, Kitchen, Time, token_of
from tests.services.waiting import PATIENCE_SECONDS

SECOND = timedelta(seconds=1)


def names(claimed: Sequence[Claimed]) -> list[str]:
    return [each.task.name for each in claimed]


def plan_of(*names: str, kind: str = "dough", priority: int = 0, region: str | None = None) -> Plan:
    return Plan([PlannedTask(name, kind=kind, priority=priority, region=region) for name in names])


async def test_a_claimed_task_runs_under_a_token_and_a_lease(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(CHAIN)
    time.advance(SECOND)
    claimed = await kitchen.take("dough", worker="ann")
    task = claimed.task
    assert task == await kitchen.task(order, "dough")
    assert (task.status, task.worker, task.attempt) == (TaskStatus.RUNNING, "ann", 1)
    assert (task.started_at, task.lease_until) == (NOON + 1_000_000, NOON + 1_000_000 + task.lease_us)
    assert (claimed.operation_id, claimed.shop, claimed.inputs) == (order.id, SHOP, {})
    assert len(token_of(claimed)) >= 16


async def test_the_claim_is_told_to_the_customer_in_the_kinds_words(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    [told] = await kitchen.events(order, after=1)
    assert (told.n, told.type, told.task, told.task_name, told.status) == (2, "task.started", 0, "dough", "running")
    assert (told.message, told.audience) == ("Preparing dough", Audience.CUSTOMER)
    assert claimed.version == told.n == (await kitchen.operation(order)).version


async def test_a_kind_without_words_for_the_customer_is_told_to_staff_only(kitchen: Kitchen) -> None:
    order = await kitchen.place(Plan([PlannedTask("deliver")]))
    await kitchen.take("deliver")
    [told] = await kitchen.events(order, after=1)
    assert (told.message, told.audience) == ("", Audience.STAFF)


async def test_the_order_has_started_with_its_first_claim(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(CHAIN)
    assert order.started_at is None
    time.advance(SECOND)
    await kitchen.do("dough")
    time.advance(SECOND)
    await kitchen.take("top")
    assert (await kitchen.operation(order)).started_at == NOON + 1_000_000


async def test_a_claim_under_the_executors_lease_has_none_of_its_own(kitchen: Kitchen) -> None:
    await kitchen.place()
    assert (await kitchen.take("dough", own_lease=True)).task.lease_until is None


async def test_a_claim_comes_with_the_results_it_depends_on_by_name(kitchen: Kitchen) -> None:
    await kitchen.place(DIAMOND)
    await kitchen.do("dough", {"grams": 300})
    assert (await kitchen.take("bake")).inputs == {"dough": '{"grams":300}'}
    await kitchen.do("top", ["basil"])


async def test_a_result_of_nothing_is_an_input_of_nothing(kitchen: Kitchen) -> None:
    await kitchen.place(CHAIN)
    await kitchen.do("dough")
    assert (await kitchen.take("top")).inputs == {"dough": None}


async def test_a_thousand_results_all_reach_the_task_that_joins_them(kitchen: Kitchen) -> None:
    fan = [PlannedTask(f"dough{number}", kind="dough") for number in range(1_000)]
    order = await kitchen.place(Plan([*fan, PlannedTask("bake", after=[task.name for task in fan])]))
    while claimed := await kitchen.claim("dough", most=100):
        await asyncio.gather(*(kitchen.complete(each, each.task.position) for each in claimed))
    join = await kitchen.take("bake")
    assert join.inputs == {f"dough{number}": str(number) for number in range(1_000)}
    await kitchen.complete(join)
    assert (await kitchen.operation(order)).status == "completed"


async def test_nothing_is_claimed_from_other_queues(kitchen: Kitchen) -> None:
    await kitchen.place(CHAIN)
    assert await kitchen.claim("top", "bake", "deliver") == []
    assert await kitchen.claim() == []


async def test_no_more_is_claimed_than_was_asked_for(kitchen: Kitchen) -> None:
    await kitchen.place(plan_of("a", "b", "c"))
    assert len(await kitchen.claim("dough", most=2)) == 2
    assert len(await kitchen.claim("dough", most=2)) == 1
    assert len(await kitchen.claim("dough", most=2)) == 0


# Who goes first.


async def test_first_come_first_served(kitchen: Kitchen, time: Time) -> None:
    orders = []
    for _ in range(5):
        orders.append(await kitchen.place())
        time.advance(SECOND)
    claimed = await kitchen.claim("dough", most=5)
    assert [each.operation_id for each in claimed] == [order.id for order in orders]


async def test_first_come_first_served_over_several_queues(kitchen: Kitchen, time: Time) -> None:
    for kind in ("top", "dough", "top", "bake"):
        await kitchen.place(plan_of(f"the {kind}", kind=kind))
        time.advance(SECOND)
    assert names(await kitchen.claim("bake", "dough", "top", most=3)) == ["the top", "the dough", "the top"]
    assert names(await kitchen.claim("bake", "dough", "top", most=3)) == ["the bake"]


async def test_a_smaller_priority_goes_first_whenever_it_came(kitchen: Kitchen, time: Time) -> None:
    for name, priority in (("later", 1), ("usual", 0), ("express", -1), ("usual too", 0)):
        await kitchen.place(plan_of(name, priority=priority))
        time.advance(SECOND)
    assert names(await kitchen.claim("dough", most=9)) == ["express", "usual", "usual too", "later"]


async def test_tasks_of_one_order_go_in_the_order_of_its_plan(kitchen: Kitchen) -> None:
    wanted = [f"step{number}" for number in range(20)]
    await kitchen.place(plan_of(*wanted))
    assert names(await kitchen.claim("dough", most=20)) == wanted


async def test_several_tasks_of_one_order_are_claimed_and_told_together(kitchen: Kitchen) -> None:
    order = await kitchen.place(plan_of("a", "b", "c"))
    claimed = await kitchen.claim("dough", most=3)
    assert [each.version for each in claimed] == [2, 3, 4]
    assert await kitchen.told(order, after=order) == ["task.started a", "task.started b", "task.started c"]
    assert len({token_of(each) for each in claimed}) == 3


# Regions.


async def test_a_worker_of_a_region_gets_its_own_tasks_and_those_that_may_be_done_anywhere(
    kitchen: Kitchen, time: Time
) -> None:
    for region in ("paris", None, "rome"):
        await kitchen.place(plan_of(region or "anywhere", region=region))
        time.advance(SECOND)
    assert names(await kitchen.claim("dough", region="paris", most=9)) == ["paris", "anywhere"]
    assert names(await kitchen.claim("dough", region="rome", most=9)) == ["rome"]


async def test_a_worker_without_a_region_gets_only_tasks_without(kitchen: Kitchen) -> None:
    await kitchen.place(plan_of("paris", region="paris"))
    await kitchen.place(plan_of("anywhere"))
    assert names(await kitchen.claim("dough", most=9)) == ["anywhere"]


def test_the_queues_of_a_worker_are_its_kinds_in_its_region_and_anywhere() -> None:
    assert queues_for("diner", ["a", "b"], "rome") == ["diner/a@rome", "diner/a", "diner/b@rome", "diner/b"]
    assert queues_for("diner", ["a"], None) == ["diner/a"]


# The same request, sent again.


async def test_the_same_request_gets_the_same_tasks_again_and_nothing_is_told_twice(kitchen: Kitchen) -> None:
    order = await kitchen.place(plan_of("a", "b", "c"))
    first = await kitchen.claim("dough", most=2, request="r1")
    before = await kitchen.operation(order)
    again = await kitchen.claim("dough", most=2, request="r1")
    assert sorted(map(token_of, again)) == sorted(map(token_of, first))
    assert await kitchen.operation(order) == before


async def test_another_request_or_another_worker_gets_other_tasks(kitchen: Kitchen) -> None:
    await kitchen.place(plan_of("a", "b", "c"))
    assert names(await kitchen.claim("dough", request="r1")) == ["a"]
    assert names(await kitchen.claim("dough", request="r2")) == ["b"]
    assert names(await kitchen.claim("dough", request="r1", worker="bob")) == ["c"]


async def test_the_same_request_gets_new_tasks_once_the_first_are_done(kitchen: Kitchen) -> None:
    await kitchen.place(plan_of("a", "b"))
    [first] = await kitchen.claim("dough", request="r1")
    await kitchen.complete(first)
    assert names(await kitchen.claim("dough", request="r1")) == ["b"]


async def test_the_same_request_comes_with_the_same_inputs(kitchen: Kitchen) -> None:
    await kitchen.place(CHAIN)
    await kitchen.do("dough", 7)
    await kitchen.claim("top", request="r1")
    assert [each.inputs for each in await kitchen.claim("top", request="r1")] == [{"dough": "7"}]


# Many at once.


async def test_no_task_is_claimed_twice_however_many_ask_at_once(kitchen: Kitchen) -> None:
    await asyncio.gather(*(kitchen.place(plan_of("a", "b")) for _ in range(30)))
    taken: list[Claimed] = []

    async def work(worker: str) -> None:
        while claimed := await kitchen.claim("dough", worker=worker, most=3):
            taken.extend(claimed)

    await asyncio.gather(*(work(f"w{number}") for number in range(20)))
    left = await claim_all(kitchen)
    places = [(each.operation_id, each.task.position) for each in [*taken, *left]]
    assert len(places) == len(set(places)) == 60


async def claim_all(kitchen: Kitchen) -> list[Claimed]:
    """What is left when nobody else asks."""
    taken: list[Claimed] = []
    while claimed := await kitchen.claim("dough", most=100):
        taken.extend(claimed)
    return taken


async def test_no_task_is_claimed_twice_from_several_processes(doors: Doors, time: Time) -> None:
    kitchens = [Kitchen(await doors.open(), time) for _ in range(4)]
    await asyncio.gather(*(kitchens[0].place(plan_of("a", "b")) for _ in range(30)))
    taken: list[Claimed] = []

    async def work(kitchen: Kitchen, worker: str) -> None:
        while claimed := await kitchen.claim("dough", worker=worker, most=3):
            taken.extend(claimed)
            await asyncio.gather(*(kitchen.complete(each) for each in claimed))

    await asyncio.gather(*(work(kitchen, f"w{number}") for number, kitchen in enumerate(kitchens)))
    taken += await claim_all(kitchens[0])
    places = [(each.operation_id, each.task.position) for each in taken]
    assert len(places) == len(set(places)) == 60


async def test_claims_race_with_changes_of_the_same_orders_and_nothing_is_lost(kitchen: Kitchen) -> None:
    orders = [await kitchen.place(plan_of("a", "b", "c", "d")) for _ in range(10)]

    async def work() -> None:
        while claimed := await kitchen.claim("dough"):
            await kitchen.complete(claimed[0])

    async def meddle() -> None:
        for order in orders[::2]:
            await pause_operation(kitchen.engine, order.id)
        for order in orders[1::4]:
            await cancel_operation(kitchen.engine, order.id, reason="no more")

    results = await asyncio.gather(*(work() for _ in range(5)), meddle(), return_exceptions=True)
    unforeseen = [each for each in results if isinstance(each, BaseException) and "has ended" not in str(each)]
    assert [each for each in unforeseen if "cancelled" not in str(each)] == []
    for order in orders[3::4]:
        await asyncio.gather(*(kitchen.complete(each) for each in await claim_all(kitchen)))
        assert (await kitchen.operation(order)).status == "completed"


async def test_what_is_cancelled_or_paused_is_not_claimed(kitchen: Kitchen) -> None:
    cancelled, paused = await kitchen.place(), await kitchen.place()
    await cancel_operation(kitchen.engine, cancelled.id, reason="changed my mind")
    await pause_operation(kitchen.engine, paused.id)
    assert await kitchen.claim("dough", most=9) == []


# Waiting for tasks to come.


class Counter:
    """A desk at which tasks are waited for, and a look at it: whether it has found out that there is nothing."""

    def __init__(self, kitchen: Kitchen, desk: ClaimDesk) -> None:
        self.desk = desk
        self._has_looked = asyncio.Event()
        kitchen.engine.observe_claim = lambda _: self._has_looked.set()

    def ask(self, worker: str = "ann", *, seconds: float = 60, most: int = 1) -> "asyncio.Task[list[str]]":
        """The names of the tasks that this worker gets in the end."""

        async def wait() -> list[str]:
            queues = queues_for(SHOP, ["dough"], None)
            return names(await self.desk.claim(queues, worker=worker, most=most, wait_seconds=seconds))

        return asyncio.ensure_future(wait())

    async def line_up(self, *workers: str) -> "list[asyncio.Task[list[str]]]":
        """They ask one after the other, and find that there is nothing yet."""
        waiting = []
        for worker in workers:
            self._has_looked.clear()
            waiting.append(self.ask(worker))
            await self._has_looked.wait()
        assert not any(each.done() for each in waiting)
        return waiting


@asynccontextmanager
async def claim_desk(kitchen: Kitchen) -> AsyncIterator[Counter]:
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        desk = ClaimDesk(kitchen.engine, group)
        yield Counter(kitchen, desk)
        desk.close()


async def test_who_waits_gets_the_task_that_comes(kitchen: Kitchen) -> None:
    async with claim_desk(kitchen) as counter:
        [ann] = await counter.line_up("ann")
        await kitchen.place()
        assert await ann == ["dough"]


async def test_of_those_who_wait_the_first_to_ask_is_the_first_to_be_served(kitchen: Kitchen) -> None:
    async with claim_desk(kitchen) as counter:
        ann, bob, cyd, *_ = await counter.line_up("ann", "bob", "cyd", "dan", "eve")
        for gone in (ann, bob):
            gone.cancel()
        await asyncio.wait({ann, bob})
        order = await kitchen.place()
        assert await cyd == ["dough"]
        assert (await kitchen.task(order, "dough")).worker == "cyd"


async def test_who_waits_in_vain_gets_nothing_in_the_end(kitchen: Kitchen) -> None:
    async with claim_desk(kitchen) as counter:
        assert await counter.ask(seconds=0.05) == []


async def test_who_does_not_wait_gets_what_is_there(kitchen: Kitchen) -> None:
    async with claim_desk(kitchen) as counter:
        assert await counter.ask(seconds=0) == []
        await kitchen.place(plan_of("a", "b", "c"))
        assert await counter.ask(seconds=0, most=2) == ["a", "b"]


async def test_a_hundred_wait_and_thirty_tasks_make_thirty_glad(kitchen: Kitchen) -> None:
    async with claim_desk(kitchen) as counter:
        waiting = await counter.line_up(*(f"w{number}" for number in range(100)))
        await kitchen.place(plan_of(*(f"task {number}" for number in range(30))))
        glad = 0
        for done in asyncio.as_completed(waiting):
            glad += len(await done)
            if glad == 30:
                break
        left = [each for each in waiting if not each.done()]
        assert len(left) == 70
        counter.desk.close()
        assert [name for each in left for name in await each] == []


async def test_a_task_that_becomes_ready_by_a_completion_reaches_who_waits(kitchen: Kitchen) -> None:
    async with claim_desk(kitchen) as counter:
        await kitchen.place(Plan.chain(PlannedTask("bake"), PlannedTask("dough")))
        [ann] = await counter.line_up("ann")
        await kitchen.do("bake")
        assert await ann == ["dough"]


async def test_who_is_gone_before_anything_came_gets_nothing_that_comes_later(kitchen: Kitchen) -> None:
    async with claim_desk(kitchen) as counter:
        ann, bob = await counter.line_up("ann", "bob")
        ann.cancel()
        await asyncio.wait({ann})
        order = await kitchen.place()
        assert await bob == ["dough"]
        assert (await kitchen.task(order, "dough")).worker == "bob"
        assert await kitchen.told(order, after=order) == ["task.started dough"]


async def test_what_was_being_claimed_for_somebody_who_is_gone_goes_to_the_next(kitchen: Kitchen) -> None:
    async with claim_desk(kitchen) as counter:
        order = await kitchen.place()
        ann = counter.ask("ann")
        for _ in range(3):
            await asyncio.sleep(0)  # the desk is about to claim for her
        ann.cancel()
        await asyncio.wait({ann})
        assert await counter.ask("bob") == ["dough"]
        task = await kitchen.task(order, "dough")
        assert (task.worker, task.attempt, task.losses) == ("bob", 1, 0)


async def test_when_the_desk_closes_nobody_waits_any_longer(kitchen: Kitchen) -> None:
    async with claim_desk(kitchen) as counter:
        ann, bob = await counter.line_up("ann", "bob")
        counter.desk.close()
        assert await ann == await bob == []
        with pytest.raises(Unavailable, match="The server stops"):
            await counter.ask()


async def test_nobody_is_remembered_for_having_waited(kitchen: Kitchen) -> None:
    async with claim_desk(kitchen) as counter:
        for number in range(20):
            queues = queues_for(SHOP, ["dough"], f"region{number}")
            assert await counter.desk.claim(queues, worker="ann", most=1, wait_seconds=0.01) == []
        serving = {each for each in asyncio.all_tasks() if each.get_name().startswith("claims of")}
        await asyncio.gather(*serving)


async def test_a_task_placed_by_another_process_reaches_who_waits(doors: Doors, time: Time) -> None:
    here, elsewhere = Kitchen(await doors.open(), time), Kitchen(await doors.open(), time)
    async with claim_desk(here) as counter:
        watching = asyncio.ensure_future(here.engine.run())
        [ann] = await counter.line_up("ann")
        await elsewhere.place(DOUGH)
        if not doors.are_many:
            here.engine.bell.ring_all()  # who shares one database object is no other process
        assert await ann == ["dough"]
        watching.cancel()
