"""A coffee bar for a test, on either database."""

from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import pytest_asyncio

from tests.services.postgres import new_database
from tests.serving import sqlite_url
from tests.shops.coffee.barista import CoffeeBar, open_bar, settings_of

DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgres_url"))]


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    is_file = request.param == "sqlite"
    made = nullcontext(sqlite_url(tmp_path)) if is_file else new_database(request.getfixturevalue("postgres_url"))
    with made as url:
        yield url


@pytest_asyncio.fixture
async def bar(database_url: str) -> AsyncIterator[CoffeeBar]:
    async with open_bar(settings_of(database_url)) as bar:
        yield bar


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """For tests to which one database is as good as another."""
    return sqlite_url(tmp_path)


@pytest_asyncio.fixture
async def one_bar(file_url: str) -> AsyncIterator[CoffeeBar]:
    async with open_bar(settings_of(file_url)) as bar:
        yield bar
