"""The engine's behaviour is one, whichever database it stands on: every test here runs on each of them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from orderup.db.database import Database
from orderup.db.postgres import PostgresDatabase
from orderup.db.sqlite import SqliteDatabase
from orderup.db.tables import metadata
from tests.engine.kitchen import Kitchen, Time, check_books
from tests.services import postgres

KINDS = (
    "sqlite-memory",
    "sqlite-file",
    pytest.param("postgresql", marks=pytest.mark.needs("postgres_url")),
)


class Doors:
    """Opens the one database of a test as often as it likes: each door is as good as a process of its own.

    A database in memory has one door only, which is given to everybody.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._opened: list[Database] = []

    @property
    def are_many(self) -> bool:
        return self.url != "sqlite://"

    @property
    def first(self) -> Database:
        return self._opened[0]

    async def open(self) -> Database:
        if self._opened and not self.are_many:
            return self._opened[0]
        database = open_url(self.url)
        await database.open()
        self._opened.append(database)
        return database

    async def close(self) -> None:
        for database in self._opened:
            await database.close()


def open_url(url: str) -> Database:
    if url.startswith("postgresql:"):
        return PostgresDatabase(url)
    return SqliteDatabase(Path(url.removeprefix("sqlite:///")) if url != "sqlite://" else None)


@pytest.fixture(scope="session")
def migrated_postgres(postgres_url: str) -> Iterator[str]:
    """One database for all tests of a process, emptied by each: making and migrating one takes longer than a test."""
    with postgres.new_database(postgres_url) as url:
        yield url


@pytest.fixture(params=KINDS)
async def doors(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Doors]:
    urls = {"sqlite-memory": "sqlite://", "sqlite-file": f"sqlite:///{tmp_path / 'orderup.db'}"}
    url = urls.get(request.param) or request.getfixturevalue("migrated_postgres")
    doors = Doors(url)
    database = await doors.open()
    if url.startswith("postgresql:"):
        _empty(url)
    yield doors
    await check_books(database)
    await doors.close()


def _empty(url: str) -> None:
    with psycopg.connect(url) as connection:
        # of so few rows that truncating, which makes new files, would take longer
        for table in metadata.tables:
            connection.execute(f"delete from {table}")


@pytest.fixture
async def database(doors: Doors) -> Database:
    return doors.first


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def kitchen(database: Database, time: Time) -> Kitchen:
    return Kitchen(database, time)
