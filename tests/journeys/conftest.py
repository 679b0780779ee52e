"""What a journey may ask for: a seed, a database, servers, workers, and the checker at its end."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.journeys.scene import Scene
from tests.journeys.windows import Windows, open_browser, open_windows
from tests.serving import sqlite_url

DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgres_url"))]


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of this test's own; a test that names it runs on each kind."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path)
    url: str = request.getfixturevalue("postgres_database")
    return url


@pytest.fixture
async def scene(seed: int, database_url: str, tmp_path: Path) -> AsyncIterator[Scene]:
    """The stage of a journey on one database; whatever still runs at its end is killed."""
    async with Scene(seed, database_url, tmp_path) as scene:
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(chromium: Path) -> AsyncIterator[Browser]:
    """One for all tests of a file, which run in its loop."""
    async with open_browser(chromium) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def windows(browser: Browser) -> AsyncIterator[Windows]:
    """Of this test alone, as are their cookies and all that they keep."""
    async with open_windows(browser) as windows:
        yield windows
