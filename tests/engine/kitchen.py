"""A kitchen in which the engine's verbs are tried: an engine on a database, with a time that only the test moves."""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy import RowMapping, Table, select

from orderup.db.database import Claimed, Claims, Database, Key, ReadConnection
from orderup.db.tables import events, operations, permits, tasks
from orderup.engine.claim import claim_now, queues_for
from orderup.engine.complete import complete_task
from orderup.engine.engine import Engine, Limits
from orderup.engine.fail import fail_task
from orderup.engine.hand_back import hand_back_task
from orderup.engine.place import place_order
from orderup.engine.wait import let_task_wait, remember
from orderup.errors import Refused
from orderup.model.event import EVENT_TYPES, Event
from orderup.model.kind import Kind, Rate
from orderup.model.operation import Operation, OperationStatus
from orderup.model.placing import encode
from orderup.model.plan import Approval, Plan, PlannedTask
from orderup.model.retry import Retry
from orderup.model.task import MOVING, Task, TaskStatus
from orderup.model.times import as_micros

SHOP = "diner"
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
# 1 March 2026, noon, in UTC.
NOON = 1_772_366_400_000_000
RETRY = Retry(attempts=3, first=timedelta(seconds=10), longest=timedelta(seconds=60))
KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("dough", says="Preparing dough", retry=RETRY),
        Kind("top", says="Adding toppings", retry=RETRY),
        Kind("bake", says="Baking pizza", retry=RETRY),
        Kind("deliver", retry=RETRY),
        Kind("oven", retry=RETRY, concurrency=2),
        # limits go by a real clock: these come back within a test, those do not
        Kind("phone", retry=RETRY, rate=Rate(5, timedelta(seconds=1))),
        Kind("post", retry=RETRY, rate=Rate(5, MINUTE)),
        Kind("fryer", retry=RETRY, rate=Rate(1_000, timedelta(hours=1)), concurrency=1),
    )
}
DOUGH = Plan([PlannedTask("dough")])
CHAIN = Plan.chain(PlannedTask("dough"), PlannedTask("top"), PlannedTask("bake"))
ASKED = Plan.chain(PlannedTask("dough"), PlannedTask("top"), approval=Approval("One pizza?"))
# top and bake come after dough, deliver after both
DIAMOND = Plan(
    [
        PlannedTask("dough"),
        PlannedTask("top", after=["dough"]),
        PlannedTask("bake", after=["dough"]),
        PlannedTask("deliver", after=["top", "bake"]),
    ]
)


