"""Orders that real Celery workers carry out, whatever becomes of messages, workers and the broker."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from orderup.db.tables import operations, tasks
from tests.invariants.records import Started, read_records
from tests.journeys import laundry, pressing
from tests.journeys.celery_stage import Stage
from tests.journeys.crowd import Crowd
from tests.journeys.laundry import tickets
from tests.journeys.scene import LAUNDRY, Scene, until
from tests.services.rabbitmq import Broker
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import ServerProcess

LOADS = 20
SHIRTS = 60
PRESSING = "tests.journeys.pressing:shop"
OLD_LAUNDRY = "tests.journeys.old_laundry:shop"
AWAY = "Celery's workers cannot be told of work"
# How long the broker is down.
AWAY_SECONDS = 125
BROKERS = [
    pytest.param("rabbitmq_url", marks=pytest.mark.needs("rabbitmq_url")),
    pytest.param("redis_url", marks=pytest.mark.needs("redis_server")),
]
# A test of what does not hang on the database runs on one.
ON_POSTGRESQL = pytest.mark.parametrize(
    "database_url", [pytest.param("postgresql", marks=pytest.mark.needs("postgres_url"))], indirect=True
)
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(params=BROKERS)
def broker_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


@contextmanager
def staged(scene: Scene, broker_url: str) -> Iterator[Stage]:
    stage = Stage(scene, broker_url, LAUNDRY)
    yield stage
    for program in reversed(scene.programs):
        program.end()
    stage.sweep_up([laundry.shop])


@pytest.fixture
def stage(scene: Scene, broker_url: str) -> Iterator[Stage]:
    """With a server and workers of the laundry, on a broker that others use, too."""
    with staged(scene, broker_url) as stage:
        yield stage


async def wash(scene: Scene, server: ServerProcess, *, count: int = LOADS, seconds: float = 0) -> None:
    """Place so many loads and follow each to its end."""
    crowd = scene.crowd(server, path="loads", body={"seconds": seconds}, cancelled=0)
    await crowd.order_without_staff(count)


def begun(scene: Scene) -> Counter[str]:
    """How many attempts each task has had, by its id."""
    return Counter(each.task for each in read_records([scene.ledger_path]) if isinstance(each, Started))


def doers(scene: Scene) -> set[int]:
    """Process ids of those who did anything."""
    return {int(each.worker) for each in read_records([scene.ledger_path]) if isinstance(each, Started)}


def assert_each_once(scene: Scene, *, count: int) -> None:
    """So many loads have ended, and each was noted once."""
    rows = scene.table(operations)
    assert [row.status for row in rows] == ["completed"] * count
    assert Counter(row.operation_id for row in scene.table(tickets)) == {row.id: 1 for row in rows}


async def inspection_tells(server: ServerProcess, workers: list[tuple[int, int]]) -> None:
    """Return once the API shows workers of so many processes and queues: a busy one does not answer at once."""
    taken = {f"laundry/{kind}": (0, len(workers)) for kind in ("wash", "iron", "note")}
    async with asyncio.timeout(PATIENCE_SECONDS), httpx2.AsyncClient(timeout=PATIENCE_SECONDS) as client:
        while True:
            told = (await client.get(f"{server.back}/api/celery")).json()
            seen = [(each["processes"], len(each["queues"])) for each in told["workers"]]
            if (
                seen == workers
                and {each["name"]: (each["messages"], each["workers"]) for each in told["queues"]} == taken
            ):
                return


async def test_orders_are_carried_out_by_workers_from_the_first_step_to_the_last(stage: Stage) -> None:
    server = stage.server()
    worker = await stage.worker()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await wash(stage.scene, server)
    assert_each_once(stage.scene, count=LOADS)
    assert set(begun(stage.scene).values()) == {1}
    assert doers(stage.scene) <= set(worker.children)
    await inspection_tells(server, [(2, 3)])
    worker.terminate()
    assert worker.wait() == 0
    assert stage.at_work() == 0
    stage.scene.check(must_have_ended=True)
    stage.scene.assert_no_crash()


@ON_POSTGRESQL
async def test_a_worker_takes_what_its_queues_say_and_passes_on_what_it_releases(stage: Stage) -> None:
    server = stage.server()
    washing = await stage.worker(name="washing", processes=1, queues=["laundry/wash"])
    rest = await stage.worker(name="rest", processes=1, queues=["laundry/iron", "laundry/note"])
    async with asyncio.timeout(PATIENCE_SECONDS):
        await wash(stage.scene, server)
    kinds = {each.task: each.worker for each in read_records([stage.scene.ledger_path]) if isinstance(each, Started)}
    by_position = {task.rpartition("-")[2]: set[str]() for task in kinds}
    for task, who in kinds.items():
        by_position[task.rpartition("-")[2]].add(who)
    [washer], [ironer] = washing.children, rest.children
    assert sorted(by_position.values(), key=str) == sorted([{str(washer)}, {str(washer)}, {str(ironer)}], key=str)
    assert_each_once(stage.scene, count=LOADS)


async def test_what_a_killed_process_was_doing_is_done_by_another_and_ends_once(stage: Stage) -> None:
    server = stage.server()
    worker = await stage.worker(environment={"CELERY_SLOTS": "15"})  # too few for one to take everything
    async with asyncio.timeout(100), asyncio.TaskGroup() as group:
        group.create_task(wash(stage.scene, server, seconds=1))
        await until(lambda: len(doers(stage.scene)) == 2, what="both processes have begun something")
        worker.kill_child(worker.children[0])
    assert_each_once(stage.scene, count=LOADS)
    assert max(begun(stage.scene).values()) == 2
    stage.scene.check(must_have_ended=True)


@ON_POSTGRESQL
async def test_what_a_killed_worker_was_doing_is_done_by_another_one(stage: Stage) -> None:
    server = stage.server()
    worker = await stage.worker()
    async with asyncio.timeout(100), asyncio.TaskGroup() as group:
        group.create_task(wash(stage.scene, server, seconds=1))
        await until(lambda: stage.scene.running() > 0, what="something is begun")
        children = worker.children
        worker.kill()
        await until(lambda: not any(map(_runs, children)), what="its processes have ended, too")
        await stage.worker(name="another")
    assert_each_once(stage.scene, count=LOADS)
    stage.scene.check(must_have_ended=True)


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@ON_POSTGRESQL
async def test_a_message_that_comes_fifty_times_begins_nothing_twice(stage: Stage) -> None:
    server = stage.server()
    await stage.worker()
    async with asyncio.timeout(100), asyncio.TaskGroup() as group:
        group.create_task(wash(stage.scene, server, seconds=0.5))
        await until(lambda: stage.scene.running() > 0, what="something is begun")
        await asyncio.to_thread(stage.send, "laundry/wash", times=50)
    assert set(begun(stage.scene).values()) == {1}
    assert_each_once(stage.scene, count=LOADS)


async def test_messages_that_are_lost_are_sent_again(stage: Stage) -> None:
    server = stage.server()
    async with asyncio.timeout(100), asyncio.TaskGroup() as group:
        group.create_task(wash(stage.scene, server))
        for _ in range(2):
            await until(lambda: stage.lying("laundry/wash") > 0, what="a message was sent")
            assert stage.purge("laundry/wash") > 0
        await stage.worker()
    assert_each_once(stage.scene, count=LOADS)


@ON_POSTGRESQL
async def test_work_that_nobody_told_of_is_found(stage: Stage) -> None:
    stage.server()
    await stage.worker()
    silent = stage.scene.server(LAUNDRY, name="silent", options=["--executor", "none"]).start()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await wash(stage.scene, silent)
    assert_each_once(stage.scene, count=LOADS)


@ON_POSTGRESQL
async def test_messages_that_nobody_understands_are_dropped_and_the_work_goes_on(stage: Stage) -> None:
    server = stage.server()
    worker = await stage.worker()
    await asyncio.to_thread(stage.send, "laundry/wash", about="laundry/starch")
    await asyncio.to_thread(stage.send_raw, "laundry/wash", {"what": "is this"})
    await asyncio.to_thread(
        stage.send_raw,
        "laundry/wash",
        b"\x80\x04N.",
        content_type="application/x-python-serialize",
        content_encoding="binary",
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        await wash(stage.scene, server)
    await until(lambda: stage.lying("laundry/wash") == 0, what="nothing is left lying")
    assert "a message about a queue that is not done here" in worker.printed()
    assert_each_once(stage.scene, count=LOADS)


@ON_POSTGRESQL
async def test_a_worker_that_is_asked_to_stop_hands_back_what_it_cannot_finish(stage: Stage) -> None:
    server = stage.server()
    worker = await stage.worker(environment={"CELERY_GRACE_SECONDS": "0.2", "LEASE_SECONDS": "600"})
    async with asyncio.timeout(100), asyncio.TaskGroup() as group:
        group.create_task(wash(stage.scene, server, count=2, seconds=3))
        await until(lambda: stage.scene.running() == 4, what="all that can be is begun")
        worker.terminate()
        assert await asyncio.to_thread(worker.wait, seconds=40) == 0
        assert stage.scene.running() == 0
        assert stage.at_work() == 0
        await stage.worker(name="another")
    assert_each_once(stage.scene, count=2)
    assert all(row.losses == 0 for row in stage.scene.table(tasks))


@ON_POSTGRESQL
async def test_a_cancelled_order_is_cancelled_in_the_worker_that_carries_it_out(stage: Stage) -> None:
    server = stage.server()
    worker = await stage.worker()
    async with asyncio.timeout(PATIENCE_SECONDS), httpx2.AsyncClient() as client:
        placed = await client.post(f"{server.front}/loads", json={"seconds": 60})
        await until(lambda: stage.scene.running() == 2, what="both washes are begun")
        assert (await client.delete(f"{server.front}/loads/{placed.json()['id']}")).is_success
        ended = "a claim has ended; what carried it out was cancelled"
        await until(lambda: worker.printed().count(ended) == 2, what="the worker heard of it")
    assert stage.scene.running() == 0


@ON_POSTGRESQL
async def test_limits_hold_for_all_workers_together(stage: Stage) -> None:
    stage.shops = (PRESSING,)
    server = stage.server()
    for number in range(2):
        await stage.worker(name=f"worker-{number}")
    crowds: list[Crowd] = []
    async with asyncio.timeout(100):
        while len(doers(stage.scene)) < 2:  # of a few shirts one worker may get all
            crowd = stage.scene.crowd(server, path=pressing.PATH, body={}, cancelled=0, name=f"crowd-{len(crowds)}")
            crowds.append(crowd)
            await crowd.order_without_staff(SHIRTS)
    kinds = {f"pressing/{kind.name}": kind for kind in pressing.shop.kinds.values()}
    stage.scene.check(kinds=kinds)
    assert {end for crowd in crowds for end in crowd.ended.values()} == {"operation.completed"}
    assert sum(len(crowd.ended) for crowd in crowds) == len(crowds) * SHIRTS


@ON_POSTGRESQL
async def test_a_worker_with_old_code_leaves_to_others_what_it_does_not_know(stage: Stage) -> None:
    server = stage.server()
    old = await stage.worker(name="old", environment={"CELERY_SHOPS": OLD_LAUNDRY})
    crowd = stage.scene.crowd(server, path="loads", body={"seconds": 0}, cancelled=0)
    async with asyncio.timeout(100), asyncio.TaskGroup() as group:
        group.create_task(crowd.order_without_staff(LOADS))
        await until(lambda: sum(begun(stage.scene).values()) == 2 * LOADS, what="all is washed")
        await asyncio.to_thread(stage.send, "laundry/wash", about="laundry/iron", times=5)
        await until(lambda: stage.lying("laundry/iron") > 0, what="others are told of what is to be ironed")
        assert not stage.scene.running()
        await stage.worker(name="new")
    assert_each_once(stage.scene, count=LOADS)
    assert set(begun(stage.scene).values()) == {1}
    assert "Traceback" not in old.printed()


@ON_POSTGRESQL
@pytest.mark.timeout(480)
async def test_a_broker_that_is_away_for_minutes_holds_up_work_and_nobody_who_orders(
    scene: Scene, broker: Broker
) -> None:
    with staged(scene, broker.url) as stage:
        server = stage.server()
        await stage.worker()
        before = scene.crowd(server, path="loads", body={"seconds": 0}, cancelled=0)
        during = scene.crowd(server, path="loads", body={"seconds": 0}, cancelled=0, name="during")
        async with asyncio.timeout(400), asyncio.TaskGroup() as group:
            await before.order_without_staff(LOADS)
            broker.kill()
            back_at = asyncio.get_running_loop().time() + AWAY_SECONDS
            group.create_task(during.order_without_staff(LOADS))
            await until(lambda: len(during.placed) == LOADS, what="all are placed")
            await until(lambda: AWAY in server.printed(), what="the server says that it is away")
            async with httpx2.AsyncClient(timeout=PATIENCE_SECONDS) as client:
                assert (await client.get(f"{server.back}/readyz")).status_code == 200
            await asyncio.sleep(back_at - asyncio.get_running_loop().time())
            await asyncio.to_thread(broker.start)
        assert set(during.patient.statuses) <= {202}
        # the slowest of those who ordered with the broker away, beside the slowest of the others
        assert during.patient.slowest_seconds < 3 * before.patient.slowest_seconds + 0.5
        assert server.printed().count(AWAY) == 1
        assert_each_once(scene, count=2 * LOADS)
