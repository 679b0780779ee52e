"""The two services that meal boxes need, honest and slow: users after 300 ms, products after 200 ms.

A product whose code begins with `hangs` is not told before somebody asks for `/let-go`. A bare protocol, cheap enough
not to be what is measured.
"""

import asyncio
import sys
from typing import ClassVar, cast

import uvloop

USER = b'{"id":"u","firstName":"Ada","lastName":"Lovelace"}'
PRODUCT = b'{"code":"p","name":"Classic Box","price":9.99}'
USER_SECONDS, PRODUCT_SECONDS = 0.3, 0.2


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


ANSWERS = {b"GET /u": (USER_SECONDS, answer(USER)), b"GET /p": (PRODUCT_SECONDS, answer(PRODUCT))}
HANGING, LET_GO = b"GET /products/hangs", b"GET /let-go"


class Service(asyncio.Protocol):
    """Requests without a body, one after the other on a connection."""

    hanging: ClassVar[list["Service"]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        if data.startswith(HANGING):
            self.hanging.append(self)
            return
        if data.startswith(LET_GO):
            self._let_go()
            return
        seconds, whole = ANSWERS[data[:6]]
        self.loop.call_later(seconds, self.say, whole)

    def _let_go(self) -> None:
        """Tells how many hung."""
        self.say(answer(b"%d" % len(self.hanging)))
        while self.hanging:
            self.hanging.pop().say(ANSWERS[b"GET /p"][1])

    def say(self, whole: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(whole)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Service, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
