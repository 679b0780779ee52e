"""Who waits, in this process, for operations to end: told by the log, by whichever process they are ended."""

import asyncio
from collections.abc import Sequence

from orderup.engine.engine import Engine
from orderup.model.event import Event

FINAL = frozenset({"completed", "errored", "cancelled"})


class Ends:
    """Nothing is held for an operation that nobody waits for."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._waiting: dict[int, set[asyncio.Future[str | None]]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        self.engine.feed.count(self._hear)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.engine.feed.stop_counting(self._hear)

    def expect(self, operation_id: int) -> "asyncio.Future[str | None]":
        """How the operation has ended, once it has; None: nobody is to wait any longer. To be called before it can
        have ended, and let go of by `forget`."""
        future: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(operation_id, set()).add(future)
        return future

    def forget(self, operation_id: int, future: "asyncio.Future[str | None]") -> None:
        waiting = self._waiting.get(operation_id)
        if waiting is not None:
            waiting.discard(future)
            if not waiting:
                del self._waiting[operation_id]

    def release(self) -> None:
        """Nobody waits any longer: the process is about to stop."""
        for waiting in self._waiting.values():
            _end(waiting, None)

    def _hear(self, events: Sequence[Event]) -> None:
        for event in events if self._waiting else ():
            if event.task is None and event.status in FINAL:
                _end(self._waiting.get(event.operation_id, set()), event.status)


def _end(waiting: "set[asyncio.Future[str | None]]", status: str | None) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(status)
