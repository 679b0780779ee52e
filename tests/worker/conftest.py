"""A forge that all tests of a file share, one of a test's own to be killed, and workers for both."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from orderup.worker import Worker
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import ROOT, ServerProcess, sqlite_url
from tests.worker.visitor import Visitor

# Short enough that a test can wait until it has run out; and whoever stands still for a moment does not lose it.
QUICK = {"LEASE_SECONDS": "6", "HEARTBEAT_SECONDS": "1"}
FORGE = "tests.worker.forge:shop"
NewWorker = Callable[..., Worker]
Working = Callable[[Worker], AbstractAsyncContextManager[None]]


def forge_server(folder: Path, *, environment: Mapping[str, str] = QUICK) -> ServerProcess:
    """Not started yet."""
    return ServerProcess(
        FORGE, folder=folder, database_url=sqlite_url(folder), environment={**environment, "PYTHONPATH": str(ROOT)}
    )


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with forge_server(tmp_path_factory.mktemp("forge")).start() as server:
        yield server


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ServerProcess]:
    """Not started yet."""
    with forge_server(tmp_path) as server:
        yield server


@pytest.fixture
async def visitor(shared_server: ServerProcess) -> AsyncIterator[Visitor]:
    async with Visitor(shared_server.front, shared_server.back) as visitor:
        yield visitor


@pytest.fixture(params=["http", "websocket"])
def transport(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def new_worker(visitor: Visitor, transport: str) -> NewWorker:
    """Makes workers of the visitor's region; options as of `Worker`. A test that asks for it runs by each transport."""
    options: dict[str, Any] = {"server": visitor.back, "region": visitor.region, "transport": transport}
    return partial(Worker, "forge", **options)


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[None]:
    """A worker at work; it is stopped at the end, and has then ended well."""
    serving = asyncio.create_task(worker.serve(), name="worker")
    try:
        yield
        worker.stop()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await serving
    finally:
        serving.cancel()
        await asyncio.wait({serving})
