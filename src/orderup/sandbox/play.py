"""Answering as the switches say. Whatever it does ends when the caller leaves, so that nothing is held for nobody."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orderup.sandbox.behaviour import Answer, Body
from orderup.sandbox.ledger import Arrival, Ledger, Outcome
from orderup.sandbox.wire import leaves_within, reset

GARBAGE = b'{"name": \xff\x00 this is no JSON'
# What a proxy says in a third party's place; and an object of which nobody was told.
HTML = b"<!doctype html><title>Sign in</title><p>Please sign in to the network."
OBJECT = b'{"unexpected": {"items": []}}'
# Each of these may be read as the beginning of a JSON object that goes on.
FLOOD_BEGINS, FLOOD_GOES_ON = b'{"name": "', b"x" * (64 << 10)
SECONDS_BETWEEN_DROPS = 1.0


class Play(Response):
    """An answer to one request. `said`: JSON, for a body that is honest; None: there is none. headers: besides."""

    media_type = "application/json"

    def __init__(
        self,
        answer: Answer,
        said: Any,
        *,
        headers: Mapping[str, str] | None = None,
        arrival: Arrival,
        ledger: Ledger,
        scale: float,
    ) -> None:
        self.answer, self.arrival, self.ledger, self.scale = answer, arrival, ledger, scale
        rest = {} if answer.retry_after_seconds is None else {"retry-after": str(answer.retry_after_seconds)}
        super().__init__(
            _content(answer, said),
            status_code=answer.status,
            headers={**(headers or {}), **rest},
            media_type="text/html" if answer.body is Body.HTML else None,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        outcome = await self._play(scope, receive, send)
        self.ledger.end(self.arrival, outcome)

    async def _play(self, scope: Scope, receive: Receive, send: Send) -> Outcome:
        delay = self.answer.delay_seconds / self.scale
        if delay and await leaves_within(receive, delay):
            return Outcome.CALLER_LEFT
        match self.answer.body:
            case Body.HANG:
                await leaves_within(receive, None)
                return Outcome.CALLER_LEFT
            case Body.RESET:
                reset(scope)
                await leaves_within(receive, None)
                return Outcome.RESET
            case Body.DRIP:
                self.arrival.status = self.status_code
                return await self._drip(receive, send)
            case Body.HUGE:
                self.arrival.status = self.status_code
                return await self._flood(receive, send)
            case Body.HONEST | Body.GARBAGE | Body.EMPTY | Body.HTML | Body.OBJECT:
                self.arrival.status = self.status_code
                await super().__call__(scope, receive, send)
                return Outcome.ANSWERED

    async def _drip(self, receive: Receive, send: Send) -> Outcome:
        """A byte, a pause, a byte: whoever waits for the next byte only, waits for all of them."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for byte in self.body:
            if await leaves_within(receive, SECONDS_BETWEEN_DROPS / self.scale):
                return Outcome.CALLER_LEFT
            await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return Outcome.ANSWERED

    async def _flood(self, receive: Receive, send: Send) -> Outcome:
        """As fast as the caller takes it, until he leaves. The server sends to one who left as if he were there, so
        that he has to be looked for each time."""
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": FLOOD_BEGINS, "more_body": True})
        while not await leaves_within(receive, 0):
            await send({"type": "http.response.body", "body": FLOOD_GOES_ON, "more_body": True})
        return Outcome.CALLER_LEFT


def _content(answer: Answer, said: Any) -> bytes:
    match answer.body:
        case Body.GARBAGE:
            return GARBAGE
        case Body.EMPTY:
            return b""
        case Body.HTML:
            return HTML
        case Body.OBJECT:
            return OBJECT
        case _:
            return b"" if said is None else json.dumps(said, ensure_ascii=False).encode()
