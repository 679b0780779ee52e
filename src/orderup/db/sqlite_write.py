"""Writing placings and changes to SQLite, inside a transaction that the caller holds."""

import sqlite3
from collections.abc import Mapping, Sequence

from sqlalchemy.engine import Connection

from orderup.db.database import Change, GateClosed, Key, KeyTaken, Placing, Refusal, WriteConnection
from orderup.db.noted import by_shape
from orderup.db.permits import CALLING, OVER, host_clock
from orderup.db.recent import EventWriter
from orderup.db.rows import (
    OPERATION_CHANGES,
    OPERATION_COLUMNS,
    RFA_CHANGES,
    RFA_COLUMNS,
    TASK_CHANGES,
    TASK_COLUMNS,
    assemble,
    operation_changes,
    operation_row,
    rfa_changes,
    rfa_row,
    task_changes,
    task_row,
)
from orderup.db.sqlite_rows import insert, quoted, update, write_shop_rows
from orderup.model.operation import Operation

INSERT_OPERATIONS = insert("operations", OPERATION_COLUMNS)
INSERT_TASKS = insert("tasks", TASK_COLUMNS)
INSERT_RFAS = insert("rfas", RFA_COLUMNS)
INSERT_KEY = "insert or ignore into keys (key, operation_id, fingerprint, made_at) values (?, ?, ?, ?)"
OPEN_GATES = update("operations", keys=("id", "version"), columns=("version", *OPERATION_CHANGES))
TELL_OPEN_GATES = update("operations", keys=("id", "version"), columns=("version", *OPERATION_CHANGES), returning="id")
UPDATE_TASKS = update("tasks", keys=("operation_id", "position"), columns=TASK_CHANGES)
UPDATE_RFAS = update("rfas", keys=("operation_id",), columns=RFA_CHANGES)
FREE_PERMIT = f"""
update permits set held = {OVER}, taken_at = case when held = {CALLING} then ? else taken_at end
where operation_id = ? and position = ? and held <> {OVER}
"""
REFUND_PERMIT = f"delete from permits where operation_id = ? and position = ? and held <> {OVER}"


class SqliteWrite(WriteConnection):
    """A write transaction; hot statements go straight to the driver."""

    def __init__(self, connection: Connection, driver: sqlite3.Connection) -> None:
        super().__init__(connection)
        self.driver = driver
        self.events = EventWriter(driver)

    def load(self, operation_id: int) -> Operation | None:
        return load_operations(self.driver, [operation_id]).get(operation_id)

    def place(self, placing: Placing) -> KeyTaken | None:
        if placing.key is not None and (taken := self._take(placing.key, placing.operation.id)):
            return taken
        if placing.also is not None:
            placing.also(self)
        self.insert([placing])
        return None

    def insert(self, placings: Sequence[Placing]) -> None:
        operations = [placing.operation for placing in placings]
        INSERT_OPERATIONS.run(self.driver, [operation_row(operation) for operation in operations])
        INSERT_TASKS.run(self.driver, [task_row(each.id, task) for each in operations for task in each.tasks])
        INSERT_RFAS.run(self.driver, [rfa_row(each, each.rfa) for each in operations if each.rfa])
        self.events.insert([event for placing in placings for event in placing.events])

    def _take(self, key: Key, operation_id: int) -> KeyTaken | None:
        """Make the key ours, or say whose it is."""
        row = (key.key, operation_id, key.fingerprint, key.made_at)
        if self.driver.execute(INSERT_KEY, row).rowcount:
            return None
        found = self.driver.execute("select operation_id, fingerprint from keys where key = ?", (key.key,)).fetchone()
        return KeyTaken(*found)

    def change(self, change: Change) -> Refusal | None:
        if change.key is not None and (taken := self._take(change.key, change.after.id)):
            return taken
        if not self.gates([change]):
            if change.key is not None:
                self.driver.execute("delete from keys where key = ?", (change.key.key,))
            return GateClosed()
        self.store([change])
        if change.also is not None:
            change.also(self)
        return None

    def gates(self, changes: Sequence[Change]) -> set[int]:
        """Operations, each in one change only, that were at the version it was worked out from and now are at its
        own."""
        rows = [
            (each.before.id, each.before.version, each.after.version, *operation_changes(each.after))
            for each in changes
        ]
        if len(rows) == 1:
            return {rows[0][0]} if OPEN_GATES.run(self.driver, rows) else set()
        self.driver.execute("savepoint gates")
        accepted = {row[0] for row in rows}
        if OPEN_GATES.run(self.driver, rows) != len(rows):
            # which, is asked only when one was refused: to return rows takes longer than to write them
            self.driver.execute("rollback to gates")
            accepted = {id for (id,) in TELL_OPEN_GATES.returned(self.driver, rows)}
        self.driver.execute("release gates")
        return accepted

    def store(self, changes: Sequence[Change]) -> None:
        """Write what accepted changes alter beside their operation's row."""
        UPDATE_TASKS.run(
            self.driver,
            [(each.after.id, task.position, *task_changes(task)) for each in changes for task in each.tasks],
        )
        decided = [
            (each.after.id, *rfa_changes(each.after.rfa))
            for each in changes
            if each.after.rfa is not None and each.after.rfa is not each.before.rfa
        ]
        UPDATE_RFAS.run(self.driver, decided)
        self.events.insert([event for each in changes for event in each.events])
        freed = [(host_clock(), each.after.id, position) for each in changes for position in each.freed]
        if freed:
            self.driver.executemany(FREE_PERMIT, freed)
        refunded = [(each.after.id, position) for each in changes for position in each.refunded]
        if refunded:
            self.driver.executemany(REFUND_PERMIT, refunded)
        for shape, rows in by_shape((each.after.id, row) for each in changes for row in each.rows).items():
            write_shop_rows(self.driver, shape, [values for _, *values in rows])


def load_operations(driver: sqlite3.Connection, ids: Sequence[int]) -> Mapping[int, Operation]:
    found: dict[int, Operation] = {}
    for start in range(0, len(ids), 500):
        some = tuple(ids[start : start + 500])
        marks = _marks(len(some))
        found.update(
            assemble(
                driver.execute(
                    f"select {quoted(OPERATION_COLUMNS)} from operations where id in ({marks})", some
                ).fetchall(),
                driver.execute(
                    f"select {quoted(TASK_COLUMNS)} from tasks where operation_id in ({marks})", some
                ).fetchall(),
                driver.execute(
                    f"select {quoted(RFA_COLUMNS)} from rfas where operation_id in ({marks})", some
                ).fetchall(),
            )
        )
    return found


def _marks(count: int) -> str:
    return ", ".join("?" * count)
