"""`orderup serve` as a process, as somebody at a terminal starts and stops it."""

import asyncio
import json
import os
import pty
import re
import select
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
from tests.cli.running import SECRET_KEY, opened
from tests.cli.slow_shop import PLAN, shop as slow_shop
from tests.services.ports import free_port
from tests.services.waiting import wait_until
from tests.serving import ORDERUP, ROOT, ServerProcess, plain_environment, sqlite_url

DEADLINE = 20.0


class Terminal:
    """A command at a terminal of its own, and what it has shown so far."""

    def __init__(self, pid: int, master: int) -> None:
        self.pid, self.master, self.shown = pid, master, ""

    def until(self, words: str) -> str:
        """Everything shown, once it holds these words."""

        def has_shown() -> bool:
            self._read()
            return words in self.shown

        wait_until(has_shown, seconds=DEADLINE, what=f"it shows {words!r}")
        return self.shown

    def _read(self) -> None:
        while select.select([self.master], [], [], 0)[0]:
            try:
                self.shown += os.read(self.master, 65_536).decode(errors="replace").replace("\r\n", "\n")
            except OSError:  # it has ended
                return

    def press_ctrl_c(self) -> None:
        os.write(self.master, b"\x03")

    def exit_code(self) -> int:
        """Of its end, which it must come to by itself."""
        ended: list[int] = []

        def has_ended() -> bool:
            self._read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                ended.append(os.waitstatus_to_exitcode(status))
            return bool(pid)

        wait_until(has_ended, seconds=DEADLINE, what="it ends")
        self.pid = 0
        return ended[0]


@contextmanager
def at_terminal(folder: Path, *arguments: object, **settings: str) -> Iterator[Terminal]:
    environment = {**plain_environment(), "TERM": "dumb", "DATABASE_URL": sqlite_url(folder), **settings}
    ports = ["--front-port", str(free_port()), "--back-port", str(free_port())]
    command = [str(ORDERUP), "serve", *map(str, arguments), *ports]
    pid, master = pty.fork()
    if pid == 0:  # pragma: no cover  the other process
        os.execve(ORDERUP, command, environment)  # noqa: S606  our own command
    terminal = Terminal(pid, master)
    try:
        yield terminal
    finally:
        if terminal.pid:
            os.kill(terminal.pid, signal.SIGKILL)
            os.waitpid(terminal.pid, 0)
        os.close(master)


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
    with at_terminal(tmp_path, MEALBOX_WAIT_SECONDS="20") as terminal:
        shown = terminal.until("Ctrl-C stops it")
        *orders, approve = re.findall(r"^ +(curl .+)$", shown, re.MULTILINE)
        box, pizza = [
            httpx2.request(**request_of(order), timeout=DEADLINE).raise_for_status().json() for order in orders
        ]
        assert (box["status"], pizza["status"]) == ("completed", "waiting_for_approval")
        approved = httpx2.request(**request_of(approve.replace("/ID/", f"/{pizza['id']}/")))
        assert (approved.status_code, approved.json()["status"]) == (200, "approved")
        docs = re.findall(r"http://\S+/docs/", shown)
        assert [httpx2.get(url).status_code for url in docs] == [200, 200]


def test_with_tokens_it_says_where_the_token_comes_from(tmp_path: Path) -> None:
    with at_terminal(tmp_path, "pizza", SECRET_KEY=SECRET_KEY) as terminal:
        shown = terminal.until("Ctrl-C stops it")
    assert '-H "Authorization: Bearer $(orderup token staff me)"' in shown
    assert "/pizzas -H" in shown
    assert "/pizza/pizzas -H" not in shown


@pytest.mark.parametrize("press", [1, 2])
def test_ctrl_c_ends_it_in_good_order(tmp_path: Path, press: int) -> None:
    with at_terminal(tmp_path) as terminal:
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
        assert server.wait(seconds=DEADLINE) == 0
        lines = [json.loads(line) for line in server.printed().splitlines()]
    serving = next(line for line in lines if line["event"] == "serving")
    assert serving["customers"] == server.front.replace("127.0.0.1", "localhost")
    assert serving["shops"] == "pizza"
    assert [line["event"] for line in lines if line["level"] == "info"] == [
        "serving",
        "stopping; a second signal stops at once",
        "stopped",
    ]


@contextmanager
def thinking_for(grace: float, folder: Path) -> Iterator[ServerProcess]:
    """A server whose executor is in the middle of a task that does not end."""
    url, options, environment = sqlite_url(folder), ["--grace", str(grace)], {"PYTHONPATH": str(ROOT)}
    name = "tests.cli.slow_shop:shop"
    with ServerProcess(name, folder=folder, database_url=url, options=options, environment=environment) as server:
        server.start()
        asyncio.run(_place(url))
        wait_until(lambda: '"thinking"' in server.printed(), seconds=DEADLINE, what="the task runs")
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
    wait_until(lambda: "stopping" in thinking.printed(), seconds=DEADLINE, what="it begins to stop")
    with pytest.raises(TimeoutError):
        thinking.wait(seconds=0.5)
    thinking.send(name)
    assert thinking.wait(seconds=5) == code
    assert "stopped at once" in thinking.printed()


def test_what_a_second_signal_broke_off_is_taken_up_again(thinking: ServerProcess) -> None:
    thinking.send(signal.SIGINT)
    wait_until(lambda: "stopping" in thinking.printed(), seconds=DEADLINE, what="it begins to stop")
    thinking.send(signal.SIGINT)
    thinking.wait(seconds=5)
    thinking.restart()
    wait_until(lambda: thinking.printed().count('"thinking"') == 2, seconds=DEADLINE, what="the task runs again")


def test_the_grace_is_kept(tmp_path: Path) -> None:
    with thinking_for(0.2, tmp_path) as server:
        began = time.monotonic()
        server.terminate()
        assert server.wait(seconds=DEADLINE) == 0
        assert time.monotonic() - began >= 0.2


def refusal_of(*arguments: object, **settings: str) -> str:
    """What it says when it does not start."""
    command = [str(ORDERUP), "serve", *map(str, arguments)]
    environment = {**plain_environment(), **settings}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False)
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
