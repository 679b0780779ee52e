"""What Celery brings from process to process: "this queue has work", and nothing else.

The database is the truth. A message makes one of a worker's processes look for tasks there, which it claims and carries
out as any executor does (local.py); so one that is lost, late or comes twice changes nothing. Who sends them: see
dispatch.py.
"""

import contextlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from celery import Celery
from celery.app.amqp import AMQP
from kombu import Connection, Exchange, Queue
from kombu.exceptions import KombuError

from orderup.errors import UpstreamFailed

T = TypeVar("T")
TASK = "orderup.look"
# A look takes milliseconds. A process that does not look within the second of these is killed: its event loop stands.
SOFT_LIMIT_SECONDS, LIMIT_SECONDS = 90, 120
# Redis gives a message again that nobody has acknowledged for so long: longer than any may take.
VISIBILITY_SECONDS = 300
RECONNECT_SECONDS = 2.0
HEARTBEAT_SECONDS = 10
# For a sender no call takes longer than a few of these, whatever state the broker is in; without them some never end.
SENDER_SECONDS = 2.0
# Workers that were asked how they are have so long to answer.
ANSWER_SECONDS = 1.0
SENDER_OPTIONS: Mapping[str, Any] = {
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.2,
    "confirm_publish": True,
    "socket_timeout": SENDER_SECONDS,
    "socket_connect_timeout": SENDER_SECONDS,
    "read_timeout": SENDER_SECONDS,
    "write_timeout": SENDER_SECONDS,
}


class PatientConnection(Connection):
    """Of a worker: a broker that is away is asked every other second, however long it has been; Celery by itself asks
    ever less often, in the end twice a minute."""

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        pace = {"interval_start": RECONNECT_SECONDS, "interval_step": 0, "interval_max": RECONNECT_SECONDS}
        return super().ensure_connection(*args, **{**pace, **options})


class PatientAmqp(AMQP):
    Connection = PatientConnection


def celery_queue(prefix: str, queue: str) -> str:
    """The name that a queue of ours has at the broker: `orderup.campaigns.submit` of `campaigns/submit`."""
    return f"{prefix}.{queue.replace('/', '.')}"


def queue_at(broker: str, name: str) -> Queue:
    """As it is declared there: on RabbitMQ a quorum queue, whose messages outlive the broker."""
    is_rabbitmq = urlsplit(broker).scheme.startswith("amqp")
    arguments = {"x-queue-type": "quorum"} if is_rabbitmq else None
    exchange = Exchange(name.partition(".")[0], type="direct")
    return Queue(name, exchange, routing_key=name, durable=True, queue_arguments=arguments)


def make_app(broker: str, queues: Collection[str], *, prefix: str, look: Callable[[str], None] | None = None) -> Celery:
    """The Celery app of an installation, which takes messages about these queues. `look`: what a message does."""
    app = Celery("orderup", broker=broker, amqp=PatientAmqp, set_as_current=False)
    is_redis = urlsplit(broker).scheme.startswith("redis")
    app.conf.update(
        task_queues=[queue_at(broker, celery_queue(prefix, queue)) for queue in queues],
        task_create_missing_queues=False,  # a queue of which nobody knows is a slip of the keyboard
        task_default_queue=celery_queue(prefix, next(iter(queues), "none")),
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure_or_timeout=True,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_serializer="json",
        accept_content=["json"],
        task_soft_time_limit=SOFT_LIMIT_SECONDS,
        task_time_limit=LIMIT_SECONDS,
        task_default_delivery_mode="persistent",
        worker_prefetch_multiplier=1,
        worker_proc_alive_timeout=60.0,
        worker_send_task_events=False,
        # what runs in a process is not the message's, and goes on without the broker
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_consumer="orderup.executors.celery_consumer:Consumer",
        control_exchange=f"{prefix}.control",
        event_exchange=f"{prefix}.events",
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_heartbeat=HEARTBEAT_SECONDS,
        broker_transport_options={"visibility_timeout": VISIBILITY_SECONDS} if is_redis else {"confirm_publish": True},
    )

    @app.task(name=TASK)
    def look_for_work(queue: str) -> None:
        if look is not None:
            look(queue)

    return app


def _errors_of(url: str) -> tuple[type[BaseException], ...]:
    """What the library for this broker raises when the broker is not as it should be."""
    transport = Connection(url).get_transport_cls()
    return (*transport.connection_errors, *transport.channel_errors, KombuError, OSError)


class Broker:
    """The sender's side of the broker, for one thread. What it raises is UpstreamFailed, within seconds."""

    def __init__(self, app: Celery, url: str, *, prefix: str) -> None:
        self.app, self.url, self.prefix = app, url, prefix
        self._errors = _errors_of(url)
        self._connection: Connection | None = None
        self._channel: Any = None
        self._producer: Any = None

    def top_up(self, wanted: Mapping[str, int], *, most: int) -> int:
        """Send so many messages for each queue, at most until `most` lie there; how many were sent."""
        return self._within_bounds(lambda: sum(self._top_up(*each, most=most) for each in wanted.items()))

    def depths(self, queues: Collection[str]) -> dict[str, int]:
        """For each queue, how many messages lie there that no worker has taken."""
        return self._within_bounds(lambda: {queue: self._declare(queue) for queue in queues})

    def ask_workers(self) -> dict[str, dict[str, Any]]:
        """What each worker says of itself, by its name: Celery's `stats`, and `queues`, as its `active_queues`. Those
        that do not answer at once are left out."""

        def ask() -> dict[str, dict[str, Any]]:
            inspect = self.app.control.inspect(timeout=ANSWER_SECONDS, connection=self._connection)
            stats, queues = inspect.stats() or {}, inspect.active_queues() or {}
            return {name: {**told, "queues": queues.get(name, [])} for name, told in stats.items()}

        return self._within_bounds(ask)

    def name_of(self, queue: str) -> str:
        return celery_queue(self.prefix, queue)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):  # it is given up, whatever it says
                connection.release()

    def _top_up(self, queue: str, count: int, *, most: int) -> int:
        missing = min(count, most - self._declare(queue))
        for _ in range(missing):
            self.app.send_task(
                TASK,
                (queue,),
                queue=self.name_of(queue),
                producer=self._producer,
                declare=(),
                retry=False,
                ignore_result=True,
            )
        return max(0, missing)

    def _declare(self, queue: str) -> int:
        """How many messages lie there. It is made if it is not there: a message to one that is not vanishes."""
        name = self.name_of(queue)
        arguments = queue_at(self.url, name).queue_arguments
        found = self._channel.queue_declare(queue=name, durable=True, auto_delete=False, arguments=arguments)
        return int(found.message_count)

    def _within_bounds(self, do: Callable[[], T]) -> T:
        try:
            if self._connection is None:
                self._connect()
            return do()
        except self._errors as error:
            self.close()
            raise UpstreamFailed(f"The broker of CELERY_BROKER_URL does not answer: {error}") from error
        except BaseException:
            self.close()  # nobody knows in which state it is
            raise

    def _connect(self) -> None:
        self._connection = Connection(self.url, connect_timeout=SENDER_SECONDS, transport_options=dict(SENDER_OPTIONS))
        self._channel = self._connection.channel()
        self._producer = self.app.amqp.Producer(self._channel, auto_declare=False)
