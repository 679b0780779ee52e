"""Queues whose clients take turns: their lines are kept in memory, and claims go by them instead of by the database.

Who comes next hangs on who else waits, which no index can tell. So each process keeps the line of such a queue: its own
changes move it when they are committed, other processes' when the log tells of them. A line may be wrong for a moment;
the gate makes that harmless: what somebody else has taken by then is refused, and the next in line is tried.

No log tells that a wait has ended: it is no change. So each process remembers what waits, and looks once it is time,
whichever process's clock ends it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Iterable, Mapping, Sequence, Set as AbstractSet
from datetime import timedelta
from functools import partial
from itertools import islice
from secrets import token_hex
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import and_, select, update

from orderup.db.database import Claimed, ReadConnection, WriteConnection
from orderup.db.tables import tasks
from orderup.errors import Conflict, NotFound, Unavailable
from orderup.model import work
from orderup.model.event import Event
from orderup.model.kind import Kind
from orderup.model.line import Line, Place, rank_of
from orderup.model.operation import Draft, Operation
from orderup.model.task import Task, TaskStatus, queue_of
from orderup.model.times import as_micros

if TYPE_CHECKING:
    from orderup.engine.engine import Engine

log = structlog.get_logger(__name__)
# Operations that this process has changed itself: what the log tells of them is no news.
MOST_KNOWN = 50_000
RETRY_SECONDS = 0.5
# As often it is seen whose wait should have ended; clocks end waits about as often.
LOOK_EVERY_SECONDS = 0.5
MOST_AT_ONCE = 500
_PENDING, _WAITING = TaskStatus.PENDING, TaskStatus.WAITING  # looked up once


class Lines:
    """`kinds`: those whose clients take turns, by the name of their queue, without region."""

    def __init__(self, engine: "Engine", kinds: Mapping[str, Kind]) -> None:
        self.engine, self.kinds = engine, kinds
        self.shops = frozenset(name.partition("/")[0] for name in kinds)
        self._lines: dict[str, Line] = {}
        self._queues: dict[Place, str] = {}
        self._operations: dict[int, Operation] = {}
        self._own: OrderedDict[int, int] = OrderedDict()
        # being claimed here: what was read before that is committed says that they wait
        self._starting: set[Place] = set()
        self._unsure: set[Place] = set()
        # what waits, and until when
        self._waits: dict[Place, int] = {}
        self._news: set[int] = set()
        self._has_news = asyncio.Event()

    def has(self, queue: str) -> bool:
        """Whether claims from it go by its line. Not while it is paused: that only the database knows."""
        return queue_of(queue) in self.kinds and not self.engine.is_limited(queue)

    def line(self, queue: str) -> Line:
        found = self._lines.get(queue)
        if found is None:
            found = self._lines[queue] = Line(self.kinds[queue_of(queue)].turns_after)
        return found

    def first(self, queues: Sequence[str], most: int) -> Sequence[Place]:
        """Who comes next in these lines, as far as they are known here; see `claim`."""
        found: list[Place] = []
        for queue in queues:
            if self.has(queue) and len(found) < most:
                found += self.line(queue).order(most - len(found))
        return found

    # what happens to them

    def note_own(self, operation: Operation, tasks: Iterable[Task], *, before: int) -> None:
        """A change of these tasks was committed by this process. `before`: the version that it began from; if that was
        another process's work, all tasks are news: once this change is known, the log's word of that one is not."""
        if self._own.get(operation.id, 0) != before:
            tasks = operation.tasks
        self._own[operation.id] = operation.version
        self._own.move_to_end(operation.id)
        if len(self._own) > MOST_KNOWN:
            self._own.popitem(last=False)
        self._note(operation, tasks)

    def _note(self, operation: Operation, tasks: Iterable[Task]) -> None:
        waits = False
        for task in tasks:
            place = operation.id, task.position
            self._waits.pop(place, None)
            if task.status is not _PENDING:
                self._leave(place)
                if task.status is _WAITING and task.ready_at is not None and queue_of(task.queue) in self.kinds:
                    self._waits[place] = task.ready_at
            elif place in self._starting:
                self._unsure.add(place)  # it may have come back since
            elif queue_of(task.queue) in self.kinds:
                # by age of the order, and by its id, which rises even when the clock is set back
                rank = rank_of(priority=task.priority, since=operation.id, came_back=bool(task.losses))
                self._queues[place] = task.queue
                self.line(task.queue).add(place, client=operation.client or f"#{operation.id}", rank=rank)
                waits = True
        if waits:
            self._operations[operation.id] = operation
        else:
            self._operations.pop(operation.id, None)

    def _leave(self, place: Place) -> None:
        queue = self._queues.pop(place, None)
        if queue is not None:
            self._lines[queue].remove(place)

    def note_events(self, events: Sequence[Event]) -> None:
        """What the log tells; what another process did is looked up."""
        for event in events:
            if event.shop in self.shops and self._own.get(event.operation_id, 0) < event.n:
                self._news.add(event.operation_id)
        if self._news:
            self._has_news.set()

    def look_again(self, ids: Iterable[int]) -> None:
        """Something happened to these operations that no event tells of."""
        self._news.update(ids)
        self._has_news.set()

    async def run(self) -> None:
        """Until cancelled."""
        self.engine.feed.count(self.note_events)
        await self.engine.feed.started()
        self._news.update(await self._find_waiting())
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(), name="lines: follow the log")
            group.create_task(self._watch_waits(), name="lines: waits that end")

    async def _watch_waits(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            now = self.engine.now()
            over = list(islice((place for place, until in self._waits.items() if until <= now), MOST_AT_ONCE))
            for place in over:
                self._waits[place] = self._waits.pop(place)  # until it is seen to be over; next time, others come first
            if over:
                self.look_again(operation_id for operation_id, _ in over)

    async def _follow(self) -> None:
        while True:
            self._has_news.clear()
            news, self._news = self._news, set()
            if news:
                await self._look_up(news)
            if not self._news:
                await self._has_news.wait()

    async def _find_waiting(self) -> list[int]:
        while True:
            try:
                return await self.engine.database.read(partial(_waiting_in, queues=sorted(self.kinds)))
            except Unavailable:
                await asyncio.sleep(RETRY_SECONDS)

    async def _look_up(self, ids: AbstractSet[int]) -> None:
        try:
            found = await self.engine.database.load(sorted(ids))
        except Unavailable:
            self._news.update(ids)
            await asyncio.sleep(RETRY_SECONDS)
            return
        self._forget_waits(ids - found.keys())
        came: set[str] = set()
        for operation in found.values():
            if self._own.get(operation.id, 0) <= operation.version:
                self._note(operation, operation.tasks)
                came.update(task.queue for task in operation.tasks if task.status is _PENDING)
        self.engine.bell.ring(sorted(came))

    def _forget_waits(self, gone: AbstractSet[int]) -> None:
        if gone:
            self._waits = {place: until for place, until in self._waits.items() if place[0] not in gone}

    # claiming

    async def claim(
        self, queues: Sequence[str], *, worker: str, most: int, lease: timedelta | None, request: str | None
    ) -> list[Claimed]:
        """The first of these lines, one after the other; possibly none. Raises Unavailable; then they are in the line
        as before."""
        claimed: list[Claimed] = []
        while len(claimed) < most and (place := self._take(queues)) is not None:
            operation = self._operations.pop(place[0], None)
            self._queues.pop(place, None)
            self._starting.add(place)
            try:
                claimed.append(await self._start(place, operation, worker=worker, lease=lease, request=request))
            except (Conflict, NotFound):
                continue  # somebody was faster, or it was cancelled
            except BaseException as error:  # whoever asked may have left, too: what came of it is looked up
                self.look_again([place[0]])
                if not (claimed and isinstance(error, Unavailable)):
                    raise
                break
            finally:
                self._starting.discard(place)
                if place in self._unsure:
                    self._unsure.discard(place)
                    self.look_again([place[0]])
        return claimed

    def _take(self, queues: Sequence[str]) -> Place | None:
        for queue in queues:
            place = self.line(queue).take()
            if place is not None:
                return place
        return None

    def _start(
        self, place: Place, known: Operation | None, *, worker: str, lease: timedelta | None, request: str | None
    ) -> Awaitable[Claimed]:
        operation_id, position = place
        lease_us, token = None if lease is None else as_micros(lease), token_hex(16)

        def start(draft: Draft) -> Claimed:
            length = lease_us or draft.task(position).lease_us
            started = work.start(
                draft, position, worker=worker, token=token, now=self.engine.now(), lease_us=length, request=request
            )
            inputs = {draft.task(earlier).name: draft.task(earlier).result for earlier in started.after}
            return Claimed(draft.base.id, draft.base.shop, draft.version, started, inputs)

        also = None
        if lease_us is not None or known is None or known.tasks[position].attempt:
            also = partial(_set_lease, place=place, lease_us=lease_us)
        return self.engine.desk.decide(operation_id, start, also=also, known=known)


def _waiting_in(connection: ReadConnection, *, queues: Sequence[str]) -> list[int]:
    """Operations with a task there that may be claimed, now or when its wait is over."""
    of_queues = [(tasks.c.queue == name) | tasks.c.queue.like(f"{name}@%") for name in queues]
    pending = tasks.c.status == "pending"
    # found by when they are due: an index there is only of what may be claimed
    waiting = and_(tasks.c.status == "waiting", tasks.c.due_at > 0)
    return [
        row[0]
        for queue in of_queues
        for status in (pending, waiting)
        for row in connection.rows(select(tasks.c.operation_id).where(queue, status))
    ]


def _set_lease(connection: WriteConnection, *, place: Place, lease_us: int | None) -> None:
    """An earlier claim may have left a length of its own there."""
    here = (tasks.c.operation_id == place[0]) & (tasks.c.position == place[1])
    connection.execute(update(tasks).where(here).values(claim_lease_us=lease_us))
