"""Coroutines that begin without an asyncio task of their own, and get one as soon as they wait for something.

Most handlers of quick work, and all that only compute, end without waiting; to make a task, schedule its first step and
let go of it takes longer than all that is done in it. Here one task begins what was started, one coroutine after the
other. The first that waits keeps that task to its end, and another one goes on with those after it: whatever runs is
always in a task that nobody else runs in later, so that timeouts and cancellations meet the right one. Where the last
one has waited, those after it are expected to, and get a task each at once: else each would begin a turn of the loop
later than the one before. The idea is that of Python 3.12's eager tasks, which the oldest Python that we support does
not have.
"""

import asyncio
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from functools import partial
from typing import Any


class EagerTask:
    """One coroutine. `name`: of its task, made up only if it gets one. `when_it_waits`: called in that task as soon as
    the coroutine waits for something, unless it ends before."""

    __slots__ = ("context", "coroutine", "has_begun", "is_cancelled", "name", "task", "when_it_waits")

    def __init__(self, coroutine: Coroutine[Any, Any, None], name: Callable[[], str]) -> None:
        self.coroutine, self.name = coroutine, name
        self.context: Context = copy_context()
        self.task: asyncio.Task[None] | None = None  # once it waits
        self.when_it_waits: Callable[[], None] | None = None
        self.has_begun = self.is_cancelled = False

    def cancel(self) -> bool:
        """As `asyncio.Task.cancel`. False: there is nothing to wait for, it has ended or will not begin."""
        self.is_cancelled = True
        if not self.has_begun:
            self.coroutine.close()
        return self.task is not None and self.task.cancel()


class EagerTasks:
    """One an event loop. A coroutine must not raise, but for being cancelled."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._started: deque[EagerTask] = deque()
        # tasks that are about to begin some
        self._due = 0
        self._they_wait = False
        # the loop itself holds tasks weakly
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, coroutine: Coroutine[Any, Any, None], name: Callable[[], str]) -> EagerTask:
        """Have it begin in the next turn of the loop."""
        started = EagerTask(coroutine, name)
        self._started.append(started)
        self._come_soon()
        return started

    def _come_soon(self) -> None:
        most = len(self._started)
        while self._due < (most if self._they_wait else min(most, 1)):
            self._due += 1
            task = self._loop.create_task(self._begin_all(), name="eager tasks")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _begin_all(self) -> None:
        waits = self._begin()
        if waits is not None:
            started, waits_for = waits
            await _go_on(started, waits_for)

    def _begin(self) -> tuple[EagerTask, Any] | None:
        """Begin what was started, up to the first that waits, which keeps this task; another one begins the others."""
        mine = asyncio.current_task(self._loop)
        assert mine is not None
        try:
            # once somebody has cancelled it, it is his, too
            while self._started and not mine.cancelling():
                started = self._started.popleft()
                if started.is_cancelled:
                    continue
                started.has_begun = True
                try:
                    waits_for = started.context.run(started.coroutine.send, None)
                except StopIteration:
                    self._they_wait = False
                    continue
                self._they_wait = True
                started.task = mine
                mine.set_name(started.name())
                if started.when_it_waits is not None:
                    started.when_it_waits()
                return started, waits_for
            return None
        finally:
            self._due -= 1
            self._come_soon()


@types.coroutine
def _go_on(started: EagerTask, waits_for: Any) -> Generator[Any, Any, None]:
    """The rest of a coroutine that has begun, in the task that runs this."""
    run, coroutine = started.context.run, started.coroutine
    while True:
        step: Callable[[], Any]
        try:
            step = partial(coroutine.send, (yield waits_for))
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as error:  # noqa: BLE001  whatever comes to the task is the coroutine's to handle
            step = partial(coroutine.throw, error)
        try:
            waits_for = run(step)
        except StopIteration:
            return
