"""Looking for what a test needs: once for all the processes of a test run."""

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.services import debian, postgres, programs, rabbitmq, redis


@dataclass(frozen=True, slots=True)
class Program:
    """Something that is installed, or can be. It is found as a path."""

    title: str
    variable: str
    find: Callable[[], Path | None]
    packages: tuple[str, ...]

    def look(self, owner: int) -> str:  # noqa: ARG002 - a program needs nobody who keeps it alive
        """Give its path. Raises NotThere."""
        if configured := os.environ.get(self.variable):
            if not Path(configured).exists():
                raise NotThere(f"{self.variable}={configured} does not exist")
            return configured
        if found := self.find():
            return str(found)
        try:
            debian.install(*self.packages)
        except debian.CannotInstall as error:
            raise NotThere(f"{error}, or set {self.variable}") from error
        if found := self.find():
            return str(found)
        raise NotThere(f"Debian's {' '.join(self.packages)} was installed, but does not bring it; set {self.variable}")


@dataclass(frozen=True, slots=True)
class Server:
    """Something that answers, or can be started. It is found as a URL."""

    title: str
    variable: str
    usual_urls: tuple[str, ...]
    check: Callable[[str], None]
    program: Program
    start: Callable[[Path, int], str]

    def look(self, owner: int) -> str:
        """Give its URL. A server started here lives as long as the process `owner`. Raises NotThere."""
        if configured := os.environ.get(self.variable):
            if problem := self._problem(configured):
                raise NotThere(f"{self.variable} is set, but does not answer: {problem}")
            return configured
        for url in self.usual_urls:
            if not self._problem(url):
                return url
        path = Path(self.program.look(owner))
        try:
            return self.start(path, owner)
        except Exception as error:
            # Whatever went wrong, the run goes on with what does not need this server.
            raise NotThere(f"{path} does not start: {error}") from error

    def _problem(self, url: str) -> str:
        try:
            self.check(url)
        except Exception as error:  # noqa: BLE001 - each client has errors of its own, and all mean: not this one
            return f"{type(error).__name__}: {error}".strip()
        return ""


class NotThere(Exception):
    """The message says why, and what would help."""


@dataclass(frozen=True, slots=True)
class Found:
    """`at` is a URL or a path."""

    at: str


@dataclass(frozen=True, slots=True)
class Missing:
    title: str
    reason: str


def _start_postgres(path: Path, owner: int) -> str:
    cluster = postgres.PostgresCluster(path, owner=owner)
    cluster.start()
    return cluster.url


POSTGRES_PROGRAMS = Program("PostgreSQL", "ORDERUP_TEST_POSTGRES_BIN", postgres.find_programs, postgres.PACKAGES)
RABBITMQ_PROGRAM = Program("RabbitMQ", "ORDERUP_TEST_RABBITMQ_BIN", rabbitmq.find_program, rabbitmq.PACKAGES)
REDIS_PROGRAM = Program("Redis", "ORDERUP_TEST_REDIS_BIN", redis.find_program, redis.PACKAGES)

# What a test may need, by the name of the fixture that gives it.
SERVICES: dict[str, Program | Server] = {
    "postgres_url": Server(
        title="PostgreSQL",
        variable="ORDERUP_TEST_POSTGRES_URL",
        usual_urls=postgres.USUAL_URLS,
        check=postgres.check,
        program=POSTGRES_PROGRAMS,
        start=_start_postgres,
    ),
    "rabbitmq_url": Server(
        title="RabbitMQ",
        variable="ORDERUP_TEST_RABBITMQ_URL",
        usual_urls=rabbitmq.USUAL_URLS,
        check=rabbitmq.check,
        program=RABBITMQ_PROGRAM,
        start=rabbitmq.start,
    ),
    "redis_server": Server(
        title="Redis",
        variable="ORDERUP_TEST_REDIS_URL",
        usual_urls=redis.USUAL_URLS,
        check=redis.check,
        program=REDIS_PROGRAM,
        start=redis.start,
    ),
    "postgres_programs": POSTGRES_PROGRAMS,
    "rabbitmq_program": RABBITMQ_PROGRAM,
    "redis_program": REDIS_PROGRAM,
    "nginx": Program("nginx", "ORDERUP_TEST_NGINX", programs.find_nginx, programs.NGINX_PACKAGES),
    "caddy": Program("Caddy", "ORDERUP_TEST_CADDY", programs.find_caddy, programs.CADDY_PACKAGES),
    "chromium": Program("Chromium", "ORDERUP_TEST_CHROMIUM", programs.find_chromium, programs.CHROMIUM_PACKAGES),
}


class Lookup:
    """What was found and what is missing, kept in a folder that all processes of the run share.

    The first process that asks for something looks for it; the others wait, then read its answer.
    """

    def __init__(self, folder: Path, *, owner: int) -> None:
        self._folder = folder
        self._owner = owner

    def look_for(self, fixture: str) -> Found | Missing:
        answer = self._folder / f"{fixture}.json"
        with self._alone_with(fixture):
            if not answer.exists():
                answer.write_text(json.dumps(asdict(self._look(SERVICES[fixture]))))
        return _read(answer)

    def missing(self) -> dict[str, Missing]:
        """Everything that was looked for and not found, by fixture."""
        answers = {path.stem: _read(path) for path in sorted(self._folder.glob("*.json"))}
        return {fixture: answer for fixture, answer in answers.items() if isinstance(answer, Missing)}

    def _look(self, service: Program | Server) -> Found | Missing:
        try:
            return Found(service.look(self._owner))
        except NotThere as error:
            return Missing(service.title, str(error))

    @contextlib.contextmanager
    def _alone_with(self, fixture: str) -> Iterator[None]:
        with (self._folder / f"{fixture}.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _read(answer: Path) -> Found | Missing:
    fields = json.loads(answer.read_text())
    return Found(**fields) if "at" in fields else Missing(**fields)
