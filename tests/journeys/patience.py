"""A client that does not give up: what was not answered, or answered "not now", is sent again."""

import asyncio
from collections import Counter
from random import Random
from typing import Any

import httpx2

NOT_NOW = (429, 503, 507)
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 1.5


class Patient:
    """`statuses` counts every answer, `unanswered` what got none. without_retry_after: of those, how many 503s.

    It waits no longer than LONGEST_PAUSE_SECONDS, whatever the server asks for: a test is in a hurry.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        # whoever waits for one of the connections waits as long as that takes: giving up at the moment at which he is
        # given one leaves it open for good
        timeout = httpx2.Timeout(15, pool=None)
        self.client = httpx2.AsyncClient(timeout=timeout, limits=httpx2.Limits(max_connections=100))
        self.statuses: Counter[int] = Counter()
        self.unanswered = 0
        self.without_retry_after = 0
        self.slowest_seconds = 0.0

    async def send(self, method: str, url: str, **options: Any) -> httpx2.Response:
        """The first answer that is not "not now"."""
        tries = 0
        while True:
            answer = await self.send_once(method, url, **options)
            if answer is not None and answer.status_code not in NOT_NOW:
                return answer
            tries += 1
            await self.pause(tries)

    async def send_once(self, method: str, url: str, **options: Any) -> httpx2.Response | None:
        """The answer, or None."""
        began = asyncio.get_running_loop().time()
        try:
            answer = await self.client.request(method, url, **options)
        except httpx2.TransportError:
            self.unanswered += 1
            return None
        finally:
            self.slowest_seconds = max(self.slowest_seconds, asyncio.get_running_loop().time() - began)
        self.statuses[answer.status_code] += 1
        self.without_retry_after += answer.status_code == 503 and "retry-after" not in answer.headers
        return answer

    async def pause(self, tries: int = 1) -> None:
        """Before it is tried again: longer each time, and not together with all others."""
        ceiling = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(tries, 10))
        await asyncio.sleep(self.random.uniform(0, ceiling))
