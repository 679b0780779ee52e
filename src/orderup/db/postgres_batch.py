"""A batch of placings or changes as one PostgreSQL statement: one transaction, one round trip, however many there are.

Rows travel as one array a column, written out as text: to encode an array, asyncpg asks of each of its values whether
it is iterable, which takes longer than everything else that this process does for a batch. A statement returns the ids
of what it accepted; what it does not return was refused and has left no trace. Two rules hold the log together: events
are inserted in the order of the arrays, so that an operation's `seq` rises with its `n`; and they are read from the CTE
that wrote the operations, so that nothing is inserted for what was refused.

The texts have `$1` placeholders, which asyncpg and psycopg's RawCursor both read.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from msgspec import json
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql

from orderup.db.database import Change, Placing
from orderup.db.noted import Shape, by_shape
from orderup.db.permits import CALLING, NOW, OVER
from orderup.db.rows import (
    EVENT_COLUMNS,
    OPERATION_CHANGES,
    OPERATION_COLUMNS,
    RFA_CHANGES,
    RFA_COLUMNS,
    TASK_CHANGES,
    TASK_COLUMNS,
    event_row,
    operation_changes,
    operation_row,
    rfa_changes,
    rfa_row,
    task_changes,
    task_row,
)
from orderup.db.tables import events, keys, operations, rfas, tasks

CHANNEL = "orderup"
# A column beside those of a shop's row: the operation that it is written with.
_OF = "of operation"
KEY_COLUMNS = ("key", "operation_id", "fingerprint", "made_at")

Columns = list[str]


def _plain(value: Any) -> Any:
    """Kinds of texts and numbers that JSON does not know. Raises TypeError of anything else."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    raise TypeError(f"{type(value).__name__} cannot be stored")


_as_json = json.Encoder(enc_hook=_plain).encode


class Text:
    """A statement being written: counts its placeholders."""

    def __init__(self) -> None:
        self.placeholders = 0

    def one(self, type: str) -> str:
        self.placeholders += 1
        return f"${self.placeholders}::{type}"

    def rows(self, alias: str, columns: Sequence[str], types: Sequence[str]) -> str:
        """Rows from an array for each column, as something to select from."""
        arrays = ", ".join(f"{self.one('text')}::{type}[]" for type in types)
        return f"unnest({arrays}) with ordinality as {alias}({quoted((*columns, 'i'))})"


def quoted(columns: Iterable[str], *, of: str = "") -> str:
    prefix = f"{of}." if of else ""
    return ", ".join(f'{prefix}"{column}"' for column in columns)


def types_of(table: Table, columns: Iterable[str]) -> list[str]:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    return ["text" if "CHAR" in (type := table.c[name].type.compile(dialect)) else type.lower() for name in columns]


def set_from(alias: str, columns: Iterable[str]) -> str:
    return ", ".join(f'"{column}" = {alias}."{column}"' for column in columns)


def _notification(text: Text) -> str:
    """One notification a commit, to those who listen; null: nobody does."""
    tag = text.one("text")
    return f"(select case when {tag} is not null then pg_notify('{CHANNEL}', {tag})::text end)"


def _insert(text: Text, table: Table, columns: Sequence[str], *, of: str, identity: str = "operation_id") -> str:
    """Rows of those operations that the CTE `of` wrote."""
    rows = text.rows("u", columns, types_of(table, columns))
    return (
        f"insert into {table.name} ({quoted(columns)}) select {quoted(columns, of='u')} from {rows}"
        f" where {_is_of(of, identity)} order by u.i"
    )


def _is_of(cte: str, identity: str) -> str:
    """Whether that CTE wrote the operation of a row `u`. That it is "true" keeps the planner from making a join of it,
    which it would carry out as loop in a loop, for it takes the two for short. So it looks each up in a table of
    hashes, whatever their numbers."""
    return f"(u.{identity} in (select id from {cte})) is true"


def _write_rows(text: Text, shape: Shape, *, of: str) -> str:
    """Rows of a shop, of those operations that the CTE `of` wrote."""
    table, key, columns = shape
    rows = text.rows("u", (_OF, *columns), ["bigint", *types_of(table, columns)])
    ours = _is_of(of, quoted([_OF]))
    if key is None:
        into = f"{quoted([table.name])} ({quoted(columns)})"
        return f"insert into {into} select {quoted(columns, of='u')} from {rows} where {ours}"
    changes = set_from("u", (name for name in columns if name != key))
    where = f"p.{quoted([key])} = u.{quoted([key])} and {ours}"
    return f"update {quoted([table.name])} p set {changes} from {rows} where {where}"


