"""The wire between a worker and a server: hands on what is sent, writes it down, and can be cut at a chosen place."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

CHUNK = 1 << 20


class Wire:
    """Listens at `url`. `cut_at`: asked with what the server answers; the first time it says yes both ends are cut,
    and that answer never arrives. `refusals`: answers to give in the server's place, to the next requests."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self.target = (parts.hostname or "", parts.port or 80)
        self.url = ""
        self.cut_at: Callable[[bytes], bool] = lambda _answer: False
        self.refusals: list[bytes] = []
        self.sent: list[bytes] = []
        self.refused_at: list[float] = []
        self.was_cut = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def strung(self) -> AsyncIterator["Wire"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            self._cut()

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(ConnectionError):
            if self.refusals:
                await self._refuse(reader, writer)
            else:
                await self._hand_through(reader, writer)
        writer.transport.abort()
        self._writers.discard(writer)

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.refused_at.append(asyncio.get_running_loop().time())
        writer.write(self.refusals.pop(0))
        await writer.drain()

    async def _hand_through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self.target)
        self._writers.add(far_writer)
        there = asyncio.create_task(self._there(reader, far_writer), name="wire: there")
        back = asyncio.create_task(self._back(far_reader, writer), name="wire: back")
        await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        for task in (there, back):
            task.cancel()
        await asyncio.wait({there, back})
        far_writer.transport.abort()
        self._writers.discard(far_writer)

    async def _there(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while chunk := await reader.read(CHUNK):
                self.sent.append(chunk)
                writer.write(chunk)
                await writer.drain()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while chunk := await reader.read(CHUNK):
                if not self.was_cut.is_set() and self.cut_at(chunk):
                    self.was_cut.set()
                    return
                writer.write(chunk)
                await writer.drain()
