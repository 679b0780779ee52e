"""What limits of queues come to, on any database: a permit is a row, spent in the transaction of the claim."""

import time
from collections.abc import Mapping, Sequence

from sqlalchemy import text

from orderup.db.database import Claimed, ReadConnection
from orderup.model.task import queue_of

# A permit is taken before the claim commits, the call goes out a little later: calls may draw nearer by that much.
MARGIN_US = 50_000


def host_clock() -> int:
    """Microseconds of a clock that all processes of this host share and that nobody can set: for rate windows."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def permit_clock(connection: ReadConnection) -> int:
    """Now, by the clock that permits are stamped with: of the host that has the file, or of the database's server."""
    if connection.connection.dialect.name == "sqlite":
        return host_clock()
    now: int = connection.execute(text("select (extract(epoch from clock_timestamp()) * 1000000)::bigint")).scalar_one()
    return now


def next_permit_in(
    claimed: Sequence[Claimed], *, allowed: Mapping[str, int], more_in: Mapping[str, float]
) -> float | None:
    """In how many seconds the first of the queues that were used up lets more through; None if none was, or if that is
    not a matter of time. `allowed`: how many each limited queue let through. `more_in`: seconds, by queue, where only
    time can help."""
    used: dict[str, int] = {}
    for each in claimed:
        name = queue_of(each.task.queue)
        used[name] = used.get(name, 0) + 1
    return min((wait for name, wait in more_in.items() if used.get(name, 0) >= allowed[name]), default=None)
