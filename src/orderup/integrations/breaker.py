"""A circuit breaker: a third party that is down is left alone, and asked now and then whether it is back.

It opens after several failures in a row that were not all about the same thing: a service that fails for one product
and answers for others is up. While it is open nobody asks, but for one at a time once it has rested. What was cancelled
says nothing either way.

Source: Nygard, "Release It!", 2007. Own, because the libraries there are count by the wall clock, take a cancellation
for a failure, or let everybody in at once when the rest is over.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum

FAILURES, DIFFERENT = 5, 3
REST = timedelta(seconds=5)


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


class Breaker:
    """failures, different: in a row, and about so many different things, until it opens. `monotonic`: seconds."""

    def __init__(
        self,
        *,
        failures: int = FAILURES,
        different: int = DIFFERENT,
        rest: timedelta = REST,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.failures, self.different, self.rest, self.monotonic = failures, different, rest, monotonic
        self._in_a_row = 0
        self._about: set[object] = set()
        self._opened_at: float | None = None
        self._rest = self.rest
        self._probes = False

    @property
    def state(self) -> BreakerState:
        if self._opened_at is None:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if self._probes or self._rested else BreakerState.OPEN

    def ask(self) -> float:
        """0: go ahead, and say what came of it. Else the seconds after which to ask again."""
        if self._opened_at is None:
            return 0.0
        if self._probes:
            return self.rest.total_seconds()
        if left := self.left:
            return left
        self._probes = True
        return 0.0

    @property
    def left(self) -> float:
        """The seconds for which nobody asks."""
        if self._opened_at is None:
            return 0.0
        return max(0.0, self._opened_at + self._rest.total_seconds() - self.monotonic())

    def succeeded(self) -> None:
        self._in_a_row, self._opened_at, self._probes = 0, None, False
        self._about.clear()

    def failed(self, about: object = None) -> None:
        """`about`: what was asked for; None: it could not be reached at all, or said nothing in time."""
        self._in_a_row += 1
        if len(self._about) < self.different:
            self._about.add(object() if about is None else about)
        is_down = self._in_a_row >= self.failures and len(self._about) >= self.different
        if self._probes or (is_down and self._opened_at is None):
            self.open(self.rest)

    def open(self, rest: timedelta) -> None:
        """Nobody asks for so long."""
        self._opened_at, self._rest, self._probes = self.monotonic(), rest, False

    def dropped(self) -> None:
        """Nobody waited for the answer any more."""
        self._probes = False

    @property
    def _rested(self) -> bool:
        return self._opened_at is not None and not self.left
