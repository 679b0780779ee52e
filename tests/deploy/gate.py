"""Caddy as deploy/bakery/ sets it up: the same Caddyfile, with other ports, and certificates of its own making."""

import json
import os
import ssl
import subprocess
from pathlib import Path
from typing import Any, Self

import httpx2

from tests.deploy.files import BAKERY
from tests.services.ports import free_port
from tests.services.waiting import PATIENCE_SECONDS, wait_until
from tests.serving import Program

# Caddy asks nobody for certificates of names below localhost: it makes them.
DOMAIN = "cakes.localhost"
STAFF = f"staff.{DOMAIN}"


class Gate(Program):
    """Before `front` and `back`, each HOST:PORT. `folder`: where its own one goes."""

    def __init__(self, caddy: Path, *, front: str, back: str, folder: Path) -> None:
        self.port, self.plain_port = free_port(), free_port()
        self.folder = folder / "caddy"
        self.folder.mkdir()
        environment = {"DOMAIN": DOMAIN, "ACME_EMAIL": "ann@cakes.example", "FRONT": front, "BACK": back}
        environment |= {
            "XDG_DATA_HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder),
            "HOME": str(self.folder),
        }
        config = self.folder / "caddy.json"
        config.write_text(json.dumps(self._adapted(caddy, environment)))
        command = [caddy, "run", "--config", config]
        super().__init__("caddy", list(map(str, command)), log=folder / "caddy.log", environment=environment)

    def _adapted(self, caddy: Path, environment: dict[str, str]) -> Any:
        done = subprocess.run(
            [caddy, "adapt", "--config", BAKERY / "Caddyfile"],
            env={**os.environ, **environment},
            capture_output=True,
            check=True,
            timeout=PATIENCE_SECONDS,
        )
        config = json.loads(done.stdout)
        http = config["apps"]["http"]
        [server] = http["servers"].values()
        assert server["listen"] == [":443"]
        server["listen"] = [f"127.0.0.1:{self.port}"]
        http |= {"http_port": self.plain_port, "https_port": self.port}
        config["apps"]["pki"] = {"certificate_authorities": {"local": {"install_trust": False}}}
        return {**config, "admin": {"disabled": True}}

    def start(self) -> Self:
        """Return when it has certificates for both names."""
        self.launch()
        for host in (DOMAIN, STAFF):
            wait_until(lambda host=host: self._answers(host), what=f"Caddy answers at {host}")  # type: ignore[misc]  # a lambda's default
        return self

    def _answers(self, host: str) -> bool:
        assert self.runs, self.last_lines()
        root = self._root()
        if not root.exists() or "END CERTIFICATE" not in root.read_text():
            return False  # it is being written
        try:
            with self.client(timeout=5) as client:
                return self.request(client, "GET", host, "/").status_code > 0
        except httpx2.TransportError:
            return False

    def _root(self) -> Path:
        return self.folder / "caddy" / "pki" / "authorities" / "local" / "root.crt"

    def trust(self) -> ssl.SSLContext:
        """For those who trust its certificates and no others."""
        return ssl.create_default_context(cafile=self._root())

    def client(self, *, timeout: float = 30) -> httpx2.Client:
        return httpx2.Client(timeout=timeout, verify=self.trust())

    def request(
        self,
        client: httpx2.Client,
        method: str,
        host: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> httpx2.Response:
        return client.send(self.build(client, method, host, path, headers=headers, **more))

    def build(
        self,
        client: httpx2.Client,
        method: str,
        host: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> httpx2.Request:
        """As somebody asks for whom the name leads here."""
        return client.build_request(
            method,
            f"https://127.0.0.1:{self.port}{path}",
            headers={"Host": f"{host}:{self.port}", **(headers or {})},
            extensions={"sni_hostname": host},
            **more,
        )
