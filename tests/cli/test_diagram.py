import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import httpx2

from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import ORDERUP, ServerProcess, plain_environment, sqlite_url

ROOT = Path(__file__).resolve().parents[2]


def diagram(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(ORDERUP), "diagram", *map(str, arguments)]
    given = {**plain_environment(), **environment}
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)


def test_a_shops_diagram_is_the_one_in_its_docs(tmp_path: Path) -> None:
    drawn = diagram("pizza", "--svg", tmp_path / "pizza.svg")
    assert (drawn.returncode, drawn.stderr) == (0, "")
    assert f"```mermaid\n{drawn.stdout}```\n" in (ROOT / "docs" / "shops" / "pizza.md").read_text()
    assert (tmp_path / "pizza.svg").read_text() == (ROOT / "docs" / "shops" / "pizza.svg").read_text()


def test_what_the_owner_set_is_drawn() -> None:
    drawn = diagram("pizza", RFA_EXPIRY_HOURS="2", LEASE_SECONDS="60")
    assert "expires after 2 h without an answer" in drawn.stdout
    assert "lease 1 min" in drawn.stdout


def test_a_stored_order_is_drawn_as_it_stands(tmp_path: Path) -> None:
    database_url = sqlite_url(tmp_path)
    body = {"name": "Margherita", "tier": "basic", "delivery_address": "1 Harbour Lane", "customer": "Ada"}
    with ServerProcess("pizza", folder=tmp_path, database_url=database_url).start() as server:
        id = httpx2.post(f"{server.front}/pizzas", json=body, timeout=PATIENCE_SECONDS).json()["id"]
        httpx2.post(f"{server.back}/api/rfas/{id}/approve", json={}, timeout=PATIENCE_SECONDS)
        drawn = diagram("pizza", id, "--svg", tmp_path / "order.svg", DATABASE_URL=database_url)
    assert drawn.returncode == 0, drawn.stderr
    assert "RFA: approved" in drawn.stdout
    assert "<b>make_dough</b><br/>pending" in drawn.stdout
    assert "<b>bake_pizza</b><br/>blocked" in drawn.stdout
    assert "Harbour" not in drawn.stdout
    title = ET.fromstring((tmp_path / "order.svg").read_text())[0].text  # noqa: S314  our own file
    assert title == f"Pizzeria: order {id}"


def test_what_cannot_be_drawn_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "bare.py").write_text("from orderup import Shop\nshop = Shop('bare')\n")
    database = sqlite_url(tmp_path)
    asked: list[tuple[list[str | Path], str]] = [
        (["sushi"], "There is no shop sushi. Installed: "),
        (["pizza", "0000000000000"], "There is no order of shop pizza 0000000000000."),
        (["pizza", "--svg", tmp_path / "none" / "x.svg"], "Cannot write "),
        (["bare:shop"], "Shop bare has no example of a plan to draw."),
    ]
    for arguments, message in asked:
        drawn = diagram(*arguments, DATABASE_URL=database, PYTHONPATH=str(tmp_path))
        assert drawn.returncode == 2, arguments
        assert drawn.stderr.startswith(f"orderup: {message}"), drawn.stderr


def test_help_is_quick_to_import() -> None:
    """The parts of a server are imported by the commands that need them."""
    code = "import sys, orderup; print([name for name in ('fastapi', 'sqlalchemy', 'httpx2') if name in sys.modules])"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True
    )
    assert told.stdout == "[]\n"
