"""The commands as somebody at a terminal runs them, without the settings of whoever runs the tests."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from typer.testing import CliRunner, Result

from orderup.cli.app import app
from orderup.cli.assembly import make_engine
from orderup.db.connect import open_database
from orderup.engine.engine import Engine
from orderup.environment import FOLDER, SUFFIX
from orderup.settings import Settings, variable_of
from orderup.shop import Shop

SECRET_KEY = "a-key-of-thirty-two-characters-or-more"


def run(*arguments: object, **settings: str) -> Result:
    """Run `orderup ARGUMENTS` in this process. settings: by the names of their variables."""
    variables = [variable_of(field) for field in Settings.model_fields]
    unset = dict.fromkeys([*variables, *(variable + SUFFIX for variable in variables), FOLDER], None)
    return CliRunner().invoke(app, list(map(str, arguments)), env={**unset, "COLUMNS": "200", **settings})


def assert_refused(result: Result, *words: str) -> None:
    """It said why, and nothing else: no trace, nothing on standard output, exit code 2."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("orderup: ")
    for word in words:
        assert word in result.stderr


@asynccontextmanager
async def opened(url: str, shops: Sequence[Shop]) -> AsyncIterator[Engine]:
    """An engine on the database that a command is to find."""
    database = open_database(url, shops=shops)
    await database.open()
    try:
        yield make_engine(Settings(database_url=url), database, shops)
    finally:
        await database.close()
