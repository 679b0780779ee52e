"""What the shop keeps running in each process that serves it: who waits for his order to be complete."""

import asyncio
from collections.abc import Mapping
from typing import Any

from orderup.engine.ends import Ends
from orderup.engine.engine import Engine
from orderup.settings import Settings
from orderup.shops.mealbox.tables import mealbox_orders


class Counter:
    def __init__(self, engine: Engine, _settings: Settings) -> None:
        self.ends = Ends(engine)
        self._engine = engine
        self._is_started = asyncio.Event()
        self._asked: list[tuple[int, asyncio.Future[Mapping[str, Any] | None]]] = []
        self._reading: asyncio.Task[None] | None = None

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

    # orders' rows

    async def row(self, operation_id: int) -> Mapping[str, Any] | None:
        """An order's own row, as it is by now. Many orders are complete at the same moment: one look is for all who
        ask meanwhile. Raises Unavailable."""
        found: asyncio.Future[Mapping[str, Any] | None] = asyncio.get_running_loop().create_future()
        self._asked.append((operation_id, found))
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name="mealbox: read orders")
        return await found

    async def _read(self) -> None:
        try:
            while self._asked:
                asked, self._asked = self._asked, []
                ids = list(dict.fromkeys(id for id, _ in asked))
                try:
                    rows = await self._engine.database.look_up(mealbox_orders, ids)
                except Exception as error:  # noqa: BLE001  whatever it is, those who ask are told
                    for _, found in asked:
                        if not found.done():
                            found.set_exception(error)
                    continue
                for id, found in asked:
                    if not found.done():
                        found.set_result(rows.get(id))
        finally:
            self._reading = None