@cache
def place_statement(*, with_keys: bool, with_rfas: bool, shapes: tuple[Shape, ...]) -> str:
    """Arguments: see `place_arguments`. Returns the ids of the operations inserted."""
    text = Text()
    ctes = []
    ours = ""
    if with_keys:
        rows = text.rows("u", KEY_COLUMNS, types_of(keys, KEY_COLUMNS))
        # in the order of the keys: two batches that meet cannot each wait for the other
        ctes.append(
            f"k as (insert into keys ({quoted(KEY_COLUMNS)}) select {quoted(KEY_COLUMNS, of='u')} from {rows}"
            " order by u.key on conflict do nothing returning operation_id)"
        )
        ours = f" where not u.id = any({text.one('bigint[]')}) or u.id in (select operation_id from k)"
    rows = text.rows("u", OPERATION_COLUMNS, types_of(operations, OPERATION_COLUMNS))
    ctes.append(
        f"o as (insert into operations ({quoted(OPERATION_COLUMNS)}) select {quoted(OPERATION_COLUMNS, of='u')}"
        f" from {rows}{ours} returning id)"
    )
    ctes.append(f"t as ({_insert(text, tasks, TASK_COLUMNS, of='o')})")
    if with_rfas:
        ctes.append(f"r as ({_insert(text, rfas, RFA_COLUMNS, of='o')})")
    ctes.append(f"e as ({_insert(text, events, EVENT_COLUMNS, of='o')})")
    ctes += [f"s{number} as ({_write_rows(text, shape, of='o')})" for number, shape in enumerate(shapes)]
    return f"with {', '.join(ctes)} select id, {_notification(text)} from o"


def place_arguments(placings: Sequence[Placing], *, tag: str | None) -> tuple[str, list[Any]]:
    """The statement that inserts them, and its arguments. No key may be in it twice."""
    keyed = [(each.operation.id, each.key) for each in placings if each.key is not None]
    asked = [(each.operation, each.operation.rfa) for each in placings if each.operation.rfa is not None]
    arguments: list[Any] = []
    if keyed:
        arguments += columns_of([(key.key, id, key.fingerprint, key.made_at) for id, key in keyed], 4)
        arguments.append([id for id, _ in keyed])
    arguments += columns_of([operation_row(each.operation) for each in placings], len(OPERATION_COLUMNS))
    tasks = [task_row(each.operation.id, task) for each in placings for task in each.operation.tasks]
    arguments += columns_of(tasks, len(TASK_COLUMNS))
    if asked:
        arguments += columns_of([rfa_row(operation, rfa) for operation, rfa in asked], len(RFA_COLUMNS))
    events = [event_row(event) for each in placings for event in each.events]
    arguments += columns_of(events, len(EVENT_COLUMNS))
    shop_rows = by_shape((each.operation.id, row) for each in placings for row in each.rows)
    for shape, some in shop_rows.items():
        arguments += columns_of(some, 1 + len(shape.columns))
    statement = place_statement(with_keys=bool(keyed), with_rfas=bool(asked), shapes=tuple(shop_rows))
    return statement, [*arguments, tag]


_GATE = ("id", "before", "version", *OPERATION_CHANGES)
_GATE_TYPES = ["bigint", "integer", *types_of(operations, ("version", *OPERATION_CHANGES))]
_TASK = ("operation_id", "position", *TASK_CHANGES)
_RFA = ("operation_id", *RFA_CHANGES)
_PERMIT = ("operation_id", "position")


