"""Celery: a chain of four tasks on RabbitMQ, acknowledged late, messages persistent, one worker of two processes.

The last task of a chain counts in Redis, where the end is watched for. What publisher confirms add is measured apart:
with them a message is on the broker's disk when its task is acknowledged; without, one may be lost with the broker.
"""

import os
import subprocess
import sys
from uuid import uuid4

import redis
from celery import Celery, chain
from kombu import Queue

from bench.contenders.figures import clock, told, wanted

BROKER, QUEUE, CONFIRMS = (os.environ.get(name, "") for name in ("BENCH_BROKER", "BENCH_QUEUE", "BENCH_CONFIRMS"))
DONE = f"{QUEUE}:done"
WORKER_PROCESSES = 2
LONGEST_SECONDS = 120

app = Celery("bench", broker=BROKER)
app.conf.update(
    task_default_queue=QUEUE,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    task_default_delivery_mode="persistent",
    worker_prefetch_multiplier=16,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    broker_transport_options={"confirm_publish": CONFIRMS == "yes"},
    broker_connection_retry_on_startup=True,
)
counter = redis.Redis.from_url(os.environ.get("BENCH_REDIS", "redis://127.0.0.1:6379/0"))


@app.task(name="step")
def step() -> None:
    return


@app.task(name="last_step")
def last_step() -> None:
    counter.rpush(DONE, 1)


def order() -> None:
    chain(step.si(), step.si(), step.si(), last_step.si()).apply_async()


def wait_for(count: int) -> None:
    for _ in range(count):
        if counter.blpop([DONE], timeout=LONGEST_SECONDS) is None:
            raise TimeoutError


def measure(orders: int, lone: int) -> None:
    order()
    wait_for(1)
    began = clock()
    for _ in range(orders):
        order()
    wait_for(orders)
    seconds = clock() - began
    lone_seconds = []
    for _ in range(lone):
        began = clock()
        order()
        wait_for(1)
        lone_seconds.append(clock() - began)
    told(orders=orders, seconds=seconds, lone_seconds=lone_seconds)


def main() -> None:
    """Runs itself again with a queue of its own, and a worker beside it."""
    where, orders, lone = wanted()
    if not QUEUE:
        broker, _, confirms = where.partition("#")
        own = {"BENCH_BROKER": broker, "BENCH_QUEUE": f"bench-{uuid4().hex}", "BENCH_CONFIRMS": confirms}
        raise SystemExit(subprocess.call([sys.executable, "-m", __spec__.name, *sys.argv[1:]], env=os.environ | own))
    name = __spec__.name
    options = [
        "-c",
        str(WORKER_PROCESSES),
        "-l",
        "ERROR",
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
    ]
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", f"{name}:app", "worker", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        measure(orders, lone)
    finally:
        worker.terminate()
        worker.wait(20)
        with app.connection_for_write() as connection:
            Queue(QUEUE)(connection.default_channel).delete()
        counter.delete(DONE)


if __name__ == "__main__":
    main()
