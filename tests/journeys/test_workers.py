"""Workers as processes of their own: killed, frozen, asked to stop. The lease is six seconds."""

import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.services.ports import free_port
from tests.serving import ORDERUP, Program, ServerProcess, sqlite_url
from tests.worker.conftest import QUICK, forge_server
from tests.worker.visitor import Visitor, until

PIZZA = {"name": "Margherita", "tier": "basic", "delivery_address": "1 Harbour Lane", "customer": "Ada"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with forge_server(tmp_path_factory.mktemp("forge")).start() as server:
        yield server


@pytest.fixture
async def visitor(server: ServerProcess) -> AsyncIterator[Visitor]:
    async with Visitor(server.front, server.back) as visitor:
        yield visitor


class Smiths:
    """Workers that strike until `may_finish`, and where they write down what they began."""

    def __init__(self, visitor: Visitor, folder: Path, transport: str) -> None:
        self.visitor, self.folder, self.transport = visitor, folder, transport
        self.all: list[Program] = []

    def start(self, name: str, **options: Any) -> Program:
        """options: those of tests/worker/smith.py."""
        given = {
            "server": self.visitor.back,
            "folder": self.folder,
            "region": self.visitor.region,
            "name": name,
            "transport": self.transport,
            **options,
        }
        arguments = [text for option, value in given.items() for text in (f"--{option}", str(value))]
        command = [sys.executable, "-m", "tests.worker.smith", *arguments]
        self.all.append(Program(name, command, log=self.folder / f"{name}.log").launch())
        return self.all[-1]

    async def until_begun(self, id: str, *, attempt: int = 1) -> None:
        """The order's only task."""

        async def look() -> bool:
            return (self.folder / f"{id}-0.{attempt}").exists()

        await until(look, bool, what=f"{id} was begun")

    async def until_printed(self, smith: Program, words: str) -> None:
        async def look() -> str:
            return smith.printed()

        await until(look, lambda printed: words in printed, what=f"{smith.name} says {words!r}")

    def may_finish(self) -> None:
        (self.folder / "go").touch()


@pytest.fixture(params=["http", "websocket"])
def smiths(visitor: Visitor, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Smiths]:
    smiths = Smiths(visitor, tmp_path, request.param)
    yield smiths
    for smith in smiths.all:
        smith.end()
        print(smith.last_lines())  # shown if the test has failed


async def test_a_worker_that_is_killed_costs_a_lease_and_not_the_order(visitor: Visitor, smiths: Smiths) -> None:
    first = smiths.start("first")
    id = await visitor.order()
    await smiths.until_begun(id)
    first.kill()
    smiths.start("second")
    await smiths.until_begun(id, attempt=2)
    smiths.may_finish()
    task = (await visitor.until(id, "completed"))["tasks"][0]
    assert (task["result"], task["attempt"], task["losses"]) == ({"by": "second"}, 2, 1)


async def test_a_worker_that_was_frozen_past_its_lease_changes_nothing_when_it_wakes(
    visitor: Visitor, smiths: Smiths
) -> None:
    frozen = smiths.start("frozen")
    id = await visitor.order()
    await smiths.until_begun(id)
    frozen.freeze()
    awake = smiths.start("awake")
    await smiths.until_begun(id, attempt=2)
    smiths.may_finish()
    before = await visitor.until(id, "completed")
    awake.terminate()
    assert awake.wait() == 0
    frozen.thaw()
    await smiths.until_printed(frozen, "the claim has ended")
    assert await visitor.operation(id) == before
    assert before["tasks"][0]["result"] == {"by": "awake"}
    # and it goes on as if nothing had been
    later = await visitor.until(await visitor.order(), "completed")
    assert later["tasks"][0]["result"] == {"by": "frozen"}


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_that_is_asked_to_stop_finishes_what_it_has(
    visitor: Visitor, smiths: Smiths, name: signal.Signals
) -> None:
    smith = smiths.start("smith")
    id = await visitor.order()
    await smiths.until_begun(id)
    smith.send(name)
    await smiths.until_printed(smith, "stopping")
    smiths.may_finish()
    assert smith.wait() == 0
    assert (await visitor.operation(id))["tasks"][0]["result"] == {"by": "smith"}
    assert "Traceback" not in smith.printed()


@pytest.mark.parametrize("how", ["its grace is over", "it is asked again"])
async def test_a_worker_that_cannot_finish_hands_back(visitor: Visitor, smiths: Smiths, how: str) -> None:
    smith = smiths.start("smith", grace=0.1 if how == "its grace is over" else 3600)
    id = await visitor.order()
    await smiths.until_begun(id)
    smith.terminate()
    if how == "it is asked again":
        await smiths.until_printed(smith, "stopping")
        smith.terminate()
    assert smith.wait() == 0
    task = await visitor.task(id)
    assert (task["status"], task["attempt"], task["losses"]) == ("pending", 0, 0)
    assert "Traceback" not in smith.printed()


async def test_a_worker_without_a_server_can_be_stopped(smiths: Smiths) -> None:
    smith = smiths.start("smith", server=f"http://127.0.0.1:{free_port()}")
    await smiths.until_printed(smith, "the server is away")
    smith.terminate()
    assert smith.wait() == 0


def test_orderup_work_says_in_one_sentence_why_it_cannot(server: ServerProcess, tmp_path: Path) -> None:
    command = [str(ORDERUP), "work", "pizza", "--server", server.front]
    with Program("work", command, log=tmp_path / "work.log").launch() as work:
        assert work.wait() == 2
    assert "orderup: The server answered 422: There is no shop pizza here. There is: forge." in work.printed()
    assert "Traceback" not in work.printed()


@pytest.mark.parametrize("transport", ["http", "websocket"])
async def test_orderup_work_makes_a_pizza_from_dough_to_door(tmp_path: Path, transport: str) -> None:
    database_url = sqlite_url(tmp_path)
    command = [str(ORDERUP), "work", "pizza", "--transport", transport, "--speed", "100", "--name", "kitchen"]
    with ServerProcess("pizza", folder=tmp_path, database_url=database_url, environment=QUICK).start() as server:
        environment = {"SERVER_URL": server.front, "LOG_FORMAT": "json"}
        with Program("work", command, log=tmp_path / "work.log", environment=environment).launch() as work:
            async with Visitor(server.front, server.back) as visitor:
                answer = await visitor.client.post(f"{server.front}/pizzas", json=PIZZA)
                id = answer.json()["id"]
                await visitor.client.post(f"{server.back}/api/rfas/{id}/approve")
                operation = await visitor.until(id, "completed")
            work.terminate()
            assert work.wait() == 0
    assert [task["worker"] for task in operation["tasks"]] == ["kitchen"] * 4
    assert [task["region"] for task in operation["tasks"]] == ["eu-west-3"] * 4
    assert all(task["result"] for task in operation["tasks"])
    assert "Traceback" not in work.printed()
