"""How many four-step orders a second, and how long a lone one takes: orderup beside Celery and DBOS.

Each contender is a process of its own, started anew for each round; rounds are interleaved, so that a noisy minute hits
all alike. Databases and queues are made for a round and dropped after it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg

from bench.contenders.figures import Figures

POSTGRES = os.environ.get("BENCH_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
RABBITMQ = os.environ.get("BENCH_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//")
LONGEST_SECONDS = 180


@contextmanager
def sqlite_file() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="orderup-bench-") as folder:
        yield f"sqlite:///{Path(folder) / 'orderup.db'}"


@contextmanager
def postgres_database() -> Iterator[str]:
    name = f"orderup_bench_{uuid4().hex[:8]}"
    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        connection.execute(f'create database "{name}"')
        try:
            yield POSTGRES.rpartition("/")[0] + f"/{name}"
        finally:
            connection.execute(f'drop database "{name}" with (force)')


@contextmanager
def rabbitmq_with_confirms() -> Iterator[str]:
    yield f"{RABBITMQ}#yes"


@contextmanager
def rabbitmq_without_confirms() -> Iterator[str]:
    yield f"{RABBITMQ}#no"


@dataclass(frozen=True, slots=True)
class Contender:
    name: str
    module: str
    where: Callable[[], AbstractContextManager[str]]

    @property
    def is_ours(self) -> bool:
        return self.module == "orderup_engine"

    def run(self, *, orders: int, lone: int) -> Figures:
        """One round. Raises CalledProcessError, TimeoutExpired."""
        with self.where() as where:
            command = [sys.executable, "-m", f"bench.contenders.{self.module}", where, str(orders), str(lone)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False)
        if done.returncode:
            raise RuntimeError(f"{self.name} failed:\n{done.stderr[-2000:]}")
        return Figures(**json.loads(done.stdout.splitlines()[-1]))


CONTENDERS = (
    Contender("orderup on SQLite", "orderup_engine", sqlite_file),
    Contender("orderup on PostgreSQL", "orderup_engine", postgres_database),
    Contender("Celery chain, confirms", "celery_chain", rabbitmq_with_confirms),
    Contender("Celery chain, no confirms", "celery_chain", rabbitmq_without_confirms),
    Contender("DBOS on PostgreSQL", "dbos_workflows", postgres_database),
)


def compare(*, rounds: int, orders: int, lone: int) -> dict[str, list[Figures]]:
    """All contenders in turn, `rounds` times."""
    figures: dict[str, list[Figures]] = {contender.name: [] for contender in CONTENDERS}
    for number in range(1, rounds + 1):
        for contender in CONTENDERS:
            found = contender.run(orders=orders, lone=lone)
            figures[contender.name].append(found)
            print(f"round {number}: {contender.name}: {found.orders_per_second:.0f} orders/s", file=sys.stderr)
    return figures


def report(figures: dict[str, list[Figures]], *, orders: int) -> str:
    """A Markdown table: minimum, median and maximum, and each median beside that of the best durable rival."""
    medians = {name: statistics.median(each.orders_per_second for each in found) for name, found in figures.items()}
    # without confirms a message may be lost with the broker: fast, but not a durable rival
    rivals = [each.name for each in CONTENDERS if not each.is_ours and "no confirms" not in each.name]
    best = max(rivals, key=medians.__getitem__)
    lines = [
        f"| {orders:,} four-step orders at once | orders/s (min, median, max) | × {best} | lone p50 ms | lone p99 ms |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, found in figures.items():
        rates = sorted(each.orders_per_second for each in found)
        rate = f"{rates[0]:,.0f}, {medians[name]:,.0f}, {rates[-1]:,.0f}"
        p50 = statistics.median(each.lone_p50_ms for each in found)
        p99 = statistics.median(each.lone_p99_ms for each in found)
        lines.append(f"| {name} | {rate} | {medians[name] / medians[best]:.1f} | {p50:.1f} | {p99:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench orders", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--orders", type=int, default=2_000, help="orders submitted at once")
    parser.add_argument("--lone", type=int, default=100, help="orders one at a time")
    wanted = parser.parse_args()
    print(report(compare(rounds=wanted.rounds, orders=wanted.orders, lone=wanted.lone), orders=wanted.orders))


if __name__ == "__main__":
    main()
