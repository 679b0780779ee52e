"""Whether orders that hang are felt by others: the product service answers nothing for 500 of them.

Good orders come at a steady pace, whoever placed the last still waiting or not; from `POST` to the whole order, p50 and
p99, without and with 500 orders on a product that hangs, in turn. The hanging ones are let go after each round. Beside
them the server's resident memory. The goal: p99 moves by no more than a tenth, and memory is bounded.
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from bench.coffee import free_port, running
from bench.crowd import Line, connect, request_of
from bench.mealbox import CREATED, OURS, OURS_SQLITE, orderup
from bench.orders import postgres_database, sqlite_file
from orderup.settings import Settings

HANGING, ACCEPTED = 500, 202
AS_USUAL = Settings().upstream_most_in_flight
WARM_UP_SECONDS, PATIENCE_SECONDS = 3.0, 60.0
MIB = 1 << 20
STORAGES = {OURS_SQLITE: sqlite_file, OURS: postgres_database}


@dataclass(slots=True)
class Rounds:
    """Of one kind. waited: seconds of each good order, a list a round. resident: bytes at the end of each. load: of the
    machine."""

    waited: list[list[float]] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    load: list[float] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """Milliseconds; the median over rounds."""
        return 1e3 * statistics.median(sorted(some)[int(share * len(some))] for some in self.waited)


def order(port: int, product: str, *, headers: str = "") -> bytes:
    body = f'{{"user_id":"u","product_code":"{product}"}}'
    told = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}"
    return f"POST /orders HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n{told}\r\n{body}".encode()


class Stage:
    """A server and the services that it asks. Connections of those who were answered are used again."""

    def __init__(self, port: int, services: int, pid: int) -> None:
        self.port, self.services, self.pid = port, services, pid
        self.good, self.bad = order(port, "p"), order(port, "hangs", headers="prefer: respond-async\r\n")
        self.idle: list[Line] = []
        self.waited: list[float] = []
        self.refused: list[int] = []

    def resident_bytes(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]) * 4096

    def _answered(self, line: Line, status: int, _body: bytes) -> None:
        if status == CREATED:
            self.waited.append(time.perf_counter() - line.asked_at)
        else:
            self.refused.append(status)
        self.idle.append(line)

    async def order_steadily(self, *, rate: float, seconds: float) -> list[float]:
        """Seconds that each waited."""
        self.waited, loop = [], asyncio.get_running_loop()
        began, count = loop.time(), round(rate * seconds)
        for number in range(count):
            await asyncio.sleep(began + number / rate - loop.time())
            # the server has closed those that were not used for a while
            self.idle = [line for line in self.idle if not line.transport.is_closing()]
            line = self.idle.pop() if self.idle else await connect(self._answered, self.port)
            line.ask(self.good)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.waited) + len(self.refused) < count:  # noqa: ASYNC110  a bench's end, once a round
                await asyncio.sleep(0.01)
        if self.refused:
            raise RuntimeError(f"Not every order was complete at once: {sorted(set(self.refused))}")
        return self.waited

    async def let_hang(self, count: int) -> None:
        """Returns once the server has taken as many orders on the product that hangs."""
        taken: asyncio.Queue[int] = asyncio.Queue()
        lines = [await connect(lambda _line, status, _body: taken.put_nowait(status), self.port) for _ in range(count)]
        async with asyncio.timeout(PATIENCE_SECONDS):
            for line in lines:
                line.ask(self.bad)
            statuses = {await taken.get() for _ in lines}
        for line in lines:
            line.transport.abort()
        if statuses != {ACCEPTED}:
            raise RuntimeError(f"Not every order was taken: {sorted(statuses)}")

    async def let_go(self) -> int:
        """How many hung."""
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        line = await connect(lambda _line, _status, body: told.set_result(int(body)), self.services)
        line.ask(request_of("GET", "/let-go", self.services))
        async with asyncio.timeout(PATIENCE_SECONDS):
            hung = await told
        line.transport.abort()
        return hung

    async def play(self, kind: Rounds, *, hanging: int, rate: float, seconds: float) -> None:
        """One round."""
        kind.load.append(os.getloadavg()[0])
        if hanging:
            await self.let_hang(hanging)
        await self.order_steadily(rate=rate, seconds=WARM_UP_SECONDS)
        kind.waited.append(await self.order_steadily(rate=rate, seconds=seconds))
        kind.resident.append(self.resident_bytes())
        hung = await self.let_go()
        if hung != hanging:
            raise RuntimeError(f"{hung} calls hung, not {hanging}.")


async def compare(stage: Stage, *, rounds: int, rate: float, seconds: float) -> tuple[Rounds, Rounds]:
    """Without those that hang, and with them."""
    alone, beside = Rounds(), Rounds()
    await stage.order_steadily(rate=rate, seconds=WARM_UP_SECONDS)
    for _ in range(rounds):
        await stage.play(alone, hanging=0, rate=rate, seconds=seconds)
        await stage.play(beside, hanging=HANGING, rate=rate, seconds=seconds)
    return alone, beside


def measure(
    where: Callable[[], AbstractContextManager[str]], *, rounds: int, rate: float, seconds: float
) -> tuple[Rounds, Rounds]:
    services, port = free_port(), free_port()
    with (
        running([sys.executable, "-m", "bench.contenders.slow_services", str(services)], (services,)),
        orderup(where, f"http://127.0.0.1:{services}", port, in_flight=AS_USUAL) as server,
    ):
        return uvloop.run(compare(Stage(port, services, server.pid), rounds=rounds, rate=rate, seconds=seconds))


def row(name: str, alone: Rounds, beside: Rounds) -> str:
    cells = [f"{each.quantile(share):.0f}" for share in (0.5, 0.99) for each in (alone, beside)]
    cells.append(f"{beside.quantile(0.99) / alone.quantile(0.99):.2f}")
    cells += [f"{each[0] / MIB:.0f} to {each[-1] / MIB:.0f}" for each in (alone.resident, beside.resident)]
    loads = alone.load + beside.load
    return f"| {name} | {' | '.join([*cells, f'{min(loads):.1f} to {max(loads):.1f}'])} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench hanging", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=50, help="good orders a second")
    parser.add_argument("--seconds", type=float, default=15, help="of each round")
    wanted = parser.parse_args()
    print(
        f"| {wanted.rate:g} orders/s | p50 ms alone | p50 ms, {HANGING} hang | p99 ms alone | p99 ms, {HANGING} hang "
        "| ratio | MiB alone, first round to last | MiB, as they hang | load |"
    )
    print("| --- " * 9 + "|")
    for name, where in STORAGES.items():
        found = measure(where, rounds=wanted.rounds, rate=wanted.rate, seconds=wanted.seconds)
        print(row(name, *found), flush=True)


if __name__ == "__main__":
    main()
