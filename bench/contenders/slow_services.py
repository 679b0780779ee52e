"""The two services that meal boxes need, honest and slow: users after 300 ms, products after 200 ms.

A bare protocol, cheap enough not to be what is measured.
"""

import asyncio
import sys
from typing import cast

import uvloop

USER = b'{"id":"u","firstName":"Ada","lastName":"Lovelace"}'
PRODUCT = b'{"code":"p","name":"Classic Box","price":9.99}'
USER_SECONDS, PRODUCT_SECONDS = 0.3, 0.2


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


ANSWERS = {b"GET /u": (USER_SECONDS, answer(USER)), b"GET /p": (PRODUCT_SECONDS, answer(PRODUCT))}


class Service(asyncio.Protocol):
    """Requests without a body, one after the other on a connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        seconds, whole = ANSWERS[data[:6]]
        self.loop.call_later(seconds, self._answer, whole)

    def _answer(self, whole: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(whole)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Service, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
