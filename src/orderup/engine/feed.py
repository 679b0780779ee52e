"""Follows the event log and hands each event to those who asked for it: once, in order, nothing skipped.

One reader a process, however many follow. A follower first reads what it missed from the database up to where the
reader is, then gets what the reader hands on; both are cut at the same `seq`, so nothing comes twice or is lost.
"""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from operator import attrgetter

from orderup.db.database import Database, LogReader, ReadConnection
from orderup.db.read import events_between, pruned_seq
from orderup.errors import Gone, OrderupError
from orderup.model.event import Audience, Event

MOST_AT_ONCE = 1_000
# A follower that falls further behind than this reads the rest from the database instead of from memory.
MOST_HELD = 2_000
# Events that stay in memory once they have been handed on, for those who read the log step by step.
MOST_RECENT = 4_000
SAFETY_NET_SECONDS = 2.0
RETRY_SECONDS = 0.5


class Follower:
    """One who follows: the whole log, one shop, or one operation; up to an audience."""

    def __init__(self, feed: "Feed", *, operation_id: int | None, shop: str | None, audience: Audience) -> None:
        self.feed, self.operation_id, self.shop, self.audience = feed, operation_id, shop, audience
        self.held: deque[Event] = deque()
        self.has_overflowed = False
        self.heard = asyncio.Event()

    def wants(self, event: Event) -> bool:
        return (
            event.audience <= self.audience
            and (self.shop is None or event.shop == self.shop)
            and (self.operation_id is None or event.operation_id == self.operation_id)
        )

    def hand(self, events: Iterable[Event]) -> None:
        """Those of them that it wants."""
        if self.has_overflowed:
            return
        before = len(self.held)
        self.held.extend(filter(self.wants, events))
        if len(self.held) > MOST_HELD:
            self.held.clear()
            self.has_overflowed = True
        elif len(self.held) == before:
            return
        self.heard.set()


def _gone(pruned: int) -> Gone:
    return Gone(f"Events up to {pruned} are past retention. Ask for those after it.", oldest=pruned + 1)


