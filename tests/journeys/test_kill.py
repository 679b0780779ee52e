"""Kill -9 at random moments: of the server, of workers, of both."""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from orderup.db.tables import operations
from orderup.model.ids import show_id
from tests.invariants.records import Sampled
from tests.journeys import pressing
from tests.journeys.crowd import Crowd
from tests.journeys.laundry import tickets
from tests.journeys.scene import LAUNDRY, Scene, until
from tests.serving import Program, ServerProcess

ORDERS = 200
KILLS = 8
COOKS = 3
LOADS = 60
PRESSING = "tests.journeys.pressing:shop"
SHIRTS = 120
CANARY = "canary-of-the-metrics-token-0123456789"


class Killer:
    """Waits for random progress, then kills without warning, and starts again at once what it killed."""

    def __init__(self, scene: Scene, targets: dict[str, list[Program]]) -> None:
        self.scene, self.targets = scene, targets
        self.kills: Counter[str] = Counter()
        self.hits = 0

    async def run(self, kills: int, *, progress: tuple[int, int] = (5, 60)) -> None:
        """progress: how many tasks are begun before each kill, between these two."""
        for _ in range(kills):
            await self._progress(self.scene.random.randint(*progress))
            name = self.scene.random.choice(list(self.targets))
            self._strike(name, self.targets[name])

    async def _progress(self, tasks: int) -> None:
        begun = self.scene.started() + tasks
        await until(lambda: self.scene.started() >= begun, seconds=180, what=f"{begun} tasks were begun")

    def _strike(self, name: str, programs: list[Program]) -> None:
        for program in programs:
            program.kill()
        workers = [program.name for program in programs if program.name.startswith("cook")]
        hit = sum(self.scene.in_flight(worker) for worker in workers) if workers else self.scene.running()
        self.kills[name] += 1
        self.hits += bool(hit)
        for program in programs:
            program.launch()


@pytest.mark.timeout(420)
@pytest.mark.parametrize("victims", ["server", "worker", "both"])
async def test_every_order_ends_once_whoever_is_killed_on_the_way(scene: Scene, victims: str) -> None:
    server = scene.server("pizza").start()
    cooks = [scene.cook(server, f"cook-{number}", slots=8, shortest=0.05, longest=0.5) for number in range(COOKS)]
    for cook in cooks:
        cook.launch()
    targets: dict[str, dict[str, list[Program]]] = {
        "server": {"server": [server]},
        "worker": {cook.name: [cook] for cook in cooks},
        "both": {f"server and {cook.name}": [server, cook] for cook in cooks},
    }
    killer, crowd = Killer(scene, targets[victims]), scene.crowd(server)
    async with asyncio.timeout(300), asyncio.TaskGroup() as group:
        group.create_task(crowd.order(ORDERS), name="orders")
        group.create_task(killer.run(KILLS), name="kills")
    for program in (*cooks, server):
        program.terminate()
    assert [program.wait() for program in (*cooks, server)] == [0] * (COOKS + 1)
    evidence = scene.check(must_have_ended=True)
    print(f"kills {dict(killer.kills)}, with work in flight {killer.hits} of {killer.kills.total()}")
    print(f"orders {Counter(crowd.ended.values())}, answers {crowd.patient.statuses}, followers cut {crowd.cut_off}")
    assert len(crowd.ended) == len(evidence.database.operations) == ORDERS
    assert crowd.patient.statuses.keys() <= {200, 202, 409, 503}
    assert killer.hits >= 0.6 * killer.kills.total()
    scene.assert_no_crash()


@pytest.mark.timeout(420)
async def test_local_work_resumes_at_once_after_two_kills_in_a_row(scene: Scene) -> None:
    """The lease outlasts the test: what a dead process held is known by its identity, and not waited for."""
    patient_leases = {"LEASE_SECONDS": "600", "HEARTBEAT_SECONDS": "200"}
    server = scene.server(LAUNDRY, environment=patient_leases).start()
    killer = Killer(scene, {"server": [server]})
    crowd = scene.crowd(server, path="loads", body={"seconds": 0.2})
    async with asyncio.timeout(300), asyncio.TaskGroup() as group:
        group.create_task(crowd.order(LOADS, at_once=20), name="orders")
        group.create_task(kill_twice_in_a_row(killer), name="kills")
    server.terminate()
    assert server.wait() == 0
    evidence = scene.check(must_have_ended=True)
    print(f"with work in flight {killer.hits} of {killer.kills.total()} kills")
    assert len(evidence.database.operations) == LOADS
    noted = scene.table(tickets)
    completed = {id for id, end in crowd.ended.items() if end == "operation.completed"}
    assert Counter(show_id(row.operation_id) for row in noted) == Counter(completed)
    assert {row.weight for row in noted} == {4}
    scene.assert_no_crash()


@pytest.mark.timeout(420)
async def test_limits_hold_and_due_times_fire_once_whoever_is_killed(scene: Scene) -> None:
    environment = {"METRICS_TOKEN": CANARY}
    servers = [scene.server(PRESSING, name=f"server-{n}", environment=environment).start() for n in range(2)]
    killer = Killer(scene, {server.name: [server] for server in servers})
    crowd = scene.crowd(servers[0], path=pressing.PATH, body={})
    async with asyncio.timeout(300), asyncio.TaskGroup() as group:
        group.create_task(crowd.order_without_staff(SHIRTS, at_once=60), name="orders")
        group.create_task(killer.run(KILLS // 2, progress=(5, 25)), name="kills")
        group.create_task(sample_until_done(scene, servers, crowd), name="samples")
    await no_more_lint(scene, servers)
    for server in servers:
        server.terminate()
    assert [server.wait() for server in servers] == [0, 0]
    kinds = {f"pressing/{kind.name}": kind for kind in pressing.shop.kinds.values()}
    evidence = scene.check(must_have_ended=True, kinds=kinds, secrets=[CANARY])
    swept = [each for each in evidence.database.operations.values() if each.row.source.startswith("schedule:")]
    print(f"with work in flight {killer.hits} of {killer.kills.total()} kills, {len(swept)} due times fired")
    assert len(evidence.database.operations) == SHIRTS + len(swept)
    assert len(swept) >= 3
    assert evidence.of(Sampled)
    scene.assert_no_crash()


async def sample_until_done(scene: Scene, servers: Sequence[ServerProcess], crowd: Crowd) -> None:
    """What the servers take of memory and open files, now and then."""
    while len(crowd.ended) < SHIRTS:
        for server in servers:
            with contextlib.suppress(OSError):  # it was killed a moment ago
                proc = Path(f"/proc/{server.pid}")
                resident = int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
                scene.log.write(Sampled(of=server.name, measure="resident MiB", value=resident, cap=250))
                files = len(list((proc / "fd").iterdir()))
                scene.log.write(Sampled(of=server.name, measure="open files", value=files, cap=400))
        await crowd.patient.pause()


async def no_more_lint(scene: Scene, servers: Sequence[ServerProcess]) -> None:
    """Stop the schedule, once every server is there again, and wait for what it has begun."""
    patient = scene.crowd(servers[0]).patient
    for server in servers:
        paused = await patient.send("POST", f"{server.back}/api/schedules/pressing/lint/pause")
        assert paused.status_code == 200

    def nothing_is_left() -> bool:
        return all(row.finished_at for row in scene.table(operations))

    await until(nothing_is_left, what="all that the schedule began has ended")


async def kill_twice_in_a_row(killer: Killer) -> None:
    for _ in range(2):
        await killer.run(1, progress=(5, 40))
        await killer.run(1, progress=(1, 1))
