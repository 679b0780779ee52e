"""Celery's part of a journey: a broker, and workers that are real `celery` processes with processes of their own."""

import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import uuid4

from kombu import Connection

from orderup.db.tables import workers
from orderup.executors.celery import celery_queue, make_app
from orderup.executors.local import queues_with_handlers
from orderup.shop import Shop
from tests.journeys.scene import Scene, until
from tests.serving import Program, ServerProcess

CELERY = Path(sys.executable).with_name("celery")


class Stage:
    """`prefix`: of this test's queues, on a broker that others use, too."""

    def __init__(self, scene: Scene, broker_url: str, *shops: str) -> None:
        self.scene, self.broker_url, self.shops = scene, broker_url, shops
        self.prefix = f"test-{uuid4().hex[:12]}"

    @property
    def environment(self) -> dict[str, str]:
        return {"CELERY_BROKER_URL": self.broker_url, "CELERY_PREFIX": self.prefix}

    def server(
        self, *, name: str = "server", options: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> ServerProcess:
        """Started, with no executor of its own."""
        return self.scene.server(
            *self.shops,
            name=name,
            options=["--executor", "celery", *options],
            environment={**self.environment, **(environment or {})},
        ).start()

    async def worker(
        self,
        *,
        name: str = "worker",
        processes: int = 2,
        queues: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> "Worker":
        """Started, with each of its processes at work. queues: ours, which are all that it is told of."""
        before = self.at_work()
        worker = Worker(self, name, processes=processes, queues=queues, environment=environment)
        self.scene.programs.append(worker)
        worker.launch()
        await until(
            lambda: not worker.runs or self.at_work() >= before + processes,
            what=f"{name} has {processes} processes at work\n{worker.last_lines()}",
        )
        assert worker.runs, worker.last_lines()
        return worker

    def at_work(self) -> int:
        """How many processes of workers hold a lease."""
        return sum(row.kind == "celery" for row in self.scene.table(workers))

    # the broker, as somebody beside us sees it

    def lying(self, queue: str) -> int:
        """Messages about a queue that no worker has taken; none if there is no such queue yet."""
        name = celery_queue(self.prefix, queue)
        with self._connection() as connection:
            try:
                return int(connection.default_channel.queue_declare(queue=name, passive=True).message_count)
            except connection.channel_errors:
                return 0

    def purge(self, queue: str) -> int:
        with self._connection() as connection:
            return int(connection.default_channel.queue_purge(celery_queue(self.prefix, queue)))

    def send(self, queue: str, *, about: str | None = None, times: int = 1) -> None:
        """Messages as orderup sends them. about: what they say has work; None: that queue."""
        app = make_app(self.broker_url, [queue], prefix=self.prefix)
        with app.connection_for_write() as connection:
            producer = app.amqp.Producer(connection.default_channel)
            for _ in range(times):
                app.send_task(
                    "orderup.look", (about or queue,), queue=celery_queue(self.prefix, queue), producer=producer
                )

    def send_raw(self, queue: str, body: Any, **options: Any) -> None:
        with self._connection() as connection:
            connection.Producer().publish(body, exchange="", routing_key=celery_queue(self.prefix, queue), **options)

    def _connection(self) -> Any:
        return Connection(self.broker_url, connect_timeout=5)

    def sweep_up(self, shops: Sequence[Shop]) -> None:
        """Leave nothing at a broker that others use."""
        if not urlsplit(self.broker_url).scheme.startswith("amqp"):
            return
        for queue in queues_with_handlers(shops):
            with contextlib.suppress(Exception), self._connection() as connection:
                connection.default_channel.queue_delete(celery_queue(self.prefix, queue))


class Worker(Program):
    def __init__(
        self,
        stage: Stage,
        name: str,
        *,
        processes: int,
        queues: Sequence[str],
        environment: Mapping[str, str] | None,
    ) -> None:
        chosen = ["--queues", ",".join(celery_queue(stage.prefix, queue) for queue in queues)] if queues else []
        server = stage.scene.programs[0]
        super().__init__(
            name,
            [CELERY, "-A", "orderup.celery", "worker", "-c", str(processes), "-n", f"{name}@%h", *chosen],
            log=stage.scene.folder / f"{name}.log",
            environment={
                **{key: server.environment[key] for key in ("DATABASE_URL", "LEASE_SECONDS", "HEARTBEAT_SECONDS")},
                "LAUNDRY_LEDGER": str(stage.scene.ledger_path),
                "LOG_FORMAT": "json",
                "CELERY_SHOPS": ",".join(stage.shops),
                "PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges",
                **stage.environment,
                **(environment or {}),
            },
        )

    @property
    def children(self) -> list[int]:
        """Process ids of those that it has started."""
        tasks = Path(f"/proc/{self.pid}/task")
        return [int(pid) for each in tasks.iterdir() for pid in (each / "children").read_text().split()]

    def kill_child(self, pid: int) -> None:
        """Without warning, as the system's out-of-memory killer does."""
        os.kill(pid, signal.SIGKILL)

    def start(self) -> Self:
        raise NotImplementedError("Stage.worker knows when it is at work")
