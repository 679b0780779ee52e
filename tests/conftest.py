"""What every test may ask for."""

import gc
import io
import logging
import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import structlog
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from orderup.db.migrate import migrate
from tests.services import postgres

pytest_plugins = ["pytester", "tests.circumstances", "tests.services.plugin"]


def pytest_configure() -> None:
    gc.disable()


def pytest_collection_finish() -> None:
    """Five thousand tests and all they import stay until the end: nobody need look through them for garbage, neither
    while they are loaded nor later in every full collection."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def plain_logs() -> None:
    """Every test begins with logs that are printed, whatever the one before it has configured. Without colours: the
    tracebacks with all local variables that structlog makes by itself take a second each."""
    renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.reset_defaults()
    structlog.configure(processors=[structlog.processors.add_log_level, renderer])


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """For logs to be configured to; afterwards all is as it was."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = before
    root.setLevel(level)
    structlog.contextvars.clear_contextvars()


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> Iterator[str]:
    """The name of a database with orderup's own tables, to be copied."""
    with postgres.new_database(postgres_url) as url:
        migrate(create_engine(url.replace("postgresql:", "postgresql+psycopg:", 1), poolclass=NullPool))
        name = urlsplit(url).path.removeprefix("/")
        postgres.close_to_all(postgres_url, name)
        yield name


@pytest.fixture
def prepared_postgres(postgres_url: str, postgres_template: str) -> Iterator[str]:
    """The URL of a PostgreSQL database of this test's own that has orderup's tables: to copy them is a quarter quicker
    than to make them, all in all."""
    with postgres.new_database(postgres_url, template=postgres_template) as url:
        yield url


@pytest.fixture
def seed() -> int:
    """Of everything random in a test. ORDERUP_TEST_SEED repeats one."""
    seed = int(os.environ.get("ORDERUP_TEST_SEED") or int.from_bytes(os.urandom(4)))
    print(f"ORDERUP_TEST_SEED={seed}")
    return seed
