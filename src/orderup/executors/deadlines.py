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
        """`with deadlines.at(loop.time() + 5) as deadline: await …` raises TimeoutError, and `expired` is true, if it
        was set, once there was something to wait for."""
        return Deadline(self, ends_at)

    def set(self, deadline: "Deadline", ends_at: float) -> None:
        seconds = ends_at - self._loop.time()
        exponent = max(FINEST, math.frexp(seconds)[1] - 7) if seconds > 0 else FINEST
        slot = (exponent, math.ceil(math.ldexp(ends_at, -exponent)))
        waiting = self._slots.get(slot)
        if waiting is None:
            waiting = self._slots[slot] = set()
            self._loop.call_at(math.ldexp(slot[1], exponent), self._pass, slot)
        waiting.add(deadline)
        deadline.waiting = waiting
        # asked without its loop, asyncio looks for it, by a system call
        deadline.task = asyncio.current_task(self._loop)

    def _pass(self, slot: Slot) -> None:
        for deadline in self._slots.pop(slot):
            deadline.expire()


class Deadline:
    """Of what its task does between entering and leaving it. Told from a cancellation by others as `asyncio.timeout`
    does it."""

    __slots__ = ("_cancelling", "_deadlines", "_ends_at", "expired", "is_over", "task", "waiting")

    def __init__(self, deadlines: Deadlines, ends_at: float) -> None:
        self._deadlines, self._ends_at = deadlines, ends_at
        self.task: asyncio.Task[Any] | None = None
        self.waiting: set[Deadline] | None = None
        self.expired = self.is_over = False

    def set(self) -> None:
        """To be called in the task it is of: what ends without waiting needs none. What is done after leaving it may
        wait, too, and takes as long as it takes."""
        if self.is_over:
            return
        self._deadlines.set(self, self._ends_at)
        assert self.task is not None
        self._cancelling = self.task.cancelling()

    def expire(self) -> None:
        self.expired = True
        assert self.task is not None
        self.task.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_over = True
        if self.task is None or self.waiting is None:
            return
        self.waiting.discard(self)
        if self.expired and self.task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
