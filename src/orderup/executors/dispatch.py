"""Tells Celery's workers where there is work.

Each process tells of what its own changes release. What nobody told of is found by a look at the database every other
second: what came of messages that were lost, of a broker that was away or emptied, of a wait that ended elsewhere.
Nothing is sent beyond one message a queue for each process that may take it, so that however much waits, messages do
not pile up. The broker is talked to in a thread of its own: however it fails, neither an order nor the event loop waits
for it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog
from sqlalchemy import ColumnElement, func, literal, literal_column, select, union_all

from orderup.db.busy import is_alive
from orderup.db.database import ReadConnection
from orderup.db.tables import tasks, workers
from orderup.engine.bell import Ear
from orderup.engine.engine import Engine
from orderup.errors import Unavailable, UpstreamFailed
from orderup.executors.celery import Broker
from orderup.executors.local import LocalExecutor
from orderup.model.task import queue_of

log = structlog.get_logger(__name__)
T = TypeVar("T")
SWEEP_SECONDS = 2.0
# A process that is full says so at each claim; it looks for others no more often than this.
LOOK_SECONDS = 0.25
RETRY_SECONDS = 1.0
KIND = "celery"
PENDING: ColumnElement[str] = literal_column("'pending'")  # as it stands in the index


class Released(Ear):
    """What this process's own changes have released, and how often."""

    def __init__(self, queues: Iterable[str]) -> None:
        self.times: Counter[str] = Counter()
        super().__init__(queues, hears_others=False)
        self.take()  # what was there before is found by looking

    def ring(self, queue: str) -> None:
        self.times[queue] += 1
        super().ring(queue)

    def ring_all(self) -> None:
        self.times.update(self.queues)
        super().ring_all()

    def take(self) -> Counter[str]:
        taken, self.times = self.times, Counter()
        self.clear()
        return taken


class Dispatcher:
    """`executor`: of this process, if it has one: what that takes by itself needs no message. `sweeps`: whether it
    looks for what nobody told of. `observe`: told how many messages were sent, or None if they could not be."""

    def __init__(
        self,
        engine: Engine,
        broker: Broker,
        queues: Collection[str],
        *,
        executor: LocalExecutor | None = None,
        sweeps: bool = True,
        observe: Callable[[int | None], None] = lambda _: None,
    ) -> None:
        self.engine, self.broker, self.queues = engine, broker, list(queues)
        self.executor, self.sweeps, self.observe = executor, sweeps, observe
        self._released = Released(self.queues)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="celery")
        self._is_away = False
        self._known_slots, self._looked_at, self._is_asked_to_look = 1, float("-inf"), False

    async def ask(self, question: Callable[[Broker], T]) -> T:
        """What the broker answers. Raises UpstreamFailed, within seconds."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, question, self.broker)

    def look_soon(self) -> None:
        """There may be more than this process can take."""
        self._is_asked_to_look = True
        self._released.heard.set()

    async def run(self) -> None:
        """Until cancelled."""
        released = self._released
        self.engine.bell.join(released)
        try:
            while True:
                await released.wait(SWEEP_SECONDS if self.sweeps else None)
                wanted = self._not_taken_here(released.take())
                if wanted or self.sweeps or self._is_asked_to_look:
                    await self._tell(wanted)
        finally:
            self.engine.bell.leave(released)
            self._thread.submit(self.broker.close)
            self._thread.shutdown(wait=False)

    def _not_taken_here(self, released: Counter[str]) -> Counter[str]:
        executor = self.executor
        if executor is None or not executor.has_room:
            return released
        return Counter({queue: times for queue, times in released.items() if queue not in executor.queues})

    async def _tell(self, released: Mapping[str, int]) -> None:
        try:
            wanted = Counter(released) | await self._found()
            if wanted:
                self._note_sent(await self.ask(lambda broker: broker.top_up(wanted, most=self._known_slots)))
        except Unavailable:
            await asyncio.sleep(RETRY_SECONDS)
        except UpstreamFailed as error:
            self._note_away(error)
            await asyncio.sleep(RETRY_SECONDS)
        except Exception:  # of the broker's library, or a fault of ours: it must not stop the orders
            log.exception("the dispatcher of Celery stumbled; it goes on")
            self.observe(None)
            self._is_asked_to_look = True
            await asyncio.sleep(RETRY_SECONDS)

    def _note_sent(self, count: int) -> None:
        self.observe(count)
        if self._is_away:
            log.info("the broker of Celery answers again")
        self._is_away = False

    def _note_away(self, error: UpstreamFailed) -> None:
        self.observe(None)
        if not self._is_away:
            log.warning("Celery's workers cannot be told of work; it waits in the database", error=str(error))
        self._is_away = self._is_asked_to_look = True

    async def _found(self) -> Counter[str]:
        """What waits, if it is time to look."""
        now = asyncio.get_running_loop().time()
        if now - self._looked_at < (LOOK_SECONDS if self._is_asked_to_look else SWEEP_SECONDS):
            return Counter()
        moment = self.engine.now()
        queues = [queue for queue in self.queues if queue_of(queue) not in self.engine.paused_queues]
        self._known_slots, found = await self.engine.database.read(
            lambda connection: look_at_queues(connection, queues, now=moment)
        )
        self._looked_at, self._is_asked_to_look = now, False
        return found


def look_at_queues(connection: ReadConnection, queues: Collection[str], *, now: int) -> tuple[int, Counter[str]]:
    """How many processes of Celery's workers are alive, at least 1; how many tasks wait in each queue, up to that."""
    alive = select(func.count()).select_from(workers).where(workers.c.kind == KIND, is_alive(now))
    slots = max(1, connection.execute(alive).scalar_one())
    if not queues:
        return slots, Counter()
    counts = []
    for queue in queues:
        here = (tasks.c.queue == queue) & (tasks.c.status == PENDING)
        some = select(tasks.c.queue).where(here).limit(slots).subquery()
        counts.append(select(literal(queue), func.count()).select_from(some))
    return slots, +Counter(dict(connection.rows(union_all(*counts))))
