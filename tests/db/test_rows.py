"""How rows travel to the two databases: whatever is in them, in whatever numbers, arrives as it was."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from hypothesis import given, settings, strategies as st

from orderup.db.postgres_batch import array
from orderup.db.rows import EVENT_COLUMNS, TASK_CHANGES, event_row, task_changes
from orderup.db.sqlite_rows import SIZES, insert, update
from orderup.model.event import Audience, Event
from orderup.model.task import Task, TaskStatus

# What PostgreSQL can hold of a text: no NUL, no half of a character.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
numbers = st.integers(-(2**63), 2**63 - 1)


@pytest.fixture(scope="module")
def postgres(postgres_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


@given(column=st.lists(st.none() | texts, min_size=1))
@settings(max_examples=200, deadline=None)
def test_any_texts_arrive_at_postgresql_as_they_were(postgres: psycopg.Connection, column: list[str | None]) -> None:
    [found] = postgres.execute("select %s::text::text[]", [array(tuple(column))]).fetchone() or [None]
    assert found == ([] if set(column) == {None} else column)


@pytest.mark.parametrize(
    "column",
    [
        ["NULL"],
        ["null", None],
        ["{}", "{a,b}"],
        ["", " ", None],
        ['"', "\\", '\\"'],
        ["a\nb"],
        ["\\n", "\\\n"],
        ["{}\t"],
    ],
)
def test_what_looks_like_an_array_is_a_text(postgres: psycopg.Connection, column: list[str | None]) -> None:
    assert postgres.execute("select %s::text::text[]", [array(tuple(column))]).fetchone() == (column,)


@given(column=st.lists(st.none() | numbers, min_size=1))
@settings(max_examples=100, deadline=None)
def test_any_numbers_arrive_at_postgresql_as_they_were(postgres: psycopg.Connection, column: list[int | None]) -> None:
    [found] = postgres.execute("select %s::text::bigint[]", [array(tuple(column))]).fetchone() or [None]
    assert found == ([] if set(column) == {None} else column)


class Words(str):
    __slots__ = ()


class Number(int):
    __slots__ = ()


@pytest.mark.parametrize(
    ("column", "type", "found"),
    [
        ([Words("a"), "b", Words('"\n')], "text", ["a", "b", '"\n']),
        ([Number(7), 8, None], "bigint", [7, 8, None]),
        ([True, False, None], "boolean", [True, False, None]),
    ],
)
def test_kinds_of_texts_and_numbers_arrive_as_what_they_are(
    postgres: psycopg.Connection, column: list[object], type: str, found: list[object]
) -> None:
    assert postgres.execute(f"select %s::text::{type}[]", [array(column)]).fetchone() == (found,)


def test_what_postgresql_cannot_hold_is_left_to_it_to_refuse(postgres: psycopg.Connection) -> None:
    for column, type, error in (((2**70, 1), "bigint", psycopg.DataError), (("\ud800",), "text", UnicodeEncodeError)):
        with pytest.raises(error):
            postgres.execute(f"select %s::text::{type}[]", [array(column)])


@pytest.fixture
def sqlite() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("create table shelf (id integer primary key, place integer, what text)")
        yield connection


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 15, 16, 63, 64, 255, 256, 257, 1_000, 1_024, 2_047])
def test_any_number_of_rows_is_inserted_in_order_and_updated_where_it_matches(
    sqlite: sqlite3.Connection, count: int
) -> None:
    rows = [(number * 7, number % 3, None if number % 2 else f"jar {number}") for number in range(count)]
    insert("shelf", ("id", "place", "what")).run(sqlite, rows)
    assert sqlite.execute("select id, place, what from shelf order by rowid").fetchall() == rows
    changes = [(id, place + id % 2, "moved") for id, place, _ in rows]
    random.Random(count).shuffle(changes)
    shelf = {id: place for id, place, _ in rows}
    moved = update("shelf", keys=("id", "place"), columns=("what",), returning="id").returned(sqlite, changes)
    expected = {id for id, place, _ in changes if place == shelf[id]}
    assert {id for (id,) in moved} == expected
    assert {id for (id,) in sqlite.execute("select id from shelf where what = 'moved'")} == expected


def test_there_is_a_statement_for_a_single_row() -> None:
    assert SIZES[-1] == 1


# Rows are structs taken apart: their fields stand in the order of the columns.


def test_the_row_of_an_event_has_the_columns_of_the_table() -> None:
    event = Event(1, 2, 3, "task.started", "shop", 4, "bake", str(TaskStatus.RUNNING), "hot", int(Audience.STAFF), 9)
    assert event_row(event) == tuple(getattr(event, name) for name in EVENT_COLUMNS)
    assert Event.__struct_fields__ == (*EVENT_COLUMNS, "seq")


def test_the_row_of_a_change_has_the_columns_that_may_change() -> None:
    assert Task.__struct_fields__[-len(TASK_CHANGES) + 1 :] == TASK_CHANGES[1:]
    task = Task(0, "bake", "bake", "shop/bake", TaskStatus.RUNNING, token="t", request="r", blocked_by=3)
    row = dict(zip(TASK_CHANGES, task_changes(task), strict=True))
    assert (row["status"], row["token"], row["request"], row["blocked_by"]) == ("running", "t", "r", 3)
    assert type(row["status"]) is str
