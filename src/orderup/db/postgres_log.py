"""Following the event log on PostgreSQL, where a lower `seq` may commit after a higher one.

The reader hands on events while `seq` is consecutive. A missing number is either still being written, or was drawn by a
transaction that came to nothing. It is passed over only when everybody who may have drawn it has ended: whoever inserts
events holds a lock on their table from before it draws a number until after its rows can be seen. So: who held that
lock when the gap was seen, and do they still? Writers pay nothing for it, and a long transaction that writes something
else, here or in another database of the server, holds nothing up.
"""

import asyncio
from collections.abc import Callable, Sequence

from orderup.db.postgres_batch import quoted
from orderup.db.postgres_link import Links
from orderup.db.rows import EVENT_COLUMNS, read_event
from orderup.model.event import Event

# A gap is mostly a transaction of the same moment: it is looked into when it is still there after that long.
GAP_SECONDS = 0.01

EVENTS = f"select seq, {quoted(EVENT_COLUMNS)} from events where seq > $1::bigint order by seq limit $2::integer"
# the last number drawn, also of an event that retention has taken since
LAST = "select case when is_called then last_value else 0 end from events_seq_seq"
# a backend and its transaction: no later one has the same
WRITERS = """
select virtualtransaction from pg_locks
where relation = 'events'::regclass and mode = 'RowExclusiveLock'
 and database = (select oid from pg_database where datname = current_database())"""


class PostgresLog:
    """`wake` is called when it is worth reading again although nobody here has committed anything."""

    def __init__(self, links: Links, after: int, *, wake: Callable[[], None]) -> None:
        self.links, self.position, self.wake = links, after, wake
        self._settled = after  # up to here, what is missing stays missing
        self._gap: tuple[int, float] | None = None  # the position before it, and when it was seen there first
        self._until = after
        self._suspects: set[str] | None = None  # who may still be writing what is missing up to `_until`

    async def read(self, most: int) -> Sequence[Event]:
        """The next events, or none now. Raises Unavailable."""
        if self._suspects is not None:
            self._suspects &= await writers_of_events(self.links)
            if not self._suspects:
                self._settled, self._suspects = self._until, None
        rows = await self.links.fetch(EVENTS, self.position, most)
        events: list[Event] = []
        for row in rows:
            if row[0] > self.position + 1 and row[0] > self._settled + 1:
                await self._look_into_gap(rows[-1][0])
                break
            self.position = row[0]
            events.append(read_event(row))
        return events

    async def _look_into_gap(self, seen: int) -> None:
        """Numbers after `position` are missing, and `seen` has been drawn after them."""
        now = asyncio.get_running_loop().time()
        if self._gap is None or self._gap[0] != self.position:
            self._gap = self.position, now
        elif self._suspects is None and now - self._gap[1] >= GAP_SECONDS:
            self._until, self._suspects = seen - 1, await writers_of_events(self.links)
        asyncio.get_running_loop().call_later(GAP_SECONDS, self.wake)


async def writers_of_events(links: Links) -> set[str]:
    return {row[0] for row in await links.fetch(WRITERS)}


async def end_of_log(links: Links) -> int:
    """A `seq` up to which nothing is being written any more: who starts to follow there misses nothing."""
    [(last,)] = await links.fetch(LAST)
    suspects = await writers_of_events(links)
    while suspects:
        await asyncio.sleep(GAP_SECONDS / 2)
        suspects &= await writers_of_events(links)
    position: int = last
    return position
