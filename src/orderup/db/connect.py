"""Which database a URL names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from orderup.db.database import Database
from orderup.db.migrate import Schema
from orderup.db.sqlite import SqliteDatabase
from orderup.errors import Misconfigured


class HasTables(Protocol):
    """A shop, as far as the database goes. See `orderup.shop.Shop`."""

    name: str
    tables: Any
    revisions: str | None


def schemas_of(shops: Sequence[HasTables]) -> list[Schema]:
    """The tables of those shops that have any."""
    return [Schema(shop.name, shop.tables, shop.revisions) for shop in shops if shop.tables is not None]


def open_database(url: str, *, shops: Sequence[HasTables] = ()) -> Database:
    """Not opened yet. `sqlite:///path`, `sqlite://` (in memory) or `postgresql://…`. `shops`: whose tables it holds.

    Raises Misconfigured.
    """
    scheme, separator, rest = url.partition("://")
    schemas = schemas_of(shops)
    if scheme == "sqlite" and separator and not rest:
        return SqliteDatabase(None, schemas=schemas)
    if scheme == "sqlite" and rest.startswith("/") and not rest.endswith("/"):
        return SqliteDatabase(Path(rest.removeprefix("/")), schemas=schemas)
    if scheme in {"postgresql", "postgres"} and rest:
        from orderup.db.postgres import PostgresDatabase  # noqa: PLC0415  its drivers are a tenth of a server's start

        return PostgresDatabase(f"postgresql://{rest}", schemas=schemas)
    raise Misconfigured(
        f"DATABASE_URL={scheme}… is not understood. Use sqlite:///path/to/file.db (four slashes for a path from the "
        "root), sqlite:// (in memory, gone at the end) or postgresql://user:password@host/name."
    )
