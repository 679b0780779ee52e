"""Schedules: orders that are placed because their time has come.

A due time is `floor(epoch / every)` or a time of a cron line in a zone; the key of the operation is made of schedule
and due time, so that however many clocks run, each due time fires once. Due while the last run is alive: skipped,
counted; unless the schedule is there to keep a run alive.
After downtime it fires once for all it missed, for the latest due time, and the count of the others is kept; of very
many it is told only that there were at least so many.
Cron by the rules of Debian's cron at changes of clocks: a doubled hour fires once, a missing one at its end.
"""

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog
from cronsim import CronSim, CronSimError
from sqlalchemy import select, update

from orderup.db.database import Key, ReadConnection, WriteConnection
from orderup.db.tables import operations, schedules
from orderup.engine.desk import Replayed
from orderup.engine.engine import Engine
from orderup.engine.place import place_order, scoped_key
from orderup.errors import Conflict, Misconfigured, NotFound, Unavailable
from orderup.model.ids import OperationId
from orderup.model.operation import OperationStatus
from orderup.model.schedule import Schedule
from orderup.model.times import as_datetime, as_micros, show_time

log = structlog.get_logger(__name__)
# Due times of a cron line that are counted after a downtime; it takes some 10 microseconds each, ...
MOST_COUNTED = 50_000
# ... and others get their turn after so many.
COUNTED_AT_ONCE = 500
_LIVE = (OperationStatus.PENDING, OperationStatus.RUNNING, OperationStatus.PAUSED)


def due_times(schedule: Schedule, *, after: int) -> Iterator[int]:
    """Due times after a moment, in order, without end; microseconds since the epoch."""
    if schedule.every is not None:
        period = as_micros(schedule.every)
        due = after // period * period
        while True:
            due += period
            yield due
    for moment in CronSim(schedule.cron or "", as_datetime(after).astimezone(ZoneInfo(schedule.zone))):
        due = as_micros(moment.astimezone(UTC))
        if due > after:  # asked in the second run of a doubled hour, it begins with the first
            yield due


def check_schedule(schedule: Schedule) -> None:
    """Raises Misconfigured if it cannot be understood or has no due time."""
    try:
        if schedule.every is not None and schedule.every < timedelta(seconds=1):
            raise Misconfigured(f"Schedule {schedule.name}: every={schedule.every} is less than a second.")
        if schedule.cron is not None:
            next(CronSim(schedule.cron, datetime.now(ZoneInfo(schedule.zone))))
    except StopIteration:
        raise Misconfigured(f"Schedule {schedule.name}: {schedule.cron!r} is never due.") from None
    except (CronSimError, ZoneInfoNotFoundError, ValueError) as error:
        raise Misconfigured(f"Schedule {schedule.name}: {schedule.cron!r} in {schedule.zone!r}: {error}.") from error


def _spec(schedule: Schedule) -> str:
    if schedule.every is not None:
        return f"every {schedule.every.total_seconds():g} s"
    return f"{schedule.cron} {schedule.zone}"


async def register_schedules(engine: Engine, known: Mapping[str, Schedule]) -> None:
    """Make rows of schedules by name `shop/name`; one whose times were changed begins anew."""
    for schedule in known.values():
        check_schedule(schedule)
    now = engine.now()

    def write(connection: WriteConnection) -> None:
        for name, schedule in known.items():
            first = next(due_times(schedule, after=now))
            row = {
                "name": name,
                "spec": _spec(schedule),
                "next_due_at": first,
                "skipped": 0,
                "missed": 0,
                "is_paused": 0,
            }
            if not connection.insert_or_ignore(schedules, row):
                changed = (schedules.c.name == name) & (schedules.c.spec != _spec(schedule))
                connection.execute(update(schedules).where(changed).values(spec=_spec(schedule), next_due_at=first))

    await engine.database.write(write)


async def fire_schedules(engine: Engine, known: Mapping[str, Schedule]) -> int:
    """Place the orders whose time has come; how many."""
    if not known:
        return 0
    now = engine.now()

    def due(connection: ReadConnection) -> list[tuple[str, int, int | None, bool, bool]]:
        is_alive = operations.c.status.in_(_LIVE)
        statement = (
            select(schedules.c.name, schedules.c.next_due_at, schedules.c.last_due_at, schedules.c.is_paused, is_alive)
            .outerjoin(operations, operations.c.id == schedules.c.last_operation_id)
            .where(schedules.c.next_due_at <= now, schedules.c.name.in_(list(known)))
        )
        return [(*row[:3], bool(row[3]), bool(row[4])) for row in connection.rows(statement)]

    fired = 0
    for name, first_due, last_due, is_paused, is_alive in await engine.database.read(due):
        if is_paused:  # these due times are over: when it goes on, they are not made up for
            upcoming = next(due_times(known[name], after=now))
            await _pass_over(engine, name, first_due, next_due_at=upcoming)
        elif is_alive:
            await _skip(engine, name, known[name], first_due=first_due, last_due=last_due, now=now)
        else:
            fired += await _fire(engine, name, known[name], first_due=first_due, now=now)
    return fired


