"""The events this process wrote last, kept so that whoever follows the log of a SQLite file need not read them back.

SQLite has one writer at a time, so the events of a transaction have consecutive numbers, and those of one transaction
follow on from those of the one before unless another process wrote between the two. What is kept here is always one
stretch without a gap; what lies outside is read from the database.
"""

import sqlite3
from collections import deque
from collections.abc import Sequence
from itertools import chain, islice

from msgspec.structs import replace

from orderup.db.rows import EVENT_COLUMNS, event_row
from orderup.db.sqlite_rows import insert
from orderup.model.event import Event

MOST_KEPT = 5_000
INSERT_EVENTS = insert("events", EVENT_COLUMNS)
END = "select seq from sqlite_sequence where name = 'events'"


class EventWriter:
    """In the writer thread: inserts all events there are."""

    def __init__(self, driver: sqlite3.Connection) -> None:
        self.driver = driver
        self._written: list[Event] = []

    def insert(self, events: Sequence[Event]) -> None:
        INSERT_EVENTS.run(self.driver, [event_row(event) for event in events])
        self._written += events

    def mark(self) -> int:
        """Where the transaction stands, for `back_to`."""
        return len(self._written)

    def back_to(self, mark: int) -> None:
        """What was inserted since was rolled back."""
        del self._written[mark:]

    def take(self) -> list[Event]:
        """What this transaction has inserted, about to be committed, as the log has it."""
        written, self._written = self._written, []
        if not written:
            return []
        (end,) = self.driver.execute(END).fetchone()
        first = end - len(written) + 1
        return [replace(event, seq=seq) for seq, event in enumerate(written, first)]


class RecentEvents:
    """In the event loop: what has been committed, at most `MOST_KEPT` events or the last transaction's."""

    def __init__(self) -> None:
        self._stretches: deque[Sequence[Event]] = deque()
        self._count = 0

    def add(self, events: Sequence[Event]) -> None:
        """Events of a transaction, in order."""
        if not events:
            return
        if self._stretches and self._stretches[-1][-1].seq + 1 != events[0].seq:
            self._stretches.clear()
            self._count = 0
        self._stretches.append(events)
        self._count += len(events)
        while self._count > MOST_KEPT and len(self._stretches) > 1:
            self._count -= len(self._stretches.popleft())

    def after(self, position: int, most: int) -> list[Event]:
        """The events that follow on from `position`, at most so many; none if the first of them is not here."""
        later: list[Sequence[Event]] = []
        for stretch in reversed(self._stretches):
            later.append(stretch)
            skip = position + 1 - stretch[0].seq
            if skip >= 0:
                return list(islice(chain.from_iterable(reversed(later)), skip, skip + most))
        return []
