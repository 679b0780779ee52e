"""A worker and a server that lose sight of each other: what was begun is finished, once."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from orderup.worker import Task, Worker
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import ServerProcess
from tests.worker.conftest import NewWorker, working
from tests.worker.visitor import Visitor
from tests.worker.wire import Wire


@pytest.fixture
async def wire(visitor: Visitor) -> AsyncIterator[Wire]:
    async with Wire(visitor.back).strung() as wire:
        yield wire


def completed_answer(answer: bytes) -> bool:
    return b'{"status":"completed"}' in answer


def claimed_tasks(answer: bytes) -> bool:
    return b'"lease_seconds"' in answer and b'"params"' in answer


async def test_a_result_whose_answer_was_lost_is_sent_again_and_counts_once(
    visitor: Visitor, new_worker: NewWorker, wire: Wire
) -> None:
    worker = new_worker(server=wire.url)
    calls: list[str] = []
    wire.cut_at = completed_answer

    @worker.task("hammer")
    async def hammer(task: Task) -> int:
        calls.append(task.id)
        return len(calls)

    async with working(worker):
        first = await visitor.order()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await wire.was_cut.wait()
        second = await visitor.order()
        await visitor.until(second, "completed")
    assert calls == [f"{first}-0", f"{second}-0"]
    task = await visitor.task(first)
    assert (task["result"], task["attempt"], task["losses"]) == (1, 1, 0)


async def test_a_result_that_is_sent_again_is_the_same_word_for_word(visitor: Visitor, wire: Wire) -> None:
    worker = Worker("forge", server=wire.url, region=visitor.region)
    wire.cut_at = completed_answer

    @worker.task("hammer")
    async def hammer(_task: Task) -> dict[str, Any]:
        return {"z": 1, "a": 2.5}

    async with working(worker):
        await visitor.until(await visitor.order(), "completed")
        async with asyncio.timeout(PATIENCE_SECONDS):
            await wire.was_cut.wait()
    requests = b"".join(wire.sent).split(b"POST ")
    bodies = [request.partition(b"\r\n\r\n")[2] for request in requests if b"/complete HTTP" in request]
    assert len(bodies) == 2
    assert bodies[0] == bodies[1]


async def test_a_claim_whose_answer_was_lost_gets_the_same_tasks_and_costs_no_lease(
    visitor: Visitor, new_worker: NewWorker, wire: Wire
) -> None:
    worker = new_worker(server=wire.url, concurrency=3)
    calls: list[str] = []
    wire.cut_at = claimed_tasks

    @worker.task("hammer")
    async def hammer(task: Task) -> None:
        calls.append(task.id)

    ids = [await visitor.order() for _ in range(3)]
    async with working(worker):
        operations = [await visitor.until(id, "completed") for id in ids]
    assert wire.was_cut.is_set()
    assert sorted(calls) == sorted(f"{id}-0" for id in ids)
    assert {(each["tasks"][0]["attempt"], each["tasks"][0]["losses"]) for each in operations} == {(1, 0)}


async def test_a_server_that_asks_for_time_is_given_it(visitor: Visitor, new_worker: NewWorker, wire: Wire) -> None:
    worker = new_worker(server=wire.url)
    wire.refusals = [b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"] * 3

    @worker.task("hammer")
    async def hammer(_task: Task) -> None: ...

    async with working(worker):
        await visitor.until(await visitor.order(), "completed")
    gaps = [later - earlier for earlier, later in zip(wire.refused_at, wire.refused_at[1:], strict=False)]
    assert len(gaps) == 2
    assert min(gaps) >= 1


async def test_a_worker_may_be_started_before_its_server(own_server: ServerProcess, transport: str) -> None:
    async with Visitor(own_server.front, own_server.back) as visitor:
        worker = Worker("forge", server=own_server.front, region=visitor.region, transport=transport)  # type: ignore[arg-type]

        @worker.task("hammer")
        async def hammer(_task: Task) -> None: ...

        async with working(worker):
            await asyncio.to_thread(own_server.start)
            await visitor.until(await visitor.order(), "completed")


@pytest.mark.parametrize("end", ["killed", "stopped"])
async def test_a_worker_outlives_its_server_and_goes_on_with_its_claim(
    own_server: ServerProcess, transport: str, end: str
) -> None:
    await asyncio.to_thread(own_server.start)
    async with Visitor(own_server.front, own_server.back) as visitor:
        new_worker = partial(Worker, "forge", server=visitor.back, region=visitor.region)
        worker = new_worker(transport=transport)  # type: ignore[arg-type]
        is_running, may_end = asyncio.Event(), asyncio.Event()

        @worker.task("hammer")
        async def hammer(task: Task) -> str:
            is_running.set()
            await may_end.wait()
            return task.id

        async with working(worker):
            id = await visitor.order()
            await is_running.wait()
            await asyncio.to_thread(stop, own_server, end)
            may_end.set()  # its result finds no server
            await asyncio.to_thread(own_server.restart)
            operation = await visitor.until(id, "completed")
            later = await visitor.until(await visitor.order(), "completed")
    task = operation["tasks"][0]
    assert (task["result"], task["attempt"], task["losses"]) == (f"{id}-0", 1, 0)
    assert later["tasks"][0]["worker"] == worker.name


def stop(server: ServerProcess, end: str) -> None:
    if end == "killed":
        server.kill()
    else:
        server.terminate()
        assert server.wait() == 0
