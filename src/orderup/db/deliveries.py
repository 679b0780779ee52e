"""Rows of what goes out. Only the holder of a target changes its deliveries, and says in the same transaction that it
still holds it; redelivery alone comes from elsewhere."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    and_,
    column,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from orderup.db.database import ReadConnection, WriteConnection
from orderup.db.rows import EVENT_COLUMNS, read_event
from orderup.db.tables import deliveries, events, targets
from orderup.model.delivery import Delivery, DeliveryState
from orderup.model.event import Event

MOST_COUNTED = 10_000
# How many one page of a list looks through, where few of them may be what is wanted.
MOST_LOOKED_AT = 5_000
# SQLite takes 32,766 values in a statement.
MOST_IDS = 1_000
# Ways to read that begin with all there is; of this transaction only.
_WHOLE = ", ".join(f"'enable_{way}'" for way in ("sort", "bitmapscan", "seqscan", "hashjoin", "mergejoin"))
_ALLOW = text(f"select set_config(way, :is_on, true) from unnest(array[{_WHOLE}]) way")
Before = tuple[int, str] | None
PENDING, DELIVERED, FAILED = (state.value for state in DeliveryState)
# As the index of open ones has it: with `state = …` alone SQLite does not know that it will do.
_IS_OPEN = text("deliveries.state <> 'delivered'")


class Hold(msgspec.Struct, frozen=True):
    """Who holds a target. beat: moves as long as the holder lives. process: where it runs, if that is known. position:
    up to where the log has been followed."""

    holder: str | None
    process: str | None
    beat: int
    position: int


class Due(msgspec.Struct, frozen=True):
    """An event that is to be sent now. tries: those that failed."""

    event: Event
    tries: int


class Outcome(msgspec.Struct, frozen=True):
    """What came of a try. error: None if it arrived. next_try_at: None if it is over."""

    seq: int
    operation_id: int
    error: str | None = None
    next_try_at: int | None = None

    @property
    def state(self) -> str:
        return DELIVERED if self.error is None else PENDING if self.next_try_at is not None else FAILED


class TargetState(msgspec.Struct, frozen=True):
    """How it goes with a target. pending, failed: counted up to MOST_COUNTED. oldest_at: since when the first one that
    is pending is to go out. is_held: somebody sends to it."""

    name: str
    place: str
    pending: int
    failed: int
    oldest_at: int | None
    is_held: bool
    delivered_at: int | None
    failed_at: int | None
    error: str | None

    @property
    def is_failing(self) -> bool:
        """The last try was one that failed."""
        return self.failed_at is not None and self.failed_at >= (self.delivered_at or 0)


# Said of `ended_at` where rows are looked up by other columns: of `state` PostgreSQL would take it as leave to read all
# that is pending from the index of open ones, each time, as long as it does not know how much that is.
_IS_PENDING = deliveries.c.ended_at.is_(None)

# Who holds a target


def register_target(connection: WriteConnection, name: str, *, place: str, position: int) -> None:
    """A new target is told of what happens from `position` on."""
    connection.insert_or_ignore(targets, {"name": name, "place": place, "position": position, "beat": 0})
    connection.execute(update(targets).where(targets.c.name == name).values(place=place))


def read_hold(connection: ReadConnection, name: str) -> Hold:
    columns = (targets.c.holder, targets.c.process, targets.c.beat, targets.c.position)
    [row] = connection.rows(select(*columns).where(targets.c.name == name))
    return Hold(*row)


def take_target(connection: WriteConnection, name: str, *, holder: str, process: str | None, seen: Hold) -> bool:
    """Whether it is this holder's now: not if anybody took it or beat since `seen`."""
    unmoved = and_(targets.c.name == name, targets.c.beat == seen.beat)
    values = {"holder": holder, "process": process, "beat": seen.beat + 1}
    return connection.execute(update(targets).where(unmoved).values(**values)).rowcount == 1


def keep_target(connection: WriteConnection, name: str, *, holder: str, **values: object) -> bool:
    """Whether it is still this holder's; in the transaction of what the holder writes."""
    here = and_(targets.c.name == name, targets.c.holder == holder)
    changed = {**values, "beat": targets.c.beat + 1}
    return connection.execute(update(targets).where(here).values(**changed)).rowcount == 1


