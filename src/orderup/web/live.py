"""Following the log by WebSocket and by server-sent events: first what happened since, then what happens.

A client that falls behind costs no memory that grows: what it has not taken is read from the database when it is ready
for more (engine/feed.py). Nothing is joined into one message, nothing is dropped.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Annotated

import msgspec
from fastapi import Query
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from orderup.engine.feed import Feed
from orderup.errors import Gone, Invalid, NotFound, Unavailable
from orderup.model.event import Audience
from orderup.web.views import view_event

PAST_RETENTION = 4410
GOING_AWAY = 1012
KEEP_ALIVE_SECONDS = 15.0
LARGEST_SEQ = (1 << 63) - 1
After = Annotated[int, Query(ge=0, le=LARGEST_SEQ, description="the last `seq` you have; left out: all there is")]
_encode = msgspec.json.Encoder().encode
# Asked before events are sent: raises NotFound if whoever follows may not see them any more.
Check = Callable[[], Awaitable[None]]


async def stream_to(
    websocket: WebSocket,
    feed: Feed,
    *,
    after: int,
    operation_id: int | None,
    shop: str | None,
    audience: Audience,
    check: Check | None = None,
) -> None:
    """Accept, and send events until the client goes. What the client sends is read and ignored. Raises what `check`
    does."""
    await websocket.accept()

    async def send() -> None:
        following = feed.follow(after=after, operation_id=operation_id, shop=shop, audience=audience)
        try:
            async with aclosing(following):
                async for batch in following:
                    if check is not None:
                        await check()
                    for event in batch:
                        await websocket.send_text(_encode(view_event(event)).decode())
            await websocket.close(GOING_AWAY, "the server stops; come again with after=SEQ")
        except Gone as gone:
            await websocket.close(PAST_RETENTION, str(gone)[:120])

    sending = asyncio.create_task(send(), name="live: send")
    try:
        while not sending.done():
            reading = asyncio.ensure_future(websocket.receive())
            await asyncio.wait({reading, sending}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                reading.cancel()
            elif reading.result()["type"] == "websocket.disconnect":
                break
    finally:
        sending.cancel()
        await asyncio.wait({sending})
        if not sending.cancelled() and (error := sending.exception()) and not isinstance(error, WebSocketDisconnect):
            raise error


def last_event_id(request: Request, after: int) -> int:
    """Where a browser's EventSource goes on after a break; else what the address says. Raises Invalid."""
    text = request.headers.get("last-event-id")
    if not text:
        return after
    if not text.isascii() or not text.isdigit() or int(text) > LARGEST_SEQ:
        raise Invalid("Last-Event-ID must be the `seq` of an event.", field="header.Last-Event-ID")
    return max(after, int(text))


async def event_stream(
    request: Request,
    feed: Feed,
    *,
    after: int,
    operation_id: int | None,
    shop: str | None,
    audience: Audience,
    check: Check | None = None,
) -> StreamingResponse:
    """An answer of server-sent events. Raises Gone before it begins. It ends when `check` raises: who comes again is
    told why."""
    after = last_event_id(request, after)
    if operation_id is None:
        await feed.check_retained(after)
    following = feed.follow(after=after, operation_id=operation_id, shop=shop, audience=audience)
    coming = asyncio.ensure_future(anext(following, None))

    async def body() -> AsyncIterator[bytes]:
        nonlocal coming
        try:
            yield b"retry: 1000\n\n"
            while True:
                done, _ = await asyncio.wait({coming}, timeout=KEEP_ALIVE_SECONDS)
                if not done:
                    yield b": still here\n\n"
                    continue
                batch = coming.result()
                if batch is None or not await _passes(check):
                    return
                for event in batch:
                    yield b"id: %d\ndata: %s\n\n" % (event.seq, _encode(view_event(event)))
                coming = asyncio.ensure_future(anext(following, None))
        finally:
            coming.cancel()
            await asyncio.wait({coming})
            await following.aclose()

    return StreamingResponse(
        body(), media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )


async def _passes(check: Check | None) -> bool:
    try:
        if check is not None:
            await check()
    except (NotFound, Unavailable):
        return False
    return True
