"""`orderup serve` as a process, as somebody at a terminal starts and stops it."""

import asyncio
import json
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from orderup.engine.place import place_order
from tests.cli.running import SECRET_KEY, opened, run
from tests.cli.slow_shop import PLAN, shop as slow_shop
from tests.cli.terminal import Terminal, at_terminal
from tests.services.ports import free_port
from tests.services.waiting import PATIENCE_SECONDS, wait_until
from tests.serving import ORDERUP, ROOT, ServerProcess, plain_environment, sqlite_url


@contextmanager
def serving_at_terminal(folder: Path, *arguments: object, **settings: str) -> Iterator[Terminal]:
    ports = ("--front-port", free_port(), "--back-port", free_port())
    with at_terminal(folder, "serve", *arguments, *ports, **settings) as terminal:
        yield terminal


def request_of(command: str) -> dict[str, Any]:
    """What a `curl` that it shows would send."""
    words = iter(shlex.split(command))
    request: dict[str, Any] = {"method": "GET", "headers": {}}
    for word in words:
        if word == "-X":
            request["method"] = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            request["headers"][name] = value
        elif word == "-d":
            request |= {"method": "POST", "content": next(words)}
        elif word.startswith("http"):
            request["url"] = word
    return request


def test_it_says_how_to_place_a_first_order_and_that_works(tmp_path: Path) -> None:
    with serving_at_terminal(tmp_path, MEALBOX_WAIT_SECONDS="60") as terminal:
        shown = terminal.until("Ctrl-C stops it")
        *orders, approve = re.findall(r"^ +(curl .+)$", shown, re.MULTILINE)
        campaign, box, pizza = [
            httpx2.request(**request_of(order), timeout=PATIENCE_SECONDS).raise_for_status().json() for order in orders
        ]
        assert [each["status"] for each in (campaign, box, pizza)] == ["running", "completed", "waiting_for_approval"]
        approved = httpx2.request(**request_of(approve.replace("/ID/", f"/{pizza['id']}/")), timeout=PATIENCE_SECONDS)
        assert (approved.status_code, approved.json()["status"]) == (200, "approved")
        docs = re.findall(r"http://\S+/docs/", shown)
        assert [httpx2.get(url, timeout=PATIENCE_SECONDS).status_code for url in docs] == [200, 200]


def test_with_tokens_it_says_where_the_token_comes_from(tmp_path: Path) -> None:
    with serving_at_terminal(tmp_path, "pizza", SECRET_KEY=SECRET_KEY) as terminal:
        shown = terminal.until("Ctrl-C stops it")
    assert '-H "Authorization: Bearer $(orderup token staff me)"' in shown
    assert "/pizzas -H" in shown
    assert "/pizza/pizzas -H" not in shown


@pytest.mark.parametrize("press", [1, 2])
def test_ctrl_c_ends_it_in_good_order(tmp_path: Path, press: int) -> None:
    with serving_at_terminal(tmp_path) as terminal:
        terminal.until("Ctrl-C stops it")
        for _ in range(press):
            terminal.press_ctrl_c()
        assert terminal.exit_code() in {0, 130}
        assert "Traceback" not in terminal.shown
        assert "stopping" in terminal.shown


def test_to_a_log_it_says_nothing_that_is_no_line_of_it(tmp_path: Path) -> None:
    with ServerProcess("pizza", folder=tmp_path, database_url=sqlite_url(tmp_path)) as server:
        server.start()
        server.terminate()
        assert server.wait() == 0
        lines = [json.loads(line) for line in server.printed().splitlines()]
    serving = next(line for line in lines if line["event"] == "serving")
    assert serving["customers"] == server.front.replace("127.0.0.1", "localhost")
    assert serving["shops"] == "pizza"
    assert [line["event"] for line in lines if line["level"] == "info"] == [
        "serving",
        "stopping; a second signal stops at once",
        "stopped",
    ]


@pytest.mark.parametrize(("key", "level"), [("", "info"), (SECRET_KEY, "warning")])
def test_staff_are_told_that_the_sandbox_stands_in(tmp_path: Path, key: str, level: str) -> None:
    token = run("token", "staff", "ann", SECRET_KEY=SECRET_KEY).stdout.strip() if key else ""
    environment = {"USER_SERVICE_URL": "http://127.0.0.1:9/", **({"SECRET_KEY": key} if key else {})}
    options = ["--sandbox-port", str(free_port())]
    url = sqlite_url(tmp_path)
    with ServerProcess(
        "mealbox", folder=tmp_path, database_url=url, options=options, environment=environment
    ) as server:
        server.start()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        page = httpx2.get(f"{server.back}/", headers=headers, timeout=PATIENCE_SECONDS).raise_for_status().text
        lines = [json.loads(line) for line in server.printed().splitlines()]
    [told] = [line for line in lines if line["event"] == "the sandbox stands in for third parties"]
    assert (told["level"], told["instead_of"]) == (level, "PRODUCT_SERVICE_URL")
    assert f'<a href="{told["url"]}/">sandbox</a>' in page
    assert "Not set: <code>PRODUCT_SERVICE_URL</code>." in page


