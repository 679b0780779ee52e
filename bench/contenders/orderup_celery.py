"""orderup with Celery's workers: orders are placed in one process, as `orderup serve --executor celery` does it, and
carried out by one worker of two processes."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from uuid import uuid4

import uvloop
from kombu import Connection

from bench.contenders.celery_chain import WORKER_PROCESSES
from bench.contenders.figures import wanted
from bench.contenders.orderup_engine import place_all, shop
from orderup.cli.process import tune_the_interpreter
from orderup.db.busy import worker_counts
from orderup.db.connect import open_database
from orderup.engine.engine import Engine
from orderup.executors.celery import Broker, celery_queue, make_app, queue_at
from orderup.executors.dispatch import Dispatcher
from orderup.executors.local import queues_with_handlers

QUEUES = queues_with_handlers([shop])
LONGEST_START_SECONDS = 60


async def measure(database_url: str, broker_url: str, prefix: str, *, orders: int, lone: int) -> None:
    database = open_database(database_url)
    await database.open()
    engine = Engine(database, {shop.name: shop.kinds})
    broker = Broker(make_app(broker_url, QUEUES, prefix=prefix), broker_url, prefix=prefix)
    dispatcher = Dispatcher(engine, broker, QUEUES)
    async with asyncio.TaskGroup() as group:
        parts = [group.create_task(engine.run()), group.create_task(dispatcher.run())]
        await wait_for_workers(engine)
        await place_all(engine, orders=orders, lone=lone)
        for part in parts:
            part.cancel()
    await database.close()


async def wait_for_workers(engine: Engine) -> None:
    async with asyncio.timeout(LONGEST_START_SECONDS):
        while True:
            counts = await engine.database.read(lambda connection: worker_counts(connection, now=engine.now()))
            if sum(counts.values()) >= WORKER_PROCESSES:
                return
            await asyncio.sleep(0.1)


def start_worker(environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "celery", "-A", "orderup.celery", "worker", "-c", str(WORKER_PROCESSES)]
    nowhere = subprocess.DEVNULL
    variables = {**os.environ, **environment}
    return subprocess.Popen(command, env=variables, stdin=nowhere, stdout=nowhere, stderr=nowhere)


def main() -> None:
    where, orders, lone = wanted()
    database_url, _, broker_url = where.partition("#")
    prefix = f"bench-{uuid4().hex[:12]}"
    environment = {
        "DATABASE_URL": database_url,
        "CELERY_BROKER_URL": broker_url,
        "CELERY_PREFIX": prefix,
        "CELERY_SHOPS": "bench.contenders.orderup_engine:shop",
    }
    worker = start_worker(environment)
    try:
        tune_the_interpreter()
        uvloop.run(measure(database_url, broker_url, prefix, orders=orders, lone=lone))
    finally:
        worker.terminate()
        worker.wait(30)
        with Connection(broker_url) as connection:
            for queue in QUEUES:
                queue_at(broker_url, celery_queue(prefix, queue))(connection.default_channel).delete()


if __name__ == "__main__":
    main()
