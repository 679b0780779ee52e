"""Kill -9 at every line of what submits campaigns: each thing is submitted once, or a person is asked.

The sandbox is in the test's process and survives; the server is killed by mines in its own handlers, or from outside
while the platform has its request in hand. Where the platform cannot be searched, the test is the person who looks.
"""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import pytest

from orderup.db.tables import operations
from orderup.model.ids import read_task_id
from orderup.sandbox import serve_sandbox
from orderup.sandbox.dsp import SORTS, Dsp
from orderup.shops.campaigns.plan import SUBMIT
from tests.invariants.checker import assert_none, check
from tests.invariants.evidence import Evidence, read_database_at, read_table_at
from tests.invariants.records import Effect
from tests.journeys.mined_campaigns import FINDING, FOLLOWING, STOP, SUBMITTING
from tests.journeys.scene import QUICK
from tests.journeys.test_freeze import was_fenced
from tests.serving import ServerProcess
from tests.shops.campaigns.samples import campaign
from tests.shops.campaigns.test_submission import nodes

pytestmark = pytest.mark.timeout(900)

SHOP = "tests.journeys.mined_campaigns:shop"
PATIENCE_SECONDS = 600.0
DEADLINE_SECONDS = 1.0
ALLOWED = 5_000
# Longer than any of these tests: a call that is held is answered to nobody.
HELD = {"times": 1, "delay_seconds": 3600}
SEARCHING = pytest.mark.parametrize("can_search", [True, False], ids=["searched", "not-searched"])


class Desk:
    """Servers on one database, the platform, and a person who looks at both."""

    def __init__(self, dsp: Dsp, database_url: str, folder: Path, environment: dict[str, str]) -> None:
        self.dsp, self.database_url, self.folder, self.environment = dsp, database_url, folder, environment
        self.mines = folder / "mines"
        self.mines.mkdir()
        self.servers: list[ServerProcess] = []
        self.client = httpx2.AsyncClient(timeout=PATIENCE_SECONDS)
        self.campaigns: dict[str, str] = {}
        self.numbers = count(1)
        # exit codes of servers that ended by themselves
        self.ends: list[int | None] = []

    def add_server(self) -> ServerProcess:
        name = f"server-{len(self.servers) + 1}"
        server = ServerProcess(
            SHOP,
            folder=self.folder,
            database_url=self.database_url,
            options=["--no-sandbox"],
            environment=self.environment,
            name=name,
        )
        self.servers.append(server)
        return server

    def lay(self, *places: str, times: int = 2, way: str = "") -> None:
        for place in places:
            (self.mines / f"{way}{place}").write_text(str(times))

    @property
    def mines_left(self) -> list[str]:
        return sorted(mine.name for mine in self.mines.iterdir())

    async def ask(self, method: str, path: str, *, server: ServerProcess | None = None, **options: Any) -> Any:
        """What its front answers; None: nobody did."""
        front = (server or self.servers[0]).front
        try:
            return await self.client.request(method, f"{front}{path}", **options)
        except httpx2.TransportError:
            return None

    async def submit(self, **options: Any) -> str:
        """Once it was accepted, whoever dies meanwhile."""
        name = f"campaign-{next(self.numbers)}"
        body, headers = campaign(name, **options), {"Idempotency-Key": name}
        while True:
            self.look_after()
            answer = await self.ask("POST", "/campaigns", json=body, headers=headers)
            if answer is not None and answer.status_code not in {502, 503}:
                assert answer.status_code == 202, answer.text
                self.campaigns[name] = str(answer.json()["id"])
                return self.campaigns[name]
            await asyncio.sleep(0.1)

    def look_after(self) -> None:
        """Start again whoever has died."""
        for server in self.servers:
            if not server.runs:
                if server.process is not None:
                    self.ends.append(server.process.returncode)
                server.launch()

    def kill(self) -> None:
        for server in self.servers:
            server.kill()

    async def settle(self) -> None:
        """As a person who has looked at the platform does."""
        for id in self.campaigns.values():
            answer = await self.ask("GET", f"/campaigns/{id}")
            if answer is None or not answer.is_success:
                continue
            for node in nodes(answer.json()).values():
                if node["status"] == "unknown":
                    there = [thing.id for sort in SORTS for thing in self.dsp.named.get((sort, node["task_id"]), ())]
                    path = f"/campaigns/{id}/tasks/{node['task_id']}/settle"
                    await self.ask("POST", path, json={"platform_id": there[0] if there else None})

    def has_ended(self) -> bool:
        statuses = Counter(row.status for row in read_table_at(self.database_url, operations) if row.id in self.ids)
        return statuses == {"completed": len(self.campaigns)}

    @property
    def ids(self) -> set[int]:
        return {read_task_id(f"{id}-0")[0] for id in self.campaigns.values()}

    async def tend_until(self, fact: Callable[[], object], *, what: str) -> None:
        """Start again who has died, and settle what is unknown, until it is so."""

        async def tended() -> bool:
            if fact():
                return True
            self.look_after()
            await self.settle()
            return False

        await eventually(tended, what)

    def check(self) -> None:
        """Each thing is there once, after what it belongs to, and no more was asked than is allowed."""
        assert self.dsp.doubles == {}
        assert self.dsp.too_early == 0
        assert (self.dsp.meter.refused, self.dsp.meter.most_seen <= ALLOWED) == (0, True)
        made = [Effect(service="dsp", key=our_id) for (_, our_id), things in self.dsp.named.items() for _ in things]
        database = read_database_at(self.database_url)
        submitted = sum(task.kind == SUBMIT for each in database.operations.values() for task in each.tasks)
        assert len(made) == submitted
        logs = {server.name: server.printed() for server in self.servers}
        assert_none(check(Evidence(database, made, logs=logs)))
        for server in self.servers:
            assert "Traceback" not in server.printed(), server.last_lines(80)


