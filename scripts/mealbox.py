"""The meal boxes as deploy/mealbox/compose.yaml has them, without containers: the same commands, settings and files.

PostgreSQL and RabbitMQ must run already; nginx must be installed, and Prometheus is started if it is. Ctrl-C stops all.
"""

import argparse
import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # brings no types

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
ORDERUP = str(Path(sys.executable).with_name("orderup"))
# ${NAME}, ${NAME:?what to say if it is missing}, ${NAME:-default}
FILLED_IN = re.compile(r"\$\{([A-Z_]+)(?::([?-])([^}]*))?\}")
START_SECONDS, STOP_SECONDS = 60, 30
HERE, EVERYWHERE = "127.0.0.1", "0.0.0.0"  # noqa: S104  what stands in compose.yaml, and is replaced
# nginx makes these where only root may, unless it is told of others.
FOLDERS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
NGINX = """
daemon off; master_process off; pid nginx.pid; error_log stderr warn;
events {{ worker_connections 1024; }}
http {{ access_log off; {folders} include mealbox.conf; }}
"""


class CannotRun(Exception):
    """The message says what is in the way, and the way out."""


class Stopped(Exception):
    """Somebody pressed Ctrl-C, or asked by a signal for the end."""


def main(wanted: argparse.Namespace) -> None:
    """Raises CannotRun, and Stopped when somebody asked for the end."""
    nginx = wanted.nginx or shutil.which("nginx")
    if nginx is None:
        raise CannotRun("There is no nginx. Install it, or name it with --nginx.")
    services = read_compose()
    front, back, sandbox = (free_port() for _ in range(3))
    environment = {
        **services["mealbox"]["environment"],
        "DATABASE_URL": wanted.database_url,
        "RABBITMQ_URL": wanted.rabbitmq_url,
        "TRUSTED_PROXIES": HERE,
    }
    environment = {name: value.replace("sandbox:8002", f"{HERE}:{sandbox}") for name, value in environment.items()}
    ports = ["--front-port", str(front), "--back-port", str(back)]
    with tempfile.TemporaryDirectory(prefix="orderup-mealbox-") as folder, contextlib.ExitStack() as stack:
        standing_in = [ORDERUP, *as_here(services["sandbox"]["command"]), "--port", str(sandbox)]
        stack.enter_context(running(standing_in))
        stack.enter_context(running([ORDERUP, *as_here(services["mealbox"]["command"]), *ports], environment))
        write_nginx(Path(folder), services["nginx"]["environment"], wanted=wanted, front=front, back=back)
        stack.enter_context(running([nginx, "-p", folder, "-e", "stderr", "-c", "nginx.conf"]))
        if prometheus := shutil.which("prometheus"):
            options = write_prometheus(Path(folder), token=environment["METRICS_TOKEN"], back=back)
            stack.enter_context(
                running([prometheus, *options, f"--web.listen-address={HERE}:{wanted.prometheus_port}"])
            )
            print(f"Prometheus: http://{HERE}:{wanted.prometheus_port}")
        wait_until_ready(f"http://{HERE}:{wanted.back_port}/readyz")
        print(
            f"Customers: http://{HERE}:{wanted.front_port}  Staff: http://{HERE}:{wanted.back_port}  Ctrl-C stops it."
        )
        sys.stdout.flush()
        signal.pause()


def read_compose() -> Any:
    """Its services, secrets filled in from the environment, or made up."""

    def fill(found: re.Match[str]) -> str:
        made_up = found[3] if found[2] == "-" else secrets.token_urlsafe(32)
        return os.environ.get(found[1]) or made_up

    return yaml.safe_load(FILLED_IN.sub(fill, (DEPLOY / "mealbox" / "compose.yaml").read_text()))["services"]


def as_here(command: Sequence[str]) -> list[str]:
    return [HERE if word == EVERYWHERE else word for word in command]


def write_nginx(
    folder: Path, environment: Mapping[str, str], *, wanted: argparse.Namespace, front: int, back: int
) -> None:
    values = {
        **environment,
        "MEALBOX_FRONT": f"{HERE}:{front}",
        "MEALBOX_BACK": f"{HERE}:{back}",
        "FRONT_LISTEN": f"{HERE}:{wanted.front_port}",
        "BACK_LISTEN": f"{HERE}:{wanted.back_port}",
    }
    template = (DEPLOY / "mealbox" / "mealbox.conf.template").read_text()
    (folder / "mealbox.conf").write_text(re.sub(r"\$\{([A-Z_]+)\}", lambda found: values[found[1]], template))
    paths = " ".join(f"{name}_temp_path {name};" for name in FOLDERS)
    (folder / "nginx.conf").write_text(NGINX.format(folders=paths))


def write_prometheus(folder: Path, *, token: str, back: int) -> list[str]:
    """Its files; its options."""
    (folder / "metrics_token").write_text(token)
    text = (DEPLOY / "mealbox" / "prometheus.yml").read_text()
    for theirs, ours in (
        ("mealbox:8001", f"{HERE}:{back}"),
        ("/tmp/metrics_token", str(folder / "metrics_token")),  # noqa: S108  as it stands there
        ("/etc/prometheus/alerts.yml", str(DEPLOY / "prometheus" / "alerts.yml")),
    ):
        text = text.replace(theirs, ours)
    (folder / "prometheus.yml").write_text(text)
    return [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/figures"]


def free_port() -> int:
    with socket.create_server((HERE, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """For the length of the block; afterwards it has ended, in its own time if it can."""
    # A session of its own: Ctrl-C reaches us alone, and we stop one after the other.
    process = subprocess.Popen(command, env={**os.environ, **(environment or {})}, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_ready(url: str) -> None:
    # Straight to this machine, whatever proxy the environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(urllib.error.URLError, OSError), opener.open(url, timeout=2):
            return
        if time.monotonic() > deadline:
            raise CannotRun(f"Not ready within {START_SECONDS} seconds; what is wrong was said above.")
        time.sleep(0.1)


def raise_stopped(_signal: int, _frame: types.FrameType | None) -> None:
    # A second one must not cut short the stopping that the first one began.
    for caught in (signal.SIGINT, signal.SIGTERM):
        signal.signal(caught, signal.SIG_IGN)
    raise Stopped


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--front-port", type=int, default=8080, help="nginx's, for customers")
    parser.add_argument("--back-port", type=int, default=8081, help="nginx's, for staff")
    parser.add_argument("--prometheus-port", type=int, default=9090)
    parser.add_argument("--database-url", default="postgresql://postgres@127.0.0.1:5432/postgres")
    parser.add_argument("--rabbitmq-url", default="amqp://guest:guest@127.0.0.1:5672/")
    parser.add_argument("--nginx", help="the program; unset: the one that is installed")
    return parser.parse_args()


if __name__ == "__main__":
    for asks_for_the_end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(asks_for_the_end, raise_stopped)
    try:
        main(read_options())
    except Stopped:
        print("Stopped.")
    except CannotRun as problem:
        sys.exit(f"mealbox: {problem}")
