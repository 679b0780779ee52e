"""`scripts/setup` on machines that lack something, played in a copy of it with a PATH of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ORDINARY = ["sh", "cat", "chmod", "cut", "dirname", "git", "grep", "id", "mktemp", "rm"]


class Machine:
    """A folder with the project's setup in it, and the only commands that its PATH knows."""

    def __init__(self, folder: Path) -> None:
        self.commands = folder / "bin"
        self.project = folder / "project"
        self.commands.mkdir()
        (self.project / "scripts").mkdir(parents=True)
        for name in ORDINARY:
            (self.commands / name).symlink_to(shutil.which(name) or name)
        for name in ["scripts/setup", "pyproject.toml", "constraints.txt"]:
            shutil.copy(ROOT / name, self.project / name)

    def has(self, name: str, script: str) -> None:
        command = self.commands / name
        command.write_text(f"#!/bin/sh\n{script}\n")
        command.chmod(0o755)

    def set_up(self, level: str = "dev", **environment: str) -> subprocess.CompletedProcess[str]:
        script = self.project / "scripts" / "setup"
        own = {"PATH": str(self.commands), "HOME": str(self.project), **environment}
        return subprocess.run([str(script), level], check=False, capture_output=True, text=True, env=own)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_machine_without_python_is_told_how_to_get_one(machine: Machine) -> None:
    done = machine.set_up()
    assert done.returncode == 1
    assert "orderup needs Python 3.11 or newer, and this machine has no python3." in done.stderr
    assert "apt install python3 python3-venv" in done.stderr


def test_an_old_python_is_named(machine: Machine) -> None:
    machine.has("python3", 'test "$1" = --version && echo Python 3.9.2 && exit 0; exit 1')
    done = machine.set_up()
    assert done.returncode == 1
    assert "this machine has Python 3.9.2." in done.stderr


def test_a_python_that_only_pretends_to_be_there_is_passed_over(machine: Machine) -> None:
    """As version managers have them: the command exists, and says that no such version is installed."""
    machine.has("python3", "exit 127")
    machine.has("python3.14", "exit 127")
    machine.has("python3.12", 'case "$*" in *version_info*) exit 0;; --version) echo Python 3.12.7;; *) exit 1;; esac')
    assert "making .venv with Python 3.12.7" in machine.set_up().stderr


def test_a_named_python_that_does_not_run_is_refused(machine: Machine) -> None:
    done = machine.set_up(PYTHON="/nowhere/python3")
    assert done.returncode == 1
    assert "PYTHON=/nowhere/python3 does not run, or is older than 3.11." in done.stderr


def test_a_python_without_venv_that_nothing_can_mend_is_told_what_to_install(machine: Machine) -> None:
    lacking = f'case "$*" in *ensurepip*|*virtualenv*|*"-m pip"*) exit 1;; esac; exec {sys.executable} "$@"'
    machine.has("python3", lacking)
    done = machine.set_up()
    version = "{}.{}".format(*sys.version_info)
    assert done.returncode == 1
    assert "its modules venv and ensurepip are missing" in done.stderr
    assert f"sudo apt install python{version}-venv" in done.stderr


def test_a_failing_pip_is_said_to_have_failed(machine: Machine) -> None:
    """The environment is there already, with no pip inside."""
    environment = machine.project / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (environment / "bin" / "pip").write_text(f"#!{environment}/bin/python\n")
    done = machine.set_up("run")
    assert done.returncode == 1
    assert "pip could not install everything" in done.stderr


def test_an_unknown_level_is_refused(machine: Machine) -> None:
    done = machine.set_up("everything")
    assert done.returncode == 2
    assert "'everything' is unknown" in done.stderr
