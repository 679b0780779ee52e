"""What the engine asks of a database, whichever it is.

Decide in memory, write through a gate, commit in groups: a change was worked out from an operation at some version; it
is accepted only if the database still has that version, and raises it. Many changes share a commit, each accepted or
refused by itself. Because every change of an operation by anyone raises its version, no message between processes is
needed for a cancel, a pause or a rescue to be safe.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
from msgspec.structs import replace
from sqlalchemy import BigInteger, ColumnElement, CursorResult, Executable, Table, any_, insert, literal, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from orderup.model.event import Event
from orderup.model.kind import Kind, Rate
from orderup.model.operation import Draft, Operation
from orderup.model.task import Task, TaskStatus

T = TypeVar("T")
_RUNNING = TaskStatus.RUNNING  # looked up once
# Told of each write transaction: how many items it was for, and how many seconds it took.
CommitObserver = Callable[[int, float], None]


class Key(msgspec.Struct, frozen=True):
    """What makes a request happen once. `key` is scoped by its maker; `fingerprint` tells one request from another."""

    key: str
    fingerprint: str
    made_at: int


class ReadConnection:
    """A connection that reads. Short reads only: an old snapshot left open slows everybody down."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        return self.connection.execute(statement, parameters)

    def rows(self, statement: Executable) -> list[tuple[Any, ...]]:
        """All rows, as plain tuples."""
        return [tuple(row) for row in self.connection.execute(statement).fetchall()]

    def among(self, column: ColumnElement[int], numbers: Collection[int]) -> ColumnElement[bool]:
        """The column is one of these. As one value where the database takes lists: to write out, send and plan five
        hundred placeholders takes longer than to find their rows."""
        if self.connection.dialect.name == "sqlite":
            return column.in_(numbers)
        return column == any_(literal(list(numbers), postgresql.ARRAY(BigInteger)))


class WriteConnection(ReadConnection):
    """A connection in a write transaction, which the caller neither begins nor commits. What runs on it may run more
    than once, and must touch nothing but the database."""

    def insert_or_ignore(self, table: Table, values: Mapping[str, Any]) -> bool:
        """Insert a row unless its key is there; whether it was inserted."""
        dialect = self.connection.dialect.name
        inserting = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
        statement = inserting.values(**values).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
        return self.connection.execute(statement).rowcount == 1

    def insert_row(self, table: Table, values: Mapping[str, Any]) -> None:
        """A function that only inserts and updates rows by this and `update_row`, besides loading and changing the
        operation that it is about, may be spared a transaction of its own: what it writes goes with others'."""
        self.connection.execute(insert(table), values)

    def update_row(self, table: Table, values: Mapping[str, Any], *, key: str) -> None:
        """Of the row that has this value of `key`, which is among the values. There should be an index of that column:
        where many are updated by one statement, each is looked up by itself."""
        others = {name: value for name, value in values.items() if name != key}
        self.connection.execute(update(table).where(table.c[key] == values[key]).values(**others))

    def load(self, operation_id: int) -> Operation | None:
        """An operation that this transaction is about to change."""
        raise NotImplementedError

    def place(self, placing: "Placing") -> "KeyTaken | None":
        """Insert an operation; None, or the key that was there before, and then nothing was inserted."""
        raise NotImplementedError

    def change(self, change: "Change") -> "Refusal | None":
        """Write a change; None, or why it was refused, and then nothing was written."""
        raise NotImplementedError


Also = Callable[[WriteConnection], None]


class ShopRow(NamedTuple):
    """A row to insert, or to update: then `key` names which of the values tell it from others."""

    table: Table
    values: Mapping[str, Any]
    key: str | None = None


class Placing(msgspec.Struct, frozen=True, gc=False):
    """An operation to insert, with its first events. `also` writes rows of the shop in the same transaction; `rows`: if
    it is known which."""

    operation: Operation
    events: Sequence[Event]
    key: Key | None = None
    also: Also | None = None
    rows: Sequence[ShopRow] = ()


class Change(msgspec.Struct, frozen=True, gc=False):
    """An operation as a draft left it. `freed`, `refunded`: positions of limited queues' tasks that stopped running."""

    before: Operation
    after: Operation
    tasks: Sequence[Task]
    events: Sequence[Event]
    freed: Sequence[int] = ()
    refunded: Sequence[int] = ()
    key: Key | None = None
    also: Also | None = None
    rows: Sequence[ShopRow] = ()


class KeyTaken(msgspec.Struct, frozen=True):
    """The key was used before, for this operation."""

    operation_id: int
    fingerprint: str


