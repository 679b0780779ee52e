"""A placing or change on its way into the database, and who waits for what becomes of it."""

import asyncio
from collections import deque
from typing import Any, Generic, TypeVar

from orderup.db.database import Change, Placing

# A statement that writes more takes longer than others should wait for it.
MOST_ROWS = 20_000

Item = Placing | Change
AnItem = TypeVar("AnItem", bound=Item)


class Entry(Generic[AnItem]):
    """An item, who waits for its outcome, and how often it was tried."""

    __slots__ = ("future", "is_elsewhere", "item", "tries")

    def __init__(self, item: AnItem, future: "asyncio.Future[Any]") -> None:
        self.item, self.future = item, future
        self.tries = 0
        self.is_elsewhere = False  # not with the batch that took it any more: it is tried again, or being settled

    def end(self, outcome: Any) -> None:
        if not self.future.done():
            self.future.set_result(outcome)

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


def rows_of(item: Item) -> int:
    """How many rows it writes, more or less."""
    return len(item.operation.tasks) if isinstance(item, Placing) else len(item.tasks)


def take(waiting: deque[Entry[Item]], most: int) -> list[Entry[Item]]:
    """The first of those who wait, up to so many, or fewer that write very many rows. A key that is among them already
    waits for the next batch: it is answered once the first is there. So does a second change of an operation, and one
    that updates a row of a shop that is among them, for one statement updates a row once."""
    batch: list[Entry[Item]] = []
    later: list[Entry[Item]] = []
    keys: set[str] = set()
    changed: set[int] = set()
    updated: set[tuple[str, Any]] = set()
    rows = 0
    while waiting and len(batch) < most and rows < MOST_ROWS:
        entry = waiting.popleft()
        key = entry.item.key
        operation_id = entry.item.after.id if isinstance(entry.item, Change) else None
        updates = {(row.table.name, row.values[row.key]) for row in entry.item.rows if row.key is not None}
        if operation_id in changed or (key is not None and key.key in keys) or not updated.isdisjoint(updates):
            later.append(entry)
            continue
        updated |= updates
        if operation_id is not None:
            changed.add(operation_id)
        if key is not None:
            keys.add(key.key)
        entry.is_elsewhere = False
        rows += rows_of(entry.item)
        batch.append(entry)
    waiting.extendleft(reversed(later))
    return batch
