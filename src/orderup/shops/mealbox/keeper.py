"""What the shop keeps running in each process that serves it: who waits for his order to be complete."""

import asyncio

from orderup.engine.ends import Ends
from orderup.engine.engine import Engine
from orderup.settings import Settings


class Counter:
    def __init__(self, engine: Engine, _settings: Settings) -> None:
        self.ends = Ends(engine)
        self._engine = engine
        self._is_started = asyncio.Event()

    async def run(self) -> None:
        await self._engine.feed.started()
        self._is_started.set()
        await self.ends.run()

    async def started(self) -> None:
        await self._is_started.wait()

    async def drain(self) -> None:
        """Nobody is kept waiting by a process that is about to stop: his order goes on without him."""
        self.ends.release()

    def close(self) -> None:
        self.ends.release()
