"""A shop's workers, simulated: as many as a kitchen has, each a client of the back of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orderup.cli.simulation.stage import Stage
from orderup.cli.work import functions_of
from orderup.shop import Shop
from orderup.web.tokens import Role
from orderup.worker import Worker

WORKERS = 4
TASKS_AT_ONCE = 2


@asynccontextmanager
async def workers_of(shop: Shop, stage: Stage, *, region: str | None, name: str) -> AsyncIterator[list[Worker]]:
    """At work for the length of the block, then they finish what they hold. Called `name-1` and so on."""
    workers = [make_worker(shop, stage, region=region, name=f"{name}-{number}") for number in range(1, WORKERS + 1)]
    async with asyncio.TaskGroup() as group:
        for worker in workers:
            group.create_task(worker.serve(), name=f"worker {worker.name}")
        try:
            yield workers
        finally:
            for worker in workers:
                worker.stop()


def make_worker(shop: Shop, stage: Stage, *, region: str | None, name: str) -> Worker:
    worker = Worker(
        shop.name,
        server=stage.api,
        region=region,
        token=stage.tokens.get(Role.WORKER),
        name=name,
        concurrency=TASKS_AT_ONCE,
    )
    for kind, function in functions_of(shop, speed=stage.speed).items():
        worker.task(kind)(function)
    return worker
