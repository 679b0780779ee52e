"""What durability costs at least: the bare program (bare_coffee.py) and the fewest statements that keep every step.

One row an order: inserted when it is ordered, updated when it is started and when it is finished, each answered only
once it is on disk; a thread writes whatever waits in one transaction, as orderup's does. No checks, leases, tokens,
events or limits: no rival either, but what is left of the time for an engine.
"""

import asyncio
import gc
import sqlite3
import sys
import time
from functools import cache
from itertools import chain
from queue import SimpleQueue
from threading import Thread
from typing import Any

import uvicorn
import uvloop

from bench.contenders.bare_coffee import answer, line, numbers, ready

TABLE = """
create table orders (
    id integer primary key, status text not null, barista text,
    placed_at integer, started_at integer, finished_at integer
)
"""
INSERT = "insert into orders (id, placed_at, barista, status) {values}"
START = """
update orders set started_at = v.column2, barista = v.column3, status = v.column4 from ({values}) v
where id = v.column1
"""
FINISH = "update orders set finished_at = v.column2, status = v.column4 from ({values}) v where id = v.column1"
ROW, SIZES = "(?, ?, ?, ?)", tuple(1 << power for power in range(9, -1, -1))
# Turns of the event loop in which others join a batch; how long a thread keeps the interpreter; when garbage is looked
# for: all as orderup has it.
ROUNDS, SWITCH_SECONDS, YOUNG_OBJECTS = 3, 0.0005, 200_000
Row = tuple[int, int, str, str]
Entry = tuple[str, Row, asyncio.Future[None]]


@cache
def statement(text: str, size: int) -> str:
    return text.format(values=f"values {', '.join([ROW] * size)}")


class Writer:
    def __init__(self, path: str) -> None:
        self.path = path
        self.loop = asyncio.get_running_loop()
        self.waiting: list[Entry] = []
        self.is_busy = False
        self.batches: SimpleQueue[list[Entry]] = SimpleQueue()
        Thread(target=self.run, daemon=True).start()

    def write(self, text: str, number: int, barista: str, status: str) -> asyncio.Future[None]:
        written: asyncio.Future[None] = self.loop.create_future()
        self.waiting.append((text, (number, time.time_ns() // 1000, barista, status), written))
        self.come_soon()
        return written

    def come_soon(self) -> None:
        if not self.is_busy:
            self.is_busy = True
            self.loop.call_soon(self.let_join, ROUNDS)

    def let_join(self, rounds: int) -> None:
        if rounds:
            self.loop.call_soon(self.let_join, rounds - 1)
            return
        batch, self.waiting = self.waiting, []
        self.batches.put(batch)

    def tell(self, batch: list[Entry]) -> None:
        self.is_busy = False
        for _, _, written in batch:
            if not written.done():
                written.set_result(None)
        if self.waiting:
            self.come_soon()

    def run(self) -> None:
        driver = sqlite3.connect(self.path, isolation_level=None)
        for text in (
            "pragma journal_mode = wal",
            "pragma synchronous = full",
            "pragma wal_autocheckpoint = 4000",
            TABLE,
        ):
            driver.execute(text)
        while True:
            batch = self.batches.get()
            driver.execute("begin immediate")
            for text in (INSERT, START, FINISH):
                rows = [row for wanted, row, _ in batch if wanted is text]
                for size in SIZES:
                    while len(rows) >= size:
                        driver.execute(statement(text, size), list(chain.from_iterable(rows[:size])))
                        del rows[:size]
            driver.execute("commit")
            self.loop.call_soon_threadsafe(self.tell, batch)


class Bar:
    def __init__(self, writer: Writer) -> None:
        self.writer = writer

    async def front(self, _scope: Any, _receive: Any, send: Any) -> None:
        number, is_ready = next(numbers), asyncio.Event()
        ready[number] = is_ready
        await self.writer.write(INSERT, number, "", "placed")
        line.put_nowait(number)
        await is_ready.wait()
        await answer(send, b'{"order_id": %d, "status": "ready"}' % number)

    async def back(self, scope: Any, _receive: Any, send: Any) -> None:
        if scope["method"] == "GET":
            number = await line.get()
            await self.writer.write(START, number, "b", "started")
            await answer(send, b'{"order_id": %d}' % number)
            return
        number = int(scope["query_string"].rpartition(b"=")[2])
        await self.writer.write(FINISH, number, "", "ready")
        ready.pop(number).set()
        await answer(send, b'{"order_id": %d, "status": "ready"}' % number)


async def main(front_port: int, back_port: int, path: str) -> None:
    bar = Bar(Writer(path))
    options: dict[str, Any] = {"log_level": "warning", "access_log": False, "lifespan": "off", "backlog": 4096}
    servers = [
        uvicorn.Server(uvicorn.Config(app, port=port, interface="asgi3", **options))
        for app, port in ((bar.front, front_port), (bar.back, back_port))
    ]
    await asyncio.gather(*(server.serve() for server in servers))


if __name__ == "__main__":
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 50)
    sys.setswitchinterval(SWITCH_SECONDS)
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
