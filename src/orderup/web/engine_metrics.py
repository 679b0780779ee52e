"""The engine's figures at /metrics.

Two kinds. Counters and histograms tell what this process did, or saw in the log since it started: they cost an
addition each and never ask the database. Live figures (what waits, what runs, who works) are read from the database
when somebody asks, at most once a second however many ask, each count up to a bound; while the database is away they
are left out.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog
from prometheus_client import Counter, Gauge
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from orderup.db.busy import QueueState, operation_counts, queue_states, task_counts, worker_counts
from orderup.db.database import ReadConnection
from orderup.db.deliveries import TargetState, target_states
from orderup.engine.engine import Engine
from orderup.errors import OrderupError
from orderup.model.event import Event
from orderup.model.operation import OperationStatus
from orderup.model.task import TaskStatus, queue_name
from orderup.web.metrics import LATENCY_BUCKETS, Histogram, Metrics

log = structlog.get_logger(__name__)

# Whoever asks within so many seconds gets the same live figures.
FRESH = timedelta(seconds=1)
LOOK_AT_LOOP_SECONDS = 0.25
BATCH_BUCKETS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2000)
_OPERATION_ENDS = {f"operation.{status}": str(status) for status in OperationStatus if status.is_final}
_TASK_ENDS = {f"task.{status}": str(status) for status in TaskStatus if status.is_final}
# By the labels of a figure.
Counts = Mapping[tuple[str, str], float]


@dataclass(frozen=True, slots=True)
class Live:
    """How things stand in the database. By shop and status; queues as they are; workers by kind and shop."""

    operations: Counts
    tasks: Counts
    queues: Sequence[QueueState]
    workers: Counts
    targets: Sequence[TargetState]
    events_behind: int
    now: int


class EngineMetrics(Collector):
    """Registers itself with `metrics`; `run` must be running for live figures and the event loop's lag.

    patience: a scrape is answered without live figures rather than later than that. fresh: so old figures will do.
    """

    def __init__(
        self, engine: Engine, metrics: Metrics, *, patience: timedelta = timedelta(seconds=2), fresh: timedelta = FRESH
    ) -> None:
        self.engine, self.patience, self.fresh = engine, patience, fresh.total_seconds()
        self._queues = [queue_name(shop, kind) for shop, kinds in engine.kinds.items() for kind in kinds]
        self._live: Live | None = None
        self._counters: dict[tuple[str, str], Sequence[Counter]] = {}
        self._read_at = float("-inf")
        self._wanted, self._answered = asyncio.Event(), asyncio.Event()
        self._make_figures(metrics)
        metrics.registry.register(self)
        ProcessCollector(registry=metrics.registry)
        metrics.refresh = self.refresh
        engine.observe_claim = self.claim_seconds.observe
        engine.database.observe_commits(self._note_commit)
        engine.feed.count(self._note_events)

    def _make_figures(self, metrics: Metrics) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=metrics.registry)

        def histogram(name: str, text: str, buckets: Sequence[float] = LATENCY_BUCKETS) -> Histogram:
            return Histogram(name, text, buckets=buckets, registry=metrics.registry)

        self.events = counter("orderup_events_total", "Events seen in the log, by shop and type.", "shop", "type")
        self.operations_finished = counter(
            "orderup_operations_finished_total", "Operations seen to end, by shop and status.", "shop", "status"
        )
        self.tasks_finished = counter(
            "orderup_tasks_finished_total", "Tasks seen to end, by shop and status.", "shop", "status"
        )
        self.claim_seconds = histogram("orderup_claim_seconds", "Seconds from asking for tasks to the answer.")
        self.commit_seconds = histogram("orderup_commit_seconds", "Seconds that a write transaction took.")
        self.commit_items = histogram(
            "orderup_commit_items", "Changes that shared a write transaction.", buckets=BATCH_BUCKETS
        )
        self.feed_lag_seconds = histogram(
            "orderup_feed_lag_seconds", "Seconds from an event to its being handed to those who follow the log."
        )
        self.loop_lag_seconds = histogram(
            "orderup_event_loop_lag_seconds", "Seconds by which the event loop was late, looked at four times a second."
        )
        self.delivery_seconds = Histogram(
            "orderup_delivery_seconds",
            "Seconds from sending an event to its arrival, by target.",
            ("target",),
            buckets=LATENCY_BUCKETS,
            registry=metrics.registry,
        )
        self.deliveries_returned = counter(
            "orderup_deliveries_returned_total",
            "Messages that a broker took and had no queue for, by target.",
            "target",
        )
        self.messages = counter(
            "orderup_celery_messages_total",
            "Messages to Celery's workers, by outcome: sent, or failed because the broker was away.",
            "outcome",
        )
        self.database_up = Gauge(
            "orderup_database_up", "1: the database answered when last asked. 0: it did not.", registry=metrics.registry
        )

    # what this process did and saw

    def _note_commit(self, items: int, seconds: float) -> None:
        self.commit_seconds.observe(seconds)
        self.commit_items.observe(items)

    def _note_events(self, events: Sequence[Event]) -> None:
        counts: dict[tuple[str, str], int] = {}
        for event in events:
            key = (event.shop, event.type)
            counts[key] = counts.get(key, 0) + 1
        for key, count in counts.items():
            for counter in self._counters.get(key) or self._counters_of(*key):
                counter.inc(count)
        self.feed_lag_seconds.observe(max(0.0, (self.engine.now() - events[0].at) / 1e6))

    def _counters_of(self, shop: str, type: str) -> Sequence[Counter]:
        """Of each event of this type: found once, for to find a counter takes longer than to raise it."""
        found = [self.events.labels(shop, type)]
        if type in _OPERATION_ENDS:
            found.append(self.operations_finished.labels(shop, _OPERATION_ENDS[type]))
        elif type in _TASK_ENDS:
            found.append(self.tasks_finished.labels(shop, _TASK_ENDS[type]))
        self._counters[shop, type] = found
        return found

    def note_arrivals(self, target: str, count: int, seconds: float) -> None:
        """So many events arrived after so long."""
        observe = self.delivery_seconds.labels(target).observe
        for _ in range(count):
            observe(seconds)

    def note_returned(self, target: str) -> None:
        self.deliveries_returned.labels(target).inc()

    def note_messages(self, count: int | None) -> None:
        """So many were sent to Celery's workers; None: they could not be."""
        if count is None:
            self.messages.labels("failed").inc()
        else:
            self.messages.labels("sent").inc(count)

    # how things stand

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_loop(), name="metrics: the event loop's lag")
            group.create_task(self._answer(), name="metrics: live figures")

    async def _watch_loop(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(LOOK_AT_LOOP_SECONDS)
            self.loop_lag_seconds.observe(max(0.0, time.perf_counter() - began - LOOK_AT_LOOP_SECONDS))

    async def _answer(self) -> None:
        """One reading at a time, however many wait for it."""
        while True:
            await self._wanted.wait()
            try:
                self._live = await self._read()
                self.database_up.set(1)
            except (OrderupError, SQLAlchemyError) as error:
                log.warning("the live figures cannot be read", error=str(error))
                self._live = None
                self.database_up.set(0)
            self._read_at = time.monotonic()
            self._wanted.clear()
            self._answered.set()

    async def _read(self) -> Live:
        engine, now, shops = self.engine, self.engine.now(), list(self.engine.kinds)

        def read(connection: ReadConnection) -> Live:
            return Live(
                operation_counts(connection, shops),
                task_counts(connection, shops),
                queue_states(connection, self._queues),
                worker_counts(connection, now=now),
                target_states(connection),
                events_behind=0,
                now=now,
            )

        live = await engine.database.read(read)
        behind = max(0, await engine.database.end_of_log() - engine.feed.position)
        return replace(live, events_behind=behind)

    async def refresh(self) -> None:
        """Have live figures that are fresh, or none."""
        if time.monotonic() - self._read_at < self.fresh:
            return
        self._answered.clear()
        self._wanted.set()
        try:
            async with asyncio.timeout(self.patience.total_seconds()):
                await self._answered.wait()
        except TimeoutError:
            self._live = None
            self.database_up.set(0)

    def collect(self) -> Iterable[Metric]:
        """Called by the registry at each reading."""
        live = self._live
        by_status = ("shop", "status")
        yield _gauge(
            "orderup_operations",
            "Operations that have not ended, and errored ones, by shop and status, each counted up to 10,000.",
            by_status,
            live.operations if live else {},
        )
        yield _gauge(
            "orderup_tasks",
            "Tasks that have not ended, by shop and status; of so many operations that 10,000 tasks are looked at.",
            by_status,
            live.tasks if live else {},
        )
        yield _gauge(
            "orderup_workers",
            "Workers that asked for work or beat lately, by kind and shop (empty: any).",
            ("kind", "shop"),
            live.workers if live else {},
        )
        yield from _queue_gauges(live)
        yield from _target_gauges(live)
        behind = GaugeMetricFamily("orderup_feed_behind_events", "Events in the log that were not handed on yet.")
        if live is not None:
            behind.add_metric((), live.events_behind)
        yield behind


def _queue_gauges(live: Live | None) -> Iterator[Metric]:
    queues = live.queues if live else ()
    now = live.now if live else 0
    yield _gauge(
        "orderup_queue_tasks",
        "Tasks that wait in a queue to be claimed, counted up to 10,000.",
        ("queue",),
        {(queue.name,): queue.pending for queue in queues},
    )
    yield _gauge(
        "orderup_queue_oldest_seconds",
        "Seconds that the first task in line has been waiting; 0 in an empty queue.",
        ("queue",),
        {(queue.name,): _age(queue, now) for queue in queues},
    )
    yield _gauge(
        "orderup_queue_paused",
        "1: nothing is claimed from this queue now.",
        ("queue",),
        {(queue.name,): float(queue.is_paused or (queue.paused_until or 0) > now) for queue in queues},
    )


def _target_gauges(live: Live | None) -> Iterator[Metric]:
    targets = live.targets if live else ()
    now = live.now if live else 0
    yield _gauge(
        "orderup_deliveries",
        "Events that are to go out to a target or were given up, by target and state, each counted up to 10,000.",
        ("target", "state"),
        {
            (target.name, state): count
            for target in targets
            for state, count in (("pending", target.pending), ("failed", target.failed))
        },
    )
    yield _gauge(
        "orderup_delivery_oldest_seconds",
        "Seconds that the oldest pending event of a target has been waiting to arrive; 0 if none is.",
        ("target",),
        {(each.name,): 0.0 if each.oldest_at is None else max(0.0, (now - each.oldest_at) / 1e6) for each in targets},
    )
    yield _gauge(
        "orderup_target_failing",
        "1: the last try to reach a target or to send it an event failed.",
        ("target",),
        {(each.name,): float(each.is_failing) for each in targets},
    )


def _age(queue: QueueState, now: int) -> float:
    return 0.0 if queue.oldest_ready_at is None else max(0.0, (now - queue.oldest_ready_at) / 1e6)


def _gauge(
    name: str, text: str, labels: Sequence[str], values: Counts | Mapping[tuple[str], float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for names, value in values.items():
        family.add_metric(names, value)
    return family
