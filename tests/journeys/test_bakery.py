"""Kill -9 between any two steps of what the bakery automates: each third party is asked for each thing once.

One server and one sandbox for all tests here: each has a customer, a developer or an order of its own, and a call at
which the server is killed, before the call takes effect or after. The sandbox is in the test's process and survives.
"""

import asyncio
import re
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from sqlalchemy import Row

from orderup.db.tables import tasks
from orderup.sandbox import serve_sandbox
from orderup.sandbox.google import File
from orderup.sandbox.server import Sandbox
from orderup.sandbox.service import Service
from orderup.shops.bakery.plan import BAKE
from orderup.shops.bakery.services import STAND_INS
from orderup.shops.bakery.tables import employees, issues, orders
from tests.invariants.evidence import read_table_at
from tests.journeys.scene import QUICK
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import ServerProcess, sqlite_url
from tests.shops.bakery.conftest import CAKE, ORDER

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

# Longer than any of these tests: a call that is held is answered to nobody.
HELD = {"times": 1, "delay_seconds": 3600}
SECRET = "a secret that Jira knows"
SEARCH_SECONDS = 0.5
MOST_CUSTOMERS = 60


@dataclass(frozen=True, slots=True)
class Kill:
    """At which call. takes_effect: it has, when the server dies."""

    party: str
    call: str
    takes_effect: bool = False

    def __str__(self) -> str:
        return f"{'after' if self.takes_effect else 'before'}-{self.call}"


class Bakery:
    """The server, its sandbox, and who looks at both."""

    def __init__(self, server: ServerProcess, sandbox: Sandbox, database_url: str, client: httpx2.AsyncClient) -> None:
        self.server, self.sandbox, self.database_url, self.client = server, sandbox, database_url, client
        self.numbers = count(1)

    @property
    def parties(self) -> dict[str, Service]:
        here = self.sandbox
        return {"jira": here.jira, "slack": here.slack, "smtp": here.smtp, "drive": here.drive, "github": here.github}

    async def start(self) -> None:
        """Unless it runs; ready to be asked."""
        if not self.server.runs:
            self.server.launch()
        await eventually(self._is_ready, "the server is ready")

    async def _is_ready(self) -> bool:
        assert self.server.runs, self.server.last_lines()
        try:
            answers = [await self.client.get(f"{url}/readyz") for url in (self.server.front, self.server.back)]
        except httpx2.TransportError:
            return False
        return all(answer.is_success for answer in answers)

    async def restart(self) -> None:
        self.server.kill()
        await self.start()

    async def ask(self, method: str, path: str, **options: Any) -> Any:
        """What its front answers."""
        answer = await self.client.request(method, f"{self.server.front}{path}", **options)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def order(self, **wishes: Any) -> int:
        number: int = (await self.ask("POST", "/orders", json={**ORDER, "extra_ingredients": {}, **wishes}))["id"]
        return number

    def row(self, number: int) -> Row[Any]:
        """An order as the database has it."""
        return next(row for row in read_table_at(self.database_url, orders) if row.number == number)

    def issue_of(self, number: int) -> str | None:
        """The key of the issue in which it is, once that is noted."""
        made = self.row(number).issue
        keys = {row.operation_id: row.key for row in read_table_at(self.database_url, issues)}
        return keys.get(made)

    def has_nothing_to_do(self) -> bool:
        """But to wait for people who bake."""
        every = read_table_at(self.database_url, tasks)
        assert [row.error for row in every if row.status == "errored"] == []
        return not [row for row in every if row.status in {"pending", "running", "waiting"} and row.name != BAKE]

    async def die_at(self, kill: Kill, effects: Callable[[str], int]) -> None:
        """Wait for the call, kill the server, and start it again. The call is to be held already."""
        party = self.parties[kill.party]
        await eventually_true(lambda: party.behaviour.route is None, f"{kill.call} has come")
        if kill.takes_effect:
            await eventually_true(lambda: effects(kill.call) == 1, f"{kill.call} has taken effect")
        self.server.kill()
        party.restore()

    def hold(self, kill: Kill) -> None:
        """That call, when it comes. Once it has, the switch is as it was."""
        self.parties[kill.party].switch(route=kill.call, takes_effect=kill.takes_effect, **HELD)


