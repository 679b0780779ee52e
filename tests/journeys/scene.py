"""The stage of a journey: one database, servers and workers on it, and what all of them write down."""

import asyncio
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Row, Table

from orderup.db.tables import tasks
from tests.invariants.checker import assert_none, check
from tests.invariants.evidence import DatabaseRows, Evidence, read_database_at, read_table_at
from tests.invariants.records import Answered, Ledger, Started, read_records
from tests.journeys.crowd import Crowd
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import Program, ServerProcess

# The shortest lease that the settings allow.
QUICK = {"LEASE_SECONDS": "2", "HEARTBEAT_SECONDS": "1"}
LAUNDRY = "tests.journeys.laundry:shop"
PIZZA_STEPS = "make_dough,add_toppings,bake_pizza,deliver_pizza"


class Scene:
    def __init__(self, seed: int, database_url: str, folder: Path) -> None:
        self.random = Random(seed)
        self.database_url, self.folder = database_url, folder
        self.programs: list[Program] = []
        self.crowds: list[Crowd] = []
        self.ledger_path, self.log_path = folder / "ledger.jsonl", folder / "clients.jsonl"
        self.log = Ledger(self.log_path)
        self.ledger_path.touch()

    def server(
        self,
        *shops: str,
        name: str = "server",
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> ServerProcess:
        """Not started yet."""
        server = ServerProcess(
            *shops,
            folder=self.folder,
            database_url=self.database_url,
            options=options,
            environment={**QUICK, "LAUNDRY_LEDGER": str(self.ledger_path), **(environment or {})},
            name=name,
        )
        self.programs.append(server)
        return server

    def cook(self, server: ServerProcess, name: str, **options: Any) -> Program:
        """A worker of the pizzeria, not started yet. options: those of tests/journeys/cook.py."""
        given: dict[str, Any] = {
            "back": server.back,
            "ledger": self.ledger_path,
            "worker": name,
            "shop": "pizza",
            "tasks": PIZZA_STEPS,
            "region": "eu-west-3",
            "seed": self.random.getrandbits(32),
            **options,
        }
        arguments = [text for option, value in given.items() for text in (f"--{option}", str(value))]
        command = [sys.executable, "-m", "tests.journeys.cook", *arguments]
        cook = Program(name, command, log=self.folder / f"{name}.log")
        self.programs.append(cook)
        return cook

    def crowd(self, server: ServerProcess, **options: Any) -> Crowd:
        crowd = Crowd(server.front, server.back, self.log, Random(self.random.getrandbits(32)), **options)
        self.crowds.append(crowd)
        return crowd

    # what was written down

    def started(self) -> int:
        """How many claims workers have begun, by the lines of their ledger."""
        return self.ledger_path.read_bytes().count(b'"what":"started"')

    def in_flight(self, worker: str) -> int:
        """How many claims this worker has begun and not been answered for."""
        records = read_records([self.ledger_path])
        begun = {each.token for each in records if isinstance(each, Started) and each.worker == worker}
        return len(begun - {each.token for each in records if isinstance(each, Answered)})

    def running(self) -> int:
        """How many tasks are claimed, by the database."""
        return sum(task.status == "running" for task in self.table(tasks))

    def can_write(self) -> bool:
        """Whether nobody keeps others from writing. On PostgreSQL nobody can."""
        if not self.database_url.startswith("sqlite"):
            return True
        path = self.database_url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, timeout=0.1, isolation_level=None)) as connection:
            try:
                connection.execute("begin immediate")
            except sqlite3.OperationalError:
                return False
            connection.execute("rollback")
            return True

    def rows(self) -> DatabaseRows:
        return read_database_at(self.database_url)

    def table(self, table: Table) -> Sequence[Row[Any]]:
        """All rows of one table: to wait for what they say costs little, while `rows` reads the whole database."""
        return read_table_at(self.database_url, table)

    def check(self, **options: Any) -> Evidence:
        """None of the twelve invariants is violated. options: of `Evidence`."""
        records = read_records([self.ledger_path, self.log_path])
        logs = {program.name: program.printed() for program in self.programs}
        evidence = Evidence(self.rows(), records, **{"logs": logs, **options})
        assert_none(check(evidence))
        return evidence

    def assert_no_crash(self) -> None:
        """No program printed a traceback: what goes wrong is foreseen."""
        for program in self.programs:
            assert "Traceback" not in program.printed(), program.last_lines(80)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for crowd in self.crowds:
            await crowd.patient.client.aclose()
        for program in self.programs:
            program.end()
            print(program.last_lines())  # shown if the test has failed
        self.log.close()


def everything_in(rows: DatabaseRows) -> list[object]:
    """All that the database says of operations and keys, to be compared."""
    operations = [
        (operation.row, operation.rfa, tuple(operation.tasks), tuple(operation.events))
        for operation in rows.operations.values()
    ]
    return [*operations, *rows.keys, *rows.permits]


async def until(fact: Callable[[], object], *, seconds: float = PATIENCE_SECONDS, what: str) -> None:
    """Return once `fact()` is true; others go on meanwhile. Raises TimeoutError, saying `what`, after `seconds`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not fact():
        if loop.time() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        await asyncio.sleep(0.01)