def leave_target(connection: WriteConnection, name: str, *, holder: str) -> None:
    keep_target(connection, name, holder=holder, process=None)
    connection.execute(update(targets).where(targets.c.name == name, targets.c.holder == holder).values(holder=None))


# What the holder writes


def settle(
    connection: WriteConnection, target: str, outcomes: Sequence[Outcome], *, told: Sequence[Event] = (), now: int
) -> None:
    """Write down what came of tries, and that each of the events `told` is to go out; what is first of its operation
    goes next."""
    if not outcomes and not told:
        return
    _follow_indexes(connection)
    _write_outcomes(connection, target, outcomes, now=now)
    _let_first_go(connection, target, {each.operation_id for each in outcomes if each.state != PENDING}, now=now)
    _add(connection, target, told, now=now)


def _add(connection: WriteConnection, target: str, told: Sequence[Event], *, now: int) -> None:
    """Of each operation the first is due, unless an earlier one is still pending."""
    firsts: dict[int, int] = {}
    for event in told:
        firsts.setdefault(event.operation_id, event.seq)
    are_behind = _first_pending(connection, target, firsts)
    due = {seq for operation_id, seq in firsts.items() if operation_id not in are_behind}
    row = {"target": target, "state": PENDING, "tries": 0, "at": now}
    for seqs, next_try_at in ((sorted(due), now), ([each.seq for each in told if each.seq not in due], None)):
        values = {**row, "next_try_at": next_try_at}
        given = [literal(value, deliveries.c[name].type).label(name) for name, value in values.items()]
        for first in range(0, len(seqs), MOST_IDS):
            those = connection.among(events.c.seq, seqs[first : first + MOST_IDS])
            rows = select(events.c.seq, events.c.operation_id, *given).where(those)
            connection.execute(insert(deliveries).from_select(["seq", "operation_id", *values], rows))


def _write_outcomes(connection: WriteConnection, target: str, outcomes: Sequence[Outcome], *, now: int) -> None:
    arrived = [each.seq for each in outcomes if each.error is None]
    for first in range(0, len(arrived), MOST_IDS):
        seqs = connection.among(deliveries.c.seq, arrived[first : first + MOST_IDS])
        those = and_(deliveries.c.target == target, seqs)
        connection.execute(
            update(deliveries)
            .where(those, _IS_PENDING)
            .values(state=DELIVERED, tries=deliveries.c.tries + 1, next_try_at=None, ended_at=now, error=None)
        )
    for each in (each for each in outcomes if each.error is not None):
        here = and_(deliveries.c.target == target, deliveries.c.seq == each.seq, _IS_PENDING)
        connection.execute(
            update(deliveries)
            .where(here)
            .values(
                state=each.state,
                tries=deliveries.c.tries + 1,
                next_try_at=each.next_try_at,
                ended_at=None if each.state == PENDING else now,
                error=each.error,
            )
        )


def _let_first_go(connection: WriteConnection, target: str, operation_ids: Collection[int], *, now: int) -> None:
    """Of each operation the first pending delivery is due, unless it is already."""
    # in two statements: as one, PostgreSQL may take the rows of the update first, which are all that ever went out
    seqs = sorted(_first_pending(connection, target, operation_ids).values())
    for first in range(0, len(seqs), MOST_IDS):
        those = and_(deliveries.c.target == target, connection.among(deliveries.c.seq, seqs[first : first + MOST_IDS]))
        connection.execute(update(deliveries).where(those, deliveries.c.next_try_at.is_(None)).values(next_try_at=now))


def _first_pending(connection: ReadConnection, target: str, operation_ids: Collection[int]) -> dict[int, int]:
    """By operation, of those that have any, the seq of its first pending delivery."""
    ids = sorted(operation_ids)
    parts = (ids[first : first + MOST_IDS] for first in range(0, len(ids), MOST_IDS))
    return {id: seq for some in parts for id, seq in connection.rows(_firsts(connection, target, some))}


