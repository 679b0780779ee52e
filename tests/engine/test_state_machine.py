"""Anything that workers, people and time do to orders, in any order and through two processes, beside a plain model.

Hypothesis makes up what is done, a step after the other, and shortens what fails. After every step the database must
say what the model says. What the model refuses must be refused and change nothing: above all what comes under the
token of an earlier attempt. A process may lose all its memory at any time.

A run that fails prints `@reproduce_failure(…)`; put above the class Rush, that run is repeated, and no other.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import timedelta
from itertools import count, groupby, permutations
from pathlib import Path
from random import Random
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, select

from orderup.db.database import Database, ReadConnection, WriteConnection
from orderup.db.tables import events, metadata, operations, permits, rfas, tasks
from orderup.engine.complete import complete_by_step, complete_task
from orderup.engine.decide import approve_rfa, decline_rfa
from orderup.engine.due import end_waits, expire_rfas, pass_deadlines
from orderup.engine.engine import Engine
from orderup.engine.fail import fail_task
from orderup.engine.hand_back import hand_back_task
from orderup.engine.lease import beat_executor, heartbeat
from orderup.engine.rescue import Rescuer
from orderup.engine.steer import (
    cancel_operation,
    cancel_task,
    pause_operation,
    rerun_task,
    resume_operation,
    retry_operation,
)
from orderup.engine.wait import let_task_wait, remember
from orderup.errors import Conflict, NotFound, Refused
from orderup.model.ids import OperationId
from orderup.model.kind import Kind
from orderup.model.placing import encode
from orderup.model.plan import Approval, Plan, PlannedTask
from orderup.model.retry import Retry
from orderup.model.times import as_micros
from tests.engine.conftest import open_url
from tests.engine.kitchen import SHOP, Kitchen, Time, check_books
from tests.engine.plain_model import (
    FINAL,
    FIRST_WAIT,
    LEASE_SECONDS,
    LONGEST_WAIT,
    MOST_FAILURES,
    MOVING,
    ONE_AT_A_TIME,
    SECOND,
    No,
    PlainClaim,
    PlainKitchen,
    PlainOrder,
    PlainRescuer,
    PlainTask,
    place_in_line,
)

T = TypeVar("T")
DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgres_url"))]
SETTINGS = settings(
    stateful_step_count=50,
    deadline=None,  # a step waits for the disk
    suppress_health_check=[HealthCheck.too_slow],  # so does the making of an example, which takes its steps
    print_blob=True,
)
# Twenty seconds each, or less; twice as long on a machine that has other things to do.
EXAMPLES = {"sqlite": 70, "postgresql": 45}

LEASE = timedelta(seconds=LEASE_SECONDS)
RETRY = Retry(
    attempts=MOST_FAILURES, first=timedelta(microseconds=FIRST_WAIT), longest=timedelta(microseconds=LONGEST_WAIT)
)
FREE = ("dough", "top")
KINDS = {name: Kind(name, retry=RETRY, lease=LEASE) for name in FREE} | {
    ONE_AT_A_TIME: Kind(ONE_AT_A_TIME, retry=RETRY, lease=LEASE, concurrency=1)
}
A_MOMENT = timedelta(milliseconds=1)
ANSWER_WITHIN = timedelta(minutes=30)
# In a run that lets no day pass the first two are never over, the last one is before a third attempt.
WITHIN = (timedelta(hours=24), timedelta(hours=24), timedelta(minutes=1), timedelta(seconds=12))
LENGTHS = (
    *(timedelta(seconds=seconds) for seconds in (1, 2, 10, 15, 20)),
    *(timedelta(minutes=1), timedelta(hours=1), timedelta(hours=25)),
)
MOST_UNDER_WAY, MOST_TASKS, PROCESSES = 3, 4, 2
TABLES = (operations, tasks, rfas, events, permits)
Snapshot = dict[str, list[dict[str, Any]]]


class NoJitter(Random):
    """So that the model knows how long a failed task waits: as long as it may."""

    def uniform(self, _a: float, b: float) -> float:
        return b


class Process(Kitchen):
    """What there is of one process here: an engine, its rescuer, its executor's name. It shares nothing with another
    but the database. `seen`: what its rescuer has looked on at, in the model."""

    def __init__(self, database: Database, time: Time, ids: Iterator[int], number: int) -> None:
        self.database, self.time = database, time
        self.engine = Engine(
            database, {SHOP: KINDS}, now=time.now, random=NoJitter(), new_id=lambda _now: OperationId(next(ids))
        )
        self.rescuer, self.seen = Rescuer(self.engine, monotonic=time.monotonic), PlainRescuer()
        self.executor = f"local-{number}"


class House:
    """A connection to one database for each process, opened once for all runs, and the event loop that they live in."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self.databases = [open_url(url) for _ in range(PROCESSES)]
        for database in self.databases:
            self.run(database.open())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)

    def empty(self) -> None:
        def write(connection: WriteConnection) -> None:
            for table in metadata.tables.values():
                connection.execute(delete(table))

        self.run(self.databases[0].write(write))

    def close(self) -> None:
        for database in self.databases:
            self.run(database.close())
        self._runner.close()


