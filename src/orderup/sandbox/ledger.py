"""What came to a third party, and what it was answered: the last thousand requests, and how many there were of each."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from orderup.sandbox.behaviour import Body

MOST_ARRIVALS = 1_000
MOST_PATHS = 1_000
LONGEST_PATH = 200
# Where requests are counted whose paths would be too many to count each.
OTHER_PATHS = "(other)"


class Outcome(StrEnum):
    UNDER_WAY = "under way"
    ANSWERED = "answered"
    RESET = "reset"
    CALLER_LEFT = "caller left"


@dataclass(slots=True)
class Arrival:
    """A request. `path`: below the third party's address. `body`: as which it is answered. `status`: None as long as
    none was sent."""

    method: str
    path: str
    body: Body
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    status: int | None = None
    outcome: Outcome = Outcome.UNDER_WAY


class Ledger:
    """`arrivals`: in the order in which they came. `counts`: of all that ever came, by path."""

    def __init__(self) -> None:
        self.arrivals: deque[Arrival] = deque(maxlen=MOST_ARRIVALS)
        self.counts: Counter[str] = Counter()
        self._changed = asyncio.Event()

    def note(self, method: str, path: str, *, body: Body) -> Arrival:
        arrival = Arrival(method, path[:LONGEST_PATH], body)
        is_counted = arrival.path in self.counts or len(self.counts) < MOST_PATHS
        self.counts[arrival.path if is_counted else OTHER_PATHS] += 1
        self.arrivals.append(arrival)
        self.tell()
        return arrival

    def end(self, arrival: Arrival, outcome: Outcome) -> None:
        arrival.outcome = outcome
        self.tell()

    async def until(self, fact: Callable[["Ledger"], object]) -> None:
        """Wait for what becomes true of it, or by what came. Bring a deadline: it may never."""
        while not fact(self):
            await self._changed.wait()

    def tell(self) -> None:
        """Whoever waits looks once; the next change has an event of its own."""
        self._changed.set()
        self._changed = asyncio.Event()

    def as_json(self) -> dict[str, Any]:
        return {
            "counts": dict(self.counts),
            "requests": [
                {
                    "at": arrival.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                    "method": arrival.method,
                    "path": arrival.path,
                    "status": arrival.status,
                    "body": arrival.body,
                    "outcome": arrival.outcome,
                }
                for arrival in self.arrivals
            ],
        }
