"""LISTEN and NOTIFY: heard by the others, only by the others, and only while there are others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg

from orderup.db.postgres_listen import PostgresListener

SECONDS = 20
NEVER = 3_600.0


class Ear:
    """A listener that is never woken by its own clock, and how often it was told of something."""

    def __init__(self, url: str) -> None:
        self.listener = PostgresListener(url, poll_seconds=NEVER)
        self.calls = 0
        self._called = asyncio.Event()

    def changed(self) -> None:
        self.calls += 1
        self._called.set()

    async def until_called(self) -> None:
        async with asyncio.timeout(SECONDS):
            await self._called.wait()
        self._called.clear()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.listener.run(self.changed))
        await self.until_called()
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def notify(url: str, tag: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("select pg_notify('orderup', %s)", [tag])


async def test_somebody_may_listen_until_it_is_known_that_nobody_does(postgres_database: str) -> None:
    ear = Ear(postgres_database)
    assert ear.listener.tag() is not None
    async with ear.listening():
        assert ear.listener.tag() is None


async def test_who_begins_to_listen_tells_the_others(postgres_database: str) -> None:
    first, second = Ear(postgres_database), Ear(postgres_database)
    async with first.listening():
        assert first.listener.tag() is None
        async with second.listening():
            await first.until_called()
            assert (first.listener.tag(), second.listener.tag()) == (first.listener.name, second.listener.name)


async def test_a_commit_of_another_is_heard_and_ones_own_is_not(postgres_database: str) -> None:
    ear = Ear(postgres_database)
    async with ear.listening():
        for _ in range(5):
            notify(postgres_database, ear.listener.name)
        heard_before = ear.calls
        notify(postgres_database, "another")
        await ear.until_called()
        assert ear.calls == heard_before + 1


async def test_a_lost_connection_is_made_again_and_counts_as_a_change(postgres_database: str) -> None:
    ear = Ear(postgres_database)
    async with ear.listening():
        with psycopg.connect(postgres_database, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'orderup listener'"
                " and datname = current_database()"
            )
        await ear.until_called()
        await asyncio.to_thread(notify, postgres_database, "another")
        await ear.until_called()


async def test_the_slow_poll_calls_though_nothing_was_heard(postgres_database: str) -> None:
    ear = Ear(postgres_database)
    ear.listener = PostgresListener(postgres_database, poll_seconds=0.01)
    async with ear.listening():
        await ear.until_called()
        await ear.until_called()
