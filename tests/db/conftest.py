"""What a database promises, whichever it is: every test that asks for `doors` or `database` runs on each of them.

What only PostgreSQL has to do, or can be tried on, asks for `cupboard`: one more database of a test's own there.
"""

from collections.abc import AsyncIterator

import pytest

from orderup.db.postgres import PostgresDatabase
from tests.engine.conftest import database, doors, kitchen, migrated_postgres, time

__all__ = ["database", "doors", "kitchen", "migrated_postgres", "time"]


@pytest.fixture
async def cupboard(prepared_postgres: str) -> AsyncIterator[PostgresDatabase]:
    """An opened PostgreSQL database that no other test uses; its `url` opens it again."""
    database = PostgresDatabase(prepared_postgres)
    await database.open()
    yield database
    await database.close()