async def eventually(fact: Callable[[], Awaitable[bool]], what: str) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_SECONDS
    while not await fact():
        assert loop.time() < deadline, f"not within {PATIENCE_SECONDS:g} s: {what}"
        await asyncio.sleep(0.1)  # each look reads the database anew


async def eventually_true(fact: Callable[[], bool], what: str) -> None:
    async def look() -> bool:
        return fact()

    await eventually(look, what)


def environment_of(sandbox: Sandbox) -> dict[str, str]:
    """That leads to the sandbox instead of to third parties, and has the server look for what it made soon."""
    where = {"http": sandbox.base_url, "smtp_host": sandbox.smtp.host, "smtp_port": sandbox.smtp.port}
    led = {name.upper(): text.format(**where) for instead in STAND_INS.values() for name, text in instead.items()}
    return {
        **led,
        **QUICK,
        "JIRA_SEARCH_SECONDS": "1",
        "GOOGLE_SEARCH_SECONDS": "1",
        "JIRA_WEBHOOK_SECRET": SECRET,
        "BAKERY_DAILY_ISSUE": "0",
    }


@asynccontextmanager
async def open_bakery(folder: Path) -> AsyncIterator[Bakery]:
    url = sqlite_url(folder)
    async with serve_sandbox() as sandbox, httpx2.AsyncClient(timeout=PATIENCE_SECONDS) as client:
        environment = environment_of(sandbox)
        server = ServerProcess(
            "bakery", folder=folder, database_url=url, options=["--no-sandbox"], environment=environment
        )
        bakery = Bakery(server, sandbox, url, client)
        sandbox.jira.send_hooks(f"{server.front}/hooks/jira", SECRET)
        sandbox.jira.delay_search(SEARCH_SECONDS)
        sandbox.drive.delay_search(SEARCH_SECONDS)
        for number in range(1, MOST_CUSTOMERS):
            sandbox.slack.add_member(f"Customer {number}")
        with server:
            await bakery.start()
            await bakery.ask("POST", "/cakes", json=CAKE)
            yield bakery
            assert "Traceback" not in server.printed(), server.last_lines(80)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def open_all_day(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bakery]:
    async with open_bakery(tmp_path_factory.mktemp("bakery")) as bakery:
        yield bakery


@pytest_asyncio.fixture(loop_scope="module")
async def bakery(open_all_day: Bakery) -> Bakery:
    """With nothing to do, whatever became of the test before."""
    for party in open_all_day.parties.values():
        party.restore()
    await open_all_day.start()
    await eventually_true(open_all_day.has_nothing_to_do, "all that was begun has ended")
    return open_all_day


class Flow:
    """Something that is automated, for a customer or a developer of its own."""

    def __init__(self, bakery: Bakery) -> None:
        self.bakery, self.nth = bakery, next(bakery.numbers)
        self.name = f"Customer {self.nth}"

    async def prepare(self) -> None:
        """What is there before; nothing of it is killed."""

    @abstractmethod
    async def begin(self) -> None:
        """What leads to the calls."""

    @abstractmethod
    def effects(self, call: str) -> int:
        """How often this call has had one, for this customer."""

    @abstractmethod
    def is_noted(self) -> bool:
        """Whether the shop knows that it is done."""

    @abstractmethod
    def check(self) -> None:
        """At the end, when there is nothing more to do."""


class Ordering(Flow):
    """Ingredients, by an issue at Jira."""

    number = 0

    async def begin(self) -> None:
        self.number = await self.bakery.order(customer=self.name)

    def effects(self, _call: str) -> int:
        # no other order is placed meanwhile, so that its number is known before it is
        made = [issue.summary for issue in self.bakery.sandbox.jira.issues.values()]
        return made.count(f"Order #{self.number}")

    def is_noted(self) -> bool:
        return self.bakery.issue_of(self.number) is not None

    def check(self) -> None:
        assert self.effects("create_issue") == 1