class GateClosed(msgspec.Struct, frozen=True):
    """The operation is not at the version that the change was worked out from."""


Refusal = KeyTaken | GateClosed


class Shared(msgspec.Struct, frozen=True):
    """An allowance, and the queues that share it, by their names without region."""

    rate: Rate
    queues: frozenset[str]


class Ask(msgspec.Struct, frozen=True):
    """A wish for tasks. `own_lease`: held under the worker's own lease, else each under a lease of its own, which is as
    long as its task says unless `lease_us` says otherwise.
    `limits`: the kinds of those of `queues` that have limits, by the queue's name without region. `shared`: the
    allowances that some of these share, by name."""

    worker: str
    queues: Sequence[str]
    most: int
    now: int
    own_lease: bool
    request: str | None = None
    limits: Mapping[str, Kind] = msgspec.field(default_factory=dict)
    shared: Mapping[str, Shared] = msgspec.field(default_factory=dict)
    lease_us: int | None = None
    asked: float = msgspec.field(default_factory=time.monotonic)

    def at_last(self) -> "Ask":
        """The same, now that it is its turn: to claim from a limited queue may have meant to wait for others, and the
        log is to tell when the permit was spent, not when somebody asked for one."""
        return replace(self, now=self.now + round((time.monotonic() - self.asked) * 1e6))


class Claimed(msgspec.Struct, frozen=True, gc=False):
    """A task that was claimed. `inputs`: results (JSON) of the tasks it depends on, by name. `version`: of the
    operation, once this claim was written."""

    operation_id: int
    shop: str
    version: int
    task: Task
    inputs: Mapping[str, str | None]


class Claims(msgspec.Struct, frozen=True):
    """`claimed` in the order of the queue. `next_permit_in`: seconds until a limited queue lets more through, if that
    is why fewer came than were asked for."""

    claimed: Sequence[Claimed]
    next_permit_in: float | None = None


class LogReader(Protocol):
    """Reads the event log from a position on: every event once, in order, none that commits late is skipped."""

    position: int

    async def read(self, most: int) -> Sequence[Event]:
        """The next events, or none now."""
        ...


class Database(Protocol):
    """Hot verbs (place, change, claim, load, look_up) share commits and round trips; `write` and `read` run any
    function."""

    name: str  # "sqlite" or "postgresql"

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    def place(self, placing: Placing) -> "asyncio.Future[KeyTaken | None]": ...
    def change(self, change: Change) -> "asyncio.Future[Refusal | None]": ...
    async def claim(self, ask: Ask) -> Claims: ...
    async def load(self, ids: Sequence[int]) -> Mapping[int, Operation]: ...
    async def look_up(self, table: Table, ids: Sequence[int]) -> Mapping[int, Mapping[str, Any]]:
        """Rows of a shop whose primary key is one number, by that number."""
        ...

    async def write(
        self, fn: Callable[[WriteConnection], T], *, about: int | None = None, known: Operation | None = None
    ) -> T:
        """`about`: the one operation that it changes, if it is short and may share a transaction with others like it;
        it then may run again because another one failed. `known`: that operation as the caller last saw it: what is
        worked out of it is written if it still stands so, and else worked out anew."""
        ...

    async def read(self, fn: Callable[[ReadConnection], T]) -> T: ...
    def log(self, after: int) -> LogReader: ...
    async def end_of_log(self) -> int: ...
    async def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` whenever another process may have committed, until cancelled."""
        ...

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each commit of this process."""
        ...

    def observe_commits(self, observer: CommitObserver) -> None:
        """Call `observer` in the event loop after each write transaction of this process."""
        ...


def tellable(error: BaseException) -> Exception:
    """What a function raised, as something that can be raised where it is awaited: there, other exceptions would end
    the iteration, the task or the process."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    told = RuntimeError(f"A function that writes raised {type(error).__name__}. Nothing of it was written.")
    told.__cause__ = error
    return told


def sole_key(table: Table) -> str:
    """The one column of a table's primary key."""
    [column] = table.primary_key.columns
    return column.name


def change_of(
    draft: Draft, *, limited: Callable[[str], bool], key: Key | None = None, also: Also | None = None
) -> Change:
    """The change that a draft comes to. `limited` tells whether a queue has limits, so that its slots are freed."""
    before = draft.base.tasks
    freed: list[int] = []
    refunded: list[int] = []
    for position, task in draft.changed.items():
        if before[position].status is _RUNNING and task.status is not _RUNNING and limited(task.queue):
            (refunded if position in draft.refunded else freed).append(position)
    return Change(draft.base, draft.result(), tuple(draft.changed.values()), draft.events, freed, refunded, key, also)
