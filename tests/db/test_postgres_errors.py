"""What PostgreSQL answers when it cannot: each error as the caller can use it, and what is tried again by itself."""

import asyncpg
import psycopg
import pytest

from orderup.db.database import WriteConnection
from orderup.db.postgres import PostgresDatabase
from orderup.errors import StorageFull, Unavailable
from tests.db.test_claims import ask_for
from tests.db.test_write import count, fact, placed, placing_of, started
from tests.engine.kitchen import DOUGH, Kitchen, Time, key_of

# An event is refused with the error of that code as often as the sequence has not come so far: its numbers are drawn
# for good, even by a transaction that is undone.
FAIL = """
create sequence failures;
create function fail() returns trigger language plpgsql as $$
begin
 if nextval('failures') <= {times} then raise exception 'as the test wants it' using errcode = '{code}'; end if;
 return new;
end $$;
create trigger fail before insert on events for each row execute function fail()"""
HEAL = "drop trigger fail on events; drop function fail; drop sequence failures"
ALWAYS = 1_000_000


def fail(database: PostgresDatabase, code: str, *, times: int = ALWAYS) -> None:
    with psycopg.connect(database.url) as connection:
        connection.execute(FAIL.format(code=code, times=times).encode())


def heal(database: PostgresDatabase) -> None:
    with psycopg.connect(database.url) as connection:
        connection.execute(HEAL)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("53100", StorageFull),  # disk full
        ("58030", StorageFull),  # I/O error
        ("53200", Unavailable),  # out of memory
        ("57014", Unavailable),  # it took too long
        ("25006", Unavailable),  # a standby
    ],
)
async def test_a_server_that_cannot_write_says_so_and_goes_on_when_it_can(
    cupboard: PostgresDatabase, code: str, error: type[Unavailable]
) -> None:
    kitchen = Kitchen(cupboard, Time())
    operation = await kitchen.place(DOUGH)
    fail(cupboard, code)
    for attempt in (
        cupboard.place(placing_of()),
        cupboard.place(placing_of(also=fact("with rows"), key=key_of("with rows"))),
        cupboard.change(started(operation)),
        cupboard.claim(ask_for("dough")),
        cupboard.write(lambda connection: connection.place(placing_of())),
    ):
        with pytest.raises(Unavailable) as told:
            await attempt
        assert type(told.value) is error
    heal(cupboard)
    assert await count(cupboard) == {"operations": 1, "tasks": 1, "events": 1, "keys": 0, "facts": 0}
    await cupboard.place(placing_of(also=fact("with rows"), key=key_of("with rows")))
    assert len((await cupboard.claim(ask_for("dough", most=5))).claimed) == 2
    assert await cupboard.change(started(await placed(cupboard))) is None


@pytest.mark.parametrize("code", ["40001", "40P01"])
async def test_transactions_that_met_are_tried_again(cupboard: PostgresDatabase, code: str) -> None:
    kitchen = Kitchen(cupboard, Time())
    await kitchen.place(DOUGH)
    fail(cupboard, code, times=2)
    operation = await placed(cupboard)
    heal(cupboard)
    fail(cupboard, code, times=2)
    assert await cupboard.change(started(operation)) is None
    heal(cupboard)
    fail(cupboard, code, times=2)
    assert await cupboard.place(placing_of(also=fact("with rows"))) is None
    heal(cupboard)
    fail(cupboard, code, times=2)
    assert len((await cupboard.claim(ask_for("dough"))).claimed) == 1
    heal(cupboard)
    fail(cupboard, code, times=2)
    assert await cupboard.write(lambda connection: connection.place(placing_of())) is None


async def test_what_breaks_a_rule_of_the_tables_fails_alone_and_as_it_is(cupboard: PostgresDatabase) -> None:
    def break_it(connection: WriteConnection) -> None:
        connection.connection.exec_driver_sql("update operations set status = 'lost'")

    await placed(cupboard)
    with pytest.raises(Exception, match="status_is_known"):
        await cupboard.write(break_it)
    fail(cupboard, "23514")
    with pytest.raises(Exception, match="as the test wants it"):
        await placed(cupboard)
    heal(cupboard)
    await placed(cupboard)


async def test_what_a_statement_may_not_do_is_its_own_fault(cupboard: PostgresDatabase) -> None:
    await placed(cupboard)
    for code in ("42501", "55000"):  # at connecting they mean that the server is away
        fail(cupboard, code)
        with pytest.raises(asyncpg.PostgresError, match="as the test wants it"):
            await placed(cupboard)
        with pytest.raises(psycopg.Error, match="as the test wants it"):
            await cupboard.write(lambda connection: connection.place(placing_of()))
        heal(cupboard)