class Marking(Ordering):
    """An order that was cancelled, in the issue in which it is."""

    key = ""

    async def prepare(self) -> None:
        await super().begin()
        await eventually_true(super().is_noted, "the order has an issue")
        self.key = self.bakery.issue_of(self.number) or ""
        await eventually_true(self.bakery.has_nothing_to_do, "the issue is made")

    async def begin(self) -> None:
        await self.bakery.ask("DELETE", f"/orders/{self.number}")

    def effects(self, _call: str) -> int:
        return str(self.bakery.sandbox.jira.issues[self.key].description).count("Cancelled since")

    def is_noted(self) -> bool:
        return self.bakery.row(self.number).document is not None

    def check(self) -> None:
        assert self.effects("update_issue") == 1
        assert len([line for each in documents_of(self) for line in each.lines]) == 1


class Judging(Marking):
    """Jira's webhook says that an issue has changed."""

    async def begin(self) -> None:
        self.bakery.sandbox.jira.move(self.key, labels=["missing-ingredients"])


class SlackTelling(Flow):
    number = 0

    @property
    def wishes(self) -> dict[str, Any]:
        return {"customer": self.name}

    async def prepare(self) -> None:
        self.number = await self.bakery.order(**self.wishes)
        await eventually_true(lambda: self.bakery.issue_of(self.number) is not None, "the order has an issue")
        await eventually_true(self.bakery.has_nothing_to_do, "the issue is made")

    async def begin(self) -> None:
        await self.bakery.ask("POST", f"/orders/{self.number}/ready")

    def effects(self, _call: str) -> int:
        slack = self.bakery.sandbox.slack
        return sum(f"Order {self.number} is ready" in message.text for message in slack.messages)

    def is_noted(self) -> bool:
        return (self.bakery.row(self.number).told or "").startswith("slack ")

    def check(self) -> None:
        slack = self.bakery.sandbox.slack
        [member] = [each for each in slack.members.values() if each.real_name == self.name]
        assert [each.text.split(":")[0] for each in slack.messages_to(member)] == [f"Order {self.number} is ready"]
        assert self.effects("post_message") == 1


class FirstTelling(SlackTelling):
    """By a server that does not know Slack's members yet: who has read them once knows them until he ends."""

    async def prepare(self) -> None:
        await super().prepare()
        await self.bakery.restart()


class MailTelling(SlackTelling):
    @property
    def wishes(self) -> dict[str, Any]:
        return {"customer": f"Stranger {self.nth}", "email": f"stranger{self.nth}@example.com"}

    def effects(self, _call: str) -> int:
        return len([each for each in self.bakery.sandbox.smtp.messages if self._is_his(each)])

    def _is_his(self, mail: Any) -> bool:
        return bool(mail.recipients == (self.wishes["email"],))

    def is_noted(self) -> bool:
        return (self.bakery.row(self.number).told or "").startswith("mail ")

    def check(self) -> None:
        """A second one only of a mail that was taken without a word, or with one that came too late."""
        found = [each for each in self.bakery.sandbox.smtp.messages if self._is_his(each)]
        assert 1 <= len(found) <= 2
        assert len({each.message_id for each in found}) == 1


class Recording(Flow):
    number = 0

    async def prepare(self) -> None:
        self.number = await self.bakery.order(customer=self.name)
        await eventually_true(lambda: self.bakery.issue_of(self.number) is not None, "the order has an issue")
        await eventually_true(self.bakery.has_nothing_to_do, "the issue is made")
        self.bakery.sandbox.drive.revoke_tokens()

    async def begin(self) -> None:
        await self.bakery.ask("DELETE", f"/orders/{self.number}")

    def effects(self, call: str) -> int:
        found = documents_of(self)
        return len(found) if call == "create_file" else sum(len(each.lines) for each in found)

    def is_noted(self) -> bool:
        return self.bakery.row(self.number).document is not None

    def check(self) -> None:
        [document] = documents_of(self)
        [line] = document.lines
        begins = re.escape(f"- Order {self.number} [Chocolate Cake] : Date ")
        assert re.fullmatch(rf"{begins}\d\d/\d\d/\d{{4}} \d\d:\d\d", line), line
        assert len(self.bakery.sandbox.drive.folders) == 1


class FirstRecording(Recording):
    """When there is no folder yet."""

    async def prepare(self) -> None:
        await super().prepare()
        for folder in self.bakery.sandbox.drive.folders:
            folder.trashed = True

    def effects(self, _call: str) -> int:
        return len(self.bakery.sandbox.drive.folders)


