"""RabbitMQ: whether one answers, and one of the tests' own."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import NamedTuple

from kombu import Connection

from tests.services.ports import free_port
from tests.services.server import last_lines, new_folder, run_kept, user_for
from tests.services.waiting import wait_until

USUAL_URLS = ("amqp://guest:guest@127.0.0.1:5672/",)
PACKAGES = ("rabbitmq-server",)


def check(url: str) -> None:
    """Raise an error unless a broker at `url` lets us in."""
    with Connection(url, connect_timeout=5) as connection:
        connection.connect()


def find_program() -> Path | None:
    """Give the script that starts the broker.

    Debian's own, on the PATH, insists on one fixed log folder and user; the one behind it does not.
    """
    behind = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    if behind.exists():
        return behind
    on_path = shutil.which("rabbitmq-server")
    return Path(on_path) if on_path else None


def start(program: Path, owner: int) -> str:
    """Start a broker on a free port with data of its own, and give its URL when it answers (4 s or so)."""
    broker = Broker(program, owner=owner)
    broker.start()
    return broker.url


class Broker:
    """A broker on a port of its own, to be killed and started again by a test. Its data outlive that. `also_at`: an
    address besides 127.0.0.1 at which it listens, to whoever reaches it."""

    def __init__(self, program: Path, *, owner: int | None = None, also_at: str | None = None) -> None:
        self._program, self._owner = program, os.getpid() if owner is None else owner
        self._port, self._user = free_port(), user_for("rabbitmq")
        self._folder = new_folder("rabbitmq", user=self._user)
        self._keeper: subprocess.Popen[bytes] | None = None
        self._directory = _start_directory(self._folder, owner=self._owner, user=self._user)
        self.url = f"amqp://guest:guest@127.0.0.1:{self._port}/"
        self.environment = {
            # Erlang keeps its cookie in the home folder.
            "HOME": str(self._folder),
            "ERL_EPMD_PORT": str(self._directory.port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_FLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_NODENAME": f"orderup-{self._port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "logs"),
            "RABBITMQ_PID_FILE": str(self._folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq"),
        }
        if also_at is not None:
            # what the file says of listeners goes before the environment
            told = [f"listeners.tcp.{at} = {address}:{self._port}" for at, address in enumerate(("127.0.0.1", also_at))]
            (self._folder / "rabbitmq.conf").write_text("\n".join(["loopback_users = none", *told, ""]))

    def start(self) -> None:
        """Return when it answers."""
        self._keeper = keeper = run_kept(
            [self._program],
            folder=self._folder,
            owner=self._owner,
            user=self._user,
            stop_signal=signal.SIGKILL,
            environment=self.environment,
        )
        try:
            wait_until(lambda: _answers(keeper, self.url), what="RabbitMQ answers")
        except (TimeoutError, ChildProcessError) as error:
            error.add_note(last_lines(self._folder))
            raise

    def kill(self) -> None:
        """Return when it is gone, whoever talked to it cut off."""
        if self._keeper is not None:
            self._keeper.terminate()
            self._keeper.wait()
            self._keeper = None

    def control(self, *arguments: str) -> None:
        """As `rabbitmqctl` does, run by the broker's own user."""
        command: list[str | Path] = [self._program.with_name("rabbitmqctl"), *arguments]
        subprocess.run(
            command,
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **self.environment},
            user=self._user,
            group=self._user,
            extra_groups=None if self._user is None else [],
            cwd=self._folder,
        )

    def remove(self) -> None:
        self.kill()
        self._directory.keeper.terminate()
        self._directory.keeper.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


class Directory(NamedTuple):
    """Erlang's directory of nodes."""

    port: int
    keeper: subprocess.Popen[bytes]


def _start_directory(folder: Path, *, owner: int, user: str | None) -> Directory:
    """Start epmd, in the foreground: one that the broker starts would outlive it."""
    port = free_port()
    epmd = shutil.which("epmd") or "epmd"
    keeper = run_kept([epmd, "-address", "127.0.0.1", "-port", str(port)], folder=folder, owner=owner, user=user)
    return Directory(port, keeper)


def _answers(keeper: subprocess.Popen[bytes], url: str) -> bool:
    if keeper.poll() is not None:
        raise ChildProcessError("RabbitMQ ended while starting")
    try:
        check(url)
    except OSError:
        return False
    return True
