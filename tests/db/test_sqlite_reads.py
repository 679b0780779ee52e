"""Reading from a SQLite file when a read goes wrong."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Select, column, select, table
from sqlalchemy.exc import OperationalError

from orderup.db.read import pruned_seq
from orderup.db.sqlite import SqliteDatabase
from orderup.db.tables import metadata

MISSING: Select[Any] = select(column("id")).select_from(table("no_such_table"))
# More than the connections that there may be at once.
MANY = 20


async def test_reads_that_fail_take_no_connections_away_whoever_keeps_their_errors(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "orders.db")
    await database.open()
    try:
        await database.write(lambda connection: metadata.create_all(connection.connection))
        kept = []
        for _ in range(MANY):
            with pytest.raises(OperationalError) as caught:
                await database.read(lambda connection: connection.rows(MISSING))
            kept.append(caught)
        assert await database.read(pruned_seq) == 0
    finally:
        await database.close()