def documents_of(flow: Flow) -> list[File]:
    return [each for each in flow.bakery.sandbox.drive.documents if each.name == f"{flow.name} cancelled orders"]


class Inviting(Flow):
    id = 0

    async def prepare(self) -> None:
        self.login = f"developer-{self.nth}"
        self.user = self.bakery.sandbox.github.add_user(self.login)

    async def begin(self) -> None:
        body = {"firstName": "Jack", "lastName": "D", "permissions": {"developer": True}, "github": self.login}
        self.id = (await self.bakery.ask("POST", "/employees", json=body))["id"]

    @property
    def github(self) -> Any:
        return self.bakery.sandbox.github

    def effects(self, _call: str) -> int:
        return len([each for each in self.github.invitations.values() if each.user is self.user])

    def is_noted(self) -> bool:
        return any(row.access == "invited" for row in self._rows())

    def _rows(self) -> Sequence[Row[Any]]:
        return [row for row in read_table_at(self.bakery.database_url, employees) if row.id == self.id]

    def check(self) -> None:
        assert (self.effects("invite"), self.github.has_access(self.login)) == (1, False)


class Withdrawing(Inviting):
    """He is fired before he has accepted."""

    async def prepare(self) -> None:
        await super().prepare()
        await super().begin()
        await eventually_true(super().is_noted, "he is invited")
        await eventually_true(self.bakery.has_nothing_to_do, "he is invited")

    async def begin(self) -> None:
        await self.bakery.ask("DELETE", f"/employees/{self.id}")

    def effects(self, _call: str) -> int:
        return int(super().effects("invite") == 0 and not self.github.has_access(self.login))

    def is_noted(self) -> bool:
        return self._rows() == []

    def check(self) -> None:
        assert self.effects("remove") == 1


class Removing(Withdrawing):
    """He is fired after he has accepted."""

    async def prepare(self) -> None:
        await super().prepare()
        self.github.accept(self.login)


def kills(flow: type[Flow], party: str, calls: str) -> Iterator[Any]:
    """`calls`: one kill each, of those that change something, marked by a `!`, one before and one after they do; two,
    joined by a `+`, are for two kills in a row, of which the first call has taken effect."""
    for call in calls.split():
        if "+" in call:
            first, second = call.split("+")
            ways: list[tuple[Kill, ...]] = [(Kill(party, first, takes_effect=True), Kill(party, second))]
        else:
            times = (False, True) if call.endswith("!") else (False,)
            ways = [(Kill(party, call.removesuffix("!"), takes_effect=takes),) for takes in times]
        for way in ways:
            yield pytest.param(flow, way, id=f"{flow.__name__}-{'-then-'.join(map(str, way))}")


@pytest.mark.parametrize(
    ("flow", "kills"),
    [
        *kills(Ordering, "jira", "create_issue! create_issue+search"),
        *kills(Marking, "jira", "update_issue!"),
        *kills(Judging, "jira", "read_issue"),
        *kills(FirstTelling, "slack", "list_members"),
        *kills(
            SlackTelling,
            "slack",
            "open_dm post_message! post_message+read_messages",
        ),
        *kills(MailTelling, "smtp", "greet name_recipient take_message! part"),
        *kills(FirstRecording, "drive", "create_file! create_file+find_files"),
        *kills(
            Recording,
            "drive",
            "sign_in find_files create_file! read_document write_document! create_file+find_files "
            "write_document+read_document",
        ),
        *kills(Inviting, "github", "read_user is_collaborator invitations invite! invite+read_user"),
        *kills(Withdrawing, "github", "withdraw! withdraw+invitations"),
        *kills(Removing, "github", "invitations remove! is_collaborator"),
    ],
)
async def test_whoever_is_killed_each_thing_is_done_once(
    bakery: Bakery, flow: type[Flow], kills: Sequence[Kill]
) -> None:
    going = flow(bakery)
    await going.prepare()
    bakery.hold(kills[0])
    await going.begin()
    for kill, following in zip(kills, [*kills[1:], None], strict=True):
        await bakery.die_at(kill, going.effects)
        if following is not None:
            bakery.hold(following)
        await bakery.start()
    await eventually_true(going.is_noted, "it is noted")
    await eventually_true(bakery.has_nothing_to_do, "all that was begun has ended")
    going.check()
