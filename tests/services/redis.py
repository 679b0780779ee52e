"""Redis: whether one answers, one of the tests' own, and a database for one test."""

import contextlib
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import redis

from tests.services.ports import free_port
from tests.services.server import last_lines, new_folder, run_kept
from tests.services.waiting import wait_until

USUAL_URLS = ("redis://127.0.0.1:6379",)
PACKAGES = ("redis-server",)
# Database 0 is what everybody uses who does not name one; nobody's data are touched there.
_DATABASES = range(1, 16)
_CLAIM_SECONDS = 600


def check(url: str) -> None:
    """Raise redis.RedisError unless the server answers."""
    with redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5) as client:
        client.ping()


def find_program() -> Path | None:
    on_path = shutil.which("redis-server")
    return Path(on_path) if on_path else None


def start(program: Path, owner: int) -> str:
    """Start a server on a free port that keeps nothing on disk, and give its URL when it answers."""
    port, folder = free_port(), new_folder("redis", user=None)
    command: list[str | Path] = [
        program,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
    ]
    keeper = run_kept(command, folder=folder, owner=owner)
    url = f"redis://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(keeper, url), what="Redis answers")
    except (TimeoutError, ChildProcessError) as error:
        error.add_note(last_lines(folder))
        raise
    return url


def _answers(keeper: subprocess.Popen[bytes], url: str) -> bool:
    if keeper.poll() is not None:
        raise ChildProcessError("Redis ended while starting")
    try:
        check(url)
    except redis.ConnectionError:
        return False
    return True


@contextlib.contextmanager
def empty_database(url: str) -> Iterator[str]:
    """Claim one of the server's numbered databases that is empty, give its URL, empty it afterwards."""
    claimed: list[str] = []

    def claim() -> bool:
        claimed.extend(candidate for candidate in _urls(url) if not claimed and _claim(candidate))
        return bool(claimed)

    wait_until(claim, what=f"one of Redis's databases 1 to 15 at {url} is empty")
    try:
        yield claimed[0]
    finally:
        with redis.Redis.from_url(claimed[0]) as client:
            client.flushdb()


def _urls(url: str) -> Iterator[str]:
    for number in _DATABASES:
        yield urlunsplit(urlsplit(url)._replace(path=f"/{number}"))


def _claim(url: str) -> bool:
    """Mark an empty database as taken; the mark passes by itself should its owner be killed."""
    with redis.Redis.from_url(url) as client:
        marked = client.set("orderup:test", secrets.token_hex(6), nx=True, ex=_CLAIM_SECONDS)
        if marked and client.dbsize() == 1:
            return True
        if marked:
            client.delete("orderup:test")
    return False
