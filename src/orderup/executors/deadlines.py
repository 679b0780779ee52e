"""Ends what takes too long; many share a timer.

A timer of its own for each attempt, as `asyncio.timeout` has, is made and thrown away for nothing almost always, and
takes a tenth of all that the event loop does for an order whose handlers are quick. Here attempts that end at nearly
the same time share one, which is kept: what takes too long is ended when its time is up, or later by at most a
sixty-fourth of what it had, or 8 ms.
"""

import asyncio
import math
from types import TracebackType
from typing import Any, Self

FINEST = -7  # timers are at least 2 ** FINEST seconds apart
Slot = tuple[int, int]


class Deadlines:
    """One an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[Slot, set[Deadline]] = {}

    def at(self, ends_at: float) -> "Deadline":
        """Of the running task, which is to enter it: `with deadlines.at(loop.time() + 5): await …` raises TimeoutError,
        and `expired` is true."""
        seconds = ends_at - self._loop.time()
        exponent = max(FINEST, math.frexp(seconds)[1] - 7) if seconds > 0 else FINEST
        slot = (exponent, math.ceil(math.ldexp(ends_at, -exponent)))
        waiting = self._slots.get(slot)
        if waiting is None:
            waiting = self._slots[slot] = set()
            self._loop.call_at(math.ldexp(slot[1], exponent), self._pass, slot)
        # asked without its loop, asyncio looks for it, by a system call
        task = asyncio.current_task(self._loop)
        assert task is not None
        return Deadline(waiting, task)

    def _pass(self, slot: Slot) -> None:
        for deadline in self._slots.pop(slot):
            deadline.expire()


class Deadline:
    """Of what its task does between entering and leaving it. Told from a cancellation by others as `asyncio.timeout`
    does it."""

    __slots__ = ("_cancelling", "_task", "_waiting", "expired")

    def __init__(self, waiting: "set[Deadline]", task: "asyncio.Task[Any]") -> None:
        self._waiting, self._task = waiting, task
        self.expired = False

    def expire(self) -> None:
        self.expired = True
        self._task.cancel()

    def __enter__(self) -> Self:
        self._cancelling = self._task.cancelling()
        self._waiting.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.discard(self)
        if self.expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
