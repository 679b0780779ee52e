"""deploy/bakery/Caddyfile, by a Caddy that runs: TLS, both names, live updates, addresses, a server that starts."""

import hmac
import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from websockets.sync.client import connect
from websockets.typing import Origin

from orderup.settings import Settings
from tests.cli.running import run
from tests.deploy.files import BAKERY, made_secrets
from tests.deploy.gate import DOMAIN, STAFF, Gate
from tests.services.ports import free_port
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import ROOT, ServerProcess, sqlite_url

CAKE = {"name": "Chocolate Cake", "ingredients": {"chocolate": 33.5, "eggs": 1}}
ORDER = {"customer": "Ada", "recipe": "chocolate_cake", "persons": 4}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As compose mounts them: those that the script makes, one that was written by hand, the others empty."""
    folder = tmp_path_factory.mktemp("secrets")
    made = made_secrets(folder)
    (made / "DATABASE_URL").write_text(sqlite_url(folder))
    (made / "JIRA_WEBHOOK_SECRET").write_text("what Jira signs with\n")
    return made


@pytest.fixture(scope="module")
def shop(secrets: Path) -> Iterator[ServerProcess]:
    """The bakery behind a proxy on this machine, with all its secrets in files."""
    environment = {"ORDERUP_SECRETS_DIR": str(secrets), "DATABASE_URL": "", "TRUSTED_PROXIES": "127.0.0.1"}
    options = ["--sandbox-port", str(free_port())]
    with ServerProcess(
        "bakery", folder=secrets.parent, database_url="", options=options, environment=environment
    ) as server:
        yield server.start()


@pytest.fixture(scope="module")
def gate(caddy: Path, shop: ServerProcess, secrets: Path) -> Iterator[Gate]:
    """Through it staff has written the recipe of the cake that is ordered."""
    front, back = urlsplit(shop.front).netloc, urlsplit(shop.back).netloc
    token = run("token", "staff", "ann", ORDERUP_SECRETS_DIR=str(secrets)).stdout.strip()
    with Gate(caddy, front=front, back=back, folder=secrets.parent) as gate, gate.start().client() as client:
        headers = {"Authorization": f"Bearer {token}"}
        assert gate.request(client, "POST", DOMAIN, "/cakes", json=CAKE, headers=headers).status_code == 201
        yield gate


@pytest.fixture
def client(gate: Gate) -> Iterator[httpx2.Client]:
    with gate.client() as opened:
        yield opened


def placed(gate: Gate, client: httpx2.Client) -> Any:
    answer = gate.request(client, "POST", DOMAIN, "/orders", json=ORDER)
    assert answer.status_code == 201, answer.text
    return answer.json()


def path_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def cancel(gate: Gate, client: httpx2.Client, order: Any) -> None:
    assert gate.request(client, "DELETE", DOMAIN, path_of(order["links"]["cancel"])).is_success


def test_caddy_itself_finds_nothing_wrong_and_would_write_it_the_same_way(caddy: Path, tmp_path: Path) -> None:
    names = {
        "DOMAIN": "cakes.example",
        "ACME_EMAIL": "ann@cakes.example",
        "FRONT": "10.0.0.2:8000",
        "BACK": "10.0.0.2:8001",
    }
    environment = {**os.environ, **names, "XDG_DATA_HOME": str(tmp_path), "HOME": str(tmp_path)}
    command = [str(caddy), "validate", "--adapter", "caddyfile", "--config", str(BAKERY / "Caddyfile")]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, done.stderr
    formatted = subprocess.run(
        [caddy, "fmt", BAKERY / "Caddyfile"], capture_output=True, check=False, timeout=60
    ).stdout
    assert formatted == (BAKERY / "Caddyfile").read_bytes()


def test_plain_http_leads_to_https(gate: Gate) -> None:
    answer = httpx2.get(
        f"http://127.0.0.1:{gate.plain_port}/orders?a=b", headers={"Host": DOMAIN}, timeout=PATIENCE_SECONDS
    )
    assert answer.status_code == 308
    assert answer.headers["location"] == f"https://{DOMAIN}/orders?a=b"


def test_an_order_by_tls_has_links_that_lead_back_by_tls(gate: Gate, client: httpx2.Client) -> None:
    order = placed(gate, client)
    assert order["links"]["self"].startswith(f"https://{DOMAIN}:{gate.port}/")
    answer = gate.request(client, "GET", DOMAIN, path_of(order["links"]["self"]))
    assert answer.json()["id"] == order["id"]
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_customers_find_the_front_and_staff_the_back_and_neither_the_other(
    gate: Gate, client: httpx2.Client, secrets: Path
) -> None:
    headers = {"Authorization": f"Bearer {(secrets / 'METRICS_TOKEN').read_text()}"}
    found = {
        host: gate.request(client, "GET", host, "/metrics", headers=headers).status_code for host in (DOMAIN, STAFF)
    }
    assert found == {DOMAIN: 404, STAFF: 200}
    taken = {host: gate.request(client, "POST", host, "/orders", json={}).status_code for host in (DOMAIN, STAFF)}
    assert taken == {DOMAIN: 422, STAFF: 404}


def test_jira_finds_the_bakery_where_the_guide_says_and_has_to_sign(gate: Gate, client: httpx2.Client) -> None:
    [path] = re.findall(r"what Jira calls \| `https://DOMAIN(\S+)`", (ROOT / "docs/guides/deploy.md").read_text())
    body = b'{"issue": {"key": "BAKE-1"}}'
    signature = "sha256=" + hmac.new(b"what Jira signs with", body, "sha256").hexdigest()
    answers = [
        gate.request(client, "POST", DOMAIN, path, content=body, headers={"X-Hub-Signature": said}).status_code
        for said in (signature, signature[:-1] + "x")
    ]
    assert answers == [202, 401]


def test_an_order_is_followed_live_by_a_websocket(gate: Gate, client: httpx2.Client) -> None:
    order = placed(gate, client)
    with (
        socket.create_connection(("127.0.0.1", gate.port)) as connection,
        connect(
            f"wss://{DOMAIN}:{gate.port}{path_of(order['links']['live'])}",
            sock=connection,
            ssl=gate.trust(),
            origin=Origin(f"https://{DOMAIN}:{gate.port}"),
            open_timeout=PATIENCE_SECONDS,
        ) as live,
    ):
        assert json.loads(live.recv(PATIENCE_SECONDS))["type"] == "operation.placed"
        # What happens from now on comes by the same connection.
        cancel(gate, client, order)
        while json.loads(live.recv(PATIENCE_SECONDS))["type"] != "operation.cancelled":
            pass


def test_an_order_is_followed_live_by_an_event_stream(gate: Gate, client: httpx2.Client) -> None:
    order = placed(gate, client)
    request = gate.build(client, "GET", DOMAIN, path_of(order["links"]["events"]))
    answer = client.send(request, stream=True)
    try:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert "operation.placed" in next(line for line in lines if line.startswith("data:"))
        # What happens from now on comes while the answer goes on.
        with gate.client() as another:
            cancel(gate, another, order)
        assert any("operation.cancelled" in line for line in lines)
    finally:
        answer.close()


def test_a_body_beyond_what_orderup_takes_is_refused(gate: Gate, client: httpx2.Client) -> None:
    most = Settings().max_body_bytes
    [size] = re.findall(r"max_size (\d+)MiB", (BAKERY / "Caddyfile").read_text())
    assert int(size) << 20 == most
    bodies = [json.dumps(ORDER).ljust(length).encode() for length in (most, most + 1)]
    headers = {"Content-Type": "application/json"}
    answers = [gate.request(client, "POST", DOMAIN, "/orders", headers=headers, content=body) for body in bodies]
    # What just fits is taken; the other answer is Caddy's, who says nothing more.
    assert [answer.status_code for answer in answers] == [201, 413]
    assert [bool(answer.content) for answer in answers] == [True, False]


class Echo(BaseHTTPRequestHandler):
    """Says what it was told. HTTP/1.0, so that no connection outlives its server."""

    def do_GET(self) -> None:
        told = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def echoing(port: int) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", port), Echo)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_what_a_caller_says_of_his_address_is_not_handed_on(caddy: Path, tmp_path: Path) -> None:
    port = free_port()
    with (
        echoing(port),
        Gate(caddy, front=f"127.0.0.1:{port}", back=f"127.0.0.1:{port}", folder=tmp_path) as gate,
        gate.start().client() as client,
    ):
        lies = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "evil.example"}
        told = gate.request(client, "GET", DOMAIN, "/", headers=lies).json()
    assert told["x-forwarded-for"] == "127.0.0.1"
    assert told["x-forwarded-proto"] == "https"
    assert told["x-forwarded-host"] == told["host"] == f"{DOMAIN}:{gate.port}"


def test_a_request_waits_while_orderup_starts_anew(caddy: Path, tmp_path: Path) -> None:
    port, answers = free_port(), []
    with Gate(caddy, front=f"127.0.0.1:{port}", back=f"127.0.0.1:{port}", folder=tmp_path) as gate:
        with echoing(port):
            gate.start()

        def ask() -> None:
            with gate.client(timeout=PATIENCE_SECONDS) as client:
                answers.append(gate.request(client, "GET", DOMAIN, "/").status_code)

        asking = threading.Thread(target=ask)
        asking.start()
        # Whoever does not wait is told within this time that nobody is there.
        asking.join(1.0)
        assert asking.is_alive(), answers
        with echoing(port):
            asking.join(PATIENCE_SECONDS)
        assert answers == [200]
