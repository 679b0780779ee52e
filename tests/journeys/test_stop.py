"""Stopping under load: SIGTERM and Ctrl-C."""

import asyncio
import signal

import pytest

from tests.journeys.scene import LAUNDRY, Scene, until

ORDERS = 20


@pytest.mark.timeout(420)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
@pytest.mark.parametrize("grace", ["10", "0"])
async def test_a_server_that_is_stopped_finishes_or_hands_back_what_it_holds(
    scene: Scene, how: signal.Signals, grace: str
) -> None:
    """With leases that outlast the test: whatever is not handed back would never be done."""
    patient_leases = {"LEASE_SECONDS": "600", "HEARTBEAT_SECONDS": "200"}
    server = scene.server(LAUNDRY, environment=patient_leases, options=["--grace", grace]).start()
    # without grace, something must still be under way when the server comes to its end
    crowd = scene.crowd(server, path="loads", body={"seconds": 3 if grace == "0" else 0.5}, cancelled=0)
    async with asyncio.timeout(300), asyncio.TaskGroup() as group:
        group.create_task(crowd.order(ORDERS, at_once=10), name="orders")
        await until(lambda: scene.running() > 5, what="the server is busy")
        server.send(how)
        await until(lambda: not server.runs, what="the server has stopped")
        assert server.wait(seconds=1) == 0
        held = [task for operation in scene.rows().operations.values() for task in operation.tasks if task.token]
        assert not held
        assert not scene.rows().workers
        server.launch()
    evidence = scene.check(must_have_ended=True)
    told = {
        type: sum(operation.told(type) for operation in evidence.database.operations.values())
        for type in ("task.lost", "task.handed_back")
    }
    assert told["task.lost"] == 0
    assert bool(told["task.handed_back"]) == (grace == "0")
    scene.assert_no_crash()


@pytest.mark.timeout(420)
async def test_a_server_that_is_stopped_sends_waiting_workers_and_followers_home(scene: Scene) -> None:
    server = scene.server("pizza").start()
    cook = scene.cook(server, "cook", slots=8, shortest=0.05, longest=0.1).launch()
    crowd = scene.crowd(server)
    async with asyncio.timeout(300), asyncio.TaskGroup() as group:
        group.create_task(crowd.order(ORDERS), name="orders")
        await until(lambda: scene.started() > 10, what="the worker is busy")
        server.terminate()
        # far below the ten seconds for which a worker would wait for a task, and a follower for ever
        await until(lambda: not server.runs, seconds=8, what="the server has stopped")
        assert server.wait(seconds=1) == 0
        server.launch()
    cook.terminate()
    assert cook.wait() == 0
    assert set(crowd.patient.statuses) <= {200, 202, 409, 503}
    scene.check(must_have_ended=True)
    scene.assert_no_crash()
