"""constraints.txt pins what pyproject.toml asks for."""

import itertools
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PINS = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
)


def asked_for() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    lines = [*project["build-system"]["requires"], *project["project"]["dependencies"], *itertools.chain(*extras)]
    return [required for line in lines if (required := Requirement(line)).name != "orderup"]


@pytest.mark.parametrize("required", asked_for(), ids=lambda required: str(required.name))
def test_every_dependency_is_pinned_within_its_bounds(required: Requirement) -> None:
    assert required.specifier.contains(PINS[canonicalize_name(required.name)])


def test_the_pins_name_no_index_and_no_file() -> None:
    for name, version in PINS.items():
        assert re.fullmatch(r"[a-z0-9-]+", name)
        assert re.fullmatch(r"[0-9][0-9a-z.]*", version)
