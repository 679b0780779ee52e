"""A coffee bar for a test, on either database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.serving import sqlite_url
from tests.shops.coffee.barista import CoffeeBar, open_bar, settings_of


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
