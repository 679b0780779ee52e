"""Brings a database to the present schema: orderup's own tables, then each shop's.

Each has a table that holds its version, `orderup_version` and `<shop>_version`, and one of two ways:

- Revisions of Alembic, in a package of files `v0001_what_it_does.py`, `v0002_…`, each with `revision = "0001"`. They
  follow each other in one line. A database without any of the tables is not led through them all: it gets the tables as
  they are now. One that has the tables but no version is taken to stand at the first revision.
- None, for a shop with a few tables: what is missing is added, tables, columns and indexes. Nothing is ever dropped or
  altered; a shop that needs that turns to revisions, the first of which describes its tables as they were.

All of it is one transaction. Servers that start meanwhile wait for it.
"""

import hashlib
import importlib.util
import re
import sqlite3
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Column, Inspector, MetaData, PrimaryKeyConstraint, String, Table, delete, insert, inspect, select
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable

from orderup.db.tables import metadata
from orderup.errors import Misconfigured, OrderupError

CORE = "orderup"
ENVIRONMENT = "orderup.db.migrations"
CORE_REVISIONS = f"{ENVIRONMENT}.versions"
# How long a server waits for another one that is migrating, and for whoever has the file for a moment.
WAIT_SECONDS, LOOK_SECONDS = 600, 10
LONGEST_REASON = 300
_LOCK = 7_161_539_624_812  # any number that nobody else takes
_REVISION_FILE = re.compile(r"v(\d{4})_\w+\.py")


class Schema(msgspec.Struct, frozen=True):
    """The tables of a shop, all named `<shop>_…`. `revisions`: the package that holds its revisions, if it has any."""

    shop: str
    tables: MetaData
    revisions: str | None = None


class Version(msgspec.Struct, frozen=True):
    """Of the tables of one shop, or of orderup's own. `has`: None before they are made."""

    shop: str
    has: str | None
    wants: str

    @property
    def is_newer(self) -> bool:
        """Whether a later release than this one has been at work."""
        return self.has is not None and self.has.isdigit() and (not self.wants.isdigit() or self.has > self.wants)


def versions(connection: Connection, schemas: Sequence[Schema] = ()) -> list[Version]:
    """How far a database is from the present schema: orderup's own tables first. Changes nothing."""
    return [
        Version(schema.shop, _version(connection, schema.shop), _present(connection, schema))
        for schema in (Schema(CORE, metadata, CORE_REVISIONS), *schemas)
    ]


def migrate(engine: Engine, schemas: Sequence[Schema] = ()) -> None:
    """Raises Misconfigured if the database is newer than this code, or cannot be brought there."""
    schemas = [Schema(CORE, metadata, CORE_REVISIONS), *schemas]
    for schema in schemas[1:]:
        _check_names(schema)
    with engine.connect() as connection, _patient(connection):
        if all(_version(connection, schema.shop) == _present(connection, schema) for schema in schemas):
            return
        with _alone(connection):
            for schema in schemas:
                _bring(connection, schema)


def _check_names(schema: Schema) -> None:
    for name in schema.tables.tables:
        if not name.startswith(f"{schema.shop}_") or name == _version_table(schema.shop).name:
            raise Misconfigured(
                f"The shop {schema.shop} has a table {name}. Call it {schema.shop}_…, anything but …_version."
            )


