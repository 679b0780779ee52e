"""Many rows in few statements, for sqlite3.

The driver lets go of the interpreter's lock around each run of a statement, and to get it back while the event loop is
busy may take as long as a whole switch interval (5 ms). So what counts is the number of statements run, not of rows:
rows go in as one list of VALUES, in few sizes, so that each text is compiled once. A handler that computes for a second
then slows the writer down by a few milliseconds; row by row it would stop it.
"""

import math
import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any

from orderup.db.noted import Shape

# Rows in one statement, the largest first: a number of rows takes as many statements as it has binary ones, and a full
# batch few. SQLite takes at most 32,766 values, and the widest row has 31.
SIZES = (1024, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1)

Row = Sequence[Any]

# sqlite3 looks for an adapter for whatever is not a plain number or text, None too, and finds none more slowly than it
# stores the value. This finds one at once; it answers None.
sqlite3.register_adapter(type(None), {}.get)  # type: ignore[arg-type]  # overloaded
# A number that is none is stored as null (sqlite.org/floatingpoint.html), and bound in half the time of None: a third
# of what is written is null.
_NULL = math.nan


class Rows:
    """A statement on rows of `width` values: `{values}` in its text stands for as many as there are."""

    def __init__(self, text: str, width: int) -> None:
        self.width = width
        self._texts = {size: text.format(values=_values(width, size)) for size in SIZES}

    def run(self, driver: sqlite3.Connection, rows: Sequence[Row]) -> int:
        """How many rows it wrote."""
        return sum(driver.execute(text, values).rowcount for text, values in self._statements(rows))

    def returned(self, driver: sqlite3.Connection, rows: Sequence[Row]) -> list[Any]:
        """The rows that it returns, in no promised order. For each of them the driver lets go of the lock."""
        found: list[Any] = []
        for text, values in self._statements(rows):
            found += driver.execute(text, values).fetchall()
        return found

    def _statements(self, rows: Sequence[Row]) -> Iterator[tuple[str, list[Any]]]:
        begin = 0
        for size in SIZES:
            while len(rows) - begin >= size:
                some = chain.from_iterable(rows[begin : begin + size])
                yield self._texts[size], [_NULL if value is None else value for value in some]
                begin += size


@cache
def _values(width: int, size: int) -> str:
    row = f"({', '.join('?' * width)})"
    return f"values {', '.join([row] * size)}"


def quoted(columns: Sequence[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


def insert(table: str, columns: Sequence[str]) -> Rows:
    return Rows(f"insert into {table} ({quoted(columns)}) {{values}}", len(columns))


def update(table: str, *, keys: Sequence[str], columns: Sequence[str], returning: str = "") -> Rows:
    """Rows: the values of `keys`, which must be unlike each other, then those of `columns`."""
    sets = ", ".join(f'"{column}" = v.column{n}' for n, column in enumerate(columns, len(keys) + 1))
    matches = " and ".join(f'{table}."{key}" = v.column{n}' for n, key in enumerate(keys, 1))
    tail = f" returning {table}.{returning}" if returning else ""
    return Rows(f"update {table} set {sets} from ({{values}}) v where {matches}{tail}", len(keys) + len(columns))


def write_shop_rows(driver: sqlite3.Connection, shape: Shape, rows: Sequence[Row]) -> None:
    """Rows of a shop, with the values of the shape's columns."""
    statement, order = _statement_of(shape)
    ordered = rows if order is None else [[row[at] for at in order] for row in rows]
    if order is None or len({row[0] for row in ordered}) == len(ordered):
        statement.run(driver, ordered)
    else:
        for row in ordered:  # one row updated twice
            statement.run(driver, [row])


@cache
def _statement_of(shape: Shape) -> tuple[Rows, Sequence[int] | None]:
    """And at which places of a row are the values that it takes; None: as they are."""
    table, key, columns = quoted([shape.table.name]), shape.key, shape.columns
    if key is None:
        return insert(table, columns), None
    at = columns.index(key)
    order = [at, *(number for number in range(len(columns)) if number != at)]
    return update(table, keys=[key], columns=[columns[number] for number in order[1:]]), order
