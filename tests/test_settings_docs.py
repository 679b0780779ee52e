"""`.envrc.example` says the same as the settings' own words in orderup/settings.py."""

import json
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import pytest

from orderup.settings import Settings, variable_of

EXAMPLE = Path(__file__).resolve().parents[1] / ".envrc.example"
# One setting: comment lines, then the variable. It stands commented out, so that the file as it is changes nothing.
BLOCK = re.compile(r"((?:# [^\n]*\n)+)#export (\w+)=([^\n]*)\n")


@dataclass(frozen=True, slots=True)
class Documented:
    """One setting as .envrc.example has it: its sentence on one line, its default as the environment writes it."""

    variable: str
    sentence: str
    default: str


def documented() -> list[Documented]:
    blocks = BLOCK.findall(EXAMPLE.read_text())
    return [Documented(name, " ".join(text.replace("# ", "").split()), value) for text, name, value in blocks]


def as_the_environment_writes_it(default: object) -> str:
    if isinstance(default, Enum):
        default = default.value
    if default is None or default == ():
        return ""
    return default if isinstance(default, str) else json.dumps(default)


def test_the_example_lists_every_setting_in_order() -> None:
    assert [each.variable for each in documented()] == [variable_of(name) for name in Settings.model_fields]


@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_example_gives_the_settings_own_sentence_and_default(name: str) -> None:
    field = Settings.model_fields[name]
    default = as_the_environment_writes_it(field.default)
    told = Documented(variable_of(name), " ".join((field.description or "").split()), default)
    assert told in documented()


def test_the_example_as_it_stands_changes_nothing() -> None:
    written = {each.variable: each.default for each in documented()}
    assert Settings.from_environment(written) == Settings()


def test_every_line_of_the_example_is_a_comment() -> None:
    assert [line for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")] == []
