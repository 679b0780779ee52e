"""SIGSTOP past a lease, then SIGCONT: the case that fencing exists for."""

import asyncio

import pytest

from orderup.db.tables import events
from tests.invariants.records import Answered, read_records
from tests.journeys.scene import LAUNDRY, Scene, everything_in, until
from tests.serving import ServerProcess

ORDERS = 30


def lost(scene: Scene) -> int:
    return sum(event.type == "task.lost" for event in scene.table(events))


@pytest.mark.timeout(420)
async def test_a_worker_frozen_past_its_lease_changes_nothing_when_it_wakes(scene: Scene) -> None:
    server = scene.server("pizza").start()
    frozen = scene.cook(server, "frozen", slots=8, shortest=0.3, longest=0.4).launch()
    crowd = scene.crowd(server)
    async with asyncio.timeout(300), asyncio.TaskGroup() as group:
        group.create_task(crowd.order(ORDERS), name="orders")
        await until(lambda: scene.in_flight("frozen") > 4, what="the worker is busy")
        frozen.freeze()
        await until(lambda: lost(scene), what="its leases have run out")
        scene.cook(server, "fresh", slots=8, shortest=0.01, longest=0.02).launch()
    before, refused = everything_in(scene.rows()), count_refused(scene)
    frozen.thaw()
    await until(lambda: count_refused(scene) > refused, what="the woken worker was refused")
    await until(lambda: not scene.in_flight("frozen"), what="all it held was answered for")
    assert everything_in(scene.rows()) == before
    scene.check(must_have_ended=True)
    scene.assert_no_crash()


def count_refused(scene: Scene) -> int:
    return sum(isinstance(each, Answered) and each.status == 409 for each in read_records([scene.ledger_path]))


@pytest.mark.timeout(420)
async def test_a_server_frozen_past_its_lease_is_fenced_and_works_on_when_it_wakes(scene: Scene) -> None:
    server, other = scene.server(LAUNDRY).start(), scene.server(LAUNDRY, name="other").start()
    crowd = scene.crowd(other, place_at=server.front, path="loads", body={"seconds": 1}, cancelled=0)
    async with asyncio.timeout(300), asyncio.TaskGroup() as group:
        group.create_task(crowd.order(ORDERS), name="orders")
        await until(lambda: len(crowd.placed) == ORDERS, what="all are placed")
        await until(lambda: scene.running() > 4, what="the server is busy")
        await freeze_between_writes(scene, server)
    assert lost(scene) > 0
    before = everything_in(scene.rows())
    server.thaw()
    await until(lambda: was_fenced(server), what="the woken server was fenced")
    assert everything_in(scene.rows()) == before
    again = scene.crowd(server, name="second crowd", path="loads", body={}, cancelled=0)
    async with asyncio.timeout(90):
        await again.order(ORDERS, ended_before=ORDERS)
    scene.check(must_have_ended=True)
    scene.assert_no_crash()


def was_fenced(server: ServerProcess) -> bool:
    """What it held is another's now: it heard of that from the log, or a result of it was refused."""
    return any(words in server.printed() for words in ("a claim has ended", "a result came too late"))


async def freeze_between_writes(scene: Scene, server: ServerProcess) -> None:
    """Whoever is frozen with SQLite's one lock in his hand stops everybody: then another moment is tried."""
    while True:
        server.freeze()
        if scene.can_write():
            return
        server.thaw()
        await asyncio.sleep(0)