def _firsts(connection: ReadConnection, target: str, ids: Sequence[int]) -> Select[Any]:
    """Each of these operations that has a pending delivery, and the seq of the first."""
    own = deliveries.alias("own")
    pending = and_(own.c.target == target, own.c.ended_at.is_(None))
    if connection.connection.dialect.name == "sqlite":
        those = and_(own.c.operation_id.in_(ids), pending)
        return select(own.c.operation_id, func.min(own.c.seq)).where(those).group_by(own.c.operation_id)
    # one look for each: what an operation has is not to be guessed at from how many deliveries there are
    each = (
        func.unnest(literal(ids, ARRAY(BigInteger)))
        .table_valued(column("id", BigInteger), name="each")
        .render_derived()
    )
    first = select(own.c.seq).where(own.c.operation_id == each.c.id, pending).order_by(own.c.seq).limit(1)
    lateral = first.lateral("first")
    return select(each.c.id, lateral.c.seq).select_from(each.join(lateral, true()))


def read_due(
    connection: ReadConnection, target: str, *, now: int, most: int, but: Collection[int] = ()
) -> tuple[list[Due], int | None]:
    """What is to be sent now, or, if there is nothing, when the next one comes. but: operations that are left out."""
    here = and_(deliveries.c.target == target, deliveries.c.next_try_at.is_not(None))
    event = [events.c.seq, *(events.c[name] for name in EVENT_COLUMNS)]
    due = (
        select(*event, deliveries.c.tries)
        .join(events, events.c.seq == deliveries.c.seq)
        .where(here, deliveries.c.next_try_at <= now)
        .order_by(deliveries.c.next_try_at, deliveries.c.seq)
        .limit(most)
    )
    if but:
        due = due.where(~connection.among(deliveries.c.operation_id, sorted(but)))
    later = select(func.min(deliveries.c.next_try_at)).where(here, deliveries.c.next_try_at > now)
    with _by_index(connection):
        found = _firsts_of([Due(read_event(row[:-1]), row[-1]) for row in connection.rows(due)])
        # once these have landed one looks again: nobody waits for what comes later
        return found, None if found else connection.execute(later).scalar()


def _firsts_of(due: Sequence[Due]) -> list[Due]:
    """Of each operation one, the first: another may be due since before that one was asked for again."""
    first: dict[int, int] = {}
    for each in due:
        first[each.event.operation_id] = min(first.get(each.event.operation_id, each.event.seq), each.event.seq)
    return [each for each in due if first[each.event.operation_id] == each.event.seq]


@contextmanager
def _by_index(connection: ReadConnection) -> Iterator[None]:
    """What is looked up here follows an index in its order, and stops where it has enough. Without statistics of a
    table that has just grown PostgreSQL takes it for small, and would read all of it, or sort all that waits, each
    time."""
    _follow_indexes(connection)
    yield
    _follow_indexes(connection, is_over=True)


def _follow_indexes(connection: ReadConnection, *, is_over: bool = False) -> None:
    """Until the end of the transaction."""
    if connection.connection.dialect.name == "postgresql":
        connection.execute(_ALLOW, {"is_on": "on" if is_over else "off"})


# What people look at and ask for


def target_states(connection: ReadConnection) -> list[TargetState]:
    found = []
    for row in connection.execute(select(targets).order_by(targets.c.name)):
        pending, oldest = _count(connection, row.name, PENDING)
        failed, _ = _count(connection, row.name, FAILED)
        told = (row.delivered_at, row.failed_at, row.error)
        found.append(TargetState(row.name, row.place, pending, failed, oldest, row.holder is not None, *told))
    return found


def _count(connection: ReadConnection, target: str, state: str) -> tuple[int, int | None]:
    here = and_(deliveries.c.target == target, deliveries.c.state == state, _IS_OPEN)
    some = select(deliveries.c.at).where(here).order_by(deliveries.c.seq).limit(MOST_COUNTED).subquery()
    [(count, oldest)] = connection.rows(select(func.count(), func.min(some.c.at)).select_from(some))
    return count, oldest


def look_back_to(
    connection: ReadConnection, *, target: str | None, state: DeliveryState | None, shop: str | None, before: Before
) -> int | None:
    """The seq down to which a page looks for deliveries of this kind; None: to the end, as an index tells of them."""
    if state in (DeliveryState.PENDING, DeliveryState.FAILED) or not (target or state or shop):
        return None
    newest = (
        select(deliveries.c.seq).where(*_from(before)).order_by(deliveries.c.seq.desc(), deliveries.c.target.desc())
    )
    return connection.execute(newest.offset(MOST_LOOKED_AT).limit(1)).scalar()


