"""`orderup simulate coffee`, as processes beside a real server, and behind a proxy that has both at one address."""

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import httpx2
import pytest

from tests.cli.running import assert_refused, run
from tests.services.ports import free_port
from tests.services.waiting import PATIENCE_SECONDS, wait_until
from tests.serving import ORDERUP, Program, ServerProcess, sqlite_url

CUSTOMERS = 12
SECRETS = {
    "SECRET_KEY": "a-key-of-thirty-two-characters-or-more",
    "WORKER_TOKEN": "a-token-for-every-barista",
    "TRUSTED_PROXIES": "127.0.0.1",
}


def serve(folder: Path, *shops: str, **environment: str) -> ServerProcess:
    return ServerProcess(*shops, folder=folder, database_url=sqlite_url(folder), environment=environment)


def simulate(folder: Path, *arguments: object, name: str = "simulation", speed: int = 600, **settings: str) -> Program:
    command = [str(ORDERUP), "simulate", "coffee", *map(str, arguments), "--speed", str(speed)]
    return Program(name, command, log=folder / f"{name}.log", environment=settings).launch()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The bar at the root, a service of its own."""
    with serve(tmp_path_factory.mktemp("alone"), "coffee").start() as server:
        yield server


@pytest.fixture(scope="module")
def among_others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The bar under its name, beside all other shops."""
    with serve(tmp_path_factory.mktemp("among_others")).start() as server:
        yield server


def coffees(program: Program) -> int:
    return program.printed().count("a customer has his coffee")


def test_customers_and_baristas_find_the_bar_where_it_is_one_of_many(
    among_others: ServerProcess, tmp_path: Path
) -> None:
    with simulate(tmp_path, "--count", CUSTOMERS, "--baristas", 3, SERVER_URL=among_others.front) as everybody:
        assert everybody.wait() == 0, everybody.last_lines()
    assert coffees(everybody) == CUSTOMERS


def test_each_role_plays_alone_and_baristas_end_at_a_signal(alone: ServerProcess, tmp_path: Path) -> None:
    with (
        simulate(tmp_path, "baristas", "--baristas", 2, "--server", alone.back, name="baristas") as baristas,
        simulate(tmp_path, "customers", "--count", 6, "--rate", 1, "--server", alone.front) as customers,
    ):
        assert customers.wait() == 0, customers.last_lines()
        answer = httpx2.post(f"{alone.front}/order/", timeout=PATIENCE_SECONDS)  # one of flesh and blood
        assert (answer.status_code, answer.json()["status"]) == (200, "ready")
        baristas.send(signal.SIGINT)
        assert baristas.wait() == 0, baristas.last_lines()
    assert coffees(customers) == 6
    assert "Traceback" not in customers.printed() + baristas.printed()


def test_everybody_is_served_though_the_server_is_killed_in_between(tmp_path: Path) -> None:
    with (
        serve(tmp_path, "coffee", COFFEE_LEASE_SECONDS="2").start() as server,
        simulate(tmp_path, "--count", 8, "--baristas", 2, "--server", server.back, speed=60) as everybody,
    ):
        wait_until(lambda: coffees(everybody) > 1, what="somebody has his coffee")
        server.kill()
        server.restart()
        assert everybody.wait() == 0, everybody.last_lines()
    assert coffees(everybody) == 8
    assert "gives up" not in everybody.printed()


class Proxy(BaseHTTPRequestHandler):
    """One address for both apps: what baristas ask for goes to the back, the rest to the front."""

    protocol_version = "HTTP/1.1"
    routes: ClassVar[Mapping[str, str]]
    others: ClassVar[str | None]
    forwarded: ClassVar[Mapping[str, str]]

    def do_GET(self) -> None:
        self._pass_on("GET")

    def do_POST(self) -> None:
        self._pass_on("POST")

    def _pass_on(self, method: str) -> None:
        path = self.path.partition("?")[0]
        app = next((app for end, app in self.routes.items() if path.endswith(end)), self.others)
        if app is None:
            self._answer(404, b"<h1>404 Not Found</h1>")
            return
        kept = {name: self.headers[name] for name in ("Authorization", "Idempotency-Key") if name in self.headers}
        try:
            answer = httpx2.request(
                method, f"{app}{self.path}", headers={**kept, **self.forwarded}, timeout=PATIENCE_SECONDS
            )
        except httpx2.TransportError:
            self.close_connection = True
            return
        self._answer(answer.status_code, answer.content)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name that it has
        pass


