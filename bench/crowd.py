"""A crowd at a coffee bar, cheap enough not to be what is measured: each a raw connection that is kept.

`customers` ask, wait for their 200 and ask again; `baristas` start an order and finish it at once. Answers are told
apart by their status line and their length alone.
"""

import asyncio
import re
import time
from collections.abc import Callable
from typing import cast

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
PATIENCE_SECONDS = 120.0
ORDER_ID = re.compile(rb'"order_id": *"?([\w-]+)"?')


class Line(asyncio.Protocol):
    """One connection: `ask` sends a request, `answered` gets its status and body."""

    def __init__(self, answered: Callable[["Line", int, bytes], None]) -> None:
        self.answered = answered
        self.received = b""
        self.asked_at = 0.0
        self.order: bytes = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def ask(self, request: bytes) -> None:
        self.asked_at = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head = self.received.find(b"\r\n\r\n")
        if head < 0:
            return
        length = LENGTH.search(self.received, 0, head)
        end = head + 4 + (int(length[1]) if length else 0)
        if len(self.received) >= end:
            whole, self.received = self.received[:end], self.received[end:]
            self.answered(self, int(whole[9:12]), whole[head + 4 :])


async def connect(answered: Callable[[Line, int, bytes], None], port: int, *, address: str | None = None) -> Line:
    """`address`: whose it is, of this machine's."""
    local = (address, 0) if address else None
    loop = asyncio.get_running_loop()
    _, line = await loop.create_connection(lambda: Line(answered), "127.0.0.1", port, local_addr=local)
    return line


def request_of(method: str, target: str, port: int, *, headers: str = "") -> bytes:
    length = "content-length: 0\r\n" if method == "POST" else ""
    return f"{method} {target} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n{headers}{length}\r\n".encode()


class Crowd:
    """`served`: seconds that each customer waited. `ready_in`: seconds from asking to finish an order to the moment its
    customer has it. `refused`: statuses other than 200, and 204 where a barista found nothing."""

    def __init__(self, front_port: int, back_port: int) -> None:
        self.front_port, self.back_port = front_port, back_port
        self.served: list[float] = []
        self.ready_in: list[float] = []
        self.refused: list[int] = []
        self.finished_at: dict[bytes, float] = {}
        self.wanted = 0
        self.is_done = asyncio.Event()
        self.lines: list[Line] = []
        self.order = request_of("POST", "/order/", front_port)
        self.start = request_of("GET", "/start/?barista=b&wait=5", back_port)

    async def come(self, *, customers: int, baristas: int) -> None:
        for number in range(customers + baristas):
            is_customer = number < customers
            port = self.front_port if is_customer else self.back_port
            line = await connect(self._served if is_customer else self._brewed, port)
            self.lines.append(line)
            line.ask(self.order if is_customer else self.start)

    def leave(self) -> None:
        for line in self.lines:
            line.transport.abort()

    async def until_served(self, count: int) -> float:
        """Seconds until so many more were served."""
        self.served.clear()
        self.ready_in.clear()
        self.wanted = count
        self.is_done.clear()
        began = time.perf_counter()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.is_done.wait()
        return time.perf_counter() - began

    def _served(self, line: Line, status: int, body: bytes) -> None:
        now = time.perf_counter()
        if status != 200:
            self.refused.append(status)
        else:
            self.served.append(now - line.asked_at)
            found = ORDER_ID.search(body)
            assert found is not None
            finished_at = self.finished_at.pop(found[1], None)
            if finished_at is not None:
                self.ready_in.append(now - finished_at)
            if len(self.served) >= self.wanted:
                self.is_done.set()
        line.ask(self.order)

    def _brewed(self, line: Line, status: int, body: bytes) -> None:
        if line.order:
            line.order = b""
            if status != 200:
                self.refused.append(status)
            line.ask(self.start)
            return
        if status == 204:
            line.ask(self.start)
            return
        if status != 200:
            self.refused.append(status)
        found = ORDER_ID.search(body)
        if found is None:
            line.ask(self.start)
            return
        line.order = found[1]
        self.finished_at[found[1]] = time.perf_counter()
        line.ask(request_of("POST", f"/finish/?order_id={found[1].decode()}", self.back_port))
