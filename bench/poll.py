"""What the platform says about very many tasks, of which few have changed: how long it takes to take it over.

The sandbox's platform is in this process; who asks it is a process of its own, which opens the database and does what
the shop's task does: ask, read, compare, write. Beside it a plain program that loads all rows and updates those that
differ, one by one (`contenders/plain_poll.py`). Each begins with a database of its own.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import structlog
import uvloop
from prometheus_client import CollectorRegistry
from sqlalchemy import insert

from bench.orders import postgres_database, sqlite_file
from orderup.db.connect import open_database
from orderup.db.database import Database
from orderup.sandbox import serve_sandbox
from orderup.settings import Settings
from orderup.shops.campaigns import shop
from orderup.shops.campaigns.polling import poll
from orderup.shops.campaigns.services import open_services
from orderup.shops.campaigns.tables import client_tasks
from orderup.shops.campaigns.tasks import ClientStatus

AT_ONCE = 10_000
LONGEST_SECONDS = 120
PLACES: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "SQLite": sqlite_file,
    "PostgreSQL": postgres_database,
}
# By what they are called: what runs them.
CONTENDERS = {"orderup": "bench.poll", "plain": "bench.contenders.plain_poll"}


class BareContext:
    """What a poll needs of a handler's context, without a claim."""

    log = structlog.get_logger(__name__)

    def __init__(self, database: Database) -> None:
        self.read, self.write = database.read, database.write

    async def heartbeat(self) -> None:
        return


async def fill(url: str, *, tasks: int, changed: int) -> None:
    """All are under way; the platform says so, too, but of so many."""
    database = open_database(url, shops=[shop])
    await database.open()
    try:
        for begin in range(0, tasks, AT_ONCE):
            rows = [
                {
                    "id": id,
                    "status": ClientStatus.NOT_STARTED if is_behind(id, tasks, changed) else ClientStatus.IN_PROGRESS,
                    "created_at": 1,
                    "updated_at": 1,
                }
                for id in range(begin + 1, min(begin + AT_ONCE, tasks) + 1)
            ]
            await database.write(lambda connection, rows=rows: connection.execute(insert(client_tasks), rows))  # type: ignore[misc]
    finally:
        await database.close()


def is_behind(id: int, tasks: int, changed: int) -> bool:
    """So many of them, spread evenly."""
    return id * changed // tasks != (id - 1) * changed // tasks


async def ask(url: str, dsp_url: str) -> dict[str, float]:
    """In a process of its own: one poll that finds what has changed, and one that finds nothing."""
    database = open_database(url, shops=[shop])
    await database.open()
    try:
        settings = Settings.model_validate({"dsp_url": dsp_url})
        async with open_services(settings, CollectorRegistry()) as services:
            context: Any = BareContext(database)
            before, began = peak_mib(), time.perf_counter()
            counts = await poll(context, services)
            ended = time.perf_counter()
            await poll(context, services)
            again = time.perf_counter() - ended
        return {
            "changed": counts["changed"],
            "seconds": ended - began,
            "again": again,
            "before_mib": before,
            "peak_mib": peak_mib(),
        }
    finally:
        await database.close()


def peak_mib() -> float:
    """Of this program alone: what getrusage tells begins with the peak of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


async def measure(module: str, url: str, dsp_url: str) -> Mapping[str, float]:
    """Raises RuntimeError, TimeoutError."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, "--of", url, "--platform", dsp_url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise RuntimeError(f"{module} failed:\n{err.decode()[-2000:]}")
    found: Mapping[str, float] = json.loads(out)
    return found


async def compare(*, tasks: int, changed: int, rounds: int) -> None:
    print(f"{tasks:,} tasks, {changed:,} changed, {rounds} rounds: least, median, most.")
    print("| | seconds | nothing changed, seconds | MiB more than before | × plain |")
    print("| --- | --- | --- | --- | --- |")
    async with serve_sandbox() as sandbox:
        sandbox.dsp.allow(1_000_000)
        sandbox.dsp.tasks = [{"id": str(id), "status": "In Progress"} for id in range(1, tasks + 1)]
        for place, where in PLACES.items():
            found: dict[str, list[Mapping[str, float]]] = {name: [] for name in CONTENDERS}
            for _ in range(rounds):
                for name, module in CONTENDERS.items():
                    with where() as url:
                        await fill(url, tasks=tasks, changed=changed)
                        figures = await measure(module, url, f"{sandbox.base_url}/dsp")
                    if figures["changed"] != changed:
                        raise RuntimeError(f"{name} changed {figures['changed']:,} tasks.")
                    found[name].append(figures)
            plain = statistics.median(each["seconds"] for each in found["plain"])
            for name, each in found.items():
                ratio = plain / statistics.median(one["seconds"] for one in each)
                print(f"| {name} on {place} | {_told(each, 'seconds')} | {_told(each, 'again')} ", end="")
                print(f"| {max(one['peak_mib'] - one['before_mib'] for one in each):.0f} | {ratio:.2f} |", flush=True)


def _told(figures: list[Mapping[str, float]], name: str) -> str:
    values = [each[name] for each in figures]
    return f"{min(values):.2f}, {statistics.median(values):.2f}, {max(values):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench poll", description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--changed", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--of", help=argparse.SUPPRESS)
    parser.add_argument("--platform", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.of is not None:
        print(json.dumps(uvloop.run(ask(wanted.of, wanted.platform))))
        return
    uvloop.run(compare(tasks=wanted.tasks, changed=wanted.changed, rounds=wanted.rounds))


if __name__ == "__main__":
    main()
