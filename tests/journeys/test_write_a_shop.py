"""docs/guides/write-a-shop.md, done as it says: a package outside the project, served, ordered from and followed."""

import re
import tomllib
from pathlib import Path

import httpx2
import msgspec
import pytest
from websockets.sync.client import connect

from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import ServerProcess, sqlite_url

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "write-a-shop.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)


def install(folder: Path) -> None:
    """What `pip install` leaves of such a package, without a network: its module, and its entry point."""
    [text] = blocks("toml")
    project = tomllib.loads(text)["project"]
    [(group, points)] = project["entry-points"].items()
    (folder / "locksmith.py").write_text(blocks("python")[0])
    about = folder / f"{project['name']}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [f"[{group}]", *(f"{name} = {place}" for name, place in points.items())]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")


def serving(folder: Path, *shops: str) -> ServerProcess:
    environment = {"PYTHONPATH": str(folder)}
    return ServerProcess(*shops, folder=folder, database_url=sqlite_url(folder), environment=environment)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    install(tmp_path)
    return tmp_path


def messages(url: str) -> list[str]:
    """All there are of an order, up to its end."""
    read = []
    with connect(url) as socket:
        while True:
            event = msgspec.json.decode(socket.recv(PATIENCE_SECONDS))
            read.append(event["message"])
            if event["type"] == "operation.completed":
                return read


def order(root: str, *, key: str = "first") -> httpx2.Response:
    body = {"profile": "AB12", "copies": 3}
    return httpx2.post(f"{root}/keys", json=body, headers={"Idempotency-Key": key}, timeout=PATIENCE_SECONDS)


def test_the_first_block_is_a_whole_shop_in_about_twenty_lines() -> None:
    lines = [line for line in blocks("python")[0].splitlines() if line.strip()]
    assert len(lines) <= 24


def test_a_shop_from_the_guide_is_served_by_its_place_and_ordered_from(package: Path) -> None:
    with serving(package, "locksmith:shop").start() as server:
        answer = order(server.front)
        assert answer.status_code == 202
        links = answer.json()["links"]
        assert messages(links["live"]) == ["Request received", "Cutting your keys", "Polishing", "Done"]
        told = httpx2.get(links["self"], timeout=PATIENCE_SECONDS).json()
        assert told["status"] == "completed"
        assert [(task["name"], task["status"]) for task in told["tasks"]] == [
            ("cut_keys", "completed"),
            ("polish", "completed"),
        ]
        operation = httpx2.get(f"{server.back}/api/operations/{told['id']}", timeout=PATIENCE_SECONDS).json()
        assert [task["result"] for task in operation["tasks"]] == [{"keys": 3}, "3 shining keys"]


def test_a_shop_that_is_installed_is_served_among_all_others(package: Path) -> None:
    with serving(package).start() as server:
        root = f"{server.front}/locksmith"
        first, again = order(root), order(root)
        assert first.json()["id"] == again.json()["id"]
        assert again.headers["Idempotency-Replayed"] == "true"
        assert messages(first.json()["links"]["live"])[-1] == "Done"
        assert httpx2.get(f"{server.front}/pizza/menu", timeout=PATIENCE_SECONDS).status_code == 200


def test_what_a_shop_from_the_guide_does_not_take_is_told_by_its_field(package: Path) -> None:
    with serving(package, "locksmith").start() as server:
        answer = httpx2.post(f"{server.front}/keys", json={"profile": 7}, timeout=PATIENCE_SECONDS)
        assert answer.status_code == 422
        assert [problem["field"] for problem in answer.json()["errors"]] == ["body.profile"]
        described = httpx2.get(f"{server.front}/openapi.json", timeout=PATIENCE_SECONDS).json()["paths"]
        assert {"/keys", "/keys/{id}", "/keys/{id}/events"} <= described.keys()


def test_all_that_the_guide_shows_runs_in_one_shop(tmp_path: Path) -> None:
    routes = """
@front.post("/{what}", status_code=202)
async def order_special(what: str, request: Request, caller: AsAnyone, order: KeyOrder) -> Json:
    plan = plan_safe(order) if what == "safes" else plan_two_kinds(order)
    return (await place(request, caller, shop.name, plan, body=order.model_dump(), path="keys")).answer()
"""
    (tmp_path / "locksmith.py").write_text("\n\n".join([*blocks("python"), routes]))
    with serving(tmp_path, "locksmith:shop").start() as server:
        safe = httpx2.post(f"{server.front}/safes", json={"profile": "X", "copies": 2}, timeout=PATIENCE_SECONDS).json()
        [rfa] = httpx2.get(f"{server.back}/api/rfas", timeout=PATIENCE_SECONDS).json()["rfas"]
        assert rfa["question"] == "Cut 2 keys for a safe?"
        httpx2.post(f"{server.back}/api/rfas/{rfa['id']}/approve", json={}, timeout=PATIENCE_SECONDS)
        assert messages(safe["links"]["live"])[-1] == "Your keys are ready"
        house = httpx2.post(f"{server.front}/houses", json={"profile": "X"}, timeout=PATIENCE_SECONDS).json()
        wish = {"worker": "counter", "shop": "locksmith", "tasks": ["hand_over"], "wait": 20}
        [task] = httpx2.post(f"{server.back}/api/work/claim", json=wish, timeout=PATIENCE_SECONDS).json()["tasks"]
        assert task["inputs"] == {"front_door": {"keys": 1}, "back_door": {"keys": 1}}
        httpx2.post(
            f"{server.back}/api/work/{task['id']}/complete", json={"token": task["token"]}, timeout=PATIENCE_SECONDS
        )
        assert "At the counter for you" in messages(house["links"]["live"])
