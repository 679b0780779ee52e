"""docs/guides/a-whole-shop.md, done as it says: its files, and its own tests, which serve it and order from it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import ROOT

GUIDE = ROOT / "docs" / "guides" / "a-whole-shop.md"
SECONDS = 200


def install(folder: Path) -> None:
    """Each block of the page into the file that its first line names."""
    for text in re.findall(r"^```(?:python|html|toml)\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL):
        name = re.match(r"(?:# |\{# )(\S+)", text)
        assert name is not None, text[:80]
        file = folder / name[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.mark.timeout(SECONDS + 40)
def test_the_shop_of_the_guide_passes_its_own_tests(tmp_path: Path) -> None:
    install(tmp_path)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env={"PATH": path, "PYTHONPATH": ".", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-5_000:] + run.stderr[-5_000:]
    assert re.search(r"^[1-9][0-9]* passed", run.stdout, re.MULTILINE), run.stdout
