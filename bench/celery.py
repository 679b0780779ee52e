"""Orders of four steps by Celery's workers, beside a bare Celery chain of four tasks on the same broker.

Both have one worker of two processes. Ours stores every step in PostgreSQL; the chain stores nothing, its messages are
confirmed. The goal: no fewer orders a second than the chain.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from bench.contenders.figures import Figures
from bench.orders import RABBITMQ, Contender, postgres_database

REDIS = os.environ.get("BENCH_REDIS_URL", "redis://127.0.0.1:6379/0")
BROKERS = {"RabbitMQ": RABBITMQ, "Redis": REDIS}


@contextmanager
def postgres_and(broker: str) -> Iterator[str]:
    with postgres_database() as database:
        yield f"{database}#{broker}"


@contextmanager
def confirmed(broker: str) -> Iterator[str]:
    yield f"{broker}#yes"


def contenders(broker: str) -> Sequence[Contender]:
    """Ours and the rival."""
    url = BROKERS[broker]
    return (
        Contender(f"orderup on PostgreSQL, {broker}", "orderup_celery", partial(postgres_and, url)),
        Contender(f"Celery chain, {broker}", "celery_chain", partial(confirmed, url)),
    )


def report(figures: dict[str, list[list[Figures]]], *, orders: int) -> str:
    """A Markdown table: for each broker ours, the rival's, and the ratio of each round."""
    columns = ("orderup, orders/s", "Celery chain, orders/s", "ratio, each round", "lone p50 ms, orderup and chain")
    lines = [f"| {orders:,} orders at once | {' | '.join(columns)} |", "| --- | --- | --- | --- | --- |"]
    for broker, (ours, theirs) in figures.items():
        rates = [_listed(each.orders_per_second for each in some) for some in (ours, theirs)]
        pairs = zip(ours, theirs, strict=True)
        ratios = ", ".join(f"{one.orders_per_second / other.orders_per_second:.1f}" for one, other in pairs)
        lone = [statistics.median(each.lone_p50_ms for each in some) for some in (ours, theirs)]
        lines.append(f"| {broker} | {rates[0]} | {rates[1]} | {ratios} | {lone[0]:.1f} and {lone[1]:.1f} |")
    return "\n".join(lines)


def _listed(rates: Iterator[float]) -> str:
    return ", ".join(f"{rate:,.0f}" for rate in rates)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench celery", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--orders", type=int, default=2_000, help="orders submitted at once")
    parser.add_argument("--lone", type=int, default=50, help="orders one at a time")
    parser.add_argument("--broker", choices=sorted(BROKERS), action="append", help="none: each of them")
    wanted = parser.parse_args()
    figures: dict[str, list[list[Figures]]] = {broker: [[], []] for broker in wanted.broker or BROKERS}
    for number in range(1, wanted.rounds + 1):
        for broker, found in figures.items():
            for contender, several in zip(contenders(broker), found, strict=True):
                several.append(contender.run(orders=wanted.orders, lone=wanted.lone))
                rate = several[-1].orders_per_second
                print(f"round {number}: {contender.name}: {rate:.0f} orders/s", file=sys.stderr)
    print(report(figures, orders=wanted.orders))


if __name__ == "__main__":
    main()