@dataclass(frozen=True)
class Deed:
    """Something to do, in the model and for real. Refused by the one, it must be refused by the other."""

    name: str
    plain: Callable[[PlainKitchen], None]
    real: Callable[[Engine], Awaitable[object]]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    planned = []
    for number in range(draw(st.integers(1, MOST_TASKS))):
        after = [f"t{earlier}" for earlier in range(number) if draw(st.booleans())]
        kind, within = draw(st.sampled_from(list(KINDS))), draw(st.sampled_from(WITHIN))
        priority = draw(st.integers(0, 1))
        planned.append(PlannedTask(f"t{number}", kind=kind, after=after, within=within, priority=priority))
    is_asked = draw(st.integers(0, 3)) == 3  # the others get going at once
    return Plan(planned, approval=Approval("Shall we?", within=ANSWER_WITHIN) if is_asked else None)


processes = st.integers(0, PROCESSES - 1)
positions = st.integers(0, MOST_TASKS - 1)
anything = st.integers(0, 7)  # which of those that there are, counted round
# Orders that a verb suits, which others it is refused.
SUITS: dict[str, Callable[[PlainOrder], bool]] = {
    "approve": lambda order: order.asked == "pending",
    "pause": lambda order: order.status == "running",
    "resume": lambda order: order.status == "paused",
    "retry": lambda order: order.status == "errored",
    "rerun": lambda order: order.status not in ("completed", "cancelled") and any(map(can_be_rerun, order.tasks)),
    "cancel task": lambda order: order.status in ("running", "paused"),
    "cancel": lambda order: order.status not in FINAL,
    "decline": lambda order: order.asked == "pending",
}
STEERING = ("approve", "retry", "rerun", "pause", "resume")
# Some more often than others: else hardly an order would get anywhere.
WORK = (
    *("complete", "complete", "complete", "complete by a step"),
    *("fail", "fail for good", "fail, and rest"),
    *("wait", "wait long"),
    *("remember", "beat", "hand back"),
)
# The others are written past the line that changes of an operation form.
LINED_UP = [verb for verb in WORK if verb not in ("complete by a step", "beat")]


def can_be_rerun(task: PlainTask) -> bool:
    return task.status in ("completed", "errored")


