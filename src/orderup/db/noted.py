"""Functions of shops that only insert and update rows, or change an operation besides: found out what they would write,
without a connection, so that it can be written for many of them by one statement.

Only what such a statement writes exactly as a connection would is noted; for all else a connection is needed.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, NoReturn, TypeVar

from sqlalchemy import BigInteger, Integer, SmallInteger, String, Table, Text

from orderup.db.database import Also, Change, KeyTaken, Placing, Refusal, ShopRow, WriteConnection
from orderup.model.operation import Operation

T = TypeVar("T")
# Of columns whose values are stored as they are, and what these may be.
NUMBERS, TEXTS = (Integer, BigInteger, SmallInteger), (Text, String)
LARGEST = 2**63
# A column's name that means nothing else in a statement for many.
PLAIN_NAME = re.compile(r"(?!i$)[a-z_][a-z0-9_]*", re.ASCII)


class NeedsConnection(BaseException):
    """It asks for more. No `Exception`: what a shop makes of its errors is none of this one's business."""


class NoConnection(WriteConnection):
    """Notes what is written, in a transaction that is yet to come. `operation`: the one that may be loaded.
    `needs_connection`: whether it was asked for more, also where a shop's own code did not let that end it."""

    def __init__(self, operation: Operation | None = None) -> None:
        self._operation = operation
        self.noted: list[ShopRow] = []
        self.changed: Change | None = None
        self.needs_connection = False
        # how the rows of each table are written, and which rows were updated
        self._shapes: dict[Table, Shape] = {}
        self._updated: set[tuple[Table, Any]] = set()

    def __getattr__(self, name: str) -> Any:
        self._give_up(name)

    def _give_up(self, why: object) -> NoReturn:
        self.needs_connection = True
        raise NeedsConnection(why)

    def insert_row(self, table: Table, values: Mapping[str, Any]) -> None:
        self._note(ShopRow(table, dict(values)))

    def update_row(self, table: Table, values: Mapping[str, Any], *, key: str) -> None:
        row = (table, values[key])
        if row in self._updated or values[key] is None:
            self._give_up(key)
        self._note(ShopRow(table, dict(values), key))
        self._updated.add(row)

    def _note(self, row: ShopRow) -> None:
        """Where all is one statement, no part of it sees what another one writes, and its parts have an order of their
        own: so a table's rows are all written alike."""
        shape = Shape(row.table, row.key, tuple(row.values))
        if self._shapes.setdefault(row.table, shape) != shape or not _is_plain(shape):
            self._give_up(row.table.name)
        if not all(map(_fits, _types_of(shape), row.values.values())):
            self._give_up(row.table.name)
        self.noted.append(row)

    def load(self, operation_id: int) -> Operation | None:
        if self._operation is None or self._operation.id != operation_id or self.changed is not None:
            self._give_up("load")
        return self._operation

    def place(self, placing: Placing) -> KeyTaken | None:
        self._give_up(placing)

    def change(self, change: Change) -> Refusal | None:
        if self.changed is not None or change.key is not None or change.also is not None:
            self._give_up("change")
        self.changed = change
        return None


def try_without(work: Callable[[WriteConnection], T], connection: NoConnection) -> T:
    """What it comes to. Raises NeedsConnection, and whatever else it raises."""
    value = work(connection)
    if connection.needs_connection:
        raise NeedsConnection
    return value


def noted_rows(also: Also) -> Sequence[ShopRow] | None:
    """What it writes; None: only a connection will tell."""
    connection = NoConnection()
    try:
        try_without(also, connection)
    except BaseException:  # noqa: BLE001  what it raises there, it will raise again
        return None
    return None if connection.changed is not None else connection.noted


@cache
def _is_plain(shape: "Shape") -> bool:
    """Whether its columns are written as they are, and no others are written by themselves. One that is updated is
    told by the whole primary key: by any other column several updates may meet in one row."""
    table, key, names = shape
    if not names or not all(name in table.c and PLAIN_NAME.fullmatch(name) for name in names):
        return False
    if any(type(table.c[name].type) not in (*NUMBERS, *TEXTS) for name in names):
        return False
    others = [column for column in table.c if column.name not in names]
    if key is None:
        return all(column.default is None for column in others)
    by_itself = [column.name for column in table.primary_key.columns] == [key]
    return by_itself and len(names) > 1 and all(column.onupdate is None for column in others)


@cache
def _types_of(shape: "Shape") -> Sequence[type]:
    return [int if type(shape.table.c[name].type) in NUMBERS else str for name in shape.columns]


def _fits(kind: type, value: object) -> bool:
    if value is None:
        return True
    if kind is int:
        return type(value) is int and -LARGEST <= value < LARGEST
    return isinstance(value, str)


class Shape(NamedTuple):
    """Of rows that one statement writes together. key: of the row that is updated; None: it is inserted."""

    table: Table
    key: str | None
    columns: tuple[str, ...]


def by_shape(rows: Iterable[tuple[int, ShopRow]]) -> dict[Shape, list[tuple[Any, ...]]]:
    """Rows, each with the id of its operation before its values."""
    found: dict[Shape, list[tuple[Any, ...]]] = {}
    for operation_id, row in rows:
        shape = Shape(row.table, row.key, tuple(row.values))
        found.setdefault(shape, []).append((operation_id, *row.values.values()))
    return dict(sorted(found.items(), key=lambda each: (each[0].table.name, each[0].key or "", each[0].columns)))
