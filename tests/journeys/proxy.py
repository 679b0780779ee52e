"""nginx as deploy/nginx/ sets it up before a coffee bar: the same files, with another port and folders of its own."""

import re
from pathlib import Path
from typing import Self

import httpx2

from tests.services.ports import free_port
from tests.services.waiting import PATIENCE_SECONDS, wait_until
from tests.serving import ROOT, Program, ServerProcess

FILES = ROOT / "deploy" / "nginx"
# nginx makes them when it starts, where only root may, unless it is told of others.
FOLDERS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
# One process: workers would outlive a master that is killed.
ONE_PROCESS = "daemon off; master_process off; pid nginx.pid;"
# Tells whose limits would hold for somebody at the address that a header names.
SHOW_CLIENT = """
server {{
    listen 127.0.0.1:{port};
    set_real_ip_from 127.0.0.1;
    real_ip_header X-Address;
    return 200 "$client";
}}
"""


class Proxy(Program):
    """At `url`. `folder`: where its own one goes. `token`: of the workers of that server."""

    def __init__(self, nginx: Path, server: ServerProcess, *, folder: Path, token: str) -> None:
        self.port, self.asking_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = folder / "nginx"
        (self.folder / "conf.d").mkdir(parents=True)
        self._write(server, token)
        command = [nginx, "-p", self.folder, "-e", "stderr", "-c", self.folder / "nginx.conf", "-g", ONE_PROCESS]
        super().__init__("nginx", list(map(str, command)), log=folder / "nginx.log")

    def _write(self, server: ServerProcess, token: str) -> None:
        bar = (FILES / "bar.conf.template").read_text()
        for name, value in {
            "COFFEE_FRONT": f"127.0.0.1:{server.front_port}",
            "COFFEE_BACK": f"127.0.0.1:{server.back_port}",
            "WORKER_TOKEN": token,
        }.items():
            bar = bar.replace(f"${{{name}}}", value)
        (self.folder / "conf.d" / "bar.conf").write_text(bar)
        coffee = _replaced((FILES / "coffee.conf").read_text(), r"listen 80;", f"listen 127.0.0.1:{self.port};")
        (self.folder / "conf.d" / "coffee.conf").write_text(coffee + SHOW_CLIENT.format(port=self.asking_port))
        paths = "".join(f"    {name}_temp_path {name};\n" for name in FOLDERS)
        main = _replaced((FILES / "nginx.conf").read_text(), r"^http \{\n", f"http {{\n{paths}")
        (self.folder / "nginx.conf").write_text(main)

    def start(self) -> Self:
        """Return when it answers."""
        self.launch()
        wait_until(self._answers, what="nginx answers")
        return self

    def client_of(self, address: str) -> bytes:
        """What nginx counts somebody at that address as."""
        return httpx2.get(
            f"http://127.0.0.1:{self.asking_port}", headers={"X-Address": address}, timeout=PATIENCE_SECONDS
        ).content

    def _answers(self) -> bool:
        assert self.runs, self.last_lines()
        try:
            return httpx2.get(self.url).status_code == 404  # asked again if that takes too long
        except httpx2.TransportError:
            return False


def _replaced(text: str, pattern: str, by: str) -> str:
    replaced, count = re.subn(pattern, by, text, flags=re.MULTILINE)
    assert count == 1, pattern
    return replaced
