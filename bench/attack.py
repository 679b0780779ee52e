"""One address asks for 5,000 coffees at once while 150 regulars order: what the regulars notice.

Ten baristas brew for 30 to 60 seconds, here 60 times faster. The regulars come from 150 addresses, then all from one;
each time once without the attack and once with it. Whatever is not a 200 for a regular is counted as an error.
"""

import argparse
import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from random import Random

import uvloop

from bench.coffee import free_port, orderup_bar
from bench.crowd import ORDER_ID, Line, connect, request_of
from orderup.cli.process import raise_open_files_limit

REGULARS, BARISTAS, ATTACK, SPEED = 150, 10, 5_000, 60
BREW_SECONDS = (30 / SPEED, 60 / SPEED)
PATIENCE_SECONDS = 120.0
ABUSER, OFFICE = "127.0.9.9", "127.0.8.8"


@dataclass(frozen=True, slots=True)
class Outcome:
    """waited: seconds of each regular who was served. errors: statuses of those who were not. abuser: what he got."""

    waited: list[float]
    errors: list[int]
    abuser: Counter[int]

    @property
    def p95(self) -> float:
        return sorted(self.waited)[int(0.95 * len(self.waited)) - 1]


class Barista:
    """Starts, brews, finishes, for as long as he is there."""

    def __init__(self, port: int, random: Random) -> None:
        self.port, self.random = port, random
        self.start = request_of("GET", "/start/?barista=b&wait=30", port)
        self.is_brewing = False

    async def come(self) -> None:
        self.line = await connect(self._answered, self.port)
        self.line.ask(self.start)

    def _answered(self, line: Line, status: int, body: bytes) -> None:
        found = ORDER_ID.search(body)
        if self.is_brewing or status != 200 or found is None:
            self.is_brewing = False
            line.ask(self.start)
            return
        self.is_brewing = True
        finish = request_of("POST", f"/finish/?order_id={found[1].decode()}", self.port)
        seconds = self.random.uniform(*BREW_SECONDS)
        asyncio.get_running_loop().call_later(seconds, line.ask, finish)


async def day(front: int, back: int, *, addresses: list[str], is_attacked: bool) -> Outcome:
    order = request_of("POST", "/order/", front)
    waited: list[float] = []
    errors: list[int] = []
    abuser: Counter[int] = Counter()
    done = asyncio.Event()

    def served(line: Line, status: int, _body: bytes) -> None:
        if status == 200:
            waited.append(time.perf_counter() - line.asked_at)
        else:
            errors.append(status)
        if len(waited) + len(errors) == len(addresses):
            done.set()

    def refused(_line: Line, status: int, _body: bytes) -> None:
        abuser[status] += 1

    regulars = [await connect(served, front, address=address) for address in addresses]
    attackers = []
    if is_attacked:
        attackers = [await connect(refused, front, address=ABUSER) for _ in range(ATTACK)]
    for line in (*attackers, *regulars):
        line.ask(order)
    baristas = [Barista(back, Random(number)) for number in range(BARISTAS)]
    for barista in baristas:
        await barista.come()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await done.wait()
    for line in (*attackers, *regulars, *(barista.line for barista in baristas)):
        line.transport.abort()
    return Outcome(waited, errors, abuser)


def measure(*, addresses: list[str], is_attacked: bool) -> Outcome:
    front, back = free_port(), free_port()
    with orderup_bar(front, back, CLIENT_OPEN_ORDERS="250", CLIENT_ORDERS_A_MINUTE="400"):
        return uvloop.run(day(front, back, addresses=addresses, is_attacked=is_attacked))


def main() -> None:
    argparse.ArgumentParser(prog="bench attack", description=__doc__).parse_args()
    raise_open_files_limit()
    print("| 150 regulars | p95 s alone | p95 s while one asks for 5,000 | ratio | regulars' errors | the abuser |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, addresses in (
        ("from 150 addresses", [f"127.0.1.{number}" for number in range(1, REGULARS + 1)]),
        ("from one address", [OFFICE] * REGULARS),
    ):
        alone, attacked = (measure(addresses=addresses, is_attacked=each) for each in (False, True))
        told = ", ".join(f"{count} × {status}" for status, count in sorted(attacked.abuser.items()))
        errors = len(alone.errors) + len(attacked.errors)
        figures = f"{alone.p95:.2f} | {attacked.p95:.2f} | {attacked.p95 / alone.p95:.2f} | {errors}"
        print(f"| {name} | {figures} | {told}, the rest not answered |", flush=True)


if __name__ == "__main__":
    main()
