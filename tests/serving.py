"""Real servers for tests: `orderup serve` as a process of its own, on free ports, to be killed, frozen or stopped.

A server that is started again keeps its ports, its database and its log, as one that an administrator restarts does.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from orderup.environment import FOLDER, SUFFIX
from orderup.settings import Settings, variable_of
from tests.services.ports import free_port
from tests.services.waiting import PATIENCE_SECONDS, wait_until

ORDERUP = Path(sys.executable).with_name("orderup")
ROOT = Path(__file__).resolve().parents[1]
# Linux ends the program together with the thread that started it: a run that is killed leaves no server behind.
LAUNCH = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class Program:
    """A process of ours. `log`: where what it prints goes, one run after the other. Start it in the main thread."""

    def __init__(
        self, name: str, command: Sequence[str | Path], *, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name, self.command, self.log = name, list(map(str, command)), log
        self.environment = {**plain_environment(), **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self, **options: Any) -> Self:
        """Start it, without waiting for anything. options: what else `subprocess.Popen` takes."""
        assert not self.runs, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", LAUNCH, str(os.getpid()), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=ROOT,
                **options,
            )
        return self

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def send(self, name: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(name)

    def kill(self) -> None:
        """Without warning, as the system's out-of-memory killer does."""
        self.send(signal.SIGKILL)
        self.wait()

    def freeze(self) -> None:
        """It stands still, its connections stay open, until `thaw`."""
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    def terminate(self) -> None:
        """Ask it to end, as an administrator does."""
        self.send(signal.SIGTERM)

    def wait(self, *, seconds: float = PATIENCE_SECONDS) -> int:
        """Its exit code, once it has ended."""
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"{self.name} has not ended within {seconds:g} s\n{self.last_lines()}") from error

    def end(self) -> None:
        """Whatever state it is in."""
        if self.runs:
            self.kill()

    def printed(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def last_lines(self, count: int = 40) -> str:
        return "\n".join([f"{self.name} printed last:", *self.printed().splitlines()[-count:]])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(self.last_lines())
        self.end()


class ServerProcess(Program):
    """`orderup serve SHOP…`, at `front` and `back`. `folder`: where its log goes, and what it is named after.

    options: of the command, such as `["--grace", "1"]`. environment: settings, by the names of their variables; those
    of whoever runs the tests are not passed on.
    """

    def __init__(
        self,
        *shops: str,
        folder: Path,
        database_url: str,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        front_port: int | None = None,
        back_port: int | None = None,
        name: str = "server",
    ) -> None:
        self.front_port, self.back_port = front_port or free_port(), back_port or free_port()
        self.front, self.back = f"http://127.0.0.1:{self.front_port}", f"http://127.0.0.1:{self.back_port}"
        ports = ["--front-port", str(self.front_port), "--back-port", str(self.back_port)]
        super().__init__(
            name,
            [ORDERUP, "serve", *shops, *ports, *options],
            log=folder / f"{name}.log",
            environment={"LOG_FORMAT": "json", "DATABASE_URL": database_url, **(environment or {})},
        )

    def start(self, **options: Any) -> Self:
        """Return when both apps answer that they are ready. options: as of `launch`."""
        self.launch(**options)
        try:
            # one client for every look: a new one reads all certificates first, 20 ms of work
            with httpx2.Client(timeout=5) as client:
                wait_until(lambda: self._is_ready(client), what=f"{self.name} is ready")
        except (TimeoutError, ChildProcessError) as error:
            error.add_note(self.last_lines())
            self.end()
            raise
        return self

    def _is_ready(self, client: httpx2.Client) -> bool:
        if not self.runs:
            raise ChildProcessError(f"{self.name} ended while starting")
        with contextlib.suppress(httpx2.TransportError):
            return all(client.get(f"{url}/readyz").is_success for url in (self.front, self.back))
        return False

    def restart(self) -> Self:
        """Start it again on what the last one left."""
        self.end()
        return self.start()


def plain_environment() -> dict[str, str]:
    """Ours without any setting of orderup's; shops of the tests can be named."""
    variables = {variable_of(field) for field in Settings.model_fields}
    ours = variables | {variable + SUFFIX for variable in variables} | {FOLDER}
    return {**{name: value for name, value in os.environ.items() if name not in ours}, "PYTHONPATH": str(ROOT)}


def sqlite_url(folder: Path) -> str:
    """Of a database file in this folder."""
    return f"sqlite:///{folder / 'orderup.db'}"
