"""Two hosts that do the work, and this machine, where customers order and where the database is."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

from orderup.db.tables import operations, workers
from tests.hosts.network import Host, Network
from tests.invariants.records import Started, read_records
from tests.journeys.celery_stage import CELERY
from tests.journeys.laundry import tickets
from tests.journeys.scene import LAUNDRY, QUICK, Scene, until
from tests.services.ports import free_port
from tests.serving import ORDERUP, Program, ServerProcess

LOCALHOST = "127.0.0.1"
# So many that it would be very odd if one of two hosts had been slower each time; but one may not be there yet, so that
# more come, with time between them.
MANY_LOADS, PAUSE_SECONDS = 20, 0.5


class Site:
    """database: of the scene, as hosts call it. Each host writes a ledger of its own."""

    def __init__(self, scene: Scene, networks: Sequence[Network], hosts: Sequence[Host]) -> None:
        self.scene, self.networks, self.hosts = scene, networks, hosts
        self.network = networks[0]
        self.database = scene.database_url.replace(LOCALHOST, self.network.address)
        self.ledgers = [scene.folder / f"host-{number}.jsonl" for number in range(len(hosts))]
        for ledger in self.ledgers:
            ledger.touch()

    def front(
        self, shop: str = LAUNDRY, *, executor: str = "none", environment: Mapping[str, str] | None = None
    ) -> ServerProcess:
        """On this machine, which does no work itself."""
        options = ["--executor", executor]
        return self.scene.server(shop, name="front", options=options, environment=environment).start()

    async def serve(self, *, shop: str = LAUNDRY, environment: Mapping[str, str] | None = None) -> Sequence[Program]:
        """`orderup serve` with the local executor, on each host."""
        ports = ["--front-port", str(free_port()), "--back-port", str(free_port())]
        command = [str(ORDERUP), "serve", shop, "--executor", "local", *ports]
        return await self._start(command, kind="local", each=1, environment=environment or {})

    async def work(self, *, environment: Mapping[str, str]) -> Sequence[Program]:
        """A Celery worker of two processes on each host."""
        command = [str(CELERY), "-A", "orderup.celery", "worker", "-c", "2", "-n", "{name}@%h"]
        told = {"CELERY_SHOPS": LAUNDRY, "PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges"}
        return await self._start(command, kind="celery", each=2, environment={**told, **environment})

    async def _start(
        self, command: Sequence[str], *, kind: str, each: int, environment: Mapping[str, str]
    ) -> Sequence[Program]:
        programs = []
        for number, (host, ledger) in enumerate(zip(self.hosts, self.ledgers, strict=True)):
            name = f"host-{number}"
            told = {"DATABASE_URL": self.database, "LAUNDRY_LEDGER": str(ledger), "LOG_FORMAT": "json", **QUICK}
            program = Program(
                name,
                host.command(*(part.replace("{name}", name) for part in command)),
                log=self.scene.folder / f"{name}.log",
                environment={**told, **environment},
            )
            programs.append(program)
            self.scene.programs.append(program)
            program.launch()
        await self.until_at_work(kind, each * len(programs))
        return programs

    async def until_at_work(self, kind: str, count: int) -> None:
        """So many executors of hosts hold a lease."""
        await until(
            lambda: sum(row.kind == kind for row in self.scene.table(workers)) == count,
            what=f"{count} executors are at work",
        )

    # what was written down

    def begun(self, host: int) -> list[tuple[str, int]]:
        """Each task that this host has begun, with the number of the attempt."""
        records = read_records([self.ledgers[host]])
        return [(each.task, each.attempt) for each in records if isinstance(each, Started)]

    async def spread(self, group: asyncio.TaskGroup, front: ServerProcess, *, seconds: float) -> int:
        """Order, one load after the other, until every host has begun something more; how many loads. They are followed
        to their ends by the group. seconds: that each thing takes. To be called with a deadline."""
        before = [len(self.begun(host)) for host in range(len(self.hosts))]
        for count in itertools.count(1):
            if count > MANY_LOADS:
                await asyncio.sleep(PAUSE_SECONDS)
            group.create_task(self.order(front, 1, seconds=seconds))
            await until(partial(self._has_begun, sum(before) + 2 * count), what="both washes are begun")
            if all(len(self.begun(host)) > most for host, most in enumerate(before)):
                return count
        raise AssertionError

    async def order(self, front: ServerProcess, count: int, *, seconds: float = 0) -> None:
        """So many loads, each followed to its end."""
        name = f"crowd {len(self.scene.crowds)}"
        crowd = self.scene.crowd(front, path="loads", body={"seconds": seconds}, cancelled=0, name=name)
        await crowd.order_without_staff(count)

    def _has_begun(self, count: int) -> bool:
        return sum(len(self.begun(host)) for host in range(len(self.hosts))) >= count

    def assert_each_once(self, count: int) -> None:
        """So many loads have ended, each noted once, and no invariant is violated."""
        rows = self.scene.table(operations)
        assert [row.status for row in rows] == ["completed"] * count
        assert Counter(row.operation_id for row in self.scene.table(tickets)) == {row.id: 1 for row in rows}
        self.check()

    def check(self, **options: object) -> None:
        with self.scene.ledger_path.open("ab") as ledger:
            for each in self.ledgers:
                ledger.write(each.read_bytes())
        self.scene.check(must_have_ended=True, **options)
