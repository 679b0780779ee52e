"""How often a failed task is tried again, and how long it waits between."""

from datetime import timedelta
from random import Random

import msgspec

from orderup.errors import Misconfigured


class NoMoreAttempts(Exception):
    """The last attempt allowed has failed."""


class Retry(msgspec.Struct, frozen=True, gc=False):
    """A retry policy.

    attempts: how many failed attempts make the task errored, the first included (1 = never retried).
    first, longest: the wait after the first failed attempt doubles each time, from `first` up to `longest`.
    """

    attempts: int = 5
    first: timedelta = timedelta(seconds=1)
    longest: timedelta = timedelta(minutes=5)

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise Misconfigured(f"Retry(attempts={self.attempts}): at least 1 is needed; 1 means never retried.")
        if not timedelta(0) <= self.first <= self.longest:
            raise Misconfigured(f"Retry(first={self.first}, longest={self.longest}): 0 <= first <= longest is needed.")


NEVER = Retry(attempts=1)


def backoff(retry: Retry, *, failures: int, random: Random) -> timedelta:
    """How long to wait after failed attempt number `failures`, counted from 1.

    Full jitter over `retry.first * 2 ** (failures - 1)`, capped at `retry.longest`, so that a hundred tasks that failed
    together do not come back together. Raises NoMoreAttempts after the last one.
    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    if failures >= retry.attempts:
        raise NoMoreAttempts
    # 2 ** 40 of anything is beyond every cap; a larger power would overflow timedelta
    ceiling = min(retry.longest.total_seconds(), retry.first.total_seconds() * 2.0 ** min(failures - 1, 40))
    return timedelta(seconds=random.uniform(0, ceiling))
