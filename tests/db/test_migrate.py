"""Bringing a database to the present schema, from wherever it stands, however many servers start at once."""

import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Column, Engine, Integer, MetaData, Table, Text, create_engine, inspect, text
from sqlalchemy.pool import NullPool

from orderup.db.migrate import Schema, migrate
from orderup.db.tables import metadata
from orderup.errors import Misconfigured
from tests.services.waiting import PATIENCE_SECONDS

KINDS = ("sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgres_url")))
AT_ONCE = 4


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database, as SQLAlchemy reads it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'orderup.db'}"
    found: str = request.getfixturevalue("postgres_database")
    return found.replace("postgresql:", "postgresql+psycopg:")


def connect(url: str) -> Engine:
    """As the databases of orderup connect."""
    if url.startswith("sqlite"):
        return create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    return create_engine(url, poolclass=NullPool)


@pytest.fixture
def engine(url: str) -> Engine:
    return connect(url)


def run(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def read(engine: Engine, statement: str) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def version(engine: Engine, shop: str) -> object:
    [(found,)] = read(engine, f"select version_num from {shop}_version")
    return found


def differences(engine: Engine) -> list[object]:
    """Between the database and the core tables, as Alembic sees them."""

    def is_core(_object: object, name: str | None, kind: str, *_: object) -> bool:
        return kind != "table" or not (name or "").startswith("bakery_")

    options = {"version_table": "orderup_version", "compare_server_default": True, "include_object": is_core}
    with engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def definitions(engine: Engine) -> set[str]:
    """Of all tables, constraints and indexes, as the database itself writes them down."""
    statement = "select sql from sqlite_master where sql is not null"
    if engine.dialect.name == "postgresql":
        statement = """
        select conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) from pg_constraint
        where connamespace = 'public'::regnamespace
        union all select indexdef from pg_indexes where schemaname = 'public'
        union all select concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default)
        from information_schema.columns where table_schema = 'public'"""
    # what is of one table, in whatever order
    return {" ".join(sorted(str(sql).replace(",", " ").split())) for (sql,) in read(engine, statement)}


def lead_through_all_revisions(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", "orderup.db:migrations")
    with engine.begin() as connection:
        config.attributes.update(connection=connection, version_table="orderup_version", metadata=metadata)
        command.upgrade(config, "head")


def test_a_new_database_has_the_tables_as_the_code_has_them(engine: Engine) -> None:
    migrate(engine)
    assert differences(engine) == []


def test_a_database_led_through_all_revisions_is_the_same_as_a_new_one(engine: Engine) -> None:
    lead_through_all_revisions(engine)
    assert differences(engine) == []
    led, led_to = definitions(engine), version(engine, "orderup")
    with engine.begin() as connection:
        metadata.drop_all(connection)
    run(engine, "drop table orderup_version")
    migrate(engine)
    assert definitions(engine) == led
    assert version(engine, "orderup") == led_to


def test_migrating_again_changes_nothing(engine: Engine) -> None:
    migrate(engine)
    before = definitions(engine)
    run(engine, "insert into facts (name, value) values ('kept', 1)")
    migrate(engine)
    assert definitions(engine) == before
    assert read(engine, "select name, value from facts") == [("kept", 1)]


def test_a_database_of_a_newer_release_is_refused(engine: Engine) -> None:
    migrate(engine)
    run(engine, "update orderup_version set version_num = '9999'")
    with pytest.raises(Misconfigured, match="9999"):
        migrate(engine)


MIGRATE = """
import sys
from sqlalchemy import create_engine
from tests.db.test_migrate import connect
from orderup.db.migrate import migrate
engine = connect(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
migrate(engine)
"""


def test_of_servers_that_start_at_once_one_migrates_and_the_others_wait(url: str) -> None:
    arguments = [sys.executable, "-c", MIGRATE, url]
    pipe = subprocess.PIPE
    servers = [subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(AT_ONCE)]
    for server in servers:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
    answers = [server.communicate("go\n", timeout=PATIENCE_SECONDS) for server in servers]
    assert [(server.returncode, answer[1]) for server, answer in zip(servers, answers, strict=True)] == [
        (0, "")
    ] * AT_ONCE
    assert differences(connect(url)) == []


# Shops' tables.


def breads(*more: Column[object]) -> MetaData:
    tables = MetaData()
    Table("bakery_breads", tables, Column("id", Integer, primary_key=True), Column("name", Text), *more)
    return tables


def test_a_shops_tables_are_made(engine: Engine) -> None:
    migrate(engine, [Schema("bakery", breads())])
    run(engine, "insert into bakery_breads (name) values ('rye')")
    assert read(engine, "select name from bakery_breads") == [("rye",)]
    assert differences(engine) == []


def test_tables_columns_and_indexes_that_are_new_in_a_shop_are_added(engine: Engine) -> None:
    migrate(engine, [Schema("bakery", breads())])
    run(engine, "insert into bakery_breads (name) values ('rye')")
    tables = breads(
        Column("grams", Integer, nullable=False, server_default=text("750")), Column("flour", Text, index=True)
    )
    Table("bakery_ovens", tables, Column("id", Integer, primary_key=True))
    migrate(engine, [Schema("bakery", tables)])
    assert read(engine, "select name, grams, flour from bakery_breads") == [("rye", 750, None)]
    found = inspect(engine)
    assert found.has_table("bakery_ovens")
    assert [index["column_names"] for index in found.get_indexes("bakery_breads")] == [["flour"]]


def test_a_column_that_old_rows_cannot_have_is_refused_and_nothing_is_changed(engine: Engine) -> None:
    migrate(engine, [Schema("bakery", breads())])
    before, stood_at = definitions(engine), version(engine, "bakery")
    tables = breads(Column("flour", Text), Column("grams", Integer, nullable=False))
    with pytest.raises(Misconfigured, match=r"bakery_breads\.grams"):
        migrate(engine, [Schema("bakery", tables)])
    assert (definitions(engine), version(engine, "bakery")) == (before, stood_at)


@pytest.mark.parametrize("name", ["breads", "bakery_version", "orders"])
def test_a_shops_tables_bear_its_name(engine: Engine, name: str) -> None:
    tables = MetaData()
    Table(name, tables, Column("id", Integer, primary_key=True))
    with pytest.raises(Misconfigured, match=name):
        migrate(engine, [Schema("bakery", tables)])


REVISION = """
from alembic import op
from sqlalchemy import Column, Integer, Text

revision = "{number}"
down_revision = {before}


def upgrade():
    {what}
"""
FIRST = 'op.create_table("bakery_breads", Column("id", Integer, primary_key=True), Column("name", Text))'
SECOND = 'op.execute("update bakery_breads set name = upper(name)")'
FAILING = 'op.execute("insert into bakery_breads (name) values (\'x\')"); op.execute("no such statement")'


class Revisions:
    """A package of revisions that a test writes, of a shop whose tables are `breads`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.package = f"bakery_{folder.name.replace('-', '_')}"
        self._folder = folder / self.package
        self._folder.mkdir()
        monkeypatch.syspath_prepend(str(folder))
        self.schema = Schema("bakery", breads(), self.package)

    def add(self, number: int, what: str) -> None:
        before = repr(f"{number - 1:04}") if number > 1 else None
        source = REVISION.format(number=f"{number:04}", before=before, what=what)
        (self._folder / f"v{number:04}_whatever.py").write_text(source)


@pytest.fixture
def revisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Revisions:
    return Revisions(tmp_path, monkeypatch)


def test_a_shops_revisions_are_run_one_after_the_other(engine: Engine, revisions: Revisions) -> None:
    revisions.add(1, FIRST)
    migrate(engine, [revisions.schema])
    run(engine, "insert into bakery_breads (name) values ('rye')")
    revisions.add(2, SECOND)
    migrate(engine, [revisions.schema])
    migrate(engine, [revisions.schema])
    assert read(engine, "select name from bakery_breads") == [("RYE",)]
    assert (version(engine, "bakery"), differences(engine)) == ("0002", [])


def test_a_shop_that_turns_to_revisions_goes_on_from_the_first(engine: Engine, revisions: Revisions) -> None:
    migrate(engine, [Schema("bakery", breads())])
    run(engine, "insert into bakery_breads (name) values ('rye')")
    revisions.add(1, FIRST)
    revisions.add(2, SECOND)
    migrate(engine, [revisions.schema])
    assert read(engine, "select name from bakery_breads") == [("RYE",)]
    assert version(engine, "bakery") == "0002"


def test_a_revision_that_fails_leaves_the_database_as_it_was(engine: Engine, revisions: Revisions) -> None:
    revisions.add(1, FIRST)
    migrate(engine, [revisions.schema])
    revisions.add(2, SECOND)
    revisions.add(3, FAILING)
    run(engine, "insert into bakery_breads (name) values ('rye')")
    with pytest.raises(
        Misconfigured, match=r"(?i)v0003_whatever of .* failed.* as it was: \w+Error: .*syntax error"
    ) as raised:
        migrate(engine, [revisions.schema])
    assert "\n" not in str(raised.value)
    assert (version(engine, "bakery"), read(engine, "select name from bakery_breads")) == ("0001", [("rye",)])


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("raise RuntimeError('no flour')", "v0002_whatever of .* RuntimeError: no flour"),
        ("this is no Python", "v0002_whatever of .* SyntaxError: invalid syntax"),
        ("op.add_column('bakery_breads', Column('name', Text))", "v0002_whatever of .* duplicate|already exists"),
    ],
)
def test_a_revision_that_fails_is_named_with_its_reason(
    engine: Engine, revisions: Revisions, what: str, words: str
) -> None:
    revisions.add(1, FIRST)
    migrate(engine, [revisions.schema])
    revisions.add(2, what)
    with pytest.raises(Misconfigured, match=words):
        migrate(engine, [revisions.schema])


def test_revisions_of_which_one_is_missing_are_refused(engine: Engine, revisions: Revisions) -> None:
    revisions.add(1, FIRST)
    migrate(engine, [revisions.schema])
    revisions.add(3, SECOND)
    with pytest.raises(Misconfigured, match=r"The shop bakery: a revision of .* failed"):
        migrate(engine, [revisions.schema])


def test_a_package_without_revisions_is_refused(engine: Engine, revisions: Revisions) -> None:
    with pytest.raises(Misconfigured, match=revisions.package):
        migrate(engine, [revisions.schema])
