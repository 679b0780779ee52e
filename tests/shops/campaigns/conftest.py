"""The campaign desk at work beside the sandbox, on either database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from orderup.shops.campaigns import shop
from tests.serving import sqlite_url
from tests.shops.served import Served, serve_shop


@pytest_asyncio.fixture
async def desk(database_url: str) -> AsyncIterator[Served]:
    async with serve_shop(shop, database_url) as served:
        yield served


@pytest_asyncio.fixture
async def one_desk(tmp_path: Path) -> AsyncIterator[Served]:
    """For tests to which one database is as good as another."""
    async with serve_shop(shop, sqlite_url(tmp_path)) as served:
        yield served
