"""What a shop says of one kind of task: who does it, how long it may take, and the limits of its queue."""

from datetime import timedelta

import msgspec

from orderup.errors import Misconfigured
from orderup.model.retry import Retry

_PERIODS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


class Rate(msgspec.Struct, frozen=True):
    """At most `count` claims in any window of `period`, across all processes and hosts."""

    count: int
    period: timedelta


def read_rate(text: str) -> Rate:
    """Of `40/minute`; second, minute, hour, day, or a number of them before the word, as in `5/10 seconds`."""
    count, _, period = text.partition("/")
    words = period.split()
    number, unit = words if len(words) == 2 else ("1", *words) if len(words) == 1 else ("", "")
    unit = unit.removesuffix("s")
    if not (count.strip().isdigit() and number.isdigit() and unit in _PERIODS) or not int(count) or not int(number):
        raise Misconfigured(f'The rate "{text}" is not understood. Write it like "40/minute" or "5/10 seconds".')
    return Rate(int(count), timedelta(seconds=int(number) * _PERIODS[unit]))


class Kind(msgspec.Struct, frozen=True):
    """One kind of task of a shop.

    says: what a customer reads when it starts, such as "Baking pizza". retry and within: for tasks whose plan says
    nothing. lease: how long a claim lives without a heartbeat; None: as long as the owner set. timeout: how long one
    attempt in this process may take. rate, concurrency: limits of the queue. is_remote: done by a remote worker or a
    person, not by a handler. has_handler: a handler or a step of the shop does it, in whatever process claims first.
    turns_after: clients with more waiting than this take turns with all others; None: first come, first served.
    counts_late: what counts is the thing, not the attempt: a person who finishes it after his claim has ended has
    finished it.
    """

    name: str
    says: str = ""
    retry: Retry = Retry()
    within: timedelta = timedelta(hours=24)
    lease: timedelta | None = None
    timeout: timedelta = timedelta(minutes=5)
    rate: Rate | None = None
    concurrency: int | None = None
    is_remote: bool = False
    has_handler: bool = False
    turns_after: int | None = None
    counts_late: bool = False

    @property
    def is_limited(self) -> bool:
        return self.rate is not None or self.concurrency is not None
