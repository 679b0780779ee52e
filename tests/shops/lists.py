"""Lists of a shop's orders among many: databases that a test fills, and which steps a list takes there."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import event, insert

from orderup.db.connect import open_database
from orderup.db.database import Database, ReadConnection, WriteConnection
from orderup.db.tables import operations
from orderup.shop import Shop
from tests.services.postgres import new_database


@asynccontextmanager
async def filled(url: str, shop: Shop, fill: Callable[[WriteConnection], None]) -> AsyncIterator[Database]:
    database = open_database(url, shops=[shop])
    await database.open()
    await database.write(fill)
    yield database
    await database.close()


@asynccontextmanager
async def filled_one(
    request: pytest.FixtureRequest, shop: Shop, fill: Callable[[WriteConnection], None]
) -> AsyncIterator[Database]:
    """On the database that the fixture's parameter names."""
    if request.param == "sqlite":
        path = request.getfixturevalue("tmp_path") / "orderup.db"
        async with filled(f"sqlite:///{path}", shop, fill) as database:
            yield database
        return
    with new_database(request.getfixturevalue("postgres_url")) as url:
        async with filled(url, shop, fill) as database:
            yield database


def add_operation(connection: WriteConnection, shop: Shop, *, id: int, status: str, owner: str) -> None:
    told = {"version": 1, "open": 0, "moving": 0, "placed_at": id, "source": "request"}
    over = {"finished_at": None if status in ("pending", "running", "paused") else id}
    row = {"id": id, "shop": shop.name, "status": status, "owner": owner, **told, **over}
    connection.execute(insert(operations).values(**row))


async def steps_of(database: Database, ask: Callable[[ReadConnection], Any]) -> list[str]:
    """How SQLite comes by the rows of what is asked."""
    steps: list[str] = []

    def look(connection: ReadConnection) -> None:
        def note(_connection: Any, cursor: Any, statement: str, given: Any, *_: object) -> None:
            steps.extend(row[3] for row in cursor.connection.execute(f"explain query plan {statement}", given))

        event.listen(connection.connection, "before_cursor_execute", note)
        ask(connection)
        event.remove(connection.connection, "before_cursor_execute", note)

    await database.read(look)
    return steps
