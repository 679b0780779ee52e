"""The rival of the coffee bar: a plain FastAPI program of the same three routes, on `asyncio.Queue` and events.

Written as a good engineer would in an afternoon: two apps on two ports in one process, under uvicorn with uvloop and
httptools. It keeps all in memory, forgets it when it is killed, and brews for customers who have left.
"""

import asyncio
import sys
import time
from dataclasses import dataclass, field
from itertools import count

import uvicorn
from fastapi import FastAPI, HTTPException, Response

front, back = FastAPI(), FastAPI()
numbers = count(1)


@dataclass(slots=True)
class Order:
    id: int
    placed_at: float
    is_started: bool = False
    ready: asyncio.Event = field(default_factory=asyncio.Event)


line: asyncio.Queue[Order] = asyncio.Queue()
orders: dict[int, Order] = {}


@front.post("/order/")
async def order() -> dict[str, object]:
    placed = Order(next(numbers), time.monotonic())
    orders[placed.id] = placed
    line.put_nowait(placed)
    await placed.ready.wait()
    waited = round(time.monotonic() - placed.placed_at, 3)
    return {"order_id": placed.id, "status": "ready", "waited_seconds": waited}


@back.get("/start/", response_model=None)
async def start(barista: str = "", wait: float = 0) -> dict[str, object] | Response:
    try:
        started = await asyncio.wait_for(line.get(), wait) if wait else line.get_nowait()
    except (TimeoutError, asyncio.QueueEmpty):
        return Response(status_code=204)
    started.is_started = True
    return {"order_id": started.id, "barista": barista}


@back.post("/finish/")
async def finish(order_id: int) -> dict[str, object]:
    finished = orders.get(order_id)
    if finished is None:
        raise HTTPException(404, f"There is no order {order_id}.")
    if not finished.is_started:
        raise HTTPException(409, f"Order {order_id} was never started.")
    finished.ready.set()
    return {"order_id": order_id, "status": "ready"}


async def main(front_port: int, back_port: int) -> None:
    servers = [
        uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", access_log=False, backlog=4096))
        for app, port in ((front, front_port), (back, back_port))
    ]
    await asyncio.gather(*(server.serve() for server in servers))


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
