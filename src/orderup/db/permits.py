"""What limits of queues come to, on any database: a permit is a row, spent in the transaction of the claim."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text

from orderup.db.database import Ask, Claimed, ReadConnection
from orderup.model.task import queue_of
from orderup.model.times import as_micros

# What a permit's `held` says: the task is over; it runs, and counts from when it was claimed; it runs, and is to count
# from when it ends, as a call of an allowance does.
OVER, RUNNING, CALLING = 0, 1, 2
# The clock that they are stamped with on PostgreSQL: its server's.
NOW = "(extract(epoch from clock_timestamp()) * 1000000)::bigint"
# A permit is taken before the claim commits, the call goes out a little later: calls may draw nearer by that much.
MARGIN_US = 50_000


def host_clock() -> int:
    """Microseconds of a clock that all processes of this host share and that nobody can set: for rate windows."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def permit_clock(connection: ReadConnection) -> int:
    """Now, by the clock that permits are stamped with: of the host that has the file, or of the database's server."""
    if connection.connection.dialect.name == "sqlite":
        return host_clock()
    now: int = connection.execute(text(f"select {NOW}")).scalar_one()
    return now


@dataclass(frozen=True, slots=True)
class Room:
    """How much the limits leave. `allowed`: how many each limited queue lets through, and each allowance. `more_in`: in
    how many seconds it lets more through once those are used up, where only time can help. `shared`: the allowances
    that a queue shares, a part of one before the whole, by their names without region."""

    allowed: dict[str, int]
    more_in: dict[str, float]
    shared: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, ask: Ask) -> "Room":
        """Nothing known yet."""
        shared: dict[str, list[str]] = {}
        for name, each in sorted(ask.shared.items(), key=lambda item: item[1].rate.count):
            for queue in each.queues:
                shared.setdefault(queue, []).append(name)
        return cls({}, {}, shared)

    def limits(self, queue: str) -> Iterator[str]:
        """What limits a queue, by its name with or without region."""
        name = queue_of(queue)
        yield from (each for each in (name, *self.shared.get(name, ())) if each in self.allowed)

    def most(self, queue: str, most: int) -> int:
        return min((self.allowed[name] for name in self.limits(queue)), default=most)

    def next_permit_in(self, claimed: Sequence[Claimed]) -> float | None:
        """In how many seconds the first of the limits that these used up lets more through; None if none was, or if
        that is not a matter of time."""
        used = Counter(name for each in claimed for name in self.limits(each.task.queue))
        return min((wait for name, wait in self.more_in.items() if used[name] >= self.allowed[name]), default=None)


def window_of(period: timedelta, *, is_shared: bool) -> int:
    """Microseconds that a permit counts. One of an allowance counts from the end of its call, and needs no margin."""
    return as_micros(period) + (0 if is_shared else MARGIN_US)


def held_while_running(ask: Ask, queue: str) -> int:
    """As what a permit of a limited queue is taken."""
    return RUNNING if ask.limits[queue].allowance is None else CALLING
