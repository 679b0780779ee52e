"""What Celery says of its own workers, for people who look at them. Orders do not hang on any of it.

Workers are asked by a message to all of them and have a moment to answer: all who ask within some seconds are told the
same. Asked in a thread of its own, with bounds, as whatever is asked of the broker.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from orderup.errors import UpstreamFailed
from orderup.executors.celery import Broker

FRESH_SECONDS = 4.0
PROBLEM = "The broker does not answer. Orders are taken all the same; their work waits in the database."


class WorkerSeen(msgspec.Struct, frozen=True):
    """Of a worker that answered. processes: how many it has. messages: how many they were given so far. queues: which
    it takes, by our names."""

    name: str
    processes: int
    uptime_seconds: float
    messages: int
    queues: Sequence[str]


class QueueSeen(msgspec.Struct, frozen=True):
    """messages: those that no worker has taken. workers: how many of those that answered take them."""

    name: str
    messages: int
    workers: int


class Seen(msgspec.Struct, frozen=True):
    workers: Sequence[WorkerSeen] = ()
    queues: Sequence[QueueSeen] = ()
    problem: str | None = None


class Inspection:
    def __init__(self, broker: Broker, queues: Collection[str]) -> None:
        self.broker, self.queues = broker, queues
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="celery inspection")
        self._turn = asyncio.Lock()
        self._seen: Seen | None = None
        self._seen_at = float("-inf")

    async def look(self) -> Seen:
        async with self._turn:
            loop = asyncio.get_running_loop()
            if self._seen is None or loop.time() - self._seen_at > FRESH_SECONDS:
                self._seen = await loop.run_in_executor(self._thread, self._look)
                self._seen_at = loop.time()
            return self._seen

    def close(self) -> None:
        self._thread.submit(self.broker.close)
        self._thread.shutdown(wait=False)

    def _look(self) -> Seen:
        try:
            depths = self.broker.depths(self.queues)
            workers = [self._worker(*each) for each in sorted(self.broker.ask_workers().items())]
        except UpstreamFailed:
            return Seen(problem=PROBLEM)
        takers = Counter(queue for worker in workers for queue in worker.queues)
        return Seen(workers, [QueueSeen(queue, depths[queue], takers[queue]) for queue in self.queues])

    def _worker(self, name: str, told: Mapping[str, Any]) -> WorkerSeen:
        ours = {self.broker.name_of(queue): queue for queue in self.queues}
        queues = [ours[each["name"]] for each in told["queues"] if each["name"] in ours]
        pool = told["pool"].get("processes", ())
        return WorkerSeen(name, len(pool), float(told["uptime"]), sum(told["total"].values()), sorted(queues))
