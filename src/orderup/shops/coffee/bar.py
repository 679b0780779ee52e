"""Who waits at the bar: customers who hold a connection to this process, and orders that wait for their customers.

An order names the process that holds its customer's connection. Who hangs up leaves the line, unless his coffee is
being brewed; the order of one who has a key is kept for a while, in its place, and he may come back to any process.
An order that was placed on a page is held by the page's live connection, and kept for a while after each look at it.
A process that was killed leaves orders behind: another one, or the next, takes them over and keeps them for a while.
What becomes of an order is told by the log, so that it does not matter which process the barista talks to.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from functools import partial
from uuid import uuid4

import structlog
from sqlalchemy import select, update

from orderup.db.database import ReadConnection, WriteConnection
from orderup.db.tables import operations, workers
from orderup.engine.engine import Engine
from orderup.engine.lease import beat_executor, sign_off
from orderup.errors import NotFound, OrderupError, Unavailable
from orderup.model import steer
from orderup.model.event import Event
from orderup.model.operation import Draft, Operation, OperationStatus
from orderup.model.task import TaskStatus
from orderup.settings import Settings
from orderup.shops.coffee.line import Standing
from orderup.shops.coffee.plan import shop
from orderup.web.fair_use import FairUse

log = structlog.get_logger(__name__)
# In the table of workers: a process that holds customers' connections, and claims nothing.
HOLDER = "front"
LOOK_EVERY_SECONDS = 2.0
RETRY_SECONDS = 0.5
BEATS_A_LEASE = 3
# Connections that may wait for one order; one more, and the oldest is hung up on.
MOST_AT_ONE_ORDER = 64
# Orders in one statement.
MOST_AT_ONCE = 500
OPEN = (OperationStatus.RUNNING.value, OperationStatus.PAUSED.value)
# Events after which an order that nobody holds may be claimed again: nobody shall.
CAME_BACK = frozenset({"task.lost", "task.handed_back", "task.retrying", "task.waiting"})

# How the wait ended: when the coffee was ready, in microseconds since the epoch; None: there will be none.
Answer = asyncio.Future[int | None]


class Guest:
    """One order. answers: of those who hold a connection for it. followers: pages that follow it live. leaves: when it
    leaves the line, if nobody comes."""

    __slots__ = ("answers", "client", "followers", "is_kept", "leaves")

    def __init__(self, client: str, *, is_kept: bool) -> None:
        self.client, self.is_kept = client, is_kept
        self.followers = 0
        self.answers: list[Answer] = []
        self.leaves: asyncio.TimerHandle | None = None

    @property
    def is_here(self) -> bool:
        """Somebody is connected for it."""
        return bool(self.answers or self.followers)

    def stay(self) -> None:
        if self.leaves is not None:
            self.leaves.cancel()
            self.leaves = None


class Bar:
    """The keeper of the coffee bar, one a process."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine, self.settings = engine, settings
        self.process = f"{shop.name} {socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self.fair_use = FairUse(most_open=settings.client_open_orders, most_a_minute=settings.client_orders_a_minute)
        self.standing = Standing(engine)
        self.is_draining = self._is_closed = self._is_given_up = False
        self._guests: dict[int, Guest] = {}
        self._waiting = 0
        self._leaving: set[int] = set()
        self._has_leaving = asyncio.Event()
        self._is_empty = asyncio.Event()
        self._is_started = asyncio.Event()
        self._alive: frozenset[str] | None = None

    # customers

    @property
    def waiting(self) -> int:
        """Connections that are held."""
        return self._waiting

    def receive(self, operation_id: int, client: str, *, is_kept: bool) -> Answer:
        """A customer waits for this order; to be called before it is placed, so that nothing is missed."""
        guest = self._guests.get(operation_id)
        if guest is None:
            guest = self._guests[operation_id] = Guest(client, is_kept=is_kept)
        guest.is_kept = guest.is_kept or is_kept
        guest.stay()
        self._leaving.discard(operation_id)
        answer: Answer = asyncio.get_running_loop().create_future()
        guest.answers.append(answer)
        self._waiting += 1
        return answer

    def leave(self, operation_id: int, answer: Answer) -> None:
        """He hung up, or was answered."""
        self._count_one_less()
        guest = self._guests.get(operation_id)
        if guest is None or answer not in guest.answers:
            return
        guest.answers.remove(answer)
        if guest.is_here or self._is_closed:  # closed: it is we who hung up, and he may come back to the next process
            return
        if guest.is_kept:
            self._keep(operation_id, guest, self.settings.coffee_keep_seconds)
        else:
            self._send_away(operation_id)

    def _count_one_less(self) -> None:
        self._waiting -= 1
        if not self._waiting:
            self._is_empty.set()

    def rejoin(self, operation_id: int, client: str) -> Answer:
        """A customer waits for an order that was placed before, here or in another process."""
        if operation_id not in self._guests:
            self.fair_use.opened(client)
        answer = self.receive(operation_id, client, is_kept=True)
        answers = self._guests[operation_id].answers
        if len(answers) > MOST_AT_ONE_ORDER and not answers[0].done():
            answers[0].set_result(None)
        return answer

    def dismiss(self, operation_id: int, answer: Answer) -> None:
        """He does not wait for it after all: it was not placed, or had ended."""
        self._count_one_less()
        guest = self._guests.get(operation_id)
        if guest is not None and answer in guest.answers:
            guest.answers.remove(answer)
            if not guest.is_here:
                self.forget(operation_id)

    def forget(self, operation_id: int) -> None:
        """It is not open."""
        guest = self._guests.pop(operation_id, None)
        if guest is not None:
            guest.stay()
            self.fair_use.closed(guest.client)

    # customers who look at a page

    def expect(self, operation_id: int, client: str, *, seconds: float) -> None:
        """An order of this client, who was let in, is about to be placed: it stays for so long at least."""
        guest = self._guests[operation_id] = Guest(client, is_kept=True)
        self._keep(operation_id, guest, seconds)

    def hold(self, operation: Operation, *, seconds: float) -> None:
        """Somebody looks at this order now, and may look again: it stays for so long at least."""
        guest = self._guest_of(operation)
        if not guest.is_here:
            self._keep(operation.id, guest, seconds)

    @contextlib.asynccontextmanager
    async def attend(self, operation: Operation) -> AsyncIterator[None]:
        """Somebody follows this order live: it stays as long as he does, and then as after a look at it. Raises
        Unavailable."""
        if operation.status.is_final:
            yield
            return
        await self.take_over(operation)
        guest = self._guest_of(operation)
        guest.stay()
        guest.followers += 1
        try:
            yield
        finally:
            guest.followers -= 1
            if self._guests.get(operation.id) is guest and not guest.is_here and not self._is_closed:
                self._keep(operation.id, guest, self.settings.coffee_keep_seconds)

    def _guest_of(self, operation: Operation) -> Guest:
        guest = self._guests.get(operation.id)
        if guest is None:
            guest = self._guests[operation.id] = Guest(operation.client or "", is_kept=True)
            self.fair_use.opened(guest.client)
        self._leaving.discard(operation.id)
        return guest

    async def take_over(self, operation: Operation) -> None:
        """It is this process that holds the customer's connection from here on. Raises Unavailable."""
        if operation.id not in self._guests or operation.held_by != self.process:
            await self.engine.database.write(partial(_hold, operation_ids=[operation.id], process=self.process))

    def _keep(self, operation_id: int, guest: Guest, seconds: float) -> None:
        guest.stay()
        guest.leaves = asyncio.get_running_loop().call_later(seconds, self._send_away, operation_id)

    def _send_away(self, operation_id: int) -> None:
        guest = self._guests.get(operation_id)
        if guest is not None:
            guest.stay()
            guest.is_kept = False
        self._leaving.add(operation_id)
        self._has_leaving.set()

    # the log

    def note_events(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.shop != shop.name or (guest := self._guests.get(event.operation_id)) is None:
                continue
            if event.task is None and event.status in ("completed", "cancelled", "errored"):
                self._end(event, guest)
            elif event.type in CAME_BACK and not guest.is_here and not guest.leaves:
                self._send_away(event.operation_id)

    def _end(self, event: Event, guest: Guest) -> None:
        del self._guests[event.operation_id]
        guest.stay()
        self.fair_use.closed(guest.client)
        for answer in guest.answers:
            if not answer.done():
                answer.set_result(event.at if event.status == "completed" else None)

    # what runs

    async def started(self) -> None:
        await self._is_started.wait()

    async def run(self) -> None:
        self.engine.feed.count(self.note_events)
        await self.engine.feed.started()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._beat(), name="coffee: lease")
                group.create_task(self._see_off(), name="coffee: who leaves")
                group.create_task(self._look_for_orphans(), name="coffee: orphans")
        finally:
            with contextlib.suppress(Unavailable):
                await sign_off(self.engine, self.process)

    async def _beat(self) -> None:
        lease = self.settings.lease
        while True:
            try:
                if self._is_started.is_set():
                    self._is_given_up |= self.process not in await self.engine.database.read(_holders_alive)
                await beat_executor(self.engine, self.process, kind=HOLDER, lease=lease)
                if self._is_given_up:
                    await self._take_back()
                self._is_started.set()
            except Unavailable:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            await asyncio.sleep(lease.total_seconds() / BEATS_A_LEASE)

    async def _take_back(self) -> None:
        """Others took this process for ended, and its orders over, since it stood still for long, or did not reach the
        database: those whose customers are still here are its own."""
        here = [operation_id for operation_id, guest in self._guests.items() if guest.is_here]
        log.warning("this process was taken to have ended; it holds its customers' orders again", orders=len(here))
        for begin in range(0, len(here), MOST_AT_ONCE):
            some = here[begin : begin + MOST_AT_ONCE]
            await self.engine.database.write(partial(_hold, operation_ids=some, process=self.process))
        self._is_given_up = False

    async def _see_off(self) -> None:
        """Those who left are taken out of the line; tried again as long as the database is away."""
        while True:
            await self._has_leaving.wait()
            self._has_leaving.clear()
            leaving, self._leaving = self._leaving, set()
            left = await asyncio.gather(*(self._take_out(each) for each in leaving))
            missed = [each for each, is_done in zip(leaving, left, strict=True) if not is_done]
            if missed:
                await asyncio.sleep(RETRY_SECONDS)
                self._leaving.update(each for each in missed if not self._is_held(each))
                self._has_leaving.set()

    def _is_held(self, operation_id: int) -> bool:
        guest = self._guests.get(operation_id)
        return guest is not None and (guest.is_here or guest.leaves is not None)

    async def _take_out(self, operation_id: int) -> bool:
        def take_out(draft: Draft) -> bool:
            """Whether it is no concern of this process any more."""
            if self._is_held(operation_id):  # he came back
                return False
            if draft.status.is_final or draft.base.held_by not in (None, self.process):  # he came back elsewhere
                return True
            if draft.task(0).status is not TaskStatus.RUNNING:
                steer.cancel(draft, reason="its customer left", now=self.engine.now())
            return False

        try:
            is_over = await self.engine.desk.decide(operation_id, take_out, shop=shop.name)
        except NotFound:
            is_over = True
        except OrderupError:
            return False
        if is_over and not self._is_held(operation_id):
            self.forget(operation_id)
        return True

    # processes that ended

    async def _look_for_orphans(self) -> None:
        while True:
            try:
                alive = await self.engine.database.read(_holders_alive)
                if alive != self._alive:
                    await self._adopt(alive)
                    self._alive = alive
            except Unavailable:
                pass
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def _adopt(self, alive: frozenset[str]) -> None:
        """Orders of processes that have ended are this one's now, and leave if nobody comes for them."""
        open_ones = await self.engine.database.read(_open_orders)
        dead = {held_by for _, _, held_by in open_ones if held_by and held_by not in alive and held_by != self.process}
        if not dead:
            return
        adopted = await self.engine.database.write(lambda connection: _take_from(connection, dead, self.process))
        for operation_id, client in adopted:
            if operation_id not in self._guests:
                guest = self._guests[operation_id] = Guest(client or "", is_kept=True)
                self.fair_use.opened(guest.client)
                self._keep(operation_id, guest, self.settings.coffee_orphan_seconds)
        log.info("orders of a process that ended are kept for a while", orders=len(adopted))
        await self._drop_ended([operation_id for operation_id, _ in adopted])

    async def _drop_ended(self, ids: Sequence[int]) -> None:
        """Of those adopted, what ended before it was known here."""
        for operation in (await self.engine.database.load(ids)).values():
            if operation.status.is_final:
                self.forget(operation.id)

    # the end

    async def drain(self) -> None:
        self.is_draining = True
        while self._waiting:
            self._is_empty.clear()
            await self._is_empty.wait()

    def close(self) -> None:
        """Whoever still waits is hung up on; his order stays for whoever takes it over."""
        self.is_draining = self._is_closed = True
        for guest in self._guests.values():
            guest.stay()
            for answer in guest.answers:
                if not answer.done():
                    answer.set_result(None)


def _holders_alive(connection: ReadConnection) -> frozenset[str]:
    return frozenset(row[0] for row in connection.rows(select(workers.c.id).where(workers.c.kind == HOLDER)))


def _open_orders(connection: ReadConnection) -> list[tuple[int, str | None, str | None]]:
    here = (operations.c.shop == shop.name) & operations.c.status.in_(OPEN)
    rows = connection.rows(select(operations.c.id, operations.c.client, operations.c.held_by).where(here))
    return [(row[0], row[1], row[2]) for row in rows]


def _hold(connection: WriteConnection, *, operation_ids: Sequence[int], process: str) -> None:
    connection.execute(update(operations).where(operations.c.id.in_(operation_ids)).values(held_by=process))


def _take_from(connection: WriteConnection, dead: Iterable[str], process: str) -> list[tuple[int, str | None]]:
    """Two processes may want the same ones: each order is taken by one of them."""
    here = (operations.c.shop == shop.name) & operations.c.status.in_(OPEN) & operations.c.held_by.in_(sorted(dead))
    taken = update(operations).where(here).values(held_by=process).returning(operations.c.id, operations.c.client)
    return [(row.id, row.client) for row in connection.execute(taken)]
