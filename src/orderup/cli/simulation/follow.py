"""Following an order as a customer's device does: by WebSocket, coming back after every break."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, WebSocketException

from orderup.cli.simulation.stage import Answered, Stage
from orderup.worker.link import is_here

OPEN_SECONDS = 20.0
PAST_RETENTION = 4410


@dataclass(slots=True)
class Following:
    """What a follower saw. seq: the last that it has. repeats: messages that came twice, or not in order. breaks: how
    often it was cut off, or cut itself off."""

    seq: int = 0
    n: int = 0
    repeats: int = 0
    breaks: int = 0
    messages: list[str] = field(default_factory=list)

    def note(self, event: dict[str, Any]) -> bool:
        """Whether it is news."""
        if event["seq"] <= self.seq or event["n"] <= self.n:
            self.repeats += 1
            return False
        self.seq, self.n = event["seq"], event["n"]
        self.messages.append(event["message"])
        return True


async def follow(
    stage: Stage, url: str, following: Following, *, breaks_after: int | None = None
) -> AsyncGenerator[dict[str, Any], None]:
    """Every event once, from the first on, for ever. breaks_after: hangs up once, after so many.

    Raises Answered if the server will not have it.
    """
    failures = 0
    while True:
        address = f"{url}{'&' if '?' in url else '?'}after={following.seq}"
        try:
            async with connect(address, open_timeout=OPEN_SECONDS, proxy=None if is_here(url) else True) as socket:
                async for text in socket:
                    failures = 0
                    event = msgspec.json.decode(text)
                    if following.note(event):
                        yield event
                    if len(following.messages) == breaks_after and not following.breaks:
                        break
        except InvalidStatus as error:
            if error.response.status_code < 500:
                raise Answered("WS", url, error.response.status_code, "") from error
        except ConnectionClosed as error:
            if error.rcvd is not None and error.rcvd.code == PAST_RETENTION:
                raise Answered("WS", url, PAST_RETENTION, error.rcvd.reason) from error
        except (InvalidHandshake, WebSocketException, OSError, TimeoutError, asyncio.IncompleteReadError):
            failures += 1  # away: come again, a little later each time
        following.breaks += 1
        await stage.rest_after(max(1, failures))
