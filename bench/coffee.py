"""A coffee bar without brewing time: orders a second, and how soon a customer has what was finished.

200 customers wait on one request each, 10 baristas start and finish at once. orderup, durable on SQLite, beside a plain
FastAPI program that keeps all in memory (contenders/plain_coffee.py), beside itself without a disk, and beside what the
web server allows at most, in memory (contenders/bare_coffee.py) and with every step on disk
(contenders/durable_floor_coffee.py). Rounds are interleaved. Processor: of the server's process, all its threads
together.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from socket import create_connection, socket

import uvloop

from bench.crowd import Crowd
from bench.orders import sqlite_file

CUSTOMERS, BARISTAS, WARM_UP = 200, 10, 1_000
START_SECONDS = 30.0
OURS, RIVAL = "orderup, durable on SQLite", "plain FastAPI, in memory"
DISKLESS = "orderup, SQLite in memory"
CEILING, DURABLE = "uvicorn alone, bare ASGI", "the same, each step on disk"
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Figures:
    """Orders a second; processor of the server for one, in microseconds; from asking to finish to the customer's 200,
    in milliseconds."""

    orders_per_second: float
    processor_us: float
    ready_p50_ms: float
    ready_p99_ms: float


def free_port() -> int:
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(command: Sequence[str], ports: Sequence[int], **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server of those ports, for the length of the block."""
    process = subprocess.Popen(command, env={**os.environ, **environment})
    try:
        give_up = time.monotonic() + START_SECONDS
        for port in ports:
            while True:
                try:
                    create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if time.monotonic() > give_up or process.poll() is not None:
                        raise
                    time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def orderup_bar(front: int, back: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [str(Path(sys.executable).with_name("orderup")), "serve", "coffee", "--grace", "0"]
    command += ["--front-port", str(front), "--back-port", str(back)]
    # one address stands for all customers here
    told = {"CLIENT_OPEN_ORDERS": "1000000", "CLIENT_ORDERS_A_MINUTE": "1000000", "LOG_LEVEL": "warning"}
    with (
        sqlite_file() as where,
        running(command, (front, back), **{"DATABASE_URL": where, **told, **environment}) as it,
    ):
        yield it


@contextmanager
def contender(name: str, front: int, back: int, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", f"bench.contenders.{name}", str(front), str(back), *more]
    with running(command, (front, back)) as process:
        yield process


@contextmanager
def durable_bar(front: int, back: int) -> Iterator[subprocess.Popen[bytes]]:
    with sqlite_file() as where, contender("durable_floor_coffee", front, back, where.partition("///")[2]) as process:
        yield process


plain_bar = partial(contender, "plain_coffee")
bare_bar = partial(contender, "bare_coffee")
BARS: Mapping[str, Callable[[int, int], AbstractContextManager[subprocess.Popen[bytes]]]] = {
    OURS: orderup_bar,
    DISKLESS: partial(orderup_bar, DATABASE_URL="sqlite://"),
    RIVAL: plain_bar,
    DURABLE: durable_bar,
    CEILING: bare_bar,
}


def processor_seconds(pid: int) -> float:
    """Used by this process until now, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


async def crowd_at(front: int, back: int, *, orders: int, pid: int) -> Figures:
    crowd = Crowd(front, back)
    await crowd.come(customers=CUSTOMERS, baristas=BARISTAS)
    await crowd.until_served(WARM_UP)
    before = processor_seconds(pid)
    seconds = await crowd.until_served(orders)
    processor = processor_seconds(pid) - before
    crowd.leave()
    if crowd.refused:
        raise RuntimeError(f"Not everybody was served: {sorted(set(crowd.refused))}")
    ready = sorted(crowd.ready_in)
    p50, p99 = statistics.median(ready), ready[int(0.99 * len(ready))]
    return Figures(orders / seconds, 1e6 * processor / orders, 1e3 * p50, 1e3 * p99)


def measure(name: str, *, orders: int) -> Figures:
    front, back = free_port(), free_port()
    with BARS[name](front, back) as process:
        return uvloop.run(crowd_at(front, back, orders=orders, pid=process.pid))


def report(figures: dict[str, list[Figures]]) -> str:
    medians = {name: statistics.median(each.orders_per_second for each in found) for name, found in figures.items()}
    lines = [
        (
            f"| {CUSTOMERS} customers, {BARISTAS} baristas, no brewing time | orders/s (min, median, max) | × plain "
            "| µs of processor an order | finish to 200, p50 ms | p99 ms |"
        ),
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in figures.items():
        rates = sorted(each.orders_per_second for each in found)
        rate = f"{rates[0]:,.0f}, {medians[name]:,.0f}, {rates[-1]:,.0f}"
        processor = statistics.median(each.processor_us for each in found)
        p50 = statistics.median(each.ready_p50_ms for each in found)
        p99 = statistics.median(each.ready_p99_ms for each in found)
        lines.append(
            f"| {name} | {rate} | {medians[name] / medians[RIVAL]:.2f} | {processor:.0f} | {p50:.1f} | {p99:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench coffee", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--orders", type=int, default=10_000)
    wanted = parser.parse_args()
    figures: dict[str, list[Figures]] = {name: [] for name in BARS}
    for number in range(1, wanted.rounds + 1):
        for name in BARS:
            found = measure(name, orders=wanted.orders)
            figures[name].append(found)
            print(f"round {number}: {name}: {found.orders_per_second:,.0f} orders/s", file=sys.stderr)
    print(report(figures))


if __name__ == "__main__":
    main()
