"""Rescue: tasks whose worker is gone become claimable again.

A lease is ended by a rescuer that has itself looked on while it did not move for its whole length. Wall clocks may step
and differ, so they are not asked. Nor does time count in which the rescuer did not look: one that was frozen, too,
begins to count when it wakes. A process of this host that is known to have ended needs no waiting for.
Any number of rescuers may look at the same leases: the gate lets one of them through.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog
from sqlalchemy import delete, select

from orderup.db.database import ReadConnection, WriteConnection
from orderup.db.tables import tasks, workers
from orderup.engine.engine import Engine
from orderup.engine.lease import forget_executor, held_by, held_by_nobody, is_known_dead, lease_of_claim
from orderup.errors import NotFound, StaleToken
from orderup.model import work
from orderup.model.ids import show_id, show_task_id

log = structlog.get_logger(__name__)
LOOK_EVERY_SECONDS = 1.0
# Between two looks no more than this counts as looked on.
MOST_SECONDS_A_LOOK = 2 * LOOK_EVERY_SECONDS
MOST_A_LOOK = 20_000
# Claims under an executor's lease that is not there are rescued at the second look. It reads all that is under way.
ORPHANS_EVERY_SECONDS = 30.0
REMOTE_FORGOTTEN_AFTER_US = 3_600_000_000


class _Sight:
    """A lease as last seen, and for how long it has not moved."""

    __slots__ = ("mark", "still_seconds")

    def __init__(self, mark: int) -> None:
        self.mark, self.still_seconds = mark, 0.0


class Rescuer:
    """`monotonic`: seconds, never set back."""

    def __init__(self, engine: Engine, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.engine, self.monotonic = engine, monotonic
        self._sights: dict[tuple[object, ...], _Sight] = {}
        self._looked_at: float | None = None
        self._orphans: set[str] = set()
        self._orphans_looked_for_at: float | None = None

    async def look(self) -> int:
        """One look at all leases; how many tasks were rescued. Raises Unavailable."""
        now = self.monotonic()
        passed = 0.0 if self._looked_at is None else min(now - self._looked_at, MOST_SECONDS_A_LOOK)
        self._looked_at = now
        claims, executors = await self.engine.database.read(_leases)
        present: set[tuple[object, ...]] = set()
        rescued = 0
        for operation_id, position, token, lease_until, lease_us in claims:
            name: tuple[object, ...] = ("task", operation_id, position, token)
            present.add(name)
            if self._is_over(name, mark=lease_until, lease_us=lease_us, passed=passed):
                rescued += await self._rescue(operation_id, position, token)
        for worker, beat, lease_us, process, first_seen_at in executors:
            name = ("worker", worker, first_seen_at)  # one that registers anew counts its beats anew
            present.add(name)
            if self._is_over(name, mark=beat, lease_us=lease_us, passed=passed) or is_known_dead(process):
                rescued += await self._rescue_all_of(worker, beat)
                present.discard(name)  # should it wake and register anew, it has a whole lease again
        self._sights = {name: sight for name, sight in self._sights.items() if name in present}
        return rescued + await self._look_for_orphans(now)

    def _is_over(self, name: tuple[object, ...], *, mark: int, lease_us: int, passed: float) -> bool:
        sight = self._sights.get(name)
        if sight is None or sight.mark != mark:
            self._sights[name] = _Sight(mark)
            return False
        sight.still_seconds += passed
        return sight.still_seconds * 1e6 >= lease_us

    async def _rescue(self, operation_id: int, position: int, token: str) -> int:
        try:
            await self.engine.desk.decide(
                operation_id, lambda draft: work.lose(draft, position, token=token, now=self.engine.now())
            )
        except (StaleToken, NotFound):
            return 0  # its worker was heard of after all, or another rescuer was faster
        log.warning(
            "a lease ran out; the task can be claimed again",
            operation_id=show_id(operation_id),
            task_id=show_task_id(operation_id, position),
        )
        return 1

    async def _rescue_all_of(self, worker: str, beat: int) -> int:
        held = await self.engine.database.read(lambda connection: held_by(connection, worker))
        rescued = sum(await asyncio.gather(*(self._rescue(*each) for each in held)))
        await self.engine.database.write(lambda connection: forget_executor(connection, worker, beat=beat))
        return rescued

    async def _look_for_orphans(self, now: float) -> int:
        """Rescue what is held under leases that are not there. An executor that was taken for dead and claims once more
        before it beats again, and dies, leaves such claims."""
        if self._orphans_looked_for_at is not None and now - self._orphans_looked_for_at < ORPHANS_EVERY_SECONDS:
            return 0
        self._orphans_looked_for_at = now
        orphans = await self.engine.database.read(held_by_nobody)
        before, self._orphans = self._orphans, {token for _, _, token in orphans}
        lost = [each for each in orphans if each[2] in before]
        return sum(await asyncio.gather(*(self._rescue(*each) for each in lost)))


def _leases(connection: ReadConnection) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Claims under leases of their own, and executors."""
    claims = (
        select(tasks.c.operation_id, tasks.c.position, tasks.c.token, tasks.c.lease_until, lease_of_claim)
        .where(tasks.c.lease_until.is_not(None))
        .limit(MOST_A_LOOK)
    )
    executors = select(workers.c.id, workers.c.beat, workers.c.lease_us, workers.c.process, workers.c.first_seen_at)
    return connection.rows(claims), connection.rows(executors.where(workers.c.kind != "remote"))


async def forget_workers(engine: Engine) -> None:
    """Remote workers not heard of for an hour leave the list."""
    horizon = engine.now() - REMOTE_FORGOTTEN_AFTER_US

    def forget(connection: WriteConnection) -> None:
        connection.execute(delete(workers).where(workers.c.kind == "remote", workers.c.seen_at < horizon))

    await engine.database.write(forget)
