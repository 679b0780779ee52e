"""Bad lines between a page and its server: frames that come late, twice, in another order or not at all, and doors
that let no WebSocket or no stream through."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from random import Random

from playwright.async_api import Route, WebSocketRoute

LONGEST_DELAY_SECONDS = 0.4
LONGEST_LOOK_SECONDS = 1.2
MOST_HELD = 4
# Of a draw between 0 and 1: below the first the line is cut, below the next the frame waits for others, below the last
# it comes twice.
CUT, HELD, TWICE = 0.1, 0.5, 0.7


class BadLine:
    """What a page hears, until it is mended. A frame is only lost together with its connection, as TCP has it."""

    def __init__(self, seed: int) -> None:
        self.seed, self.random = seed, Random(seed)
        self.is_mended = False
        self._held: list[tuple[WebSocketRoute, str | bytes]] = []
        self._cut = set[WebSocketRoute]()

    def lead(self, page_side: WebSocketRoute) -> None:
        """For `page.route_web_socket`."""
        server_side = page_side.connect_to_server()

        async def hear(frame: str | bytes) -> None:
            draw = 1.0 if self.is_mended else self.random.random()
            if draw < CUT:
                self._cut.add(page_side)
                await page_side.close()
                await server_side.close()
            elif draw < HELD:
                self._hold(page_side, frame)
            else:
                self._send(page_side, frame)
                if draw < TWICE:
                    self._send(page_side, frame)

        server_side.on_message(hear)

    async def answer_late(self, route: Route) -> None:
        """For `page.route`. What a page is shown when it looks again is old when it comes."""
        if self.is_mended or "x-live" not in route.request.headers:
            await route.continue_()
            return
        answer = await route.fetch()
        await asyncio.sleep(self.random.uniform(0, LONGEST_LOOK_SECONDS))
        await route.fulfill(response=answer)

    def mend(self) -> None:
        """What was held back comes now, and then everything as it is sent."""
        self.is_mended = True
        self._let_go()

    def _hold(self, to: WebSocketRoute, frame: str | bytes) -> None:
        self._held.append((to, frame))
        if len(self._held) >= MOST_HELD:
            self._let_go()
        else:
            delay = self.random.uniform(0, LONGEST_DELAY_SECONDS)
            asyncio.get_running_loop().call_later(delay, self._let_go)

    def _let_go(self) -> None:
        """In whatever order."""
        self.random.shuffle(self._held)
        while self._held:
            self._send(*self._held.pop())

    def _send(self, to: WebSocketRoute, frame: str | bytes) -> None:
        if to not in self._cut:
            to.send(frame)


@asynccontextmanager
async def door(to_port: int, *, refusing: Iterable[bytes]) -> AsyncIterator[int]:
    """The port of a door to this port, which refuses requests whose heads hold one of these words."""
    words = tuple(refusing)
    passing = set[asyncio.Task[None]]()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", to_port)

        async def go_in() -> None:
            while asked := await reader.read(65536):
                if any(word in asked for word in words):
                    writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    break
                there_writer.write(asked)

        async def come_out() -> None:
            while answer := await there_reader.read(65536):
                writer.write(answer)

        ways = {asyncio.create_task(go_in(), name="in"), asyncio.create_task(come_out(), name="out")}
        passing.update(ways)
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for each in ways:
            each.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        passing.difference_update(ways)
        for each_writer in (there_writer, writer):
            each_writer.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for each in passing:
            each.cancel()
