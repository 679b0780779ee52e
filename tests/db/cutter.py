"""A line to a server that a test cuts at the worst moment."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import Enum
from urllib.parse import urlsplit, urlunsplit


class Cut(Enum):
    """What is lost, and the line with it."""

    REQUEST = "request"
    ANSWER = "answer"


class Cutter:
    """Stands between a client and the server at `url`. `cuts` counts the lines that were cut. `is_away`: whoever comes
    now finds nobody."""

    def __init__(self, url: str) -> None:
        self._server = urlsplit(url)
        self._next: list[tuple[Cut, bytes]] = []
        self._lines: set[asyncio.Task[None]] = set()
        self.cuts = 0
        self.is_away = False
        self.url = ""

    def lose(self, cut: Cut, *, of: bytes = b"", times: int = 1) -> None:
        """The next request in which these bytes are, or the answer to it."""
        self._next = [(cut, of)] * times

    def cut_all(self) -> None:
        for line in self._lines:
            line.cancel()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Cutter"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        user = self._server.netloc.rpartition("@")[0]
        self.url = urlunsplit(self._server._replace(netloc=f"{user}@127.0.0.1:{port}"))
        try:
            yield self
        finally:
            server.close()
            self.cut_all()
            await asyncio.gather(*self._lines, return_exceptions=True)

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self.is_away:
            to_client.transport.abort()
            return
        self._lines.add(task)
        upstream, to_upstream = await asyncio.open_connection(self._server.hostname, self._server.port)
        line = Line(self)
        pumps = [
            asyncio.ensure_future(_pump(client, to_upstream, line.passes_request)),
            asyncio.ensure_future(_pump(upstream, to_client, line.passes_answer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # at once: the end of the test may break off what is waited for here
            for writer in (to_client, to_upstream):
                writer.transport.abort()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._lines.discard(task)

    def take(self, request: bytes) -> Cut | None:
        """What is to be lost of this request."""
        if not self._next or self._next[0][1] not in request:
            return None
        cut, _ = self._next.pop()
        self.cuts += 1
        return cut


class Line:
    """One connection."""

    def __init__(self, cutter: Cutter) -> None:
        self._cutter = cutter
        self._loses_answer = False

    def passes_request(self, data: bytes) -> bool:
        cut = self._cutter.take(data)
        self._loses_answer |= cut is Cut.ANSWER
        return cut is not Cut.REQUEST

    def passes_answer(self, _data: bytes) -> bool:
        return not self._loses_answer


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passes: Callable[[bytes], bool]) -> None:
    """Pass on what comes, until something is not to be passed on."""
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            if not passes(data):
                return
            writer.write(data)
            await writer.drain()