class Feed:
    """`position`: every event up to this `seq` has been handed on."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.position = 0
        self._by_operation: dict[int, set[Follower]] = {}
        self._others: set[Follower] = set()
        self._counters: list[Callable[[Sequence[Event]], None]] = []
        # those after this `seq`, up to the position
        self._recent: list[Event] = []
        self._recent_after = 0
        self._woken = asyncio.Event()
        self._started = asyncio.Event()
        self._is_stopped = False

    def wake(self) -> None:
        self._woken.set()

    def count(self, counter: Callable[[Sequence[Event]], None]) -> None:
        """Call `counter` with each batch of events as it is handed on. For those who only count or look for a few:
        nothing is held for them, and they get no history."""
        self._counters.append(counter)

    def stop_counting(self, counter: Callable[[Sequence[Event]], None]) -> None:
        self._counters.remove(counter)

    def stop(self) -> None:
        """Let every follower come to its end: the process is about to stop."""
        self._is_stopped = True
        for follower in [*self._others, *(each for several in self._by_operation.values() for each in several)]:
            follower.heard.set()

    async def started(self) -> None:
        """Return once the end of the log was found: from now on every event is handed on and counted."""
        await self._started.wait()

    async def check_retained(self, after: int) -> None:
        """Raises Gone if retention has taken events after `after`."""
        pruned = await self.database.read(pruned_seq)
        if after < pruned:
            raise _gone(pruned)

    async def run(self) -> None:
        """Read the log until cancelled; a database that is away is waited for."""
        reader = None
        while True:
            try:
                if reader is None:
                    reader = self.database.log(await self.database.end_of_log())
                    self.position = self._recent_after = reader.position
                    self._started.set()
                events = await reader.read(MOST_AT_ONCE)
            except OrderupError:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if events:
                self._keep(events)
                self._hand_on(events)
                self.position = reader.position
                for counter in self._counters:
                    counter(events)
            self.position = reader.position
            if len(events) < MOST_AT_ONCE:
                await self._rest()

    def _keep(self, events: Sequence[Event]) -> None:
        self._recent.extend(events)
        if len(self._recent) > 2 * MOST_RECENT:
            self._recent_after = self._recent[-MOST_RECENT - 1].seq
            del self._recent[:-MOST_RECENT]

    def log(self, after: int) -> "FeedLog":
        """For one who reads step by step."""
        return FeedLog(self, after)

    def recent(self, after: int, most: int) -> Sequence[Event] | None:
        """The first that were handed on after `after`; None: memory does not reach that far back."""
        if not self._started.is_set() or after < self._recent_after:
            return None
        first = bisect_right(self._recent, after, key=attrgetter("seq"))
        return self._recent[first : first + most]

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(SAFETY_NET_SECONDS):
                await self._woken.wait()
        except TimeoutError:
            pass
        self._woken.clear()

    def _hand_on(self, events: Sequence[Event]) -> None:
        for follower in self._others:
            follower.hand(events)
        for event in events if self._by_operation else ():
            for follower in self._by_operation.get(event.operation_id, ()):
                follower.hand((event,))

    async def follow(
        self,
        *,
        after: int = 0,
        operation_id: int | None = None,
        shop: str | None = None,
        audience: Audience = Audience.CUSTOMER,
    ) -> AsyncGenerator[Sequence[Event], None]:
        """Events with a `seq` above `after`: first those there were, then those to come, in batches as they come.

        Ends when the feed is stopped. Raises Gone if retention has taken events after `after`.
        """
        await self._started.wait()
        follower = Follower(self, operation_id=operation_id, shop=shop, audience=audience)
        self._join(follower)
        try:
            position = after
            while not self._is_stopped:
                async for batch in self._history(follower, position, self.position):
                    yield batch
                    position = batch[-1].seq
                position = max(position, after)
                while not (follower.has_overflowed or self._is_stopped):
                    await follower.heard.wait()
                    follower.heard.clear()
                    batch = [event for event in follower.held if event.seq > position]
                    follower.held.clear()
                    if batch:
                        position = batch[-1].seq
                        yield batch
                follower.has_overflowed = False
                follower.held.clear()
        finally:
            self._leave(follower)

    async def _history(self, follower: Follower, after: int, until: int) -> AsyncGenerator[list[Event], None]:
        while after < until:

            def fetch(connection: ReadConnection, after: int = after) -> tuple[int, list[Event]]:
                found = events_between(
                    connection,
                    after=after,
                    until=until,
                    operation_id=follower.operation_id,
                    shop=follower.shop,
                    audience=follower.audience,
                    most=MOST_AT_ONCE,
                )
                # looked up after the events: what retention took of them by then is told, not left out in silence
                return (0 if follower.operation_id is not None else pruned_seq(connection)), found

            pruned, found = await self.database.read(fetch)
            if after < pruned:
                raise _gone(pruned)
            if found:
                yield found
            if len(found) < MOST_AT_ONCE:
                return
            after = found[-1].seq

    def _join(self, follower: Follower) -> None:
        if follower.operation_id is None:
            self._others.add(follower)
        else:
            self._by_operation.setdefault(follower.operation_id, set()).add(follower)

    def _leave(self, follower: Follower) -> None:
        self._others.discard(follower)
        if follower.operation_id is not None:
            followers = self._by_operation.get(follower.operation_id, set())
            followers.discard(follower)
            if not followers:
                self._by_operation.pop(follower.operation_id, None)


class FeedLog:
    """See `LogReader`. What the feed remembers is not read from the database once more."""

    def __init__(self, feed: Feed, after: int) -> None:
        self.position = after
        self._feed = feed
        self._stored: LogReader | None = None

    async def read(self, most: int) -> Sequence[Event]:
        recent = self._feed.recent(self.position, most)
        if recent is None:
            self._stored = self._stored or self._feed.database.log(self.position)
            found = await self._stored.read(most)
            self.position = self._stored.position
            return found
        self._stored = None
        if recent:
            self.position = recent[-1].seq
        return recent
