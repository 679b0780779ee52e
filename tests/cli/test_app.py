import subprocess
import sys
from importlib.metadata import version

import pytest

from orderup.cli.app import COMMANDS as LISTED, all_commands
from tests.cli.running import assert_refused, run

LOADED = all_commands().commands
COMMANDS = sorted(LOADED)
RUN_AND_TELL = """
import sys, orderup.cli
try:
    orderup.cli.main()
finally:
    print(sorted({"fastapi", "sqlalchemy"} & {*sys.modules}))
"""


def test_it_says_which_one_it_is() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"orderup {version('orderup')}\n")


def test_the_help_names_every_command_with_what_it_does() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert f" {command} " in result.stdout


def test_the_list_says_of_a_command_what_its_own_help_says_first() -> None:
    told = {name: " ".join((command.help or "").partition("\n\n")[0].split()) for name, command in LOADED.items()}
    assert dict(LISTED) == told


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["tea"]])
def test_what_needs_no_command_loads_none(arguments: list[str]) -> None:
    """All of them together take seconds to import."""
    done = subprocess.run([sys.executable, "-c", RUN_AND_TELL, *arguments], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_takes(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"Usage: orderup {command}" in result.stdout.replace("root", "orderup")


@pytest.mark.parametrize("command", [("serve",), ("migrate",), ("prune",), ("token", "staff", "ann")])
def test_a_setting_that_is_wrong_is_told_in_one_sentence(command: tuple[str, ...]) -> None:
    assert_refused(run(*command, LEASE_SECONDS="3"), "LEASE_SECONDS=3 is less than twice HEARTBEAT_SECONDS=10")


@pytest.mark.parametrize("command", [("serve", "tea"), ("diagram", "tea"), ("migrate", "--shop", "tea:shop")])
def test_a_shop_that_is_not_there_is_told_in_one_sentence(command: tuple[str, ...]) -> None:
    assert_refused(run(*command), "tea")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://host/name", "must be sqlite:///PATH"),
        ("sqlite:////dev/null/orderup.db", "/dev/null"),
        ("sqlite:////", "DATABASE_URL"),
        ("postgresql://postgres@127.0.0.1:1/orderup", "does not answer"),
    ],
)
@pytest.mark.parametrize("command", [("migrate",), ("prune",)])
def test_a_database_that_cannot_be_opened_is_told_in_one_sentence(
    command: tuple[str, ...], url: str, words: str
) -> None:
    assert_refused(run(*command, DATABASE_URL=url), words)
