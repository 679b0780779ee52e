"""All that is looked at: the database as it stands in one moment, what was written down, and what must hold."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from sqlalchemy import MetaData, Row, String, Table, create_engine, inspect, select
from sqlalchemy.engine import Connection

from orderup.db import tables
from orderup.model.ids import show_id, show_task_id
from orderup.model.kind import Kind
from tests.invariants.records import AnyRecord

R = TypeVar("R")
AnyRow = Row[Any]


@dataclass(slots=True)
class OperationRows:
    """Everything the database holds of one operation; its tasks by position, its events by `n`."""

    row: AnyRow
    tasks: list[AnyRow] = field(default_factory=list)
    rfa: AnyRow | None = None
    events: list[AnyRow] = field(default_factory=list)

    @property
    def id(self) -> str:
        return show_id(self.row.id)

    def told(self, type: str, position: int | None = None) -> int:
        """How many events of this type there are, of one task if its position is given."""
        return sum(event.type == type and position in (None, event.task) for event in self.events)

    def task_id(self, position: int) -> str:
        return show_task_id(self.row.id, position)


@dataclass(slots=True)
class DatabaseRows:
    """`orphans`: rows of operations that are not there. `texts`: every text in every table, with where it stands."""

    operations: dict[str, OperationRows]
    keys: Sequence[AnyRow]
    permits: Sequence[AnyRow]
    workers: Sequence[AnyRow]
    schedules: Sequence[AnyRow]
    pruned_seq: int
    orphans: list[str]
    texts: list[tuple[str, str]]


@dataclass
class Evidence:
    """`must_have_ended`: the run is over, whatever was accepted has ended. kinds: by queue without region.

    staff: who may decide, empty if that does not matter. secrets: values that must be nowhere. logs: what processes
    printed, by their names.
    """

    database: DatabaseRows
    records: Sequence[AnyRecord] = ()
    must_have_ended: bool = False
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    staff: frozenset[str] = frozenset()
    secrets: Sequence[str] = ()
    logs: Mapping[str, str] = field(default_factory=dict)

    def of(self, kind: type[R]) -> list[R]:
        """The records of one kind, in the order of their files."""
        return [record for record in self.records if isinstance(record, kind)]

    def task(self, task_id: str) -> tuple[OperationRows, AnyRow] | None:
        """A task's row, with its operation."""
        operation, _, position = task_id.partition("-")
        found = self.database.operations.get(operation)
        return None if found is None or int(position) >= len(found.tasks) else (found, found.tasks[int(position)])

    @cached_property
    def events(self) -> list[AnyRow]:
        """The log, in its order."""
        events = [event for operation in self.database.operations.values() for event in operation.events]
        return sorted(events, key=lambda event: event.seq)


def read_database_at(url: str) -> DatabaseRows:
    """All rows, as of one moment. `url` as in DATABASE_URL."""
    with _connected(url) as connection:
        return read_database(connection)


def read_table_at(url: str, table: Table) -> Sequence[AnyRow]:
    """All rows of one table, such as a shop's."""
    with _connected(url) as connection:
        return connection.execute(select(table)).all()


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    is_sqlite = url.startswith("sqlite")
    engine = create_engine(
        url if is_sqlite else url.replace("postgresql://", "postgresql+psycopg://", 1),
        isolation_level="AUTOCOMMIT" if is_sqlite else "REPEATABLE READ",
    )
    try:
        with engine.connect() as connection:
            if is_sqlite:  # whose driver begins no transaction for those who only read
                connection.exec_driver_sql("begin")
            yield connection
    finally:
        engine.dispose()


def read_database(connection: Connection) -> DatabaseRows:
    found = {row.id: OperationRows(row) for row in connection.execute(select(tables.operations))}
    orphans: list[str] = []

    def of_operations(table: Table, *order: Any) -> Iterator[tuple[OperationRows, AnyRow]]:
        for row in connection.execute(select(table).order_by(*order)):
            if operation := found.get(row.operation_id):
                yield operation, row
            else:
                orphans.append(f"{table.name}: a row of operation {show_id(row.operation_id)}, which is not there")

    for operation, row in of_operations(tables.tasks, tables.tasks.c.operation_id, tables.tasks.c.position):
        operation.tasks.append(row)
    for operation, row in of_operations(tables.events, tables.events.c.operation_id, tables.events.c.n):
        operation.events.append(row)
    for operation, row in of_operations(tables.rfas):
        operation.rfa = row
    pruned = connection.execute(select(tables.facts.c.value).where(tables.facts.c.name == "pruned_seq")).scalar()
    return DatabaseRows(
        {show_id(id): operation for id, operation in found.items()},
        keys=connection.execute(select(tables.keys)).all(),
        permits=connection.execute(select(tables.permits)).all(),
        workers=connection.execute(select(tables.workers)).all(),
        schedules=connection.execute(select(tables.schedules)).all(),
        pruned_seq=pruned or 0,
        orphans=orphans,
        texts=list(_texts(connection)),
    )


def _texts(connection: Connection) -> Iterator[tuple[str, str]]:
    """Of shops' tables, too, which are found by looking."""
    there = MetaData()
    there.reflect(connection, only=[name for name in inspect(connection).get_table_names() if "sqlite" not in name])
    for table in there.sorted_tables:
        columns = [column for column in table.columns if isinstance(column.type, String)]
        if not columns:
            continue
        for row in connection.execute(select(*columns)):
            yield from (
                (f"{table.name}.{column.name}", value) for column, value in zip(columns, row, strict=True) if value
            )


def by(items: Sequence[R], key: str) -> dict[Any, list[R]]:
    """Items grouped by one of their attributes."""
    groups: dict[Any, list[R]] = defaultdict(list)
    for item in items:
        groups[getattr(item, key)].append(item)
    return groups


def positions(text: str) -> list[int]:
    """Of a task's `after` or `next`, as the database keeps them."""
    return [int(part) for part in text.split(",") if part]


def from_json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
