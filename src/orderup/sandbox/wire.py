"""The connection under a request: whether its caller stays, and how to cut it off. ASGI has no word for the latter."""

import asyncio
import socket
import struct

from starlette.types import Receive, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

TRANSPORT_KEY = "orderup.sandbox.transport"
LARGEST_HEAD = 64 << 10
# Closed with this, a connection is reset at once instead of ended in order.
AT_ONCE = struct.pack("ii", 1, 0)


class Protocol(HttpToolsProtocol):
    """Uvicorn's own, which lets an answer get at its connection, and has an end to what its parser collects: headers,
    until the last of them has come."""

    has_progress = False
    unreported = 0

    def data_received(self, data: bytes) -> None:
        self.has_progress = False
        super().data_received(data)
        self.unreported = 0 if self.has_progress else self.unreported + len(data)
        if self.unreported > LARGEST_HEAD:
            self.transport.abort()

    def on_message_begin(self) -> None:
        self.has_progress = True
        super().on_message_begin()
        self.scope[TRANSPORT_KEY] = self.transport  # type: ignore[literal-required]

    def on_headers_complete(self) -> None:
        self.has_progress = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.has_progress = True
        super().on_body(body)


def reset(scope: Scope) -> None:
    """Cut the connection off without an answer: the caller's system says "connection reset by peer"."""
    transport: asyncio.Transport = scope[TRANSPORT_KEY]
    if transport.is_closing():
        return
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    transport.abort()


async def leaves_within(receive: Receive, seconds: float | None) -> bool:
    """Whether the caller closes his connection within so many seconds; None: wait until he does."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True
