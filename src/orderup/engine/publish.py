"""The publisher: follows the log and sends each event to a target, until it has arrived or is given up.

A delivery is a row, made when the publisher comes by its event: whoever orders waits for none of it, and an order is
complete whether anybody hears of it or not. One publisher a target: the one that holds its lease, a row whose `beat`
moves; another takes over once the beat has stood still for the lease's length by its own monotonic clock, or the holder
is known to be dead. Each of its writes says that it still holds the target, or changes nothing.

At least once: a publisher that dies after something arrived and before it wrote that down leaves it to be sent again,
under the same id. Of one operation, one event at a time is on its way, in order; one that is given up no longer holds
up those behind it. Different operations overtake each other.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

import structlog

from orderup.db.database import WriteConnection
from orderup.db.deliveries import (
    Due,
    Hold,
    Outcome,
    add_deliveries,
    keep_target,
    leave_target,
    read_due,
    read_hold,
    register_target,
    settle,
    take_target,
)
from orderup.engine.engine import Engine
from orderup.engine.lease import is_known_dead, process_identity
from orderup.errors import Conflict, OrderupError, TaskFailed, Unavailable
from orderup.model.delivery import Target
from orderup.model.event import Audience, Event
from orderup.model.retry import NoMoreAttempts, Retry, backoff
from orderup.model.times import as_micros

log = structlog.get_logger(__name__)
# Some twelve hours: half of five minutes between two tries, once the first ones have failed.
RETRY = Retry(attempts=300, first=timedelta(seconds=1), longest=timedelta(minutes=5))
LEASE = timedelta(seconds=30)
# What hangs longer has failed. Less than a lease, so that nothing is still on its way when somebody else takes over.
DEADLINE = timedelta(seconds=15)
LONGEST_REST = timedelta(hours=1)
MOST_AT_ONCE = 500
SAFETY_NET_SECONDS = 2.0
LONGEST_ERROR = 500


class TargetLost(Conflict):
    """Another publisher holds the target now."""


async def register_targets(engine: Engine, targets: Sequence[Target]) -> None:
    """Make sure of their rows. A new target is told of what happens from now on."""
    if not targets:
        return
    end = await engine.database.end_of_log()

    def write(connection: WriteConnection) -> None:
        for target in targets:
            register_target(connection, target.name, place=target.place, position=end)

    await engine.database.write(write)


class Publisher:
    """Of one target, in this process. `run` it; any number of processes may."""

    def __init__(
        self,
        engine: Engine,
        target: Target,
        *,
        lease: timedelta = LEASE,
        deadline: timedelta = DEADLINE,
        retry: Retry = RETRY,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engine, self.target, self.retry, self.monotonic = engine, target, retry, monotonic
        self.lease, self.deadline = lease.total_seconds(), deadline.total_seconds()
        self.name = uuid4().hex
        self._news, self._due = asyncio.Event(), asyncio.Event()
        self._landed: asyncio.Queue[Outcome] = asyncio.Queue()
        # Until when nobody else can have taken the target, and until when it wants to be left alone.
        self._sure_until = self._rests_until = float("-inf")

    async def run(self) -> None:
        """Until cancelled; then the target is let go."""
        self.engine.feed.count(self._heard)
        try:
            while True:
                try:
                    await self._publish(await self._take())
                except* (TargetLost, Unavailable) as errors:
                    log.warning("a publisher stops for now", target=self.target.name, why=_said(errors))
                except* Exception:  # a fault of ours in here must not stop the orders
                    log.exception("a publisher stumbled; it goes on", target=self.target.name)
                _end_if_cancelled()
                await asyncio.sleep(self.lease / 30)
        finally:
            self.engine.feed.stop_counting(self._heard)
            with suppress(OrderupError):
                await self.engine.database.write(
                    lambda connection: leave_target(connection, self.target.name, holder=self.name)
                )

    def _heard(self, _events: Sequence[Event]) -> None:
        self._news.set()

    # holding the target

    async def _take(self) -> int:
        """Wait until the target is ours; from where on the log is to be followed."""
        seen, since = await self._hold(), self.monotonic()
        while True:
            began = self.monotonic()
            is_free = seen.holder in (None, self.name) or is_known_dead(seen.process)
            if (is_free or began - since >= self.lease) and await self._try_to_take(seen):
                self._sure_until = began + self.lease - self.deadline
                return seen.position
            await asyncio.sleep(self.lease / 30)
            now = await self._hold()
            if now != seen:
                seen, since = now, self.monotonic()

    async def _hold(self) -> Hold:
        return await self.engine.database.read(lambda connection: read_hold(connection, self.target.name))

    async def _try_to_take(self, seen: Hold) -> bool:
        process = process_identity()
        return await self.engine.database.write(
            lambda connection: take_target(connection, self.target.name, holder=self.name, process=process, seen=seen)
        )

    async def _write(self, write: Callable[[WriteConnection], None], **values: object) -> None:
        """Only as long as the target is ours. Raises TargetLost."""

        def checked(connection: WriteConnection) -> None:
            if not keep_target(connection, self.target.name, holder=self.name, **values):
                raise TargetLost(f"Another process sends to {self.target.name} now.")
            write(connection)

        began = self.monotonic()
        await self.engine.database.write(checked)
        self._sure_until = began + self.lease - self.deadline
        self._due.set()

    async def _publish(self, position: int) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat(), name=f"publisher: hold {self.target.name}")
            group.create_task(self._follow(position), name=f"publisher: follow the log for {self.target.name}")
            group.create_task(self._send(), name=f"publisher: send to {self.target.name}")

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.lease / 6)
            await self._write(lambda _connection: None)

    # following the log

    async def _follow(self, position: int) -> None:
        reader = self.engine.database.log(position)
        while True:
            self._news.clear()
            found = await reader.read(MOST_AT_ONCE)
            if reader.position != position:
                position = reader.position
                await self._add([event for event in found if event.audience <= Audience.STAFF], position)
            if len(found) < MOST_AT_ONCE:
                await _set_or_later(self._news, seconds=SAFETY_NET_SECONDS)

    async def _add(self, told: Sequence[Event], position: int) -> None:
        now = self.engine.now()
        await self._write(
            lambda connection: add_deliveries(connection, self.target.name, told, now=now), position=position
        )

    # sending

    async def _send(self) -> None:
        self._landed = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            flying: set[int] = set()
            while True:
                self._due.clear()
                seconds = await self._start(group, flying)
                await _set_or_later(self._due, seconds=seconds)
                if landed := [self._landed.get_nowait() for _ in range(self._landed.qsize())]:
                    await self._settle(landed)
                    flying -= {each.operation_id for each in landed}

    async def _start(self, group: asyncio.TaskGroup, flying: set[int]) -> float:
        """Send what is due, as far as there is room; seconds until there may be more."""
        now, moment = self.engine.now(), self.monotonic()
        if moment >= self._sure_until:
            return self.lease / 30  # a heartbeat is on its way
        if moment < self._rests_until:
            return min(SAFETY_NET_SECONDS, self._rests_until - moment)
        if len(flying) >= self.target.most_in_flight:
            return SAFETY_NET_SECONDS
        due, later = await self.engine.database.read(
            lambda connection: read_due(
                connection, self.target.name, now=now, most=self.target.most_in_flight + len(flying)
            )
        )
        for each in due:
            if each.event.operation_id not in flying and len(flying) < self.target.most_in_flight:
                flying.add(each.event.operation_id)
                group.create_task(self._try(each), name=f"deliver {each.event.seq} to {self.target.name}")
        return SAFETY_NET_SECONDS if later is None else min(SAFETY_NET_SECONDS, max(0.01, (later - now) / 1e6))

    async def _try(self, due: Due) -> None:
        seq, operation_id = due.event.seq, due.event.operation_id
        outcome = Outcome(seq, operation_id)
        try:
            async with asyncio.timeout(self.deadline):
                await self.target.deliver(due.event)
        except TimeoutError:
            outcome = self._failed(due, f"no answer within {self.deadline:g} s")
        except TaskFailed as error:
            outcome = self._failed(due, str(error), is_final=error.final, retry_after=error.retry_after)
        except Exception as error:  # of a target's code: this one is tried again, the others go on
            log.exception("a target's code failed", target=self.target.name, seq=seq)
            outcome = self._failed(due, f"{type(error).__name__} in the code of the target")
        self._landed.put_nowait(outcome)
        self._due.set()

    def _failed(self, due: Due, why: str, *, is_final: bool = False, retry_after: timedelta | None = None) -> Outcome:
        seq, operation_id, failures = due.event.seq, due.event.operation_id, due.tries + 1
        try:
            wait = backoff(self.retry, failures=failures, random=self.engine.random)
        except NoMoreAttempts:
            is_final = True
        if is_final:
            log.warning("an event is given up", target=self.target.name, seq=seq, tries=failures, why=why)
            return Outcome(seq, operation_id, why[:LONGEST_ERROR])
        if retry_after is not None:
            rest = min(retry_after, LONGEST_REST)
            wait = max(wait, rest)
            self._rests_until = max(self._rests_until, self.monotonic() + rest.total_seconds())
        return Outcome(seq, operation_id, why[:LONGEST_ERROR], self.engine.now() + as_micros(wait))

    async def _settle(self, landed: Sequence[Outcome]) -> None:
        now, target = self.engine.now(), self.target.name
        values: dict[str, object] = {}
        if any(each.error is None for each in landed):
            values["delivered_at"] = now
        if errors := [each.error for each in landed if each.error is not None]:
            values |= {"failed_at": now, "error": errors[-1]}
        await self._write(lambda connection: settle(connection, target, landed, now=now), **values)


def _end_if_cancelled() -> None:
    """Before Python 3.13 a task group in which something fails at the moment at which it is cancelled keeps the
    cancellation to itself: https://github.com/python/cpython/issues/116720."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _said(errors: ExceptionGroup[Exception]) -> str:
    """By all that are in it."""
    said = {_said(each) if isinstance(each, ExceptionGroup) else str(each) for each in errors.exceptions}
    return "; ".join(sorted(said))


async def _set_or_later(event: asyncio.Event, *, seconds: float) -> None:
    """Until it is set, and not longer than this."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