@contextmanager
def _patient(connection: Connection) -> Iterator[None]:
    """With SQLite even who only reads may have to wait: for a process that closes the file, or that mends it after one
    was killed."""
    if connection.dialect.name != "sqlite":
        yield
        return
    connection.exec_driver_sql(f"pragma busy_timeout = {LOOK_SECONDS * 1000}")
    yield
    connection.exec_driver_sql("pragma busy_timeout = 0")


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """In a transaction that no other migration runs beside."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"pragma busy_timeout = {WAIT_SECONDS * 1000}")
        connection.exec_driver_sql("begin immediate")
    else:
        connection.rollback()  # the reads so far had begun one
        connection.exec_driver_sql("set local statement_timeout = 0")
        connection.exec_driver_sql("set local idle_in_transaction_session_timeout = 0")
        connection.exec_driver_sql(f"set local lock_timeout = '{WAIT_SECONDS}s'")
        connection.exec_driver_sql(f"select pg_advisory_xact_lock({_LOCK})")
    try:
        yield
    except BaseException:
        _end(connection, "rollback")
        raise
    _end(connection, "commit")


def _end(connection: Connection, how: str) -> None:
    if connection.dialect.name == "sqlite":
        # the driver is in autocommit mode, so it was we who began
        connection.exec_driver_sql(how)
    elif how == "commit":
        connection.commit()
    else:
        connection.rollback()


def _bring(connection: Connection, schema: Schema) -> None:
    version, present = _version(connection, schema.shop), _present(connection, schema)
    if version == present:
        return
    if schema.revisions is None:
        _add_missing(connection, schema)
        _stamp(connection, schema.shop, present)
        return
    found = _revisions(schema.revisions)
    if version is None and not _has_tables(connection, schema):
        schema.tables.create_all(connection, checkfirst=False)
        _stamp(connection, schema.shop, present)
        return
    if version is None or version.startswith("tables-"):
        _stamp(connection, schema.shop, found[0])
    elif version not in found:
        raise Misconfigured(
            f"The database's tables of {schema.shop} are at version {version}, this installation knows up to "
            f"{present}. Install the newer release that migrated it, or restore a backup from before."
        )
    _upgrade(connection, schema)


def _upgrade(connection: Connection, schema: Schema) -> None:
    from alembic import command  # noqa: PLC0415  # a quarter of a second, at the few starts that need it
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", _escaped(_folder(ENVIRONMENT)))
    config.set_main_option("version_locations", _escaped(_folder(schema.revisions or "")))
    config.set_main_option("path_separator", "newline")
    table = _version_table(schema.shop).name
    config.attributes.update(connection=connection, version_table=table, metadata=schema.tables)
    try:
        command.upgrade(config, "head")
    except Exception as error:  # the shop's code: whatever it raises
        if isinstance(error, OrderupError) or _is_the_servers(error):
            raise
        raise Misconfigured(
            f"{_failed(schema, error)} failed, and the database was left as it was: {_in_short(error)}. Mend it, or "
            "install the release before it."
        ) from error


def _is_the_servers(error: Exception) -> bool:
    """Whether the database is away or full, which is no revision's fault. SQLite's name for such errors is that of
    wrong statements, too."""
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
    return isinstance(error, OperationalError) and code != sqlite3.SQLITE_ERROR


def _failed(schema: Schema, error: Exception) -> str:
    """Which revision, as far as it can be told: one of wrong order, say, is Alembic's to find."""
    folder = _folder(schema.revisions or "")
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        files.append(error.filename)
    names = [Path(file).stem for file in files if Path(file).parent == folder]
    revision = f"revision {names[-1]}" if names else "a revision"
    return f"The shop {schema.shop}: {revision} of {schema.revisions}"


def _in_short(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    lines = str(cause).splitlines() or ["no reason given"]
    return f"{type(cause).__name__}: {lines[0][:LONGEST_REASON].rstrip('.')}"


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%%")


# versions


def _version_table(shop: str) -> Table:
    """As Alembic makes it."""
    name = f"{shop}_version"
    column = Column("version_num", String(32), nullable=False)
    return Table(name, MetaData(), column, PrimaryKeyConstraint("version_num", name=f"{name}_pkc"))


def _version(connection: Connection, shop: str) -> str | None:
    """The version the database has, None if it has none."""
    table = _version_table(shop)
    if not inspect(connection).has_table(table.name):
        return None
    version: str | None = connection.execute(select(table.c.version_num)).scalar()
    return version


def _stamp(connection: Connection, shop: str, version: str) -> None:
    table = _version_table(shop)
    table.create(connection, checkfirst=True)
    connection.execute(delete(table))
    connection.execute(insert(table).values(version_num=version))


def _present(connection: Connection, schema: Schema) -> str:
    """The version this code wants: its last revision, or a digest of the tables."""
    if schema.revisions is not None:
        return _revisions(schema.revisions)[-1]
    ddl = [str(CreateTable(table).compile(connection)) for table in schema.tables.sorted_tables]
    ddl += sorted(
        str(CreateIndex(index).compile(connection)) for table in schema.tables.sorted_tables for index in table.indexes
    )
    return f"tables-{hashlib.sha256(chr(10).join(ddl).encode()).hexdigest()[:24]}"


def _revisions(package: str) -> list[str]:
    """The numbers of the revisions, from the first to the last, told by the names of their files."""
    found = sorted(match[1] for path in _folder(package).iterdir() if (match := _REVISION_FILE.fullmatch(path.name)))
    if not found:
        raise Misconfigured(f"The package {package} holds no revisions: files named v0001_what_it_does.py.")
    return found


def _folder(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise Misconfigured(f"There is no package {package} to hold revisions.")
    return Path(found.submodule_search_locations[0])


def _has_tables(connection: Connection, schema: Schema) -> bool:
    there = set(inspect(connection).get_table_names())
    return any(name in there for name in schema.tables.tables)


# a shop without revisions


def _add_missing(connection: Connection, schema: Schema) -> None:
    schema.tables.create_all(connection)
    inspector = inspect(connection)
    for table in schema.tables.sorted_tables:
        _add_columns(connection, inspector, table)
        there = {index["name"] for index in inspector.get_indexes(table.name)}
        for index in table.indexes:
            if index.name not in there:
                index.create(connection)


def _add_columns(connection: Connection, inspector: Inspector, table: Table) -> None:
    there = {column["name"] for column in inspector.get_columns(table.name)}
    for column in table.columns:
        if column.name in there:
            continue
        if not column.nullable and column.server_default is None:
            raise Misconfigured(
                f"The column {table.name}.{column.name} is new and may not be null. Give it a server_default for the "
                "rows that are there, or the shop revisions of its own."
            )
        added: Any = CreateColumn(column).compile(dialect=connection.dialect)
        connection.exec_driver_sql(f"alter table {table.name} add column {added}")
