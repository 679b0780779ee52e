"""Renew constraints.txt: the newest versions that fit pyproject.toml, one line each, naming no index.

Run by `make pin`. pip resolves everything anew, as if nothing were installed, and installs nothing. Run the tests
before committing what it wrote.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
# What `pip install --editable .[dev]` takes in besides the package itself: the build back end and its editable support.
WANTED = ["--editable", ".[dev,celery,bench]", "hatchling", "editables"]
HEADER = """\
# The versions that `make test` and CI run with, for the extras dev, celery and bench. Written by `make pin`.
"""


def resolve() -> list[str]:
    """Give "name==version" for every distribution that a fresh install would fetch, sorted by name."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    report = subprocess.run([*command, *WANTED], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = [item["metadata"] for item in json.loads(report)["install"]]
    return sorted(
        f"{canonical(data['name'])}=={public(data['version'])}" for data in found if data["name"] != "orderup"
    )


def canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def public(version: str) -> str:
    """Leave out a local part such as +cpu: it exists on one index only."""
    return version.partition("+")[0]


if __name__ == "__main__":
    lines = resolve()
    CONSTRAINTS.write_text(HEADER + "".join(f"{line}\n" for line in lines))
    print(f"{CONSTRAINTS.name}: {len(lines)} versions pinned. Now run `make lint test`.")
