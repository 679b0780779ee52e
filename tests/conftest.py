"""What every test may ask for."""

import io
import logging
from collections.abc import Iterator

import pytest
import structlog

pytest_plugins = ["pytester", "tests.services.plugin"]


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
