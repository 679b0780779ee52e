"""SQLite that cannot be written under load: refused with 507 or 503, said in the log, nothing half-written, and once it
can be written again everything goes on without a restart."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.journeys.crowd import Crowd
from tests.journeys.obstacles import OBSTACLES, Obstacle, check_possible
from tests.journeys.scene import Scene, until
from tests.serving import sqlite_url

ROOT = Path(__file__).resolve().parents[2]
ORDERS, LATE_ORDERS = 60, 10
NOT_NOW = (503, 507)


@pytest.fixture(params=list(OBSTACLES))
def obstacle(request: pytest.FixtureRequest) -> Iterator[Obstacle]:
    check_possible(request, request.param)
    print(f"what keeps SQLite from writing: {request.param}")
    with OBSTACLES[request.param]() as obstacle:
        yield obstacle


@pytest.fixture
async def scene(seed: int, obstacle: Obstacle, tmp_path: Path) -> AsyncIterator[Scene]:
    async with Scene(seed, sqlite_url(obstacle.folder), tmp_path) as scene:
        yield scene


def refused(crowd: Crowd) -> int:
    return sum(crowd.patient.statuses[status] for status in NOT_NOW)


@pytest.mark.timeout(420)
async def test_what_cannot_be_stored_is_refused_until_it_can_be_stored_again(scene: Scene, obstacle: Obstacle) -> None:
    server = scene.server("pizza").start()
    cook = scene.cook(server, "cook", slots=8, shortest=0.05, longest=0.1).launch()
    crowd, late = scene.crowd(server), scene.crowd(server, name="late crowd")
    async with asyncio.timeout(300), asyncio.TaskGroup() as group:
        group.create_task(crowd.order(ORDERS, ended_before=LATE_ORDERS), name="orders")
        await until(lambda: scene.started() > 20, what="work goes on")
        obstacle.put_up(server)
        await until(lambda: "cannot be written" in server.printed(), what="the log says what is wrong")
        placed = set(late.placed)
        group.create_task(late.order_without_staff(LATE_ORDERS), name="late orders")
        await until(lambda: refused(late) >= LATE_ORDERS, what="all late orders were refused")
        assert set(late.placed) == placed
        reading = await crowd.patient.send_once("GET", f"{server.back}/api/operations")
        assert reading is not None
        assert reading.status_code == 200
        obstacle.take_away(server)
    statuses = crowd.patient.statuses + late.patient.statuses
    print(f"answers {statuses}")
    assert set(statuses) <= {200, 202, 409, *NOT_NOW}
    assert crowd.patient.without_retry_after + late.patient.without_retry_after == 0
    for program in (cook, server):
        program.terminate()
    assert [program.wait() for program in (cook, server)] == [0, 0]
    with closing(sqlite3.connect(obstacle.folder / "orderup.db")) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
    evidence = scene.check(must_have_ended=True)
    assert len(evidence.database.operations) == ORDERS + LATE_ORDERS
    scene.assert_no_crash()


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A test run that wants two obstacles and can put up neither: one that root could, and one that nobody could."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("ORDERUP_REQUIRE_SERVICES", raising=False)
    pytester.makeconftest(
        """
        from dataclasses import replace
        from tests.journeys import obstacles
        from tests.services.lookup import SERVICES

        pytest_plugins = ["tests.services.plugin"]
        for name, could_root in (("full_disk", True), ("immutable_files", False)):
            SERVICES[name] = replace(SERVICES[name], find=lambda: None, could_root=could_root)
        """
    )
    pytester.makepyfile(
        test_full="""
        import pytest
        from tests.journeys.obstacles import check_possible

        @pytest.fixture(params=["full_disk", "immutable_files"])
        def obstacle(request):
            check_possible(request, request.param)

        def test_on(obstacle):
            raise AssertionError("it was put up")
        """
    )
    return pytester


def run(inner: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return inner.runpytest_subprocess("-p", "no:schemathesis", "-p", "no:hypothesispytest", *arguments)


@pytest.mark.parametrize("processes", [0, 2])
def test_an_obstacle_that_cannot_be_put_up_is_said_at_the_end(inner: pytest.Pytester, processes: int) -> None:
    result = run(inner, "-n", str(processes))
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(
        [
            "*!!! NOT RUN !!!*",
            "1 tests that need a file system of its own to fill (full_disk).",
            "  Why: root may do this: run the tests as root.",
            "  test_full.py::test_on[[]full_disk[]]",
            "1 tests that need files that nobody may change (immutable_files).",
            "  Why: nobody may do this here.",
            "  test_full.py::test_on[[]immutable_files[]]",
        ]
    )


def test_where_services_are_required_it_fails_if_root_could_put_it_up(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDERUP_REQUIRE_SERVICES", "1")
    result = run(inner)
    result.assert_outcomes(errors=1, skipped=1)
    result.stdout.fnmatch_lines(["*!!! NOT RUN !!!*", "*(full_disk).", "*(immutable_files)."])