async def _skip(
    engine: Engine, name: str, schedule: Schedule, *, first_due: int, last_due: int | None, now: int
) -> None:
    """Its last run, due at `last_due`, is alive. Told once a run: the others are counted."""
    upcoming = next(due_times(schedule, after=now))
    if schedule.keeps_alive:
        await _pass_over(engine, name, first_due, next_due_at=upcoming)
        return
    if last_due is None or next(due_times(schedule, after=last_due)) >= first_due:
        log.warning(
            "a schedule is due while its last run is alive; skipped until that has ended",
            schedule=name,
            due=show_time(first_due),
        )
    count, _ = await _count(schedule, first_due=first_due, now=now)
    await _pass_over(engine, name, first_due, next_due_at=upcoming, skipped=schedules.c.skipped + count)


async def _fire(engine: Engine, name: str, schedule: Schedule, *, first_due: int, now: int) -> int:
    due = latest_due(schedule, first_due=first_due, now=now)
    count, is_exact = await _count(schedule, first_due=first_due, now=now)
    upcoming = next(due_times(schedule, after=now))
    missed = count - 1
    told = str(missed) if is_exact else f"at least {missed}"
    if missed:
        log.warning("a schedule missed due times while no clock ran; it fires once", schedule=name, missed=told)

    def also(connection: WriteConnection, operation_id: OperationId) -> None:
        values = {"last_due_at": due, "last_operation_id": operation_id, "missed": schedules.c.missed + missed}
        _advance(connection, name, first_due, next_due_at=upcoming, **values)

    key = Key(scoped_key("schedule", name, key=str(due)), fingerprint="", made_at=now)
    source = f"schedule:{name}@{show_time(due)}" + (f" (and {told} missed)" if missed else "")
    try:
        await place_order(engine, name.partition("/")[0], schedule.plan(), key=key, also=also, source=source)
    except (Replayed, _FiredElsewhere):
        # another clock was faster; or a clock was set back, and this due time has fired before
        await _pass_over(engine, name, first_due, next_due_at=upcoming)
        return 0
    except Unavailable:
        raise
    except Exception:  # the shop's code: told once a due time, and the next one is tried anew
        log.exception("a schedule's plan could not be made; this due time is lost", schedule=name)
        await _pass_over(engine, name, first_due, next_due_at=upcoming, missed=schedules.c.missed + count)
        return 0
    return 1


def latest_due(schedule: Schedule, *, first_due: int, now: int) -> int:
    """The latest due time up to now, given one of them. By halving the time that is left, so that a minute of downtime
    and three years take some twenty steps alike."""
    latest, over = first_due, now
    while (following := next(due_times(schedule, after=latest))) <= now:
        middle = following + (over - following) // 2
        later = next(due_times(schedule, after=middle))
        if later <= now:
            latest = later
        else:
            latest, over = following, middle
    return latest


async def _count(schedule: Schedule, *, first_due: int, now: int) -> tuple[int, bool]:
    """How many due times there were from the first one up to now, and whether that is exact: else there were more."""
    if schedule.every is not None:
        return (now - first_due) // as_micros(schedule.every) + 1, True
    count = 1
    for due in due_times(schedule, after=first_due):
        if due > now:
            break
        if count == MOST_COUNTED:
            return count, False
        count += 1
        if not count % COUNTED_AT_ONCE:
            await asyncio.sleep(0)
    return count, True


class _FiredElsewhere(Conflict):
    """Another clock was faster."""


def _advance(connection: WriteConnection, name: str, first_due: int, **values: object) -> None:
    here = (schedules.c.name == name) & (schedules.c.next_due_at == first_due)
    if not connection.execute(update(schedules).where(here).values(**values)).rowcount:
        raise _FiredElsewhere(f"Schedule {name} fired in another process.")


async def _pass_over(engine: Engine, name: str, first_due: int, **values: object) -> None:
    """Go on to the next due time without an order, unless another clock did."""
    try:
        await engine.database.write(lambda connection: _advance(connection, name, first_due, **values))
    except _FiredElsewhere:
        return


async def run_schedule(engine: Engine, name: str, schedule: Schedule, *, key: Key | None = None) -> OperationId:
    """Place its plan at once, beside its due times; paused or not. Raises NotFound, Conflict as long as its last run is
    alive, and Replayed if this key ran it before."""
    is_alive = operations.c.status.in_(_LIVE)

    def look(connection: ReadConnection) -> tuple[int | None, bool]:
        last = select(schedules.c.last_operation_id, is_alive).outerjoin(
            operations, operations.c.id == schedules.c.last_operation_id
        )
        rows = connection.rows(last.where(schedules.c.name == name))
        if not rows:
            raise NotFound("schedule", name[:200])
        return rows[0][0], bool(rows[0][1])

    last, lives = await engine.database.read(look)

    def also(connection: WriteConnection, operation_id: OperationId) -> None:
        here = (schedules.c.name == name) & schedules.c.last_operation_id.is_not_distinct_from(last)
        if (
            lives
            or not connection.execute(
                update(schedules).where(here).values(last_operation_id=operation_id, last_due_at=engine.now())
            ).rowcount
        ):
            raise Conflict(f"The last run of {name} is still under way. Wait for its end, or cancel it.")

    source = f"schedule:{name} by hand"
    shop = name.partition("/")[0]
    return (await place_order(engine, shop, schedule.plan(), key=key, also=also, source=source)).id


async def pause_schedule(engine: Engine, name: str, *, is_paused: bool) -> bool:
    """Whether there is such a schedule. Due times that pass while it is paused are not made up for."""

    def write(connection: WriteConnection) -> bool:
        found = connection.execute(update(schedules).where(schedules.c.name == name).values(is_paused=int(is_paused)))
        return bool(found.rowcount)

    return await engine.database.write(write)
