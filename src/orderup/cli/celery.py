"""What `celery -A orderup.celery worker` runs: in each of its processes an executor as `orderup serve` has one.

Celery's processes are forked from one that has opened nothing. Each then starts a thread whose event loop has its own
database, engine, resources of the shops, and one executor under one lease; a message only makes that executor look.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack
from random import random
from typing import Any

import structlog
import uvloop
from celery import Celery, signals
from prometheus_client import CollectorRegistry

from orderup.cli.assembly import celery_broker_of, make_engine
from orderup.cli.process import raise_open_files_limit, tune_the_interpreter
from orderup.cli.shops import load_shops
from orderup.cli.stand_ins import missing_settings
from orderup.db.connect import open_database
from orderup.engine.engine import Engine
from orderup.engine.limit import note_paused_queues
from orderup.errors import OrderupError, Unavailable
from orderup.executors.celery import Broker, celery_queue, make_app
from orderup.executors.dispatch import KIND, Dispatcher
from orderup.executors.local import LocalExecutor, queues_with_handlers
from orderup.executors.upkeep import end_lease, keep_lease
from orderup.settings import Settings
from orderup.shop import Shop
from orderup.web.logs import configure_logs

log = structlog.get_logger(__name__)
PAUSES_EVERY_SECONDS = 0.5
OPEN_AGAIN_SECONDS = 2.0
# A process that no message reaches, whatever the broker or Celery's connection to it may have, looks about that often.
UNTOLD_SECONDS = 10.0
# A message whose process is not ready by then is done with: that process looks by itself once it is.
PATIENCE_SECONDS = 30.0


def app_of_the_environment() -> Celery:
    """What cannot be done is told in one sentence, as a command of ours tells it."""
    try:
        settings = Settings.from_environment(os.environ)
        shops = load_shops(settings.celery_shops)
        broker = celery_broker_of(settings)
    except OrderupError as error:
        raise SystemExit(f"orderup: {error}") from None
    process = WorkerProcess(settings, shops, broker=broker)
    app = make_app(broker, process.queues, prefix=settings.celery_prefix, look=process.look)
    process.listen(app)
    return app


class WorkerProcess:
    """One of a Celery worker's processes. Its parent has one, too, which is never started."""

    def __init__(self, settings: Settings, shops: Sequence[Shop], *, broker: str) -> None:
        self.settings, self.shops, self.broker = settings, shops, broker
        self.queues = queues_with_handlers(shops)
        self._thread: threading.Thread | None = None
        self._is_ready = threading.Event()
        self._was_told = False

    def listen(self, app: Celery) -> None:
        """To what Celery tells of its processes."""
        self.app = app
        # weak=False: Celery is the only one that knows of these functions
        signals.setup_logging.connect(self._configure_logs, weak=False)
        signals.worker_init.connect(self._check, weak=False)
        signals.worker_process_init.connect(self.start, weak=False)
        signals.worker_process_shutdown.connect(self.stop, weak=False)

    def look(self, queue: str) -> None:
        """A message has come: return when this process has looked for tasks of the queue."""
        if queue not in self._taken:
            log.warning("a message about a queue that is not done here; it is dropped", queue=queue[:200])
        elif self._is_ready.wait(PATIENCE_SECONDS):
            self._was_told = True
            asyncio.run_coroutine_threadsafe(self._executor.look(queue), self._loop).result(PATIENCE_SECONDS)

    def start(self, **_: Any) -> None:
        """In a process that was just forked."""
        taken = self.app.amqp.queues.consume_from
        self._taken = [queue for queue in self.queues if celery_queue(self.settings.celery_prefix, queue) in taken]
        tune_the_interpreter()
        self._thread = threading.Thread(target=self._run, name="orderup", daemon=True)
        self._thread.start()

    def stop(self, **_: Any) -> None:
        """The process is about to end: nothing more is claimed; what runs gets its time, the rest is handed back."""
        if self._thread is not None and self._thread.is_alive() and self._is_ready.is_set():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(self.settings.celery_grace_seconds + PATIENCE_SECONDS)

    def _configure_logs(self, **_: Any) -> None:
        configure_logs(self.settings)
        for name in ("celery.worker.strategy", "celery.app.trace"):
            logging.getLogger(name).setLevel(logging.WARNING)  # not a line for each message that came and went

    def _check(self, **_: Any) -> None:
        """Before the first process is forked."""
        raise_open_files_limit()
        missing = missing_settings(self.settings, self.shops)
        if missing:
            names = ", ".join(sorted(name.upper() for name in missing))
            raise SystemExit(
                f"orderup: {names}: not set, and where Celery works nobody stands in. Set them as the server has them, "
                "or name in CELERY_SHOPS those shops that do without."
            )

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._work_patiently())

    async def _work_patiently(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        while not self._stopping.is_set():
            try:
                await self._work()
            except Exception:  # Celery would go on with a process that does nothing
                self._is_ready.clear()
                log.exception("a process of the worker cannot work; it tries again")
                await asyncio.sleep(OPEN_AGAIN_SECONDS)

    async def _work(self) -> None:
        database = open_database(self.settings.database_url, shops=self.shops)
        await database.open()
        try:
            engine = make_engine(self.settings, database, self.shops)
            async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
                registry = CollectorRegistry()
                resources = {
                    shop.name: await stack.enter_async_context(shop.resources(self.settings, registry))
                    for shop in self.shops
                    if shop.resources is not None
                }
                await self._claim(engine, group, resources=resources)
        finally:
            await database.close()

    async def _claim(self, engine: Engine, group: asyncio.TaskGroup, *, resources: dict[str, Any]) -> None:
        """Until the process is to stop."""
        await note_paused_queues(engine)
        executor = LocalExecutor(
            engine,
            self.shops,
            slots=self.settings.celery_slots,
            resources=resources,
            queues=self._taken,
            hears_others=False,
            kind=KIND,
        )
        broker = Broker(self.app, self.broker, prefix=self.settings.celery_prefix)
        dispatcher = Dispatcher(engine, broker, self.queues, executor=executor, sweeps=False)
        executor.when_full = dispatcher.look_soon
        upkeep = keep_lease(engine, executor, kind=KIND, lease=self.settings.lease)
        running = [
            group.create_task(engine.run(), name="engine"),
            group.create_task(executor.run(), name="executor"),
            group.create_task(upkeep, name="executor's lease"),
            group.create_task(dispatcher.run(), name="messages to workers"),
            group.create_task(_note_pauses(engine), name="pauses"),
            group.create_task(self._look_untold(executor), name="looks of its own"),
        ]
        await asyncio.sleep(0)  # the executor listens
        self._executor = executor
        self._is_ready.set()
        await self._stopping.wait()
        await executor.drain(self.settings.celery_grace)
        await end_lease(engine, executor)
        for task in running:
            task.cancel()

    async def _look_untold(self, executor: LocalExecutor) -> None:
        while True:
            await asyncio.sleep(UNTOLD_SECONDS * (0.5 + random()))  # not all processes at once
            if not self._was_told:
                executor.engine.bell.ring(executor.queues)
            self._was_told = False


async def _note_pauses(engine: Engine) -> None:
    """As a clock does it, which a worker does without: those of the servers are enough."""
    while True:
        await asyncio.sleep(PAUSES_EVERY_SECONDS)
        try:
            await note_paused_queues(engine)
        except Unavailable as error:
            await asyncio.sleep(error.retry_after.total_seconds())
