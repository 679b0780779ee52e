"""Meal-box orders a second, with services that take 300 and 200 ms.

orderup, which loses nothing, beside a plain FastAPI service that awaits both, inserts into PostgreSQL, publishes to
RabbitMQ and answers (contenders/plain_mealbox.py). So many clients order again as soon as they are answered. Rounds
are interleaved.
"""

import argparse
import asyncio
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import uvloop

from bench.coffee import free_port, running
from bench.crowd import Line, connect
from bench.orders import RABBITMQ, postgres_database, sqlite_file

CLIENTS = (100, 1_000)
ROUND_TRIP_SECONDS, WARM_UP_SECONDS = 0.3, 2.0
OURS_SQLITE, OURS, RIVAL = "orderup on SQLite", "orderup on PostgreSQL", "plain FastAPI on PostgreSQL"
BODY = b'{"user_id":"u","product_code":"p"}'
CREATED = 201


@contextmanager
def orderup(where: Callable[[], AbstractContextManager[str]], services: str, port: int) -> Iterator[None]:
    command = [str(Path(sys.executable).with_name("orderup")), "serve", "orderup.shops.mealbox:shop", "--grace", "0"]
    command += ["--front-port", str(port), "--back-port", str(free_port())]
    told = {"USER_SERVICE_URL": services, "PRODUCT_SERVICE_URL": services, "RABBITMQ_URL": RABBITMQ}
    told |= {"UPSTREAM_MOST_IN_FLIGHT": "5000", "MEALBOX_WAIT_SECONDS": "60", "LOG_LEVEL": "warning"}
    with where() as database, running(command, (port,), DATABASE_URL=database, **told):
        yield


@contextmanager
def plain(services: str, port: int) -> Iterator[None]:
    with postgres_database() as database:
        command = [sys.executable, "-m", "bench.contenders.plain_mealbox", database, RABBITMQ, services, str(port)]
        with running(command, (port,)):
            yield


CONTENDERS: Mapping[str, Callable[[str, int], AbstractContextManager[None]]] = {
    OURS_SQLITE: partial(orderup, sqlite_file),
    OURS: partial(orderup, postgres_database),
    RIVAL: plain,
}


async def orders_per_second(port: int, *, clients: int, seconds: float) -> float:
    request = b"POST /orders HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n" % port
    request += b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)
    served = 0
    refused: list[int] = []

    def answered(line: Line, status: int, _body: bytes) -> None:
        nonlocal served
        if status == CREATED:
            served += 1
        else:
            refused.append(status)
        line.ask(request)

    lines = [await connect(answered, port) for _ in range(clients)]
    for line in lines:
        line.ask(request)
        await asyncio.sleep(ROUND_TRIP_SECONDS / clients)  # not all at the same moment for ever after
    await asyncio.sleep(WARM_UP_SECONDS)
    before = served
    await asyncio.sleep(seconds)
    found = (served - before) / seconds
    for line in lines:
        line.transport.abort()
    if refused:
        raise RuntimeError(f"Not every order was complete at once: {sorted(set(refused))}")
    return found


def measure(name: str, *, clients: int, seconds: float) -> float:
    services, port = free_port(), free_port()
    with (
        running([sys.executable, "-m", "bench.contenders.slow_services", str(services)], (services,)),
        CONTENDERS[name](f"http://127.0.0.1:{services}", port),
    ):
        return uvloop.run(orders_per_second(port, clients=clients, seconds=seconds))


def report(found: Mapping[str, Mapping[int, list[float]]]) -> str:
    medians = {
        name: {clients: statistics.median(rates) for clients, rates in each.items()} for name, each in found.items()
    }
    lines = ["| orders/s (× plain) | " + " | ".join(f"{clients:,} clients" for clients in CLIENTS) + " |"]
    lines.append("| --- | " + " | ".join("---" for _ in CLIENTS) + " |")
    most = " | ".join(f"{clients / ROUND_TRIP_SECONDS:,.0f}" for clients in CLIENTS)
    lines.append(f"| as many as the services allow | {most} |")
    for name, each in medians.items():
        cells = " | ".join(f"{rate:,.0f} ({rate / medians[RIVAL][clients]:.2f})" for clients, rate in each.items())
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench mealbox", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8)
    wanted = parser.parse_args()
    found: dict[str, dict[int, list[float]]] = {name: {clients: [] for clients in CLIENTS} for name in CONTENDERS}
    for number in range(1, wanted.rounds + 1):
        for clients in CLIENTS:
            for name in CONTENDERS:
                rate = measure(name, clients=clients, seconds=wanted.seconds)
                found[name][clients].append(rate)
                print(f"round {number}: {clients:,} clients: {name}: {rate:,.0f} orders/s", file=sys.stderr)
    print(report(found))


if __name__ == "__main__":
    main()