@contextmanager
def proxy_before(server: ServerProcess, *, passes_on_all: bool, is_told: bool) -> Iterator[str]:
    """Its address. Without `passes_on_all` it knows the bar's three routes only. is_told: the server learns for whom it
    asks."""

    class Here(Proxy):
        routes: ClassVar = {"/order/": server.front, "/start/": server.back, "/finish/": server.back}
        others: ClassVar = server.front if passes_on_all else None
        forwarded: ClassVar = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "http"} if is_told else {}

    with ThreadingHTTPServer(("127.0.0.1", free_port()), Here) as listener:
        listener.daemon_threads = True
        thread = threading.Thread(target=listener.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.server_port}"
        finally:
            listener.shutdown()
            thread.join(10)


@pytest.mark.parametrize("name", ["alone", "among_others"])
def test_one_address_is_enough_behind_a_proxy(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    server: ServerProcess = request.getfixturevalue(name)
    with (
        proxy_before(server, passes_on_all=name == "among_others", is_told=False) as address,
        simulate(
            tmp_path, "--count", CUSTOMERS, "--baristas", 3, BASE_SERVER_URL=address, SERVER_URL="http://127.0.0.1:1"
        ) as everybody,
    ):
        assert everybody.wait() == 0, everybody.last_lines()
        assert coffees(everybody) == CUSTOMERS
        assert f"front={address}" in everybody.printed()


def test_behind_a_proxy_baristas_show_their_token_and_strangers_may_not_brew(tmp_path: Path) -> None:
    with (
        serve(tmp_path, "coffee", **SECRETS).start() as server,
        proxy_before(server, passes_on_all=False, is_told=True) as address,
    ):
        with (
            simulate(
                tmp_path, "baristas", name="baristas", WORKER_TOKEN=SECRETS["WORKER_TOKEN"], BASE_SERVER_URL=address
            ),
            simulate(tmp_path, "customers", "--count", 5, BASE_SERVER_URL=address) as customers,
        ):
            assert customers.wait() == 0, customers.last_lines()
        with simulate(tmp_path, "baristas", name="strangers", BASE_SERVER_URL=address) as strangers:
            assert strangers.wait() == 2
    assert coffees(customers) == 5
    assert "401" in strangers.printed()
    assert "Traceback" not in strangers.printed()


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (["staff"], {}, "Shop coffee has no simulated staff. It has: customers, baristas."),
        (["--brew", "60-30"], {}, "write the shorter time first"),
        (["--speed", "inf"], {}, "--speed inf: write a number from 0.01 to 100,000."),
        (["--speed", "nan"], {}, "--speed nan: write a number from 0.01 to 100,000."),
        (["--speed", "0"], {}, "--speed 0: write a number from 0.01 to 100,000."),
        (["--rate", "inf"], {}, "--rate inf: write a number from 0.001 to 10,000."),
        (["--rate", "nan"], {}, "--rate nan: write a number from 0.001 to 10,000."),
        (["--rate", "0"], {}, "--rate 0: write a number from 0.001 to 10,000."),
        ([], {"BASE_SERVER_URL": "http://127.0.0.1:1"}, "No answer from http://127.0.0.1:1"),
        (["--server", "http://127.0.0.1:2"], {"BASE_SERVER_URL": "http://127.0.0.1:1"}, "from http://127.0.0.1:2"),
    ],
)
def test_what_cannot_be_simulated_is_told_in_a_sentence(
    arguments: list[str], settings: dict[str, str], message: str
) -> None:
    assert_refused(run("simulate", "coffee", *arguments, **settings), message)
