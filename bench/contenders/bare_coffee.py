"""The most that the web server allows: the coffee bar's three routes as bare ASGI apps under the same uvicorn.

Without a framework, checks, limits or storage: no rival, but the ceiling of what is built on that server.
"""

import asyncio
import sys
from itertools import count
from typing import Any

import uvicorn
import uvloop

numbers = count(1)
line: asyncio.Queue[int] = asyncio.Queue()
ready: dict[int, asyncio.Event] = {}


async def answer(send: Any, body: bytes, status: int = 200) -> None:
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def front(_scope: Any, _receive: Any, send: Any) -> None:
    number, is_ready = next(numbers), asyncio.Event()
    ready[number] = is_ready
    line.put_nowait(number)
    await is_ready.wait()
    await answer(send, b'{"order_id": %d, "status": "ready"}' % number)


async def back(scope: Any, _receive: Any, send: Any) -> None:
    if scope["method"] == "GET":
        await answer(send, b'{"order_id": %d}' % await line.get())
        return
    number = int(scope["query_string"].rpartition(b"=")[2])
    ready.pop(number).set()
    await answer(send, b'{"order_id": %d, "status": "ready"}' % number)


async def main(front_port: int, back_port: int) -> None:
    options: dict[str, Any] = {"log_level": "warning", "access_log": False, "lifespan": "off", "backlog": 4096}
    servers = [
        uvicorn.Server(uvicorn.Config(app, port=port, **options))
        for app, port in ((front, front_port), (back, back_port))
    ]
    await asyncio.gather(*(server.serve() for server in servers))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
