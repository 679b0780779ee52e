"""Thousands who wait for a coffee: what each costs the server, and whether a barista notices.

Resident memory of the server with 10,000 waiting customers, less that with 10, over their number; how long a start
takes with 10 and with 10,000 waiting; how soon a customer has what a lone barista finished, with 200 waiting.
"""

import argparse
import asyncio
import statistics
import time
from pathlib import Path

import uvloop

from bench.coffee import free_port, orderup_bar
from bench.crowd import ORDER_ID, Line, connect, request_of
from orderup.cli.process import raise_open_files_limit

FEW, SOME, MANY, COFFEES = 10, 200, 10_000, 300
PATIENCE_SECONDS = 120.0


class Bar:
    """A lone barista and his crowd. start_ms: of each start. ready_ms: from each finish to the customer's 200."""

    def __init__(self, front: int, back: int, pid: int) -> None:
        self.front, self.back, self.pid = front, back, pid
        self.order = request_of("POST", "/order/", front)
        self.waiting: list[Line] = []
        self.answers: asyncio.Queue[bytes] = asyncio.Queue()
        self.ready_at: dict[bytes, float] = {}
        self.has_ready = asyncio.Event()

    def resident_bytes(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]) * 4096

    async def fill(self, count: int) -> None:
        """Until so many wait."""
        while len(self.waiting) < count:
            line = await connect(self._served, self.front)
            self.waiting.append(line)
            line.ask(self.order)
        await asyncio.sleep(1)  # the last are placed within a moment

    def _served(self, line: Line, _status: int, body: bytes) -> None:
        found = ORDER_ID.search(body)
        if found is not None:
            self.ready_at[found[1]] = time.perf_counter()
            self.has_ready.set()
        line.ask(self.order)  # somebody else comes in his place

    async def brew(self, count: int) -> tuple[list[float], list[float]]:
        barista = await connect(lambda _line, _status, body: self.answers.put_nowait(body), self.back)
        start_ms, ready_ms = [], []
        async with asyncio.timeout(PATIENCE_SECONDS):
            for _ in range(count):
                began = time.perf_counter()
                barista.ask(request_of("GET", "/start/?wait=5", self.back))
                found = ORDER_ID.search(await self.answers.get())
                assert found is not None
                start_ms.append(1e3 * (time.perf_counter() - began))
                finished_at = time.perf_counter()
                barista.ask(request_of("POST", f"/finish/?order_id={found[1].decode()}", self.back))
                await self.answers.get()
                while found[1] not in self.ready_at:
                    self.has_ready.clear()
                    await self.has_ready.wait()
                ready_ms.append(1e3 * (self.ready_at.pop(found[1]) - finished_at))
        barista.transport.abort()
        return start_ms, ready_ms


async def measure(front: int, back: int, pid: int) -> list[str]:
    bar, lines = Bar(front, back, pid), []
    await bar.fill(FEW)
    await bar.brew(COFFEES)
    few_start, _ = await bar.brew(COFFEES)
    before = bar.resident_bytes()
    await bar.fill(SOME)
    _, ready = await bar.brew(COFFEES)
    ready.sort()
    lines.append(f"finish to 200, {SOME} waiting: p50 {statistics.median(ready):.1f} ms, p99 {ready[-3]:.1f} ms")
    await bar.fill(MANY)
    each = (bar.resident_bytes() - before) / (MANY - FEW) / 1000
    lines.append(f"{MANY:,} waiting: {each:.1f} kB each")
    many_start, _ = await bar.brew(COFFEES)
    few, many = statistics.median(few_start), statistics.median(many_start)
    lines.append(f"GET /start/: p50 {few:.2f} ms with {FEW} waiting, {many:.2f} ms with {MANY:,}: × {many / few:.2f}")
    for line in bar.waiting:
        line.transport.abort()
    return lines


def main() -> None:
    argparse.ArgumentParser(prog="bench patient", description=__doc__).parse_args()
    raise_open_files_limit()
    front, back = free_port(), free_port()
    with orderup_bar(front, back) as process:
        for line in uvloop.run(measure(front, back, process.pid)):
            print(line)


if __name__ == "__main__":
    main()
