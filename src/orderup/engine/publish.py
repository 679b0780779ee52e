"""The publisher: follows the log and sends each event to a target, until it has arrived or is given up.

A delivery is a row, made when the publisher comes by its event: whoever orders waits for none of it, and an order is
complete whether anybody hears of it or not. One publisher a target: the one that holds its lease, a row whose `beat`
moves; another takes over once the beat has stood still for the lease's length by its own monotonic clock, or the holder
is known to be dead. Each of its writes says that it still holds the target, or changes nothing.

At least once: a publisher that dies after something arrived and before it wrote that down leaves it to be sent again,
under the same id. Of one operation, one event at a time is on its way, in order; one that is given up no longer holds
up those behind it. Different operations overtake each other.

A target that is away as a whole is no event's fault: nothing is sent and no try counts until it can be reached again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

import structlog

from orderup.db.database import ReadConnection, WriteConnection
from orderup.db.deliveries import (
    Due,
    Hold,
    Outcome,
    keep_target,
    leave_target,
    read_due,
    read_hold,
    register_target,
    settle,
    take_target,
)
from orderup.engine.at_work import is_being_cancelled
from orderup.engine.engine import Engine
from orderup.engine.lease import is_known_dead, process_identity
from orderup.errors import Conflict, OrderupError, TaskFailed, Unavailable, UpstreamFailed
from orderup.model.delivery import Target, TargetAway
from orderup.model.event import Event
from orderup.model.retry import NoMoreAttempts, Retry, backoff
from orderup.model.times import as_micros

T = TypeVar("T")
log = structlog.get_logger(__name__)
# Some twelve hours: half of five minutes between two tries, once the first ones have failed.
RETRY = Retry(attempts=300, first=timedelta(seconds=1), longest=timedelta(minutes=5))
# Until a target that is away is looked for again, however long it has been.
AWAY = Retry(attempts=1_000, first=timedelta(seconds=1), longest=timedelta(seconds=10))
LEASE = timedelta(seconds=30)
# What hangs longer has failed. Less than a lease, so that nothing is still on its way when somebody else takes over.
DEADLINE = timedelta(seconds=15)
LONGEST_REST = timedelta(hours=1)
MOST_AT_ONCE = 500
# At most one round in that time, unless there is more than one takes in: where events come one by one, many share what
# is written of them. The first one after a while waits for nothing.
PAUSE_SECONDS = 0.05
# The more there is to do beside, the longer a round takes, and the more share the next one: rounds take up no more than
# this of the time, unless they would be this far apart.
MOST_OF_THE_TIME, LONGEST_PAUSE_SECONDS = 0.15, 0.5
SAFETY_NET_SECONDS = 2.0
LONGEST_ERROR = 500


# Told of a target, how many events arrived there, and how many seconds after they were sent.
ArrivalObserver = Callable[[str, int, float], None]


class TargetLost(Conflict):
    """Another publisher holds the target now."""


def nobody_observes(_target: str, _count: int, _seconds: float) -> None:
    return None


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
        away: Retry = AWAY,
        monotonic: Callable[[], float] = time.monotonic,
        observe: ArrivalObserver = nobody_observes,
    ) -> None:
        self.engine, self.target, self.monotonic, self.observe = engine, target, monotonic, observe
        self.retry, self.away = retry, away
        self.lease, self.deadline = lease.total_seconds(), deadline.total_seconds()
        self.name = uuid4().hex
        # there is something to do
        self._woken = asyncio.Event()
        # operations of which something is on its way
        self._flying: set[int] = set()
        # by operation; None of an event that counts as not tried
        self._landed: asyncio.Queue[tuple[int, Outcome | None]] = asyncio.Queue()
        self._unwritten: list[Outcome] = []
        self._reaching: asyncio.Task[bool] | None = None
        # Until when nobody else can have taken the target, and until when it wants to be left alone.
        self._sure_until = self._rests_until = float("-inf")
        # why the target is away, once that is so, and how often it was found to be since something arrived
        self._absence: str | None = None
        self._absences = 0
        # what those said that were sent there in vain
        self._lost: str | None = None

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
        self._woken.set()

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

    async def _write(self, write: Callable[[WriteConnection], T], **values: object) -> T:
        """Only as long as the target is ours. Raises TargetLost."""

        def checked(connection: WriteConnection) -> T:
            if not keep_target(connection, self.target.name, holder=self.name, **values):
                raise TargetLost(f"Another process sends to {self.target.name} now.")
            return write(connection)

        began = self.monotonic()
        written = await self.engine.database.write(checked)
        self._sure_until = began + self.lease - self.deadline
        return written

    async def _publish(self, position: int) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat(), name=f"publisher: hold {self.target.name}")
            # in the group's own body: before Python 3.13, when a task fails that is waited for after the body, the task
            # around the group counts as cancelled for ever
            await self._go_round(group, position)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.lease / 6)
            with suppress(Unavailable):
                await self._write(lambda _connection: None)
                self._woken.set()  # it may be sure of the target again

    # follow the log, write down what came of what was sent, and send what is due

    async def _go_round(self, group: asyncio.TaskGroup, position: int) -> None:
        """What is on its way when the database goes away stays so, and what comes of it is written down once it is
        back: nothing has to be sent again."""
        self._landed, self._flying, self._unwritten = asyncio.Queue(), set(), []
        self._reaching = None
        while True:
            try:
                await self._follow(group, position)
            except Unavailable as error:
                log.warning("a publisher waits for the database", target=self.target.name, why=str(error))
                position = await self._where_it_stands()

    async def _where_it_stands(self) -> int:
        """From where on the log is to be followed, once the database is back. Raises TargetLost."""
        while True:
            await asyncio.sleep(self.lease / 30)
            with suppress(Unavailable):
                hold = await self._hold()
                if hold.holder != self.name:
                    raise TargetLost(f"Another process sends to {self.target.name} now.")
                return hold.position

    async def _follow(self, group: asyncio.TaskGroup, position: int) -> None:
        events, pace = self.engine.feed.log(position), _Pace()
        written, written_at = position, self.monotonic()
        while True:
            await pace.keep()
            self._woken.clear()
            found = await events.read(MOST_AT_ONCE)
            told = [event for event in found if self.target.wants(event)]
            outcomes = await self._take_landed()
            most, rest = await self._room(group)
            # where nothing goes out, how far it is need not be written each time: it would be read again, no more
            is_far = events.position != written and self.monotonic() - written_at >= self.lease / 6
            look = _Look(told, outcomes, self.engine.now(), most=most, but=frozenset(self._flying))
            if told or outcomes or is_far:
                due, later = await self._write_down(look, events.position)
                self._unwritten = []
                written, written_at = events.position, self.monotonic()
            elif most:
                due, later = await self.engine.database.read(partial(look.due, target=self.target.name))
            else:
                due, later = [], None
            await self._start(group, due)
            if len(found) == MOST_AT_ONCE or (due and len(due) == most):
                pace.hurry()
            else:
                pace.rest()
                if later is not None:
                    rest = min(rest, max(0.01, (later - look.now) / 1e6))
                await _set_or_later(self._woken, seconds=rest)

    async def _take_landed(self) -> list[Outcome]:
        """What came of those that have landed since it was written down last."""
        landed = dict(self._landed.get_nowait() for _ in range(self._landed.qsize()))
        self._flying -= landed.keys()
        self._unwritten += [each for each in landed.values() if each is not None]
        if self._lost is not None:
            why, self._lost = self._lost, None
            await self._note_absence(why)
        return self._unwritten

    async def _room(self, group: asyncio.TaskGroup) -> tuple[int, float]:
        """How many may be sent now; if none, for how many seconds there is nothing to do unless something happens."""
        room = min(self.target.most_in_flight - len(self._flying), MOST_AT_ONCE)
        if room <= 0:
            return 0, SAFETY_NET_SECONDS
        if (rest := self._rests_until - self.monotonic()) > 0 or not await self._is_reached(group):
            return 0, min(SAFETY_NET_SECONDS, max(0.01, rest))
        if self.monotonic() >= self._sure_until:
            return 0, self.lease / 30  # a heartbeat is on its way
        return room, SAFETY_NET_SECONDS

    async def _write_down(self, look: "_Look", position: int) -> "tuple[Sequence[Due], int | None]":
        """What came of what was sent, and what is to go out; what is due then."""
        values: dict[str, object] = {"position": position}
        if any(each.error is None for each in look.outcomes):
            values["delivered_at"] = look.now
        if errors := [each.error for each in look.outcomes if each.error is not None]:
            values |= {"failed_at": look.now, "error": errors[-1]}
        return await self._write(partial(look.write, target=self.target.name), **values)

    async def _start(self, group: asyncio.TaskGroup, due: Sequence[Due]) -> None:
        """Send these."""
        if not due:
            return
        prepared = await self._prepare_all(due)
        if self.monotonic() >= self._sure_until:
            return  # that took long: somebody else may have it by now
        self._flying |= {each.event.operation_id for each in due}
        ready = []
        for each, one in zip(due, prepared, strict=True):
            if one is None or isinstance(one, TaskFailed):
                self._land(each, one)
            else:
                ready.append((each, one))
        for first in range(0, len(ready), self.target.most_together):
            some = ready[first : first + self.target.most_together]
            group.create_task(self._try(some), name=f"deliver {some[0][0].event.seq} to {self.target.name}")

    async def _is_reached(self, group: asyncio.TaskGroup) -> bool:
        """Whether the target can be reached. It is waited for beside all else."""
        if self._reaching is None:
            self._reaching = group.create_task(self._reach(), name=f"reach {self.target.name}")
            self._reaching.add_done_callback(lambda _reached: self._woken.set())
        await asyncio.wait([self._reaching], timeout=PAUSE_SECONDS)
        if not self._reaching.done():
            return False
        reached, self._reaching = self._reaching, None
        return reached.result()

    async def _reach(self) -> bool:
        """If not, the target is left alone for a while."""
        try:
            await self._in_time(self.target.reach())
        except TimeoutError:
            await self._note_absence(f"no answer within {self.deadline:g} s")
            return False
        except TargetAway as error:
            await self._note_absence(str(error))
            return False
        if self._absence is not None:
            self._absence = None
            log.info("a target is back", target=self.target.name)
            await self._say(failed_at=None, error=None)
        return True

    async def _note_absence(self, why: str) -> None:
        if self._absence != why:
            log.warning("a target is away; what is to go there waits", target=self.target.name, why=why)
        self._absence, self._absences = why, self._absences + 1
        wait = backoff(self.away, failures=min(self._absences, 40), random=self.engine.random)
        self._rests_until = self.monotonic() + wait.total_seconds()
        await self._say(failed_at=self.engine.now(), error=why[:LONGEST_ERROR])

    async def _say(self, **values: object) -> None:
        """To staff, where the database takes it."""
        with suppress(Unavailable):
            await self._write(lambda _connection: None, **values)

    async def _prepare_all(self, due: Sequence[Due]) -> Sequence[Any]:
        """What is sent of each. None: nothing; an error: it could not be told."""
        events = [each.event for each in due]
        try:
            return await self.engine.database.read(lambda connection: self.target.prepare(connection, events))
        except Unavailable:
            raise
        except Exception:  # noqa: BLE001  told below, of the event that is to blame
            return [await self._prepare(each) for each in due]

    async def _prepare(self, due: Due) -> Any:
        """Of one, on a connection that no other has spoilt."""
        try:
            [one] = await self.engine.database.read(lambda connection: self.target.prepare(connection, [due.event]))
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001  of a shop's code: this one is tried again, the others go on
            return self._fault(error, due)
        return one

    async def _try(self, some: Sequence[tuple[Due, Any]]) -> None:
        began = self.monotonic()
        came: Sequence[TaskFailed | None]
        try:
            came = await self._in_time(self.target.send([one for _, one in some]))
        except TimeoutError:
            came = [UpstreamFailed(f"no answer within {self.deadline:g} s")] * len(some)
        except TaskFailed as error:
            came = [error] * len(some)
        except Exception as error:  # noqa: BLE001  of a target's code: these are tried again, the others go on
            came = [self._fault(error, some[0][0])] * len(some)
        if arrived := came.count(None):
            self._absences = 0
            self.observe(self.target.name, arrived, self.monotonic() - began)
        for (due, _), problem in zip(some, came, strict=True):
            self._land(due, problem)

    async def _in_time(self, work: Awaitable[T]) -> T:
        """What the target's code comes to. Raises TimeoutError; TargetAway if something it waited for was cancelled."""
        try:
            async with asyncio.timeout(self.deadline):
                return await work
        except asyncio.CancelledError as error:
            if is_being_cancelled():
                raise
            raise TargetAway("something it waited for was cancelled") from error

    def _fault(self, error: Exception, due: Due) -> TaskFailed:
        if isinstance(error, TaskFailed):
            return error
        log.error("a target's code failed", target=self.target.name, seq=due.event.seq, exc_info=error)
        return TaskFailed(f"{type(error).__name__} in the code of the target")

    def _land(self, due: Due, error: TaskFailed | None) -> None:
        seq, operation_id = due.event.seq, due.event.operation_id
        outcome: Outcome | None = None
        if isinstance(error, TargetAway):
            self._lost = str(error)
        elif error is None:
            outcome = Outcome(seq, operation_id)
        else:
            outcome = self._failed(due, str(error), is_final=error.final, retry_after=error.retry_after)
        self._landed.put_nowait((operation_id, outcome))
        self._woken.set()

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


