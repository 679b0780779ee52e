"""PostgreSQL that goes away for a while, and what only PostgreSQL does not take."""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from msgspec.structs import replace

from orderup.db.database import Placing
from orderup.db.postgres import PostgresDatabase
from orderup.db.postgres_link import LONGEST_RETRY_SECONDS
from orderup.engine.desk import Replayed
from orderup.engine.engine import Engine
from orderup.engine.place import place_order
from orderup.errors import Invalid, Misconfigured, Unavailable
from orderup.executors.local import LocalExecutor
from orderup.model.event import Audience, Event
from orderup.model.operation import OperationStatus
from orderup.model.plan import Plan, PlannedTask
from orderup.shop import Context, Shop
from tests.db.test_claims import ask_for
from tests.db.test_log import all_seqs
from tests.db.test_write import count, fact, placed, placing_of, started
from tests.engine.kitchen import check_books, key_of
from tests.services.postgres import PostgresCluster

SECONDS = 60
PLAN = Plan.chain(PlannedTask("knead"), PlannedTask("bake"), PlannedTask("pack"))
TERMINATE = "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and pid <> pg_backend_pid()"

STILL_THERE = "select count(*) from pg_stat_activity where datname = %s"


async def test_a_text_with_a_zero_byte_fails_alone(cupboard: PostgresDatabase) -> None:
    placings = [placing_of() for _ in range(30)]
    bad = placings[11] = replace(placings[11], operation=replace(placings[11].operation, source="\0"))
    outcomes = await asyncio.gather(*map(cupboard.place, placings), return_exceptions=True)
    assert [index for index, outcome in enumerate(outcomes) if outcome is not None] == [11]
    assert isinstance(outcomes[11], Invalid)
    await _is_refused(cupboard, bad)
    assert await count(cupboard) == {"operations": 29, "tasks": 87, "events": 29, "keys": 0, "facts": 0}


async def _is_refused(database: PostgresDatabase, bad: Placing) -> None:
    with pytest.raises(Invalid):
        await database.place(replace(bad, also=fact("with rows")))
    with pytest.raises(Invalid):
        await database.write(lambda connection: connection.place(bad))


async def test_a_change_waits_for_a_transaction_that_only_holds_its_operation(cupboard: PostgresDatabase) -> None:
    change = started(await placed(cupboard))
    with psycopg.connect(cupboard.url) as other:
        other.execute("select from operations where id = %s for update", [change.after.id])
        changing = asyncio.ensure_future(cupboard.change(change))
        for _ in range(10):
            await placed(cupboard)
        assert not changing.done()
    assert await changing is None


class Bakery:
    """A shop at work on a database: an engine, an executor, a follower of its log."""

    def __init__(self, database: PostgresDatabase) -> None:
        self.database = database
        shop = Shop("bakery")
        for name in ("knead", "bake", "pack"):
            shop.handler(name)(self.work)
        self.engine = Engine(database, {"bakery": shop.kinds})
        self.executor = LocalExecutor(self.engine, [shop])
        self.followed: list[Event] = []
        self.completed = 0
        self._moved_on = asyncio.Event()

    async def work(self, _context: Context) -> None:
        """Nothing to do."""

    async def run(self, orders: int, *, disturb: Callable[[], None], every: int) -> None:
        """Carry orders out; `disturb` is called each time that so many more of them are completed."""
        async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
            running = [group.create_task(self.engine.run()), group.create_task(self.executor.run())]
            following = group.create_task(self._follow(orders))
            placing = [group.create_task(self._place(number)) for number in range(orders)]
            for completed in range(0, orders, every):
                await self._until_completed(completed)
                await asyncio.to_thread(disturb)
            await asyncio.gather(following, *placing)
            for task in running:
                task.cancel()

    async def _place(self, number: int) -> None:
        """As a client does: again with the same key for as long as the database is away."""
        while True:
            try:
                await place_order(self.engine, "bakery", PLAN, key=key_of(str(number)))
            except Unavailable:
                await asyncio.sleep(0.05)
            except Replayed:
                return
            else:
                return

    async def _follow(self, orders: int) -> None:
        async for events in self.engine.feed.follow(audience=Audience.INTERNAL):
            self.followed += events
            self.completed += sum(event.type == "operation.completed" for event in events)
            self._moved_on.set()
            if self.completed >= orders:
                return

    async def _until_completed(self, number: int) -> None:
        while self.completed < number:
            self._moved_on.clear()
            await self._moved_on.wait()


async def _check(bakery: Bakery, orders: int) -> None:
    database = bakery.database
    assert [event.seq for event in bakery.followed] == await all_seqs(database)
    ids = {event.operation_id for event in bakery.followed}
    operations = await database.load(list(ids))
    assert [each.status for each in operations.values()] == [OperationStatus.COMPLETED] * orders
    await check_books(database)


class Gate:
    """Closes a database to those who connect as `url` says, and ends the connections that they have."""

    def __init__(self, url: str, role: str, *, shut: str, open_: str) -> None:
        self.url = url.replace("postgres@", f"{role}@")
        self._shut, self._open = shut, open_
        self._server, _, self._name = url.rpartition("/")

    def shut(self) -> None:
        with psycopg.connect(f"{self._server}/postgres", autocommit=True) as connection:
            connection.execute(self._shut.encode())
            connection.execute(TERMINATE, [self._name])
            while connection.execute(STILL_THERE, [self._name]).fetchone() != (0,):
                time.sleep(0.01)

    def open(self) -> None:
        with psycopg.connect(f"{self._server}/postgres", autocommit=True) as connection:
            connection.execute(self._open.encode())

    def shut_for_a_moment(self) -> None:
        self.shut()
        time.sleep(0.5)
        self.open()


