"""From a URL to a database, and what is said when it leads nowhere."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Column, Integer, MetaData, Table, select

from orderup.db.connect import open_database
from orderup.db.postgres import PostgresDatabase
from orderup.db.sqlite import SqliteDatabase
from orderup.errors import Misconfigured, Unavailable
from orderup.shop import Shop
from tests.services.postgres import new_database


def test_a_path_is_a_file_from_here_or_from_the_root() -> None:
    here, root = open_database("sqlite:///var/orderup.db"), open_database("sqlite:////srv/orderup.db")
    assert isinstance(here, SqliteDatabase)
    assert isinstance(root, SqliteDatabase)
    assert (here.path, root.path) == (Path("var/orderup.db"), Path("/srv/orderup.db"))


def test_no_path_is_memory() -> None:
    database = open_database("sqlite://")
    assert isinstance(database, SqliteDatabase)
    assert database.path is None


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_postgresql_goes_by_both_its_names(scheme: str) -> None:
    database = open_database(f"{scheme}://ann@db.example/shop")
    assert isinstance(database, PostgresDatabase)
    assert database.url == "postgresql://ann@db.example/shop"


@pytest.mark.parametrize(
    "url", ["", "sqlite", "sqlite:", "sqlite:///", "sqlite://file.db", "mysql://a/b", "postgresql:"]
)
def test_any_other_url_is_refused_in_words(url: str) -> None:
    with pytest.raises(Misconfigured, match="DATABASE_URL"):
        open_database(url)


def test_a_refusal_does_not_tell_the_password() -> None:
    with pytest.raises(Misconfigured) as told:
        open_database("mysql://ann:s3cret@db.example/shop")
    assert "s3cret" not in str(told.value)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgres_url"))])
async def test_a_database_holds_the_tables_of_its_shops(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    tables = MetaData()
    breads = Table("bakery_breads", tables, Column("id", Integer, primary_key=True))
    shops = [Shop("bakery", tables=tables), Shop("hall")]
    url = request.getfixturevalue("postgres_database") if kind == "postgresql" else f"sqlite:///{tmp_path / 'a.db'}"
    database = open_database(url, shops=shops)
    await database.open()
    assert await database.read(lambda connection: connection.execute(select(breads)).fetchall()) == []
    await database.close()


async def test_a_database_that_does_not_exist_is_the_owners_turn(postgres_url: str) -> None:
    database = open_database(f"{postgres_url.rpartition('/')[0]}/no_such_database")
    with pytest.raises(Misconfigured, match="no_such_database"):
        await database.open()


async def test_a_user_who_may_not_make_tables_is_the_owners_turn(postgres_database: str) -> None:
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("revoke create on schema public from public")
        connection.execute("drop role if exists orderup_test_reader")
        connection.execute("create role orderup_test_reader login")
    try:
        database = open_database(postgres_database.replace("postgres@", "orderup_test_reader@"))
        with pytest.raises(Misconfigured, match="permission denied"):
            await database.open()
    finally:
        with psycopg.connect(postgres_database, autocommit=True) as connection:
            connection.execute("drop role orderup_test_reader")


async def test_a_database_of_another_encoding_is_the_owners_turn(postgres_url: str) -> None:
    with new_database(postgres_url) as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create database orderup_test_latin encoding latin1 locale 'C' template template0")
        try:
            database = open_database(f"{url.rpartition('/')[0]}/orderup_test_latin")
            with pytest.raises(Misconfigured, match="LATIN1"):
                await database.open()
        finally:
            connection.execute("drop database orderup_test_latin with (force)")


async def test_a_server_that_does_not_answer_may_be_asked_again(free_port: Callable[[], int]) -> None:
    database = open_database(f"postgresql://postgres@127.0.0.1:{free_port()}/postgres")
    with pytest.raises(Unavailable):
        await database.open()
