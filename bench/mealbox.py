"""Meal-box orders a second, with services that take 300 and 200 ms.

orderup, which loses nothing, beside a plain FastAPI service that awaits both, inserts into PostgreSQL, publishes to
RabbitMQ and answers (contenders/plain_mealbox.py), and beside the same with a naive outbox (plain_outbox.py). So many
clients order again as soon as they are answered; each has one process. Rounds are interleaved. Beside orders a second:
how much of a processor the contender's process used, and the load of the machine when the round began.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvloop

from bench.coffee import free_port, running
from bench.crowd import Line, connect
from bench.orders import RABBITMQ, postgres_database, sqlite_file

CLIENTS = (100, 1_000)
ROUND_TRIP_SECONDS, WARM_UP_SECONDS = 0.3, 2.0
OURS_SQLITE, OURS, RIVAL = "orderup on SQLite", "orderup on PostgreSQL", "plain FastAPI on PostgreSQL"
OUTBOX = "plain FastAPI with a naive outbox"
TICKS = os.sysconf("SC_CLK_TCK")
Server = subprocess.Popen[bytes]
BODY = b'{"user_id":"u","product_code":"p"}'
CREATED = 201


@dataclass(frozen=True, slots=True)
class Figures:
    """busy: of one processor, what the server's process used. load: of the machine, before."""

    orders_per_second: float
    busy: float
    load: float

    @property
    def micros(self) -> float:
        """Of the processor, an order."""
        return 1e6 * self.busy / self.orders_per_second


def seconds_used(pid: int) -> float:
    """Of the processor, by all threads of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@contextmanager
def orderup(
    where: Callable[[], AbstractContextManager[str]], services: str, port: int, *, in_flight: int = 5_000
) -> Iterator[Server]:
    command = [str(Path(sys.executable).with_name("orderup")), "serve", "orderup.shops.mealbox:shop", "--grace", "0"]
    command += ["--front-port", str(port), "--back-port", str(free_port())]
    told = {"USER_SERVICE_URL": services, "PRODUCT_SERVICE_URL": services, "RABBITMQ_URL": RABBITMQ}
    told |= {"UPSTREAM_MOST_IN_FLIGHT": str(in_flight), "MEALBOX_WAIT_SECONDS": "60", "LOG_LEVEL": "warning"}
    with where() as database, running(command, (port,), DATABASE_URL=database, **told) as server:
        yield server


@contextmanager
def plain(module: str, services: str, port: int) -> Iterator[Server]:
    with postgres_database() as database:
        command = [sys.executable, "-m", f"bench.contenders.{module}", database, RABBITMQ, services, str(port)]
        with running(command, (port,)) as server:
            yield server


CONTENDERS: Mapping[str, Callable[[str, int], AbstractContextManager[Server]]] = {
    OURS_SQLITE: partial(orderup, sqlite_file),
    OURS: partial(orderup, postgres_database),
    RIVAL: partial(plain, "plain_mealbox"),
    OUTBOX: partial(plain, "plain_outbox"),
}


async def order_for_a_while(port: int, pid: int, *, clients: int, seconds: float, load: float) -> Figures:
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
    before, used = served, seconds_used(pid)
    await asyncio.sleep(seconds)
    found = Figures((served - before) / seconds, (seconds_used(pid) - used) / seconds, load)
    for line in lines:
        line.transport.abort()
    if refused:
        raise RuntimeError(f"Not every order was complete at once: {sorted(set(refused))}")
    return found


def measure(name: str, *, clients: int, seconds: float) -> Figures:
    services, port, load = free_port(), free_port(), os.getloadavg()[0]
    with (
        running([sys.executable, "-m", "bench.contenders.slow_services", str(services)], (services,)),
        CONTENDERS[name](f"http://127.0.0.1:{services}", port) as server,
    ):
        return uvloop.run(order_for_a_while(port, server.pid, clients=clients, seconds=seconds, load=load))


def report(found: Mapping[str, Mapping[int, list[Figures]]]) -> str:
    rates = {
        name: {clients: statistics.median(each.orders_per_second for each in some) for clients, some in by.items()}
        for name, by in found.items()
    }
    lines = ["| orders/s (× plain; µs of the process) | " + " | ".join(f"{each:,} clients" for each in CLIENTS) + " |"]
    lines.append("| --- | " + " | ".join("---" for _ in CLIENTS) + " |")
    most = " | ".join(f"{clients / ROUND_TRIP_SECONDS:,.0f}" for clients in CLIENTS)
    lines.append(f"| as many as the services allow | {most} |")
    for name, by in rates.items():
        micros = {clients: statistics.median(each.micros for each in found[name][clients]) for clients in by}
        cells = [f"{rate:,.0f} ({rate / rates[RIVAL][at]:.2f}; {micros[at]:,.0f})" for at, rate in by.items()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    loads = [each.load for by in found.values() for some in by.values() for each in some]
    return "\n".join([*lines, f"Load of the machine at the rounds' beginnings: {min(loads):.1f} to {max(loads):.1f}."])


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench mealbox", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--only", help="contenders whose name holds this, beside the plain one")
    wanted = parser.parse_args()
    names = [name for name in CONTENDERS if name == RIVAL or (wanted.only or "") in name]
    found: dict[str, dict[int, list[Figures]]] = {name: {clients: [] for clients in CLIENTS} for name in names}
    for number in range(1, wanted.rounds + 1):
        for clients in CLIENTS:
            for name in names:
                each = measure(name, clients=clients, seconds=wanted.seconds)
                found[name][clients].append(each)
                told = f"{each.orders_per_second:,.0f} orders/s, {each.busy:.0%} of a processor, load {each.load:.1f}"
                print(f"round {number}: {clients:,} clients: {name}: {told}", file=sys.stderr)
    print(report(found))


if __name__ == "__main__":
    main()
