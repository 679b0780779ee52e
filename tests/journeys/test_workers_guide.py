"""docs/guides/workers.md: its worker bakes, its dialogue is what is said."""

import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import connect

from tests.serving import ROOT, Program, ServerProcess, sqlite_url
from tests.worker.visitor import Visitor

GUIDE = (ROOT / "docs" / "guides" / "workers.md").read_text()
PIZZA = {"name": "Margherita", "tier": "basic", "delivery_address": "1 Harbour Lane", "customer": "Ada"}
WISH = {"shop": "pizza", "tasks": ["make_dough", "add_toppings"], "region": "eu-west-3", "wait": 30}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess("pizza", folder=tmp_path, database_url=sqlite_url(tmp_path)).start() as server:
        yield server


@pytest.fixture
async def visitor(server: ServerProcess) -> AsyncIterator[Visitor]:
    async with Visitor(server.front, server.back) as visitor:
        yield visitor


async def approved_pizza(visitor: Visitor) -> str:
    answer = await visitor.client.post(f"{visitor.front}/pizzas", json=PIZZA)
    id = str(answer.json()["id"])
    await visitor.client.post(f"{visitor.back}/api/rfas/{id}/approve")
    return id


async def test_the_worker_of_the_guide_bakes(visitor: Visitor, server: ServerProcess, tmp_path: Path) -> None:
    example = re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)[0]
    script = tmp_path / "baker.py"
    script.write_text(example)
    id = await approved_pizza(visitor)
    environment = {"SERVER_URL": server.front}
    baker = Program("baker", [sys.executable, script], log=tmp_path / "baker.log", environment=environment)
    with baker.launch():
        for _ in range(2):
            [task] = await visitor.claim(**WISH)
            await visitor.say("complete", task["id"], token=task["token"])
        [delivery] = await visitor.claim(**{**WISH, "tasks": ["deliver_pizza"]})
        baker.terminate()
        assert baker.wait() == 0
    assert delivery["operation_id"] == id
    assert delivery["inputs"] == {"bake_pizza": {"slices": 8}}
    assert "into the oven" in baker.printed()


async def test_the_dialogue_of_the_guide_is_what_is_said(visitor: Visitor) -> None:
    dialogue = [(line[0], msgspec.json.decode(line[2:])) for line in re.findall(r"^[<>] .*$", GUIDE, re.MULTILINE)]
    await approved_pizza(visitor)
    real: dict[str, Any] = {}
    async with connect(f"ws{visitor.back.removeprefix('http')}/api/work", proxy=None) as socket:
        for direction, told in dialogue:
            if direction == ">":
                await socket.send(msgspec.json.encode(replaced(told, real)).decode())
                continue
            heard = msgspec.json.decode(await socket.recv())
            if "tasks" in told:
                real |= {told["tasks"][0][name]: heard["tasks"][0][name] for name in ("id", "token")}
                told["tasks"][0].pop("…")
                assert told["tasks"][0].keys() <= heard["tasks"][0].keys()
                assert heard["n"] == told["n"]
            else:
                assert heard == told
    assert len(real) == 2


def replaced(told: Any, real: dict[str, Any]) -> Any:
    """With the ids and tokens that there really are in place of the guide's."""
    match told:
        case dict():
            return {name: replaced(value, real) for name, value in told.items()}
        case str():
            return real.get(told, told)
        case _:
            return told
