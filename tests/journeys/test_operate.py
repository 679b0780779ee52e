"""docs/guides/operate.md: what it names is there, and what it shows works as it stands."""

import asyncio
import json
import re
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect

from orderup.cli.app import all_commands
from orderup.db.sqlite import SqliteDatabase
from orderup.engine.engine import Engine
from orderup.environment import FOLDER
from orderup.settings import Settings, variable_of
from orderup.web.engine_metrics import EngineMetrics
from orderup.web.metrics import Metrics
from tests.services.ports import free_port
from tests.services.waiting import PATIENCE_SECONDS, wait_until
from tests.serving import Program, ServerProcess, sqlite_url

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "operate.md").read_text()
SECRET_KEY = "a-key-of-thirty-two-characters-or-more"
PIZZA = {"name": "Margherita", "tier": "basic", "delivery_address": "1 Harbour Lane", "customer": "Ada"}
NGINX = """
daemon off;
pid nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {server}
}}
"""


def block(language: str) -> str:
    """The code of that language in the guide."""
    found: str
    [found] = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    return found


def test_every_figure_it_names_is_there() -> None:
    metrics = Metrics()
    EngineMetrics(Engine(SqliteDatabase(None), {}), metrics)
    there = {family.name for family in metrics.registry.collect()}
    named = {re.sub(r"_(total|bucket)$", "", name) for name in re.findall(r"orderup_\w+", GUIDE)}
    assert len(named) >= 8
    assert named <= there


def test_every_setting_it_names_is_there() -> None:
    named = set(re.findall(r"(?:`|^)([A-Z]+_[A-Z_]+)(?:`|=)", GUIDE, re.MULTILINE))
    assert len(named) >= 8
    there = {variable_of(name) for name in Settings.model_fields}
    assert named <= there | {f"{name}_FILE" for name in there} | {FOLDER}


def commands() -> list[str]:
    in_blocks = re.findall(r"^orderup .+$", GUIDE, re.MULTILINE)
    return sorted({*in_blocks, *(each for each in re.findall(r"`(orderup [^`]+)`", GUIDE) if " --" in each)})


@pytest.mark.parametrize("line", commands())
def test_every_command_it_shows_is_one(line: str) -> None:
    _, name, *words = shlex.split(line)
    command: Any = all_commands().commands[name]
    given = command.make_context(name, [word.replace("JTI", "abc") for word in words]).params
    assert given


@contextmanager
def behind_nginx(nginx: Path, folder: Path, server: ServerProcess, port: int) -> Iterator[None]:
    """With the configuration that the guide shows, but for its ports."""
    shown = block("nginx").replace("listen 8080;", f"listen 127.0.0.1:{port};")
    shown = shown.replace("http://127.0.0.1:8000", server.front)
    (folder / "nginx.conf").write_text(NGINX.format(server=shown))
    command: list[str | Path] = [nginx, "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr"]
    with Program("nginx", command, log=folder / "nginx.log").launch():

        def answers() -> bool:
            try:
                return httpx2.get(f"http://127.0.0.1:{port}/healthz", timeout=5).status_code in {200, 403}
            except httpx2.TransportError:
                return False

        wait_until(answers, what="nginx answers")
        yield


@pytest.mark.needs("nginx")
async def test_behind_the_proxy_that_it_shows_an_order_is_placed_and_followed(nginx: Path, tmp_path: Path) -> None:
    port = free_port()
    public = f"http://127.0.0.1:{port}"
    environment = {"SECRET_KEY": SECRET_KEY, "PUBLIC_URL": public, "TRUSTED_PROXIES": "127.0.0.1/32"}
    url = sqlite_url(tmp_path)
    with (
        ServerProcess("pizza", folder=tmp_path, database_url=url, environment=environment).start() as server,
        behind_nginx(nginx, tmp_path, server, port),
    ):
        async with httpx2.AsyncClient(timeout=PATIENCE_SECONDS) as client:
            placed = await client.post(f"{public}/pizzas", json=PIZZA)
            assert placed.status_code == 202, placed.text
            links = placed.json()["links"]
            assert links["self"].startswith(f"{public}/pizzas/")
            async with asyncio.timeout(90), connect(links["live"], origin=public) as socket:  # type: ignore[arg-type]
                assert json.loads(await socket.recv())["type"] == "operation.placed"
                async with client.stream("GET", links["events"]) as stream:
                    assert await first_event(stream) == "operation.placed"
                assert (await client.delete(links["cancel"])).status_code == 200
                while json.loads(await socket.recv())["type"] != "operation.cancelled":
                    continue
            too_large = await client.post(f"{public}/pizzas", content=b"x" * (2 << 20))
            assert too_large.status_code == 413


async def first_event(stream: httpx2.Response) -> str:
    async for line in stream.aiter_lines():
        if line.startswith("data: "):
            found: str = json.loads(line.removeprefix("data: "))["type"]
            return found
    raise AssertionError("the stream ended")


@pytest.mark.needs("nginx")
def test_without_a_secret_key_nothing_comes_through_a_proxy(nginx: Path, tmp_path: Path) -> None:
    port = free_port()
    url = sqlite_url(tmp_path)
    with (
        ServerProcess("pizza", folder=tmp_path, database_url=url).start() as server,
        behind_nginx(nginx, tmp_path, server, port),
    ):
        answer = httpx2.get(f"http://127.0.0.1:{port}/menu", timeout=PATIENCE_SECONDS)
    assert answer.status_code == 403
    assert "SECRET_KEY" in answer.json()["detail"]


def test_a_copy_made_as_it_shows_while_orders_come_in_is_a_whole_database(tmp_path: Path) -> None:
    copy = tmp_path / "backup.db"
    shown = block("python").replace("var/orderup.db", str(tmp_path / "orderup.db")).replace("backup.db", str(copy))
    with (
        ServerProcess("pizza", folder=tmp_path, database_url=sqlite_url(tmp_path)).start() as server,
        httpx2.Client(timeout=PATIENCE_SECONDS) as client,
    ):
        before = [client.post(f"{server.front}/pizzas", json=PIZZA).json()["id"] for _ in range(20)]
        exec(compile(shown, "operate.md", "exec"), {})  # noqa: S102  what the guide tells its reader to run
        client.post(f"{server.front}/pizzas", json=PIZZA)
    with closing(sqlite3.connect(copy)) as found:
        assert found.execute("pragma integrity_check").fetchall() == [("ok",)]
    (tmp_path / "restored").mkdir()
    copy.rename(tmp_path / "restored" / "orderup.db")
    restored = tmp_path / "restored"
    with ServerProcess("pizza", folder=restored, database_url=sqlite_url(restored)).start() as server:
        listed = httpx2.get(f"{server.back}/api/operations?limit=500", timeout=PATIENCE_SECONDS).json()["operations"]
    assert {operation["id"] for operation in listed} == set(before)
