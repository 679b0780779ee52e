from importlib.metadata import version

import pytest
import typer

from orderup.cli.app import app
from tests.cli.running import assert_refused, run

COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]  # of a group


def test_it_says_which_one_it_is() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"orderup {version('orderup')}\n")


def test_the_help_names_every_command_with_what_it_does() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert f" {command} " in result.stdout


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