@pytest.fixture(params=["allow_connections", "revoke"])
def gate(request: pytest.FixtureRequest, prepared_postgres: str) -> Iterator[Gate]:
    """Of both ways to close a database: to everybody (55000), to who has no right to connect (42501)."""
    role, name = f"orderup_test_{secrets.token_hex(6)}", prepared_postgres.rpartition("/")[2]
    shut, open_ = f"alter database {name} allow_connections false", f"alter database {name} allow_connections true"
    if request.param == "revoke":
        shut, open_ = f"revoke connect on database {name} from public", f"grant connect on database {name} to public"
    with psycopg.connect(prepared_postgres, autocommit=True) as connection:
        # no superuser, who is let in whatever is revoked, and who can do all that is done here
        connection.execute(
            f"create role {role} login; grant all on all tables in schema public to {role};"
            f"grant all on all sequences in schema public to {role}".encode()
        )
    gate = Gate(prepared_postgres, role, shut=shut, open_=open_)
    try:
        yield gate
    finally:
        gate.open()
        with psycopg.connect(prepared_postgres, autocommit=True) as connection:
            connection.execute(f"drop owned by {role}; drop role {role}".encode())


async def test_a_database_that_lets_nobody_in_is_away_to_who_was_in_before(gate: Gate) -> None:
    database = PostgresDatabase(gate.url)
    await database.open()
    operation = await placed(database)
    await asyncio.to_thread(gate.shut)
    await asyncio.sleep(0.1)  # whatever is written before its end is noticed waits for the server, to find out about it
    async with asyncio.timeout(SECONDS):
        for attempt in (
            database.place(placing_of()),
            database.place(placing_of(also=fact("with rows"))),
            database.change(started(operation)),
            database.claim(ask_for("dough")),
            database.load([operation.id]),
            count(database),
            database.write(lambda connection: connection.place(placing_of())),
            database.log(0).read(1),
            database.end_of_log(),
        ):
            with pytest.raises(Unavailable):
                await attempt
        await asyncio.to_thread(gate.open)
        await asyncio.sleep(LONGEST_RETRY_SECONDS)
        await placed(database)
    assert (await count(database))["operations"] == 2
    await database.close()


async def test_a_database_that_lets_nobody_in_is_the_owners_turn_at_the_first_connection(gate: Gate) -> None:
    gate.shut()
    with pytest.raises(Misconfigured, match=r"^DATABASE_URL .*(not currently accepting|permission denied)"):
        await PostgresDatabase(gate.url).open()


async def test_a_database_that_lets_nobody_in_for_a_while_costs_no_order_and_no_event(gate: Gate) -> None:
    database = PostgresDatabase(gate.url)
    await database.open()
    bakery = Bakery(database)
    await bakery.run(100, disturb=gate.shut_for_a_moment, every=40)
    await _check(bakery, 100)
    await database.close()


async def test_connections_that_are_ended_under_load_cost_no_order_and_no_event(cupboard: PostgresDatabase) -> None:
    bakery = Bakery(cupboard)
    name = cupboard.url.rpartition("/")[2]

    def end_all() -> None:
        with psycopg.connect(cupboard.url, autocommit=True) as connection:
            connection.execute(TERMINATE, [name])

    await bakery.run(300, disturb=end_all, every=25)
    await _check(bakery, 300)


@pytest.mark.parametrize("how", ["restart", "crash"])
async def test_a_server_that_restarts_under_load_costs_no_order_and_no_event(
    postgres_cluster: Callable[[], PostgresCluster], how: str
) -> None:
    cluster = postgres_cluster()
    database = PostgresDatabase(cluster.url)
    await database.open()

    def restart() -> None:
        if how == "crash":
            cluster.kill()
            cluster.start()
        else:
            cluster.restart()

    bakery = Bakery(database)
    await bakery.run(200, disturb=restart, every=70)
    await _check(bakery, 200)
    await database.close()


async def test_while_the_server_is_away_callers_are_told_and_afterwards_served(
    postgres_cluster: Callable[[], PostgresCluster],
) -> None:
    cluster = postgres_cluster()
    database = PostgresDatabase(cluster.url)
    await database.open()
    operation = await placed(database)
    await asyncio.to_thread(cluster.stop)
    async with asyncio.timeout(SECONDS):
        for attempt in (
            database.place(placing_of()),
            database.place(placing_of(also=fact("with rows"))),
            database.change(started(operation)),
            database.load([operation.id]),
            count(database),
            database.log(0).read(1),
            database.end_of_log(),
        ):
            with pytest.raises(Unavailable) as told:
                await attempt
            assert told.value.retry_after.total_seconds() == 2
        await asyncio.to_thread(cluster.start)
        while True:
            try:
                await placed(database)
                break
            except Unavailable:
                await asyncio.sleep(0.05)
    assert (await count(database))["operations"] == 2
    await database.close()
