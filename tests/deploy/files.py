"""What deploy/ and .github/ hold, read as programs read it."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # brings no types

from orderup.cli.app import all_commands
from orderup.settings import Settings, variable_of
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import ROOT

DEPLOY = ROOT / "deploy"
BAKERY, KUBERNETES, TERRAFORM = DEPLOY / "bakery", DEPLOY / "kubernetes", DEPLOY / "terraform"
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yaml"
VARIABLES = {variable_of(name) for name in Settings.model_fields}
FOLDER_OF_SECRETS = "ORDERUP_SECRETS_DIR"
# Those that are secrets of other programs, or files that a setting names.
OTHER_SECRETS = {"POSTGRES_PASSWORD", "google.json"}
# What compose fills in: ${NAME}, ${NAME:?what to say if it is missing}, ${NAME:-default}.
FILLED_IN = re.compile(r"\$\{([A-Z_]+)(?::([?-])([^}]*))?\}")
EXACT_IMAGE = re.compile(r"[\w./-]+:\d+\.\d+(\.\d+)?(-[\w.]+)?")


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def compose(**given: str) -> Any:
    """deploy/bakery/compose.yaml with what is given filled in, as compose does it: in texts, once they are read.

    Raises KeyError for what has to be given and is not.
    """

    def value_of(found: re.Match[str]) -> str:
        name, how, default = found.groups()
        return given[name] if how == "?" else given.get(name) or (default if how == "-" else "")

    def fill(node: Any) -> Any:
        if isinstance(node, dict):
            return {name: fill(each) for name, each in node.items()}
        if isinstance(node, list):
            return [fill(each) for each in node]
        return FILLED_IN.sub(value_of, node) if isinstance(node, str) else node

    return fill(load(BAKERY / "compose.yaml"))


def command_options(words: list[str]) -> dict[str, Any]:
    """What a command of ours makes of its words. Raises click's UsageError if there is no such command or option."""
    name, *rest = words
    command = all_commands().commands[name]
    return dict(command.make_context(name, rest).params)


def check(program: str, *arguments: str | Path) -> None:
    """Run a checker of the development tools, and fail with what it says."""
    command = [str(Path(sys.executable).with_name(program)), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def made_secrets(folder: Path) -> Path:
    """What deploy/bakery/make-secrets makes in this folder."""
    script = folder / "make-secrets"
    script.write_bytes((BAKERY / "make-secrets").read_bytes())
    subprocess.run(["sh", script], check=True, timeout=PATIENCE_SECONDS)
    return folder / "secrets"
