"""However many deliveries there have been, none of what is done to them reads them all."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, create_engine, event, text

from orderup.db.database import WriteConnection
from orderup.db.deliveries import (
    Outcome,
    list_deliveries,
    look_back_to,
    read_due,
    register_target,
    settle,
    target_states,
)
from orderup.db.tables import metadata
from orderup.model.delivery import DeliveryState
from orderup.model.event import Audience, Event

SHELF = "shelf"
PENDING, DELIVERED, FAILED = DeliveryState
Work = Callable[[WriteConnection], object]


@pytest.fixture
def connection() -> Iterator[Connection]:
    """Of SQLite, whose plans do not hang on how many rows there are."""
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.connect() as connection:
        register_target(WriteConnection(connection), SHELF, place="here", position=0)
        yield connection
    engine.dispose()


def plans_of(connection: Connection, work: Work) -> list[str]:
    statements: list[tuple[str, tuple[object, ...]]] = []

    def note(_connection: object, _cursor: object, text: str, given: tuple[object, ...], *_: object) -> None:
        statements.append((text, given))

    event.listen(connection, "before_cursor_execute", note)
    work(WriteConnection(connection))
    event.remove(connection, "before_cursor_execute", note)
    plans = [connection.exec_driver_sql(f"explain query plan {text}", given) for text, given in statements]
    return [row[3] for plan in plans for row in plan]


@pytest.mark.parametrize(
    "work",
    [
        lambda connection: read_due(connection, SHELF, now=5, most=9),
        target_states,
        lambda connection: settle(connection, SHELF, [Outcome(1, 2)], now=5),
        lambda connection: list_deliveries(connection, state=PENDING, most=5),
        lambda connection: list_deliveries(connection, state=FAILED, target=SHELF, most=5),
        lambda connection: list_deliveries(connection, operation_id=7, most=5),
        lambda connection: list_deliveries(connection, before=(7, SHELF), most=5),
    ],
)
def test_deliveries_are_looked_up(connection: Connection, work: Work) -> None:
    plans = plans_of(connection, work)
    assert any("SEARCH deliveries" in line for line in plans)
    assert not any("SCAN deliveries" in line or "PRIMARY KEY (target=?)" in line for line in plans), plans


@pytest.mark.parametrize(
    "work",
    [
        lambda connection: list_deliveries(connection, most=5),
        lambda connection: list_deliveries(connection, state=DELIVERED, most=5),
        lambda connection: list_deliveries(connection, target=SHELF, most=5),
        lambda connection: list_deliveries(connection, shop="shop", back_to=7, most=5),
        lambda connection: look_back_to(connection, target=SHELF, state=None, shop=None, before=(7, SHELF)),
    ],
)
def test_lists_are_read_from_their_end_and_never_sorted(connection: Connection, work: Work) -> None:
    assert not any("TEMP B-TREE" in line for line in plans_of(connection, work))


BACKLOG, SOME = 20_000, 500
INSERT = """
insert into events (operation_id, n, at, shop, type, status, message, audience)
select number, {n}, 1, 'shop', 'operation.placed', 'running', '', 1 from generate_series({first}, {last}) number
returning seq, operation_id"""
EVENTS = INSERT.format(n=1, first=1, last=BACKLOG)
DUE = f"""
with told as ({EVENTS}) insert into deliveries (seq, target, operation_id, state, tries, next_try_at, at)
select seq, '{SHELF}', operation_id, 'pending', 0, 1 + seq % 7, 1 from told"""


ARRIVED = f"""
with told as ({EVENTS}) insert into deliveries (seq, target, operation_id, state, tries, ended_at, at)
select seq, '{SHELF}', operation_id, 'delivered', 1, 1, 1 from told"""
# Rows of deliveries that this transaction has looked at, by index or one after the other.
LOOKED_AT = """
select coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) from pg_stat_xact_user_tables where relname = 'deliveries'
"""


@pytest.fixture
def postgres(prepared_postgres: str) -> Iterator[Connection]:
    """In a transaction of its own: the server has no statistics of what it fills its tables with."""
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(prepared_postgres))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def explained(connection: Connection, work: Work) -> list[str]:
    """The plans with what they read, of each statement that looks at deliveries, at the moment at which it is run."""
    lines: list[str] = []

    def note(_connection: Any, cursor: Any, statement: str, given: Any, *_: object) -> None:
        if "FROM deliveries" in statement:
            with cursor.connection.cursor() as beside:
                beside.execute(f"explain (analyze, timing off) {statement}", given)
                lines.extend(row[0] for row in beside)

    event.listen(connection, "before_cursor_execute", note)
    work(WriteConnection(connection))
    event.remove(connection, "before_cursor_execute", note)
    return lines


def test_a_backlog_of_which_postgresql_has_no_statistics_is_read_in_order_and_not_sorted(postgres: Connection) -> None:
    postgres.execute(text(DUE))
    found = []
    plan = explained(postgres, lambda connection: found.append(read_due(connection, SHELF, now=5, most=500)))
    plan += explained(postgres, lambda connection: found.append(read_due(connection, SHELF, now=0, most=500)))
    [(due, later), nothing] = found
    assert nothing == ([], 1)
    assert [each.event.seq % 7 for each in due] == [0] * 500
    assert later is None
    assert any("deliveries_due" in line for line in plan)
    assert not any("Sort" in line or "Seq Scan" in line for line in plan), plan
    assert postgres.execute(text("show enable_sort")).scalar() == "on"


def test_what_came_of_tries_is_written_down_without_a_look_at_what_arrived_before(postgres: Connection) -> None:
    postgres.execute(text(ARRIVED))
    write = WriteConnection(postgres)
    # two events each: the second one waits for the first
    told = [
        Event(operation_id, n, 1, "operation.placed", "shop", None, None, "running", "", Audience.STAFF, seq=seq)
        for n in (1, 2)
        for seq, operation_id in postgres.execute(text(INSERT.format(n=n, first=BACKLOG + 1, last=BACKLOG + SOME)))
    ]
    firsts, seconds = told[:SOME], told[SOME:]
    before = postgres.execute(text(LOOKED_AT)).scalar_one()
    settle(write, SHELF, [], told=told, now=5)
    assert [due.event.seq for due in read_due(write, SHELF, now=5, most=500)[0]] == [each.seq for each in firsts]
    settle(write, SHELF, [Outcome(each.seq, each.operation_id) for each in firsts], now=6)
    assert [due.event.seq for due in read_due(write, SHELF, now=6, most=500)[0]] == [each.seq for each in seconds]
    assert postgres.execute(text(LOOKED_AT)).scalar_one() - before < BACKLOG / 2
