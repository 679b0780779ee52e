"""What is read but not on the hot path: lists, histories, counts. Every query has an index; none grows with history."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, select, tuple_, union_all

from orderup.db.database import KeyTaken, ReadConnection
from orderup.db.rows import (
    EVENT_COLUMNS,
    OPERATION_COLUMNS,
    RFA_COLUMNS,
    read_event,
    read_operation,
    read_rfa,
)
from orderup.db.tables import events, facts, keys, operations, revoked_tokens, rfas
from orderup.model.event import Audience, Event
from orderup.model.operation import Operation, OperationStatus
from orderup.model.rfa import Rfa

DECISIONS = ("rfa.approved", "rfa.declined", "rfa.expired")
LATELY = 1_000
_EVENT = [events.c.seq, *(events.c[name] for name in EVENT_COLUMNS)]


def events_between(
    connection: ReadConnection,
    *,
    after: int,
    until: int,
    operation_id: int | None,
    shop: str | None,
    audience: Audience,
    most: int,
) -> list[Event]:
    """Events with `after < seq <= until`, in order, at most so many."""
    statement = select(*_EVENT).where(events.c.seq > after, events.c.seq <= until, events.c.audience <= int(audience))
    if shop is not None:
        statement = statement.where(events.c.shop == shop)
    if operation_id is not None:
        # an operation's n and seq rise together, so its own index gives the order
        statement = statement.where(events.c.operation_id == operation_id).order_by(events.c.n)
    else:
        statement = statement.order_by(events.c.seq)
    return [read_event(row) for row in _rows(connection, statement.limit(most))]


def last_events(connection: ReadConnection, operation_id: int, *, audience: Audience, most: int) -> list[Event]:
    """The newest events of an operation that this audience may see, at most so many, in order."""
    mine = (events.c.operation_id == operation_id) & (events.c.audience <= int(audience))
    newest = _rows(connection, select(*_EVENT).where(mine).order_by(events.c.n.desc()).limit(most))
    return [read_event(row) for row in reversed(newest)]


def find_key(connection: ReadConnection, key: str) -> KeyTaken | None:
    """What this key was used for, if it was."""
    found = connection.rows(select(keys.c.operation_id, keys.c.fingerprint).where(keys.c.key == key))
    return KeyTaken(*found[0]) if found else None


def pruned_seq(connection: ReadConnection) -> int:
    """The highest `seq` that retention has taken, or 0."""
    value: int | None = connection.execute(select(facts.c.value).where(facts.c.name == "pruned_seq")).scalar()
    return value or 0


def _rows(connection: ReadConnection, statement: Any) -> Sequence[Any]:
    return connection.execute(statement).fetchall()


def is_token_revoked(connection: ReadConnection, jti: str) -> bool:
    statement = select(revoked_tokens.c.jti).where(revoked_tokens.c.jti == jti)
    return connection.execute(statement).first() is not None


def list_operations(
    connection: ReadConnection,
    *,
    shops: Sequence[str],
    statuses: Sequence[str],
    before: int | None,
    most: int,
) -> list[Operation]:
    """The newest first, without their tasks."""
    columns = [operations.c[name] for name in OPERATION_COLUMNS]
    rows = _walk(connection, columns, shops=shops, statuses=statuses, beyond=before, most=most)
    return [read_operation(row, (), None) for row in rows]


def ids_with_row(
    connection: ReadConnection,
    table: Table,
    *,
    shop: str,
    statuses: Sequence[str] = (),
    owner: str | None = None,
    where: ColumnElement[bool] | None = None,
    beyond: int | None,
    most: int,
    oldest_first: bool = False,
) -> list[int]:
    """The ids of a shop's operations that have a row in this table of its own, by `operation_id`; the newest first.
    statuses: none: all. owner: only his; None: everybody's. where: what else holds for the operation; those for which
    it does not are passed over one by one. beyond: only those that come after this one, in the order asked for."""
    rows = _walk(
        connection,
        [operations.c.id],
        shops=[shop],
        statuses=statuses or list(OperationStatus),
        beyond=beyond,
        most=most,
        owner=owner,
        table=table,
        where=where,
        oldest_first=oldest_first,
    )
    return [row[0] for row in rows]


def _walk(
    connection: ReadConnection,
    columns: Sequence[Any],
    *,
    shops: Sequence[str],
    statuses: Sequence[str],
    beyond: int | None,
    most: int,
    owner: str | None = None,
    table: Table | None = None,
    where: ColumnElement[bool] | None = None,
    oldest_first: bool = False,
) -> Sequence[Any]:
    """The first column is the id. One short walk of an index for each pair of shop and status. table: only those that
    have a row there."""
    if not shops or not statuses:
        return []
    id, walks = operations.c.id, []
    for shop in shops:
        for status in statuses:
            walk = select(*columns).where(operations.c.shop == shop, operations.c.status == status)
            if owner is not None:
                walk = walk.where(operations.c.owner == owner)
            if table is not None:
                walk = walk.join(table, table.c.operation_id == id)
            if where is not None:
                walk = walk.where(where)
            if beyond is not None:
                walk = walk.where(id > beyond if oldest_first else id < beyond)
            walks.append(select(walk.order_by(id if oldest_first else id.desc()).limit(most).subquery()))
    rows = _rows(connection, union_all(*walks)) if len(walks) > 1 else _rows(connection, walks[0])
    return sorted(rows, key=lambda row: row[0], reverse=not oldest_first)[:most]


def list_rfas(
    connection: ReadConnection,
    *,
    status: str,
    shops: Sequence[str],
    after: tuple[int, ...] | None,
    most: int,
    latest_first: bool = False,
) -> list[tuple[int, str, Rfa]]:
    """Operation id, shop and RFA, the earliest deadline first, or the latest. `after`: deadline and id of the last one
    seen."""
    found: list[Any] = []
    place = tuple_(rfas.c.expires_at, rfas.c.operation_id)
    for shop in shops:
        walk = _rfas().where(rfas.c.status == status, rfas.c.shop == shop)
        if after is not None:
            walk = walk.where(place < tuple_(*after) if latest_first else place > tuple_(*after))
        order = [column.desc() if latest_first else column for column in (rfas.c.expires_at, rfas.c.operation_id)]
        found += _rows(connection, walk.order_by(*order).limit(most))
    found.sort(key=lambda row: (row[5], row[0]), reverse=latest_first)
    return [(row[0], row[1], read_rfa(row)) for row in found[:most]]


def last_decisions(connection: ReadConnection, *, shops: Sequence[str], most: int) -> list[tuple[int, str, Rfa]]:
    """As `list_rfas`: those decided or expired last, of which one of the last LATELY events tells; the newest first."""
    lately = select(*_EVENT).order_by(events.c.seq.desc()).limit(LATELY).subquery()
    told = select(lately.c.operation_id).where(lately.c.type.in_(DECISIONS), lately.c.shop.in_(shops))
    ids = [row[0] for row in _rows(connection, told.order_by(lately.c.seq.desc()).limit(most))]
    found = {row[0]: row for row in _rows(connection, _rfas().where(rfas.c.operation_id.in_(ids)))}
    return [(id, found[id][1], read_rfa(found[id])) for id in ids if id in found]


def _rfas() -> Select[Any]:
    return select(*(rfas.c[name] for name in RFA_COLUMNS))