class Time:
    """`now`: of the wall clock, microseconds since the epoch. `monotonic`: seconds that nobody can set."""

    def __init__(self) -> None:
        self._now, self._seconds = NOON, 1_000.0

    def now(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return self._seconds

    def advance(self, length: timedelta) -> None:
        """Time passes, on both clocks."""
        self._now += as_micros(length)
        self._seconds += length.total_seconds()

    def set_wall_clock(self, by: timedelta) -> None:
        """Somebody sets the wall clock; no time passes."""
        self._now += as_micros(by)


class Kitchen:
    """One engine on a database, and what a test wants to do to it and know of it in few words."""

    def __init__(
        self, database: Database, time: Time, *, kinds: Mapping[str, Kind] = KINDS, limits: Limits | None = None
    ) -> None:
        self.database, self.time = database, time
        self.engine = Engine(database, {SHOP: kinds}, limits=limits, now=time.now, random=Random(7))

    # doing

    async def place(self, plan: Plan = DOUGH, **options: Any) -> Operation:
        return await place_order(self.engine, SHOP, plan, **options)

    async def claim(
        self,
        *kinds: str,
        worker: str = "ann",
        most: int = 1,
        region: str | None = None,
        own_lease: bool = False,
        request: str | None = None,
    ) -> Sequence[Claimed]:
        claims = await claim_now(
            self.engine,
            queues_for(SHOP, kinds, region),
            worker=worker,
            most=most,
            own_lease=own_lease,
            request=request,
        )
        return claims.claimed

    async def ask(self, kind: str, *, most: int) -> Claims:
        """A claim, with all that it tells."""
        return await claim_now(self.engine, queues_for(SHOP, [kind], None), worker="ann", most=most)

    async def next_permit_in(self, kind: str) -> float | None:
        """In how many seconds this queue, which lets nothing through, lets more through."""
        claims = await self.ask(kind, most=100)
        assert claims.claimed == []
        return claims.next_permit_in

    async def take(self, kind: str, **options: Any) -> Claimed:
        """Claim the one task of this kind that must be there."""
        [claimed] = await self.claim(kind, **options)
        return claimed

    async def complete(self, claimed: Claimed, result: object = None, *, answer: str | None = None) -> None:
        stored = None if result is None else encode(result)
        await complete_task(self.engine, *place_of(claimed), token=token_of(claimed), result=stored, answer=answer)

    async def fail(self, claimed: Claimed, error: str = "The oven is cold", **options: Any) -> None:
        await fail_task(self.engine, *place_of(claimed), token=token_of(claimed), error=error, **options)

    async def wait(self, claimed: Claimed, seconds: float, *, memo: object = None, answer: str | None = None) -> None:
        stored = None if memo is None else encode(memo)
        await let_task_wait(
            self.engine, *place_of(claimed), token=token_of(claimed), seconds=seconds, memo=stored, answer=answer
        )

    async def remember(self, claimed: Claimed, memo: object) -> None:
        await remember(self.engine, *place_of(claimed), token=token_of(claimed), memo=encode(memo))

    async def hand_back(self, claimed: Claimed, **options: Any) -> None:
        await hand_back_task(self.engine, *place_of(claimed), token=token_of(claimed), **options)

    async def do(self, kind: str, result: object = None) -> None:
        """Claim the one task of this kind and complete it."""
        await self.complete(await self.take(kind), result)

    # knowing

    async def operation(self, which: Operation) -> Operation:
        """As the database has it now."""
        return (await self.database.load([which.id]))[which.id]

    async def task(self, which: Operation, name: str) -> Task:
        [task] = [task for task in (await self.operation(which)).tasks if task.name == name]
        return task

    async def state(self, which: Operation) -> str:
        """Such as `running: dough completed, top pending`."""
        operation = await self.operation(which)
        shown = ", ".join(f"{task.name} {task.status}" for task in operation.tasks)
        return f"{operation.status}: {shown}"

    async def events(self, which: Operation, *, after: int = 0) -> list[Event]:
        """All of its events with an `n` above `after`."""
        columns = [events.c[name] for name in Event.__struct_fields__]
        statement = select(*columns).where(events.c.operation_id == which.id, events.c.n > after).order_by(events.c.n)
        return [Event(*row) for row in await self.database.read(lambda connection: connection.rows(statement))]

    async def told(self, which: Operation, *, after: int | Operation = 0) -> list[str]:
        """What its events say, such as `task.completed dough`. `after`: an `n`, or the operation as it was."""
        since = after if isinstance(after, int) else after.version
        return [
            event.type if event.task_name is None else f"{event.type} {event.task_name}"
            for event in await self.events(which, after=since)
        ]

    async def rows(self, table: Table) -> Sequence[RowMapping]:
        return await self.database.read(lambda connection: connection.execute(select(table)).mappings().all())

    async def held_permits(self, kind: str) -> int:
        return sum(row["held"] for row in await self.rows(permits) if row["queue"] == f"{SHOP}/{kind}")

    @asynccontextmanager
    async def refused(self, error: type[Refused], which: Operation, *, match: str | None = None) -> AsyncIterator[None]:
        """What is done in here is refused with `error`, and nothing of the operation changes."""
        before, told = await self.operation(which), await self.events(which)
        with pytest.raises(error, match=match):
            yield
        assert await self.operation(which) == before
        assert await self.events(which) == told


def place_of(claimed: Claimed) -> tuple[int, int]:
    return claimed.operation_id, claimed.task.position


def token_of(claimed: Claimed) -> str:
    assert claimed.task.token is not None
    return claimed.task.token


def key_of(name: str, *, fingerprint: str = "the same request", made_at: int = NOON) -> Key:
    return Key(name, fingerprint, made_at)


async def check_books(database: Database) -> None:
    """What must be true of every database at any time: counts that fit, events without gaps, permits of who runs."""
    await database.read(_check_books)


def _check_books(connection: ReadConnection) -> None:
    held = {(row.operation_id, row.position) for row in connection.execute(select(permits).where(permits.c.held == 1))}
    its_tasks: defaultdict[int, dict[int, RowMapping]] = defaultdict(dict)
    for row in connection.execute(select(tasks)).mappings():
        its_tasks[row["operation_id"]][row["position"]] = row
    told: defaultdict[int, list[RowMapping]] = defaultdict(list)
    for event in connection.execute(select(events).order_by(events.c.seq)).mappings():
        told[event["operation_id"]].append(event)
    for operation in connection.execute(select(operations)).mappings():
        _check_counts(operation, its_tasks[operation["id"]])
        _check_events(operation, told[operation["id"]])
    running = {
        (id, row["position"])
        for id, rows in its_tasks.items()
        for row in rows.values()
        if row["status"] == "running" and _is_limited(row)
    }
    assert held == running, "permits are held by what runs, and by nothing else"


def _check_counts(operation: RowMapping, by_position: Mapping[int, RowMapping]) -> None:
    statuses = [TaskStatus(row["status"]) for row in by_position.values()]
    assert operation["open"] == sum(status is not TaskStatus.COMPLETED for status in statuses)
    assert operation["moving"] == sum(status in MOVING for status in statuses)
    if OperationStatus(operation["status"]).is_final:
        assert not operation["moving"], "nothing of what has ended goes on"
    elif operation["status"] != OperationStatus.PENDING:
        assert operation["moving"], "something will still happen to what has not ended"
    for row in by_position.values():
        if row["status"] in (TaskStatus.PENDING, TaskStatus.RUNNING, TaskStatus.COMPLETED):
            after = [by_position[int(each)] for each in row["after"].split(",") if each]
            assert all(each["status"] == TaskStatus.COMPLETED for each in after), "its inputs are done"


def _check_events(operation: RowMapping, told: Sequence[RowMapping]) -> None:
    assert [event["n"] for event in told] == list(range(1, operation["version"] + 1)), "no gap, no repeat, in order"
    assert {event["type"] for event in told} <= EVENT_TYPES.keys()
    assert {event["shop"] for event in told} == {operation["shop"]}


def _is_limited(row: RowMapping) -> bool:
    kind = KINDS.get(row["kind"])
    return kind is not None and kind.is_limited
