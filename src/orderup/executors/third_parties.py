"""The one HTTP client of an executor, for what its handlers ask of third parties.

Made when it is first used, closed when the executor stops. No request takes longer than its attempt has left.
"""

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx2

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
MOST_CONNECTIONS = 100
MOST_IDLE_CONNECTIONS = 20
_TIMEOUTS = ("connect", "read", "write", "pool")
# When the attempt of the running code ends, by the event loop's clock; set as its handler takes the client.
_ends_at: ContextVar[float | None] = ContextVar("ends_at", default=None)


class ThirdParties:
    def __init__(self) -> None:
        self._client: httpx2.AsyncClient | None = None

    def client(self, *, ends_at: float) -> "httpx2.AsyncClient":
        """For code of the attempt that ends then."""
        _ends_at.set(ends_at)
        if self._client is None:
            self._client = _new_client()
        return self._client

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()


def _new_client() -> "httpx2.AsyncClient":
    import httpx2  # noqa: PLC0415  a tenth of a second, which a shop without third parties does not wait for

    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
        limits=httpx2.Limits(max_connections=MOST_CONNECTIONS, max_keepalive_connections=MOST_IDLE_CONNECTIONS),
        event_hooks={"request": [_end_with_the_attempt]},
    )


async def _end_with_the_attempt(request: "httpx2.Request") -> None:
    ends_at = _ends_at.get()
    if ends_at is None:
        return
    left = max(0.0, ends_at - asyncio.get_running_loop().time())
    times = request.extensions.get("timeout", {})
    request.extensions = {
        **request.extensions,
        "timeout": {of: left if times.get(of) is None else min(left, times[of]) for of in _TIMEOUTS},
    }