def list_deliveries(
    connection: ReadConnection,
    *,
    target: str | None = None,
    state: DeliveryState | None = None,
    operation_id: int | None = None,
    shop: str | None = None,
    before: Before = None,
    back_to: int | None = None,
    most: int,
) -> list[Delivery]:
    """The newest first. shop: events of this one only. before: seq and target of the last one of the page before.
    back_to: seq of the oldest that is looked at."""
    if target is None and state in (DeliveryState.PENDING, DeliveryState.FAILED):
        # they are few, perhaps, among very many that have arrived: looked up by target in their own index
        names = [name for (name,) in connection.rows(select(targets.c.name))]
    else:
        names = [target]
    found = []
    for name in names:
        statement = _deliveries()
        if name is not None:
            statement = statement.where(deliveries.c.target == name)
        if back_to is not None:
            statement = statement.where(deliveries.c.seq >= back_to)
        if state is not None:
            statement = statement.where(deliveries.c.state == state.value)
            if state is not DeliveryState.DELIVERED:
                statement = statement.where(_IS_OPEN)
        found += _newest(connection, statement, operation_id=operation_id, shop=shop, before=before, most=most)
    return sorted(found, key=lambda each: (each.seq, each.target), reverse=True)[:most]


def _newest(
    connection: ReadConnection,
    statement: Select[Any],
    *,
    operation_id: int | None,
    shop: str | None,
    before: Before,
    most: int,
) -> list[Delivery]:
    if operation_id is not None:
        statement = statement.where(deliveries.c.operation_id == operation_id)
    if shop is not None:
        statement = statement.where(events.c.shop == shop)
    ordered = statement.where(*_from(before)).order_by(deliveries.c.seq.desc(), deliveries.c.target.desc()).limit(most)
    return [_read(row) for row in connection.rows(ordered)]


def _from(before: Before) -> list[ColumnElement[bool]]:
    if before is None:
        return []
    seq, name = before
    same = and_(deliveries.c.seq == seq, deliveries.c.target < name)
    # said twice, so that the index is entered where the page begins
    return [deliveries.c.seq <= seq, or_(deliveries.c.seq < seq, same)]


def get_delivery(connection: ReadConnection, seq: int, target: str) -> Delivery | None:
    rows = connection.rows(_deliveries().where(deliveries.c.target == target, deliveries.c.seq == seq))
    return _read(rows[0]) if rows else None


def _deliveries() -> Select[Any]:
    own = (deliveries.c[name] for name in ("tries", "next_try_at", "at", "ended_at", "error"))
    return select(
        deliveries.c.seq,
        deliveries.c.target,
        deliveries.c.state,
        events.c.type,
        events.c.shop,
        deliveries.c.operation_id,
        *own,
    ).join(events, events.c.seq == deliveries.c.seq)


def _read(row: Sequence[Any]) -> Delivery:
    seq, target, state, *rest = row
    return Delivery(seq, target, DeliveryState(state), *rest)


def send_again(connection: WriteConnection, found: Sequence[Delivery], *, now: int) -> None:
    """These are to go out now, as if they had never been tried. One that waits for an earlier one goes on waiting."""
    for each in found:
        here = and_(deliveries.c.target == each.target, deliveries.c.seq == each.seq)
        is_over = deliveries.c.state != PENDING
        anew = {"state": PENDING, "tries": 0, "next_try_at": None, "ended_at": None, "at": now}
        connection.execute(update(deliveries).where(here, is_over).values(**anew))
        is_due = deliveries.c.next_try_at.is_not(None)
        connection.execute(update(deliveries).where(here, is_due).values(next_try_at=now))
        # what comes after it and was about to go waits for it again
        own = and_(deliveries.c.target == each.target, deliveries.c.operation_id == each.operation_id)
        later = and_(own, deliveries.c.seq > each.seq, _IS_PENDING)
        connection.execute(update(deliveries).where(later).values(next_try_at=None))
        _let_first_go(connection, each.target, [each.operation_id], now=now)