@cache
def change_statement(*, with_rfas: bool, with_freed: bool, with_refunded: bool, shapes: tuple[Shape, ...] = ()) -> str:
    """Arguments: see `change_arguments`. Returns the ids of the operations changed.

    Rows are locked before anything is written, and one that another transaction holds is not waited for: whoever holds
    it is changing that operation, so this change is about to be refused anyway. So batches never wait for each other
    and cannot deadlock.
    """
    text = Text()
    gates, rows = text.rows("u", _GATE, _GATE_TYPES), text.rows("u", _TASK, types_of(tasks, _TASK))
    ctes = [
        f"""l as materialized (select {quoted(_GATE, of="u")} from {gates}
 cross join lateral (select from operations p where p.id = u.id and p.version = u.before for update skip locked) p)""",
        f"""o as (update operations p set {set_from("l", ("version", *OPERATION_CHANGES))} from l
 where p.id = l.id returning p.id)""",
        f"""t as (update tasks t set {set_from("u", TASK_CHANGES)} from {rows}
 where t.operation_id = u.operation_id and t.position = u.position and {_is_of("o", "operation_id")})""",
    ]
    if with_rfas:
        rows = text.rows("u", _RFA, types_of(rfas, _RFA))
        ctes.append(
            f"r as (update rfas r set {set_from('u', RFA_CHANGES)} from {rows}"
            f" where r.operation_id = u.operation_id and {_is_of('o', 'operation_id')})"
        )
    ours = _is_of("o", "operation_id")
    held = f"where p.operation_id = u.operation_id and p.position = u.position and {ours}"
    if with_freed:
        rows = text.rows("u", _PERMIT, types_of(tasks, _PERMIT))
        at = f"case when p.held = {CALLING} then {NOW} else p.taken_at end"
        ctes.append(
            f"f as (update permits p set held = {OVER}, taken_at = {at} from {rows} {held} and p.held <> {OVER})"
        )
    if with_refunded:
        rows = text.rows("u", _PERMIT, types_of(tasks, _PERMIT))
        ctes.append(f"d as (delete from permits p using {rows} {held} and p.held <> {OVER})")
    ctes.append(f"e as ({_insert(text, events, EVENT_COLUMNS, of='o')})")
    ctes += [f"s{number} as ({_write_rows(text, shape, of='o')})" for number, shape in enumerate(shapes)]
    return f"with {', '.join(ctes)} select id, {_notification(text)} from o"


def change_arguments(changes: Sequence[Change], *, tag: str | None) -> tuple[str, list[Any]]:
    """The statement that writes them, and its arguments. No operation may be in it twice."""
    gates = [
        (each.after.id, each.before.version, each.after.version, *operation_changes(each.after)) for each in changes
    ]
    rows = [(each.after.id, task.position, *task_changes(task)) for each in changes for task in each.tasks]
    decided = [
        (each.after.id, *rfa_changes(each.after.rfa))
        for each in changes
        if each.after.rfa is not None and each.after.rfa is not each.before.rfa
    ]
    freed = [(each.after.id, position) for each in changes for position in each.freed]
    refunded = [(each.after.id, position) for each in changes for position in each.refunded]
    arguments = columns_of(gates, len(_GATE)) + columns_of(rows, len(_TASK))
    for some, width in ((decided, len(_RFA)), (freed, 2), (refunded, 2)):
        if some:
            arguments += columns_of(some, width)
    arguments += columns_of([event_row(event) for each in changes for event in each.events], len(EVENT_COLUMNS))
    shop_rows = by_shape((each.after.id, row) for each in changes for row in each.rows)
    for shape, some in shop_rows.items():
        arguments += columns_of(some, 1 + len(shape.columns))
    statement = change_statement(
        with_rfas=bool(decided), with_freed=bool(freed), with_refunded=bool(refunded), shapes=tuple(shop_rows)
    )
    return statement, [*arguments, tag]


def columns_of(rows: Sequence[Sequence[Any]], width: int) -> Columns:
    """Rows turned to columns; `width` of them even if there is no row."""
    return [array(column) for column in zip(*rows, strict=True)] if rows else ["{}"] * width


def array(column: Sequence[Any]) -> str:
    """Numbers or texts as PostgreSQL reads an array. One of nothing but nulls is sent as no values: `unnest` fills it
    up, and about half of the columns are such."""
    if column[0] is None and column.count(None) == len(column):
        return "{}"
    try:
        text = _as_json(column).decode()
    except (OverflowError, UnicodeEncodeError):  # PostgreSQL says what it makes of that
        return _array_of_elements(column)
    return f"{{{text[1:-1]}}}" if _reads_alike(text) else _array_of_elements(column)


def _reads_alike(text: str) -> bool:
    """Whether JSON's array is PostgreSQL's, too, but for the brackets. Both escape quotes and backslashes alike, and
    nothing else is escaped in an array."""
    return "\\" not in text or "\\" not in text.replace("\\\\", "").replace('\\"', "")


def _array_of_elements(column: Sequence[Any]) -> str:
    return f"{{{','.join(['NULL' if value is None else _element(value) for value in column])}}}"


def _element(value: Any) -> str:
    value = _plain(value)
    if not isinstance(value, str):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