class Rush(RuleBasedStateMachine):
    house: ClassVar[House]
    claims: Bundle[PlainClaim] = Bundle("claims")  # all there ever were

    def __init__(self) -> None:
        super().__init__()
        self.house.empty()
        self.time, self.model = Time(), PlainKitchen()
        self.ids, self.numbers = count(1_000), count(1)
        self.processes = [self.start_process(number) for number in range(PROCESSES)]
        self.placed: list[int] = []
        self.written: dict[PlainClaim, str] = {}
        self.found: Snapshot = {}
        self.final: dict[tuple[object, ...], object] = {}

    def start_process(self, number: int) -> Process:
        return Process(self.house.databases[number], self.time, self.ids, next(self.numbers))

    # Orders come.

    @initialize(process=processes, plan=plans())
    def the_first_order_comes(self, process: int, plan: Plan) -> None:
        self.place(process, plan)

    @precondition(lambda self: len(self.under_way()) < MOST_UNDER_WAY)
    @rule(process=processes, plan=plans())
    def an_order_comes(self, process: int, plan: Plan) -> None:
        self.place(process, plan)

    def place(self, process: int, plan: Plan) -> None:
        now = self.a_moment_later()
        self.placed.append(self.house.run(self.processes[process].place(plan)).id)
        order = plain_order(plan, expires_at=now + as_micros(ANSWER_WITHIN))
        order.place(now)
        self.model.orders.append(order)

    def under_way(self) -> list[PlainOrder]:
        return [order for order in self.model.orders if order.status not in ("completed", "cancelled")]

    def are_there(self, *statuses: str) -> bool:
        return any(task.status in statuses for order in self.model.orders for task in order.tasks)

    # People decide.

    @precondition(lambda self: self.under_way())
    @rule(process=processes, verb=st.sampled_from([*STEERING, *SUITS]), which=anything, at=positions)
    def staff_steers(self, process: int, verb: str, which: int, at: int) -> None:
        """Mostly an order that the verb suits."""
        every = range(len(self.model.orders))
        suited = [number for number in every if which and SUITS[verb](self.model.orders[number])] or every
        self.a_moment_later()
        self.do(process, self.by_staff(verb, suited[which % len(suited)], at=at))

    def by_staff(self, verb: str, order: int, *, at: int = 0) -> Deed:
        now, id = self.time.now(), self.placed[order]
        tasks = self.model.orders[order].tasks
        suited = [number for number, task in enumerate(tasks) if verb == "rerun" and can_be_rerun(task)]
        at = suited[at % len(suited)] if suited else at % len(tasks)
        deeds: dict[str, tuple[Callable[[PlainOrder], None], Callable[[Engine], Awaitable[None]]]] = {
            "approve": (lambda its: its.approve(now), lambda engine: approve_rfa(engine, id, by="ada")),
            "decline": (lambda its: its.decline(), lambda engine: decline_rfa(engine, id, by="ada")),
            "pause": (lambda its: its.pause(), lambda engine: pause_operation(engine, id)),
            "resume": (lambda its: its.resume(now), lambda engine: resume_operation(engine, id)),
            "retry": (lambda its: its.retry(now), lambda engine: retry_operation(engine, id)),
            "rerun": (lambda its: its.rerun(at, now), lambda engine: rerun_task(engine, id, at)),
            "cancel": (lambda its: its.cancel(), lambda engine: cancel_operation(engine, id, reason="enough")),
            "cancel task": (lambda its: its.cancel_task(at), lambda engine: cancel_task(engine, id, at)),
        }
        plain, real = deeds[verb]
        return Deed(f"{verb} order {order}", lambda kitchen: plain(kitchen.orders[order]), real)

    # Workers claim and write.

    @precondition(lambda self: self.are_there("pending"))
    @rule(
        target=claims,
        process=processes,
        worker=st.sampled_from(["ann", "bob", "the executor"]),
        kinds=st.just(list(KINDS)) | st.lists(st.sampled_from(list(KINDS)), min_size=1, unique=True),
        most=st.integers(1, 3),
    )
    def tasks_are_claimed(self, process: int, worker: str, kinds: list[str], most: int) -> MultipleResults[PlainClaim]:
        return multiple(*self.claim(process, worker, kinds, most))

    def claim(self, process: int, worker: str, kinds: list[str], most: int) -> list[PlainClaim]:
        self.a_moment_later()
        kitchen, is_executor = self.processes[process], worker == "the executor"
        if is_executor:
            worker = kitchen.executor
            if worker not in self.model.executors:
                self.beat(kitchen)
        line = self.model.next_in_line(kinds, most)
        claimed = self.house.run(kitchen.claim(*kinds, worker=worker, most=most, own_lease=is_executor))
        given, taken = [], []
        for each in claimed:
            claim = PlainClaim(self.placed.index(each.operation_id), each.task.position, each.task.token or "")
            order, task = self.model.orders[claim.order], self.model.task(claim)
            assert task.status == "pending", "only what is pending is claimed"
            assert each.inputs == {order.tasks[earlier].name: order.tasks[earlier].result for earlier in task.after}
            given.append(claim)
            taken.append(place_in_line(task))
            order.start(claim.at, token=claim.token, worker=worker, hangs_on_executor=is_executor)
        assert taken == line, "who is first in line is claimed first"
        return given

    @precondition(lambda self: self.are_there("pending", "running"))
    @rule(target=claims, process=processes, which=anything, verb=st.sampled_from(WORK))
    def whoever_holds_a_task_writes(self, process: int, which: int, verb: str) -> MultipleResults[PlainClaim]:
        held = self.held_by_now(process)
        if not held:
            return multiple()
        claim = held[which % len(held)]
        self.write(process, verb, claim)
        return multiple(claim)

    def held_by_now(self, process: int) -> list[PlainClaim]:
        """Claims that live; if there are none, one that is made now, if it can be."""
        return self.model.held() or self.claim(process, "ann", list(KINDS), 1)

    @rule(process=processes, claim=claims, verb=st.none() | st.sampled_from(WORK), others=st.integers(0, 3))
    def whoever_has_ever_held_a_task_writes(
        self, process: int, claim: PlainClaim, verb: str | None, others: int
    ) -> None:
        """What he wrote before, or something new; perhaps while others have it, who claim so many just before."""
        if others:
            self.claim(process, "bob", list(KINDS), others)
        self.write(process, verb or self.written.get(claim, "complete"), claim)

    def write(self, process: int, verb: str, claim: PlainClaim) -> None:
        self.a_moment_later()
        self.written[claim] = verb
        self.do(process, self.by_worker(verb, claim))

    def by_worker(self, verb: str, claim: PlainClaim) -> Deed:
        now, at, token = self.time.now(), claim.at, claim.token
        known, result, memo = f"{verb} {token}", encode(token), encode(now // (60 * SECOND))
        mine: dict[str, Any] = {"operation_id": self.placed[claim.order], "position": at, "token": token}
        again: dict[str, Any] = {"now": now, "answer": known}
        rest = 20 * SECOND
        deeds: dict[str, tuple[Callable[[PlainOrder], None], Callable[[Engine], Awaitable[object]]]] = {
            "complete": (
                lambda its: its.complete(at, token, result=result, **again),
                lambda engine: complete_task(engine, **mine, result=result, answer=known),
            ),
            "complete by a step": (
                lambda its: its.complete(at, token, result=result, now=now, answer=None),
                lambda engine: complete_by_step(engine, **mine, step=lambda _connection: token),
            ),
            "fail": (
                lambda its: its.fail(at, token, is_final=False, retry_after=0, **again),
                lambda engine: fail_task(engine, **mine, error=verb, answer=known),
            ),
            "fail for good": (
                lambda its: its.fail(at, token, is_final=True, retry_after=0, **again),
                lambda engine: fail_task(engine, **mine, error=verb, final=True, answer=known),
            ),
            "fail, and rest": (
                lambda its: its.fail(at, token, is_final=False, retry_after=rest, **again),
                lambda engine: fail_task(
                    engine, **mine, error=verb, retry_after=timedelta(microseconds=rest), answer=known
                ),
            ),
            "wait": (
                lambda its: its.wait(at, token, length=2 * SECOND, memo=memo, **again),
                lambda engine: let_task_wait(engine, **mine, seconds=2, memo=memo, answer=known),
            ),
            "wait long": (
                lambda its: its.wait(at, token, length=rest, memo=None, **again),
                lambda engine: let_task_wait(engine, **mine, seconds=20, memo=None, answer=known),
            ),
            "remember": (
                lambda its: its.remember(at, token, memo=memo),
                lambda engine: remember(engine, **mine, memo=memo),
            ),
            "hand back": (lambda its: its.hand_back(at, token), lambda engine: hand_back_task(engine, **mine)),
            "beat": (lambda its: its.heartbeat(at, token), lambda engine: heartbeat(engine, **mine)),
        }
        plain, real = deeds[verb]
        return Deed(
            f"{verb} task {at} of order {claim.order}", lambda kitchen: plain(kitchen.orders[claim.order]), real
        )

    # Two at the same time, of one order: it must come out as if one of them had been first. They line up in one
    # process, where it is the same each time: of two processes either may be faster, and no run could be repeated.

    @precondition(lambda self: self.under_way())
    @rule(process=processes, which=anything, at=positions, verbs=st.tuples(*[st.sampled_from([*LINED_UP, *SUITS])] * 2))
    def two_come_at_once(self, process: int, which: int, at: int, verbs: tuple[str, str]) -> None:
        held = self.held_by_now(process)
        self.a_moment_later()
        claim = held[which % len(held)] if held else None
        order = claim.order if claim else which % len(self.placed)
        deeds = []
        for verb in verbs:
            if verb in SUITS:
                deeds.append((self.processes[process], self.by_staff(verb, order, at=at)))
            elif claim:
                deeds.append((self.processes[process], self.by_worker(verb, claim)))
        ends = self.house.run(all_at_once(deeds))
        self.look()
        wrong = []
        for in_turn in permutations(range(len(deeds))):
            model = deepcopy(self.model)
            plain_ends = {number: attempt(deeds[number][1], model) for number in in_turn}
            if differences := [
                *(
                    f"{deeds[number][1].name}: {ends[number]}, not {end}"
                    for number, end in plain_ends.items()
                    if end is not ends[number]
                ),
                *self.differences(model),
            ]:
                wrong.append(differences)
            else:
                self.model = model
                return
        raise AssertionError(wrong)

    # Time passes.

    @precondition(lambda self: self.under_way())
    @rule(length=st.sampled_from(LENGTHS), noticed_by=st.none() | processes)
    def time_passes(self, length: timedelta, noticed_by: int | None) -> None:
        self.time.advance(length)
        if noticed_by is None:
            return
        now, engine = self.a_moment_later(), self.processes[noticed_by].engine
        for order in self.model.orders:
            order.look_at_the_clock(now)
        for what_is_due in (end_waits, pass_deadlines, expire_rfas):
            self.house.run(what_is_due(engine))

    def beat(self, process: Process) -> None:
        self.model.beat(process.executor)
        self.house.run(beat_executor(process.engine, process.executor, kind="local", lease=LEASE))

    @precondition(lambda self: self.model.leases())
    @rule(
        process=processes,
        looks=st.sampled_from([3, 1, 0]),
        apart=st.sampled_from([2, 1, 60]),
        alive=st.sets(anything),
        dead=st.none() | processes,
    )
    def a_process_dies_or_the_rescuer_looks(
        self, process: int, looks: int, apart: int, alive: set[int], dead: int | None
    ) -> None:
        """Three looks, two seconds or more apart, are for a whole lease. Meanwhile those who are `alive` beat."""
        if dead is not None:
            self.house.run(check_books(self.house.databases[dead]))
            self.processes[dead] = self.start_process(dead)
        for _ in range(looks):
            for number, each in enumerate(self.processes):
                if number in alive:
                    self.a_moment_later()
                    self.beat(each)
            for number, claim in enumerate(self.model.held()):
                if number in alive and not self.model.task(claim).hangs_on_executor:
                    self.write(process, "beat", claim)
            self.rescue(self.processes[process])
            self.time.advance(timedelta(seconds=apart))

    def rescue(self, process: Process) -> None:
        self.a_moment_later()
        ended = process.seen.look(self.model.leases(), self.time.monotonic())
        lost = self.model.lose(ended)
        assert self.house.run(process.rescuer.look()) == lost

    # What must be true after every step.

    @invariant()
    def the_database_says_what_the_model_says(self) -> None:
        self.look()
        assert self.differences(self.model) == []

    @invariant()
    def what_is_final_stays_as_it_was(self) -> None:
        for name, row in final_of(self.found):
            assert self.final.setdefault(name, row) == row

    def a_moment_later(self) -> int:
        """Nothing happens at the very same time as something else."""
        self.time.advance(A_MOMENT)
        return self.time.now()

    def do(self, process: int, deed: Deed) -> None:
        end = attempt(deed, self.model)
        if end is not None:
            self.look()
        [found] = self.house.run(all_at_once([(self.processes[process], deed)]))
        assert found is end, f"{deed.name}: {found}, not {end}"
        if end is not None:
            before = self.found
            self.look()
            assert self.found == before, f"{deed.name} was refused, and changed something"

    def look(self) -> None:
        self.found = self.house.run(self.house.databases[0].read(snapshot))

    def differences(self, model: PlainKitchen) -> list[str]:
        """What the database says, and the model does not."""
        pairs = zip(self.placed, model.orders, strict=True)
        return [line for id, order in pairs for line in differences_of(order, id, self.found)]


def attempt(deed: Deed, model: PlainKitchen) -> type[Refused] | None:
    try:
        deed.plain(model)
    except No as no:
        return no.error
    return None


async def all_at_once(deeds: Sequence[tuple[Process, Deed]]) -> list[type[Refused] | None]:
    """How each ended."""

    async def end_of(process: Process, deed: Deed) -> type[Refused] | None:
        try:
            await deed.real(process.engine)
        except (Conflict, NotFound) as error:
            return type(error)
        return None

    return await asyncio.gather(*(end_of(*each) for each in deeds))


def plain_order(plan: Plan, *, expires_at: int) -> PlainOrder:
    numbers = {task.name: number for number, task in enumerate(plan.tasks)}
    tasks = [
        PlainTask(
            task.name,
            kind=task.kind or task.name,
            after=frozenset(numbers[earlier] for earlier in task.after),
            priority=task.priority,
            within=as_micros(task.within or timedelta()),
        )
        for task in plan.tasks
    ]
    return PlainOrder(tasks, asked="pending" if plan.approval else None, expires_at=expires_at)


def snapshot(connection: ReadConnection) -> Snapshot:
    return {table.name: [dict(row) for row in connection.execute(select(table)).mappings()] for table in TABLES}


def differences_of(order: PlainOrder, id: int, found: Snapshot) -> Iterator[str]:
    [row] = [row for row in found["operations"] if row["id"] == id]
    asked = [row["status"] for row in found["rfas"] if row["operation_id"] == id]
    told = sorted((row["n"], row["type"], row["task"]) for row in found["events"] if row["operation_id"] == id)
    rows = {row["position"]: row for row in found["tasks"] if row["operation_id"] == id}
    wanted: list[tuple[str, object, object]] = [
        ("status", row["status"], order.status),
        ("rfa", asked, [order.asked] if order.asked else []),
        ("version", row["version"], len(order.told)),
        ("numbers of events", [n for n, _, _ in told], list(range(1, len(told) + 1))),
        ("events", in_any_order([each[1:] for each in told]), in_any_order(order.told)),
        ("positions", sorted(rows), list(range(len(order.tasks)))),
    ]
    for at, task in enumerate(order.tasks):
        wanted += [(f"{name} of task {at}", rows[at][name], value) for name, value in what_shows(task)]
    for name, has, should in wanted:
        if has != should:
            yield f"order {id}: {name} is {has}, not {should}"


def what_shows(task: PlainTask) -> Iterator[tuple[str, object]]:
    """Columns of its row."""
    yield from (("status", task.status), ("attempt", task.attempt), ("failures", task.failures), ("token", task.token))
    yield from (("result", task.result), ("memo", task.memo))
    if task.status in MOVING:
        yield from (("losses", task.losses), ("ready_at", task.ready_at), ("worker", task.worker))
    if task.status in MOVING and task.status != "paused":
        yield "deadline_at", task.deadline


def in_any_order(told: Sequence[tuple[str, int | None]]) -> list[tuple[str, int | None]]:
    """What is told of several tasks at once may come in any order: sorted, wherever one type follows itself."""
    return [each for _, some in groupby(told, key=lambda each: each[0]) for each in sorted(some, key=str)]


def final_of(found: Snapshot) -> Iterator[tuple[tuple[object, ...], object]]:
    """What nothing may change any more, with all its columns."""
    ended = {row["id"]: row for row in found["operations"] if row["status"] in ("completed", "cancelled")}
    for id, row in ended.items():
        yield ("operation", id), (row, [event["n"] for event in found["events"] if event["operation_id"] == id])
    for row in found["tasks"]:
        if row["operation_id"] in ended or row["status"] == "cancelled":
            yield ("task", row["operation_id"], row["position"]), row
    for row in found["rfas"]:
        if row["status"] != "pending":
            yield ("rfa", row["operation_id"]), row


@pytest.fixture(params=DATABASES)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    is_file = request.param == "sqlite"
    house = House(f"sqlite:///{tmp_path / 'orderup.db'}" if is_file else request.getfixturevalue("migrated_postgres"))
    try:
        yield house
    finally:
        house.close()


# What fails is shortened, which takes minutes.
@pytest.mark.timeout(900)
def test_whatever_is_done_in_whatever_order_comes_out_as_the_plain_model_says(house: House) -> None:
    Rush.house = house
    examples = EXAMPLES[house.databases[0].name]
    run_state_machine_as_test(Rush, settings=settings(SETTINGS, max_examples=examples))