class _Look:
    """What one round has to write, and to read: `told` is to go out, `outcomes` came of what was sent, at most `most`
    that are due are to be sent now, none of the operations `but`."""

    def __init__(
        self, told: Sequence[Event], outcomes: Sequence[Outcome], now: int, *, most: int, but: frozenset[int]
    ) -> None:
        self.told, self.outcomes, self.now, self.most, self.but = told, outcomes, now, most, but

    def write(self, connection: WriteConnection, *, target: str) -> tuple[Sequence[Due], int | None]:
        settle(connection, target, self.outcomes, told=self.told, now=self.now)
        return self.due(connection, target=target)

    def due(self, connection: ReadConnection, *, target: str) -> tuple[Sequence[Due], int | None]:
        if not self.most:
            return [], None
        return read_due(connection, target, now=self.now, most=self.most, but=self.but)


def _end_if_cancelled() -> None:
    """Before Python 3.13 a task group in which something fails at the moment at which it is cancelled keeps the
    cancellation to itself: https://github.com/python/cpython/issues/116720."""
    if is_being_cancelled():
        raise asyncio.CancelledError


def _said(errors: ExceptionGroup[Exception]) -> str:
    """By all that are in it."""
    said = {_said(each) if isinstance(each, ExceptionGroup) else str(each) for each in errors.exceptions}
    return "; ".join(sorted(said))


class _Pace:
    """Of what is done over and over."""

    def __init__(self) -> None:
        self._began = self._next = 0.0

    async def keep(self) -> None:
        """Return when it is time to begin again."""
        loop = asyncio.get_running_loop()
        if (wait := self._next - loop.time()) > 0:
            await asyncio.sleep(wait)
        self._began = loop.time()

    def rest(self) -> None:
        """What was begun has been done."""
        took = asyncio.get_running_loop().time() - self._began
        self._next = self._began + min(max(PAUSE_SECONDS, took / MOST_OF_THE_TIME), LONGEST_PAUSE_SECONDS)

    def hurry(self) -> None:
        """It is time now."""
        self._next = 0.0


async def _set_or_later(event: asyncio.Event, *, seconds: float) -> None:
    """Until it is set, and not longer than this."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