def test_staff_are_told_of_no_sandbox_where_none_stands_in(tmp_path: Path) -> None:
    with ServerProcess("pizza", folder=tmp_path, database_url=sqlite_url(tmp_path)) as server:
        server.start()
        page = httpx2.get(f"{server.back}/", timeout=PATIENCE_SECONDS).raise_for_status().text
    assert "<h1>Today</h1>" in page
    assert "sandbox" not in page


@contextmanager
def thinking_for(grace: float, folder: Path) -> Iterator[ServerProcess]:
    """A server whose executor is in the middle of a task that does not end."""
    url, options, environment = sqlite_url(folder), ["--grace", str(grace)], {"PYTHONPATH": str(ROOT)}
    name = "tests.cli.slow_shop:shop"
    with ServerProcess(name, folder=folder, database_url=url, options=options, environment=environment) as server:
        server.start()
        asyncio.run(_place(url))
        wait_until(lambda: '"thinking"' in server.printed(), what="the task runs")
        yield server


@pytest.fixture
def thinking(tmp_path: Path) -> Iterator[ServerProcess]:
    """With all the time in the world to stop."""
    with thinking_for(3600, tmp_path) as server:
        yield server


async def _place(url: str) -> None:
    async with opened(url, [slow_shop]) as engine:
        await place_order(engine, "slow", PLAN)


@pytest.mark.parametrize(("name", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_stops_it_at_once(thinking: ServerProcess, name: signal.Signals, code: int) -> None:
    thinking.send(name)
    wait_until(lambda: "stopping" in thinking.printed(), what="it begins to stop")
    with pytest.raises(TimeoutError):
        thinking.wait(seconds=0.5)
    thinking.send(name)
    assert thinking.wait() == code
    assert "stopped at once" in thinking.printed()


def test_what_a_second_signal_broke_off_is_taken_up_again(thinking: ServerProcess) -> None:
    thinking.send(signal.SIGINT)
    wait_until(lambda: "stopping" in thinking.printed(), what="it begins to stop")
    thinking.send(signal.SIGINT)
    thinking.wait()
    thinking.restart()
    wait_until(lambda: thinking.printed().count('"thinking"') == 2, what="the task runs again")


def test_the_grace_is_kept(tmp_path: Path) -> None:
    with thinking_for(0.2, tmp_path) as server:
        began = time.monotonic()
        server.terminate()
        assert server.wait() == 0
        assert time.monotonic() - began >= 0.2


def refusal_of(*arguments: object, **settings: str) -> str:
    """What it says when it does not start."""
    command = [str(ORDERUP), "serve", *map(str, arguments)]
    environment = {**plain_environment(), **settings}
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert (run.returncode, run.stdout) == (2, ""), run.stderr
    return run.stderr


def assert_says(refusal: str, *words: str) -> None:
    """In one line, ours."""
    [line] = refusal.splitlines()
    assert line.startswith("orderup: ")
    for word in words:
        assert word in line


@pytest.mark.parametrize("option", ["--front-port", "--back-port"])
def test_a_port_that_is_taken_is_told_in_one_sentence_with_the_way_out(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        port = listener.getsockname()[1]
        other = "--back-port" if option == "--front-port" else "--front-port"
        refusal = refusal_of(option, port, other, 0, DATABASE_URL=sqlite_url(tmp_path))
    assert_says(refusal, f"Cannot listen on 127.0.0.1:{port}", f"Choose another port with {option}")


@pytest.mark.parametrize(("option", "host"), [("--front-host", "0.0.0.0"), ("--back-host", "::")])  # noqa: S104  refused
def test_beyond_this_machine_it_does_not_listen_without_a_secret_key(tmp_path: Path, option: str, host: str) -> None:
    ports = ("--front-port", 0, "--back-port", 0)
    refusal = refusal_of(option, host, *ports, DATABASE_URL=sqlite_url(tmp_path))
    assert_says(refusal, "Without SECRET_KEY", "Set SECRET_KEY")


def test_a_database_that_is_away_at_the_start_is_told_in_one_sentence() -> None:
    ports = ("--front-port", 0, "--back-port", 0)
    refusal = refusal_of("pizza", *ports, DATABASE_URL="postgresql://postgres@127.0.0.1:1/x")
    assert_says(refusal, "The database does not answer")
