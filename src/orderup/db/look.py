"""What a database is like before anything is done to it: for those who ask whether it will do."""

import os
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import psycopg
from sqlalchemy import create_engine, select
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from orderup.db.migrate import Schema, Version, versions
from orderup.db.postgres_link import translate_first
from orderup.db.sqlite import translate
from orderup.db.tables import operations
from orderup.errors import Misconfigured, StorageFull, Unavailable

PATIENCE_SECONDS = 5
SIDE_FILES = ("-wal", "-shm")


class Look(msgspec.Struct, frozen=True):
    """place: without a password. exists: False for a file that is yet to be made. free_bytes: on its disk; None: it is
    another machine's. server_now, newest_at: microseconds since the epoch, None if there is no such thing."""

    place: str
    software: str
    exists: bool
    versions: Sequence[Version]
    size_bytes: int = 0
    free_bytes: int | None = None
    server_now: int | None = None
    newest_at: int | None = None


def look_at(url: str, schemas: Sequence[Schema] = ()) -> Look:
    """Raises Misconfigured, Unavailable, and StorageFull if it cannot be written."""
    if urlsplit(url).scheme == "sqlite":
        path = url.removeprefix("sqlite://").removeprefix("/")
        return _look_at_file(Path(path), schemas) if path else _look_at_memory(schemas)
    return _look_at_server(url, schemas)


def _look_at_memory(schemas: Sequence[Schema]) -> Look:
    with create_engine("sqlite://").connect() as connection:
        return Look("memory, gone at the end", _sqlite(), exists=False, versions=versions(connection, schemas))


def _sqlite() -> str:
    return f"SQLite {sqlite3.sqlite_version}"


def _look_at_file(path: Path, schemas: Sequence[Schema]) -> Look:
    if path.is_dir():
        raise Misconfigured(f"DATABASE_URL names {path}, which is a folder. Name a file in it.")
    folder = next(each for each in path.absolute().parents if each.exists())
    if not folder.is_dir():
        raise Misconfigured(f"DATABASE_URL names {path}, and {folder} is no folder. Name a file in one.")
    free = shutil.disk_usage(folder).free
    if not path.exists():
        if not os.access(folder, os.W_OK):
            raise StorageFull(f"{path} is yet to be made, and {folder} cannot be written.")
        with create_engine("sqlite://").connect() as connection:
            wanted = versions(connection, schemas)
        return Look(str(path), _sqlite(), exists=False, versions=wanted, free_bytes=free)
    files = [path, *(path.with_name(path.name + suffix) for suffix in SIDE_FILES)]
    size = sum(file.stat().st_size for file in files if file.exists())
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=PATIENCE_SECONDS),
        isolation_level="AUTOCOMMIT",
        poolclass=NullPool,
    )
    try:
        with engine.connect() as connection:
            # whoever may take the lock may write; nothing is written
            connection.exec_driver_sql("begin immediate")
            connection.exec_driver_sql("rollback")
            found = versions(connection, schemas)
            newest = _newest(connection, found)
    except (sqlite3.Error, DBAPIError) as error:
        raise _refusal_of_file(path, error) from error
    return Look(str(path), _sqlite(), exists=True, versions=found, size_bytes=size, free_bytes=free, newest_at=newest)


def _refusal_of_file(path: Path, error: Exception) -> Exception:
    ours = translate(error)
    if isinstance(ours, Unavailable):
        return ours
    return Misconfigured(f"{path} is no database of ours: {getattr(error, 'orig', None) or error}.")


def _look_at_server(url: str, schemas: Sequence[Schema]) -> Look:
    engine: Engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: psycopg.connect(url, connect_timeout=PATIENCE_SECONDS),
        poolclass=NullPool,
    )
    try:
        with engine.connect() as connection:
            row = connection.exec_driver_sql(
                "select current_setting('server_version'), pg_database_size(current_database()), pg_is_in_recovery(),"
                " has_schema_privilege(current_schema(), 'create'),"
                " (extract(epoch from clock_timestamp()) * 1000000)::bigint"
            ).one()
            version, size, is_standby, may_create, now = row
            if is_standby or connection.exec_driver_sql("show transaction_read_only").scalar() == "on":
                raise StorageFull(f"{_shown(url)} is read-only: a standby, or set so.")
            found = versions(connection, schemas)
            if not may_create and any(each.has != each.wants for each in found):
                raise Misconfigured(f"{_shown(url)}: its tables are to be changed, and this user may not create any.")
            newest = _newest(connection, found)
    except (psycopg.Error, DBAPIError, OSError, ValueError) as error:
        raise translate_first(error) from error
    software = f"PostgreSQL {version.split()[0]}"
    return Look(_shown(url), software, exists=True, versions=found, size_bytes=size, server_now=now, newest_at=newest)


def _shown(url: str) -> str:
    """Without user, password and options."""
    parts = urlsplit(url)
    return f"{parts.hostname or 'the local socket'}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _newest(connection: Connection, found: Sequence[Version]) -> int | None:
    """When the newest operation was placed."""
    if found[0].has is None:
        return None
    statement = select(operations.c.placed_at).order_by(operations.c.id.desc()).limit(1)
    newest: int | None = connection.execute(statement).scalar()
    return newest
