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


class Allowance(msgspec.Struct, frozen=True):
    """What a third party lets us do, whichever of a shop's queues ask it: at most `rate.count` calls in any window of
    `rate.period`, of all of them together.

    A call counts from its claim until a window after it has ended: however long it is on its way, the third party never
    sees more. Each claim is one call. third_party: what has several allowances, one for each purpose, and rests as one;
    None: it has this one only.
    """

    name: str
    rate: Rate
    third_party: str | None = None


class Kind(msgspec.Struct, frozen=True):
    """One kind of task of a shop.

    says: what a customer reads when it starts, such as "Baking pizza". retry and within: for tasks whose plan says
    nothing. lease: how long a claim lives without a heartbeat; None: as long as the owner set. timeout: how long one
    attempt in this process may take. rate, concurrency: limits of the queue. allowance: which it shares with other
    kinds, in the place of limits of its own; share: the part of it that the kinds with this share may use together.
    third_party: whom each of its tasks asks, and nobody else: while that one is down or rests, nothing is begun of it,
    nor of other kinds that ask the same; None: that of its allowance, if it has one.
    is_remote: done by a remote worker or a person, not by a handler. has_handler: a handler or a step of the shop does
    it, in whatever process claims first. once: what it does must not happen a second time: one that is completed cannot
    be rerun, and one that is errored begins with the memo that it had.
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
    allowance: Allowance | None = None
    share: float = 1.0
    third_party: str | None = None
    is_remote: bool = False
    has_handler: bool = False
    once: bool = False
    turns_after: int | None = None
    counts_late: bool = False

    def __post_init__(self) -> None:
        if self.allowance is not None and (self.rate is not None or self.concurrency is not None):
            raise Misconfigured(f"The kind {self.name} has an allowance and a limit of its own. Leave one of them out.")
        if not 0 < self.share <= 1:
            raise Misconfigured(
                f"The kind {self.name} may use share={self.share} of its allowance; write 0.5 for half."
            )

    @property
    def asks(self) -> str | None:
        """The one third party that all of its tasks ask."""
        if self.third_party is not None or self.allowance is None:
            return self.third_party
        return self.allowance.third_party or self.allowance.name

    @property
    def is_limited(self) -> bool:
        return self.rate is not None or self.concurrency is not None or self.allowance is not None
