"""Where the sandbox listens, how it begins and ends: in a test's process, and as a command."""

import asyncio
import re
import signal
import smtplib
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from orderup.sandbox import Outcome, serve_sandbox
from tests.sandbox.conftest import JSON, client_of
from tests.services.ports import free_port
from tests.services.waiting import PATIENCE_SECONDS, wait_until
from tests.serving import ORDERUP, Program


@pytest.fixture
def port() -> int:
    return free_port()


async def test_a_port_that_is_taken_is_passed_over(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        async with serve_sandbox(port) as sandbox:
            assert int(sandbox.base_url.rpartition(":")[2]) > port
            async with client_of(sandbox) as mealbox:
                assert (await mealbox.get("/requests")).status_code == 200


async def test_where_no_port_is_left_it_says_so() -> None:
    with socket.create_server(("127.0.0.1", 65_535)), pytest.raises(OSError, match="no port from 65535 on is free"):
        async with serve_sandbox(65_535):
            pass


async def test_two_beside_each_other_know_nothing_of_each_other() -> None:
    async with serve_sandbox() as one, serve_sandbox() as other, client_of(other) as mealbox:
        one.mealbox.products.switch("classic-box", status=500)
        assert (await mealbox.get("/products/classic-box")).status_code == 200
        assert not one.mealbox.ledger.counts


async def test_it_ends_at_once_though_somebody_waits() -> None:
    async with asyncio.timeout(PATIENCE_SECONDS), httpx2.AsyncClient(headers=JSON, timeout=None) as patient:
        async with serve_sandbox() as sandbox:
            asking = asyncio.create_task(patient.get(f"{sandbox.base_url}/mealbox/products/family-box"))
            await sandbox.mealbox.ledger.until(lambda ledger: ledger.arrivals)
        with pytest.raises(httpx2.TransportError):
            await asking
        assert sandbox.mealbox.ledger.arrivals[0].outcome is Outcome.CALLER_LEFT
        with pytest.raises(httpx2.ConnectError):
            await patient.get(sandbox.base_url)


# the command


@pytest.fixture
def command(tmp_path: Path, port: int) -> Iterator[Program]:
    """Not started yet."""
    options = ["--port", str(port), "--speed", "1000"]
    with Program("sandbox", [ORDERUP, "sandbox", *options], log=tmp_path / "sandbox.log") as program:
        yield program


def told_address(program: Program) -> str:
    wait_until(lambda: "Ctrl-C" in program.printed(), what="the sandbox says where it is")
    return program.printed().partition("The sandbox is at ")[2].partition(": ")[0]


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_a_signal(command: Program, port: int, name: signal.Signals) -> None:
    url = told_address(command.launch())
    assert url == f"http://127.0.0.1:{port}"
    assert "is taken" not in command.printed()
    assert httpx2.get(f"{url}/mealbox/products/family-box", headers=JSON, timeout=PATIENCE_SECONDS).status_code == 200
    command.send(name)
    assert command.wait() == 0
    assert "Traceback" not in command.printed()


def test_the_command_says_where_it_is_instead_of_at_a_port_that_is_taken(command: Program, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        url = told_address(command.launch())
        assert f"Port {port} is taken." in command.printed()
        assert f"PRODUCT_SERVICE_URL={url}/mealbox" in command.printed()
        assert httpx2.get(url, timeout=PATIENCE_SECONDS).status_code == 200


def test_mail_sent_to_where_the_command_says_is_in_its_inbox(command: Program) -> None:
    url = told_address(command.launch())
    told = re.search(r"SMTP_HOST=(\S+) SMTP_PORT=(\d+) SMTP_SECURITY=none", command.printed())
    assert told is not None
    with smtplib.SMTP(told[1], int(told[2]), timeout=PATIENCE_SECONDS) as client:
        client.sendmail("a@b.example", "c@d.example", b"Subject: Number 21\r\n\r\nHello")
    assert "Number 21" in httpx2.get(f"{url}/smtp/", timeout=PATIENCE_SECONDS).text


def test_beyond_this_machine_it_listens_only_with_a_name_and_warns(tmp_path: Path, port: int) -> None:
    command: list[str | Path] = [ORDERUP, "sandbox", "--port", str(port), "--host", "0.0.0.0"]  # noqa: S104  what it is about
    with Program("nameless", command, log=tmp_path / "nameless.log").launch() as nameless:
        assert nameless.wait() != 0
        assert "--name" in nameless.printed()
    with Program("named", [*command, "--name", "sandbox"], log=tmp_path / "named.log").launch() as named:
        assert told_address(named) == f"http://sandbox:{port}"
        assert "Careful" in named.printed()
        url = f"http://127.0.0.1:{port}"
        assert httpx2.get(url, headers={"Host": "sandbox"}, timeout=PATIENCE_SECONDS).status_code == 200