async def eventually(fact: Callable[[], Awaitable[bool]], what: str) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_SECONDS
    while not await fact():
        assert loop.time() < deadline, f"not within {PATIENCE_SECONDS:g} s: {what}"
        await asyncio.sleep(0.1)  # each look reads the database anew


@asynccontextmanager
async def open_desk(database_url: str, folder: Path, **settings: str) -> AsyncIterator[Desk]:
    async with serve_sandbox() as sandbox:
        sandbox.dsp.verdict_seconds = 0.1
        sandbox.dsp.allow(ALLOWED)
        environment = {
            **QUICK,
            "DSP_URL": f"{sandbox.base_url}/dsp",
            "DSP_REQUESTS_A_MINUTE": str(ALLOWED),
            "DSP_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
            "DSP_SEARCH_SECONDS": "0.2",
            "DSP_STATUS_SECONDS": "0.1",
            "MINES": str(folder / "mines"),
            **settings,
        }
        desk = Desk(sandbox.dsp, database_url, folder, environment)
        try:
            yield desk
        finally:
            for server in desk.servers:
                server.end()
                print(server.last_lines())  # shown if the test has failed
            await desk.client.aclose()


@pytest.fixture
async def desk(database_url: str, tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(database_url, tmp_path) as desk:
        yield desk


@SEARCHING
async def test_whoever_is_killed_at_whatever_line_each_thing_is_submitted_once(desk: Desk, *, can_search: bool) -> None:
    desk.dsp.can_search = can_search
    desk.add_server()
    desk.lay(*SUBMITTING, *FINDING, *FOLLOWING)
    laid = len(desk.mines_left)
    for _ in range(3):
        await desk.submit(groups=1, ads=3)
    await desk.tend_until(desk.has_ended, what="all campaigns stand")
    while desk.mines_left:
        await desk.submit(groups=1, ads=1)
        await desk.tend_until(desk.has_ended, what="all campaigns stand")
    assert desk.ends == [-signal.SIGKILL] * 2 * laid
    desk.check()


@SEARCHING
@pytest.mark.parametrize("takes_effect", [False, True], ids=["before-it-has-it", "when-it-has-it"])
async def test_whoever_is_killed_while_the_platform_answers_each_thing_is_submitted_once(
    desk: Desk, *, can_search: bool, takes_effect: bool
) -> None:
    dsp = desk.dsp
    dsp.can_search = can_search
    desk.add_server()
    calls = ["submit_campaign", "submit_ad", "submit_ad", *["find_ad"] * (2 if can_search else 0)]
    await desk.submit(groups=1, ads=2)
    for call in calls:
        if call == "find_ad":
            await lose_an_answer(desk, "submit_ad")
        dsp.switch(route=call, takes_effect=takes_effect, **HELD)
        await desk.tend_until(lambda: dsp.behaviour.route is None, what=f"{call} has come")
        desk.kill()
        dsp.restore()
        await desk.submit(groups=1, ads=1)
    await desk.tend_until(desk.has_ended, what="all campaigns stand")
    desk.check()


async def lose_an_answer(desk: Desk, call: str) -> None:
    desk.dsp.switch(route=call, takes_effect=True, status=502, times=1)
    await desk.tend_until(lambda: desk.dsp.behaviour.route is None, what=f"{call} has come")


@pytest.mark.parametrize("place", SUBMITTING[1:4])
async def test_who_stands_still_past_his_lease_submits_nothing_when_he_goes_on(desk: Desk, place: str) -> None:
    desk.dsp.verdict_seconds = 1
    frozen = desk.add_server()
    await desk.submit(groups=1, ads=1)
    desk.lay(place, times=1, way=STOP)
    await eventually_true(lambda: stands_still(frozen), f"it stands still where {place}")
    desk.add_server().start()
    await eventually_true(desk.has_ended, "the other has done it all")
    frozen.thaw()
    await eventually_true(lambda: was_fenced(frozen), "the woken one was fenced")
    desk.check()


async def eventually_true(fact: Callable[[], bool], what: str) -> None:
    async def look() -> bool:
        return fact()

    await eventually(look, what)


def stands_still(server: ServerProcess) -> bool:
    """By the letter that Linux has for the state of a process."""
    return Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
