"""PostgreSQL stopped, killed and turned into a standby under load: whoever asks waits or is told to come again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.journeys.crowd import Crowd
from tests.journeys.scene import Scene, until
from tests.services.postgres import PostgresCluster

ORDERS, LATE_ORDERS = 120, 10
CALM = {200, 202, 409, 503}


@pytest.fixture
def cluster(postgres_cluster: Callable[[], PostgresCluster]) -> PostgresCluster:
    return postgres_cluster()


@pytest.fixture
async def scene(seed: int, cluster: PostgresCluster, tmp_path: Path) -> AsyncIterator[Scene]:
    async with Scene(seed, cluster.url, tmp_path) as scene:
        yield scene


async def refusals(crowd: Crowd) -> None:
    """Until somebody more was told to come again."""
    before = crowd.patient.statuses[503]
    await until(lambda: crowd.patient.statuses[503] > before, what="somebody was told to come again")


async def progress(scene: Scene) -> None:
    before = scene.started()
    await until(lambda: scene.started() > before + 20, what="work goes on")


@pytest.mark.timeout(420)
async def test_a_database_that_is_restarted_under_load_costs_patience_and_nothing_else(
    scene: Scene, cluster: PostgresCluster
) -> None:
    server = scene.server("pizza").start()
    cooks = [scene.cook(server, f"cook-{number}", slots=8, shortest=0.1, longest=0.4).launch() for number in range(2)]
    crowd = scene.crowd(server)
    async with asyncio.timeout(300), asyncio.TaskGroup() as group:
        group.create_task(crowd.order(ORDERS), name="orders")
        await progress(scene)
        await asyncio.to_thread(cluster.stop)
        await refusals(crowd)
        await asyncio.to_thread(cluster.start)
        await progress(scene)
        await asyncio.to_thread(cluster.kill)
        await refusals(crowd)
        await asyncio.to_thread(cluster.start)
    print(f"answers {crowd.patient.statuses}, unanswered {crowd.patient.unanswered}")
    assert set(crowd.patient.statuses) <= CALM
    assert crowd.patient.without_retry_after == 0
    for program in (*cooks, server):
        program.terminate()
    assert [program.wait() for program in (*cooks, server)] == [0, 0, 0]
    evidence = scene.check(must_have_ended=True)
    assert len(evidence.database.operations) == ORDERS
    scene.assert_no_crash()


@pytest.mark.timeout(420)
async def test_a_standby_takes_nothing_until_it_is_promoted(scene: Scene, cluster: PostgresCluster) -> None:
    server = scene.server("pizza").start()
    cook = scene.cook(server, "cook", slots=8, shortest=0.05, longest=0.1).launch()
    crowd, late = scene.crowd(server), scene.crowd(server, name="late crowd")
    async with asyncio.timeout(300), asyncio.TaskGroup() as group:
        group.create_task(crowd.order(ORDERS, ended_before=LATE_ORDERS), name="orders")
        await progress(scene)
        await asyncio.to_thread(cluster.restart_as_standby)
        group.create_task(late.order_without_staff(LATE_ORDERS), name="late orders")
        await refusals(late)
        assert not late.placed
        await asyncio.to_thread(cluster.promote)
    print(f"answers {crowd.patient.statuses + late.patient.statuses}")
    assert set(crowd.patient.statuses + late.patient.statuses) <= CALM
    assert late.patient.without_retry_after == 0
    for program in (cook, server):
        program.terminate()
    assert [program.wait() for program in (cook, server)] == [0, 0]
    evidence = scene.check(must_have_ended=True)
    assert len(evidence.database.operations) == ORDERS + LATE_ORDERS
    scene.assert_no_crash()
