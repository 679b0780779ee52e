"""How near to what a platform allows the campaign desk comes, and that it never goes beyond.

Small campaigns always wait to be submitted; the platform is the sandbox's, a process of its own behind a way that
delays each request and each answer by 0 to 200 ms. A minute's worth is allowed in a shorter window, so that twenty of
them pass in a few minutes. One process, four, and two hosts (network namespaces, as root); and four of which two are
killed on the way and started again: what they held counts until it is known that they are dead, and is told apart.
Beside them the usual: a token bucket in each process.

Then what a claim costs by an allowance: claims with one and without, in turn, in the same database.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import uvloop
from sqlalchemy import func, select

from bench.coffee import free_port
from bench.orders import postgres_database, sqlite_file
from orderup.db.connect import open_database
from orderup.db.database import Database, WriteConnection
from orderup.db.tables import tasks
from orderup.engine.claim import claim_now
from orderup.engine.engine import Engine
from orderup.engine.place import place_order
from orderup.model.ids import OperationId
from orderup.model.kind import Allowance, Kind, Rate
from orderup.model.plan import Plan, PlannedTask
from orderup.shops.campaigns import shop
from orderup.shops.campaigns.campaign import Ad, AdGroup, Campaign
from orderup.shops.campaigns.campaigns import write_row
from orderup.shops.campaigns.plan import plan_campaign
from tests.hosts.network import network_of_hosts
from tests.services.postgres import PostgresCluster, find_programs

ROOT = Path(__file__).resolve().parents[1]
ORDERUP = Path(sys.executable).with_name("orderup")
DESK = "bench.contenders.campaign_desk:shop"
AT_ONCE = 500
# Windows that pass before the first one that counts, and how many more campaigns wait than fit into all.
WARM_UP, SPARE = 1, 3
# Claims that come before those that are timed.
COLD = 100
# Requests that tell of a wave.
SOME = 5
START_SECONDS = 180
LOCALHOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Allowed:
    """So many requests in any window of so many seconds."""

    count: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.count}/{self.seconds:g}"


@dataclass(frozen=True, slots=True)
class Place:
    """database: as this machine calls it; called: as those call it who submit. address: of the platform. before: what
    stands before the command of each of those, such as the host that it runs on."""

    database: str
    called: str
    address: str
    before: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Seen:
    """By the platform. most: in any window; mean: in all of them. doubles: of what was submitted. lost: claims of
    processes that were killed. load: of the machine when it began."""

    most: int
    mean: float
    refused: int
    doubles: int
    lost: int
    load: float


# who asks and who is asked


class Platform:
    """A process of its own. url: where it is called."""

    def __init__(self, address: str, allowed: Allowed) -> None:
        port = free_port()
        self.url = f"http://{address}:{port}/dsp"
        command = [sys.executable, "-m", "bench.contenders.far_platform", address, str(port)]
        command += [str(allowed.count), str(allowed.seconds)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self.told()  # who asks it must not come before it listens

    def told(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def until_asked(self) -> float:
        """When it was first."""
        give_up = time.monotonic() + START_SECONDS
        while not (arrivals := self.told()["arrivals"]):
            if time.monotonic() > give_up:
                raise TimeoutError("Nobody has asked the platform for anything.")
            time.sleep(0.1)
        first: float = arrivals[0]
        return first

    def until_asked_again(self) -> None:
        """Returns soon after."""
        before = len(self.told()["arrivals"])
        while len(self.told()["arrivals"]) < before + SOME:
            time.sleep(0.01)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()


class Desks:
    """Processes that submit."""

    def __init__(self, commands: Sequence[Sequence[str]], **environment: str) -> None:
        self.commands = commands
        self.environment = {**os.environ, "LOG_LEVEL": "error", "PYTHONPATH": str(ROOT), **environment}
        self.processes = [self._start(command) for command in commands]

    def _start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, env=self.environment, cwd=ROOT, stdout=subprocess.DEVNULL)

    def kill_one(self, number: int) -> None:
        """And start it again, as a supervisor does."""
        self.processes[number].kill()
        self.processes[number].wait()
        self.processes[number] = self._start(self.commands[number])

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def serve() -> list[str]:
    ports = ["--front-port", str(free_port()), "--back-port", str(free_port())]
    return [str(ORDERUP), "serve", DESK, "--grace", "0", *ports]


# where


@contextmanager
def here(storage: Callable[[], AbstractContextManager[str]], processes: int) -> Iterator[Place]:
    with storage() as database:
        yield Place(database, database, LOCALHOST, [[]] * processes)


@contextmanager
def two_hosts() -> Iterator[Place]:
    """Each with a process, and a PostgreSQL server on a third."""
    programs = find_programs()
    assert programs is not None
    with network_of_hosts(2) as ([network], hosts):
        cluster = PostgresCluster(programs, durable=True, also_at=network.address)
        try:
            cluster.start()
            called = cluster.url.replace(LOCALHOST, network.address)
            before = [[str(each) for each in host.command()] for host in hosts]
            yield Place(cluster.url, called, network.address, before)
        finally:
            cluster.remove()


# what waits to be submitted


def campaign(number: int) -> Campaign:
    url = "https://example.com/1"
    group = AdGroup("group", "Young", "0.35", "18-25", "music", "FR", (Ad("ad", "banner", url, url, "active"),))
    return Campaign(f"c{number}", "Spring", "5000", "2026-03-01", "2026-04-15", "sales", (group,))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = open_database(url, shops=[shop])
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def fill(url: str, *, count: int) -> None:
    async with opened(url) as database:
        engine = Engine(database, {shop.name: shop.kinds})
        for begin in range(0, count, AT_ONCE):
            await asyncio.gather(*(_place(engine, campaign(begin + each)) for each in range(AT_ONCE)))


async def _place(engine: Engine, wanted: Campaign) -> None:
    def write(connection: WriteConnection, operation_id: int) -> None:
        write_row(connection, OperationId(operation_id), wanted)

    await place_order(engine, shop.name, plan_campaign(wanted), also=write)


async def count_lost(url: str) -> int:
    """Claims that ended without a word of who held them."""
    async with opened(url) as database:
        losses = await database.read(lambda connection: connection.rows(select(func.sum(tasks.c.losses))))
        return losses[0][0] or 0


# rounds


def submit(place: Place, allowed: Allowed, windows: int, *, kills: Mapping[int, int]) -> Seen:
    """kills: which process, by the number of the window in which it is killed."""
    uvloop.run(fill(place.database, count=allowed.count * (WARM_UP + windows + SPARE)))
    with ExitStack() as stack:
        there = Platform(place.address, allowed)
        stack.callback(there.end)
        told = {"DATABASE_URL": place.called, "DSP_URL": there.url, "BENCH_ALLOWANCE": str(allowed)}
        ours = Desks([[*before, *serve()] for before in place.before], **told)
        stack.callback(ours.end)
        seen = watch(there, allowed, windows, {number: partial(ours.kill_one, each) for number, each in kills.items()})
    return replace(seen, lost=uvloop.run(count_lost(place.database)))


def use_buckets(processes: int, allowed: Allowed, windows: int) -> Seen:
    with ExitStack() as stack:
        there = Platform(LOCALHOST, allowed)
        stack.callback(there.end)
        command = [sys.executable, "-m", "bench.contenders.token_bucket", there.url]
        ours = Desks([[*command, str(allowed.count), str(allowed.seconds)]] * processes)
        stack.callback(ours.end)
        return watch(there, allowed, windows, {})


def watch(there: Platform, allowed: Allowed, windows: int, kills: Mapping[int, Callable[[], None]]) -> Seen:
    load = os.getloadavg()[0]
    began = there.until_asked() + WARM_UP * allowed.seconds
    for number, kill in kills.items():
        _sleep_until(began + number * allowed.seconds)
        there.until_asked_again()
        kill()  # in the middle of a wave, with calls on their way
    ends = began + windows * allowed.seconds
    _sleep_until(ends)
    told = there.told()
    arrivals = sorted(told["arrivals"])
    most, mean = most_in_a_window(arrivals, allowed.seconds), mean_in_a_window(arrivals, allowed.seconds, began, ends)
    return Seen(most, mean, told["refused"], told["doubles"], 0, load)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def most_in_a_window(arrivals: Sequence[float], seconds: float) -> int:
    """In any that there is: one that holds most begins with an arrival."""
    return max((bisect_left(arrivals, at + seconds) - i for i, at in enumerate(arrivals)), default=0)


def mean_in_a_window(arrivals: Sequence[float], seconds: float, began: float, ends: float) -> float:
    """Of all windows that end between those moments. What arrives is seen by those that end within the next window;
    to count from one window to the next would tell where in one they happen to begin, for requests come in waves."""
    seen = sum(max(0.0, min(at + seconds, ends) - max(at, began)) for at in arrivals)
    return seen / (ends - began)


# what the limiter costs


class Costs(NamedTuple):
    """Milliseconds of a claim, the median."""

    without: float
    with_one: float


async def claim_in_turn(url: str, count: int) -> Costs:
    """So many of each, one task at a time. Those with an allowance find as many permits in the window on average as
    half of that."""
    free, limited = Kind("free"), Kind("limited", allowance=Allowance("any", Rate(100 * count, timedelta(minutes=1))))
    async with opened(url) as database:
        engine = Engine(database, {"bench": {each.name: each for each in (free, limited)}})
        for kind in (free, limited):
            await asyncio.gather(
                *(place_order(engine, "bench", Plan([PlannedTask(kind.name)])) for _ in range(count + COLD))
            )
        took: dict[str, list[float]] = {free.name: [], limited.name: []}
        for _ in range(count + COLD):
            for name, seconds in took.items():
                began = time.perf_counter()
                claims = await claim_now(engine, [f"bench/{name}"], worker="ann", most=1, own_lease=True)
                seconds.append(time.perf_counter() - began)
                assert len(claims.claimed) == 1
        return Costs(*(1e3 * statistics.median(seconds[COLD:]) for seconds in took.values()))


# what is said of it


def row(name: str, seen: Seen, allowed: Allowed, windows: int) -> str:
    cells = [f"{seen.most / allowed.count:.3f}", f"{seen.mean / allowed.count:.1%}"]
    held = seen.mean + seen.lost / windows
    cells.append(f"{held / allowed.count:.1%} ({seen.lost})" if seen.lost else "–")
    return f"| {name} | {' | '.join(cells)} | {seen.refused} | {seen.doubles} | {seen.load:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench rate", description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="requests that a window allows")
    parser.add_argument("--seconds", type=float, default=20, help="of a window")
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--claims", type=int, default=1_000, help="of each kind, for what an allowance costs")
    parser.add_argument("--only", default="", help="rounds whose name holds this")
    wanted = parser.parse_args()
    allowed, windows = Allowed(wanted.count, wanted.seconds), wanted.windows
    print(
        f"| {allowed} s, {windows} windows | most in a window, of what is allowed | mean use "
        "| with what killed processes held (claims) | 429s | submitted twice | load |"
    )
    print("| --- " * 7 + "|")
    for name, (where, kills) in ROUNDS.items():
        if wanted.only in name:
            with where() as place:
                seen = submit(place, allowed, windows, kills={windows * at // 20: who for at, who in kills.items()})
            print(row(name, seen, allowed, windows), flush=True)
    for processes in (1, 4):
        if wanted.only in (name := f"a token bucket in each of {processes}"):
            few = max(1, windows // 4)
            print(row(name, use_buckets(processes, allowed, few), allowed, few), flush=True)
    if not wanted.claims:
        return
    print("\n| a claim, ms | without an allowance | with one | more | load |\n| --- | --- | --- | --- | --- |")
    for name, storage in STORAGES.items():
        load = os.getloadavg()[0]
        with storage() as url:
            found = uvloop.run(claim_in_turn(url, wanted.claims))
        more = found.with_one - found.without
        print(f"| {name} | {found.without:.2f} | {found.with_one:.2f} | {more:.2f} | {load:.1f} |", flush=True)


STORAGES: Mapping[str, Callable[[], AbstractContextManager[str]]] = {
    "SQLite": sqlite_file,
    "PostgreSQL": postgres_database,
}
Where = Callable[[], AbstractContextManager[Place]]
# Where, and who is killed when, in twentieths of all windows.
ROUNDS: Mapping[str, tuple[Where, Mapping[int, int]]] = {
    **{
        f"{name}, {processes} process{'es' if processes > 1 else ''}": (partial(here, storage, processes), {})
        for name, storage in STORAGES.items()
        for processes in (1, 4)
    },
    "PostgreSQL, 2 hosts": (two_hosts, {}),
    "PostgreSQL, 4 processes, 2 killed": (partial(here, postgres_database, 4), {5: 0, 12: 1}),
}


if __name__ == "__main__":
    main()
