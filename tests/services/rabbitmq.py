"""RabbitMQ: whether one answers, and one of the tests' own."""

import shutil
import subprocess
from pathlib import Path

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
    port, user = free_port(), user_for("rabbitmq")
    folder = new_folder("rabbitmq", user=user)
    directory = _start_directory(folder, owner=owner, user=user)
    environment = {
        # Erlang keeps its cookie in the home folder.
        "HOME": str(folder),
        "ERL_EPMD_PORT": str(directory),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_FLAGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_NODENAME": f"orderup-{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "logs"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
    }
    keeper = run_kept([program], folder=folder, owner=owner, user=user, environment=environment)
    url = f"amqp://guest:guest@127.0.0.1:{port}/"
    try:
        wait_until(lambda: _answers(keeper, url), seconds=90, what="RabbitMQ answers")
    except (TimeoutError, ChildProcessError) as error:
        error.add_note(last_lines(folder))
        raise
    return url


def _start_directory(folder: Path, *, owner: int, user: str | None) -> int:
    """Start epmd, Erlang's directory of nodes, in the foreground: one that the broker starts would outlive it."""
    port = free_port()
    epmd = shutil.which("epmd") or "epmd"
    run_kept([epmd, "-address", "127.0.0.1", "-port", str(port)], folder=folder, owner=owner, user=user)
    return port


def _answers(keeper: subprocess.Popen[bytes], url: str) -> bool:
    if keeper.poll() is not None:
        raise ChildProcessError("RabbitMQ ended while starting")
    try:
        check(url)
    except OSError:
        return False
    return True
