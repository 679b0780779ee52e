"""The clock: whatever happens because time passes. Any number of processes may run one; none is special."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog

from orderup.engine.due import end_waits, expire_rfas, next_due, pass_deadlines
from orderup.engine.engine import Engine
from orderup.engine.limit import note_paused_queues
from orderup.engine.prune import NO_ROWS, ShopPrune, prune
from orderup.engine.rescue import LOOK_EVERY_SECONDS, Rescuer, forget_workers
from orderup.engine.schedule import fire_schedules, register_schedules
from orderup.errors import Unavailable
from orderup.model.schedule import Schedule

log = structlog.get_logger(__name__)
LONGEST_SLEEP_SECONDS = 0.5
PRUNE_EVERY_SECONDS = 60.0


class Clock:
    """`schedules` by name `shop/name`; `prunes`: by shop, what deletes its own rows of pruned operations."""

    def __init__(
        self,
        engine: Engine,
        *,
        schedules: Mapping[str, Schedule] | None = None,
        prunes: Mapping[str, ShopPrune] = NO_ROWS,
    ) -> None:
        self.engine, self.schedules, self.prunes = engine, schedules or {}, prunes
        self.rescuer = Rescuer(engine)

    async def run(self) -> None:
        """Until cancelled. While the database is away, it waits."""
        await self._patiently(lambda: register_schedules(self.engine, self.schedules))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(self._sleep_until_due, self._tick), name="clock: what is due")
            group.create_task(self._every(_sleeper(LOOK_EVERY_SECONDS), self.rescuer.look), name="clock: rescue")
            group.create_task(self._every(_sleeper(PRUNE_EVERY_SECONDS), self._tidy), name="clock: retention")

    async def _tick(self) -> None:
        await note_paused_queues(self.engine)
        await end_waits(self.engine)
        await pass_deadlines(self.engine)
        await expire_rfas(self.engine)
        await fire_schedules(self.engine, self.schedules)

    async def _tidy(self) -> None:
        await prune(self.engine, shops=self.prunes)
        await forget_workers(self.engine)

    async def _sleep_until_due(self) -> None:
        due = await next_due(self.engine)
        seconds = LONGEST_SLEEP_SECONDS if due is None else (due - self.engine.now()) / 1e6
        await asyncio.sleep(min(max(seconds, 0.005), LONGEST_SLEEP_SECONDS))

    async def _every(self, rest: Callable[[], Awaitable[None]], do: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await self._patiently(do)
                await self._patiently(rest)
            except Exception:  # one bad row or one fault of ours must not stop time for all others
                log.exception("the clock stumbled; it goes on")
                await asyncio.sleep(LONGEST_SLEEP_SECONDS)

    async def _patiently(self, do: Callable[[], Awaitable[object]]) -> None:
        began = time.monotonic()
        while True:
            try:
                await do()
                return
            except Unavailable as error:
                if time.monotonic() - began > 60:
                    log.warning("the clock waits for the database", error=str(error))
                    began = time.monotonic()
                await asyncio.sleep(error.retry_after.total_seconds())


def _sleeper(seconds: float) -> Callable[[], Awaitable[None]]:
    return lambda: asyncio.sleep(seconds)
