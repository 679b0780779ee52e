"""`orderup doctor`: what is set, what answers, what is missing. It changes nothing and shows no secret."""

import asyncio
import os
import platform
import re
import resource
import socket
import textwrap
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from pydantic import SecretStr

from orderup.cli.app import command, version
from orderup.cli.process import WANTED_OPEN_FILES
from orderup.errors import Misconfigured, OrderupError
from orderup.settings import Settings, given_settings, variable_of

if TYPE_CHECKING:
    from orderup.db.look import Look
    from orderup.db.migrate import Version
    from orderup.shop import Shop

PATIENCE_SECONDS = 3.0
# To sign in takes several requests, to a service far away.
SERVICE_PATIENCE_SECONDS = 5.0
LEAST_FREE_BYTES = 256 << 20
# Leases do not hang on wall clocks; times that are shown, and due times, do.
NOTED_SKEW_SECONDS, WRONG_SKEW_SECONDS = 2, 60
WIDTH = 100
# Not taken apart and put together: with that sqlite:////tmp/a.db would lose two slashes.
ADDRESS = re.compile(r"^(\w[\w+.-]*://)(?:[^/?#]*@)?([^?#]*).*$", re.DOTALL)


class Mark(StrEnum):
    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


COLOURS = {Mark.OK: "green", Mark.NOTE: "yellow", Mark.WRONG: "red"}


class Finding(NamedTuple):
    mark: Mark
    text: str


Findings = Iterator[Finding]


@command()
def doctor(
    front_port: Annotated[int, typer.Option(min=1, max=65535, help="The port that the front is to have.")] = 8000,
    back_port: Annotated[int, typer.Option(min=1, max=65535, help="The port that the back is to have.")] = 8001,
    shop: Annotated[
        list[str] | None, typer.Option(help="A shop that is not installed but named, package.module:shop.")
    ] = None,
) -> None:
    """Say what is set, what answers and what is missing. The exit code is 1 if anything is wrong."""
    from orderup.cli.shops import load_shops

    report = Report()
    report.tell("Installation", _installation)
    try:
        settings = Settings.from_environment(os.environ)
    except Misconfigured as error:
        problems = [Finding(Mark.WRONG, line) for line in str(error).splitlines()]
        report.tell("Settings", lambda: iter(problems))
        raise typer.Exit(report.end()) from None
    report.tell("Settings", lambda: _settings(settings))
    shops: list[Shop] = []

    def load() -> Findings:
        shops.extend([*load_shops([]), *(load_shops(shop) if shop else [])])
        names = ", ".join(each.name for each in shops)
        yield Finding(Mark.OK if shops else Mark.NOTE, names or "none is installed")

    report.tell("Shops", load)
    report.tell("Database", lambda: _database(settings, shops))
    report.tell("Ports", lambda: (_port(port) for port in (front_port, back_port)))
    report.tell("Other servers", lambda: _servers(settings, shops))
    report.tell("This machine", _machine)
    raise typer.Exit(report.end())


class Report:
    def __init__(self) -> None:
        self.wrong = 0

    def tell(self, heading: str, find: Callable[[], Findings]) -> None:
        """What was found, as it is found; an error of ours is a finding, too."""
        typer.secho(heading, bold=True)
        try:
            for finding in find():
                self._tell_one(finding)
        except OrderupError as error:
            self._tell_one(Finding(Mark.WRONG, str(error)))

    def _tell_one(self, finding: Finding) -> None:
        self.wrong += finding.mark is Mark.WRONG
        lines = textwrap.wrap(finding.text, WIDTH - 8, break_long_words=False, break_on_hyphens=False) or [""]
        mark = typer.style(f"{finding.mark:5}", fg=COLOURS[finding.mark])
        typer.echo(f"  {mark} {lines[0]}")
        for line in lines[1:]:
            typer.echo(f"        {line}")

    def end(self) -> int:
        """The exit code."""
        if self.wrong:
            typer.echo(f"{self.wrong} {'thing is' if self.wrong == 1 else 'things are'} wrong.")
        else:
            typer.echo("Nothing is wrong.")
        return 1 if self.wrong else 0


def _installation() -> Findings:
    yield Finding(Mark.OK, f"orderup {version()}, Python {platform.python_version()}, {platform.platform()}")


def _settings(settings: Settings) -> Findings:
    unset = []
    files = {name: given.file for name, given in given_settings(os.environ).items() if given.file is not None}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if name in files:
            yield Finding(Mark.OK, f"{variable_of(name)} is in the file {files[name]}")
        elif name in settings.model_fields_set:
            yield Finding(Mark.OK, f"{variable_of(name)} = {_shown(value)}")
        else:
            unset.append(variable_of(name))
    yield Finding(Mark.OK, f"Not set, so that the defaults count: {', '.join(unset)}")
    if settings.secret_key is None:
        yield Finding(
            Mark.NOTE, "Without SECRET_KEY the server listens on this machine only, and every caller may do everything."
        )


def _shown(value: object) -> str:
    """A secret is set or not; an address is shown without what stands in it before an @ or behind a ?."""
    if isinstance(value, SecretStr):
        return "(set)"
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return ADDRESS.sub(r"\1\2", text)


def _database(settings: Settings, shops: "list[Shop]") -> Findings:
    from orderup.db.connect import schemas_of
    from orderup.db.look import look_at

    look = look_at(settings.database_url, schemas_of(shops))
    size = f", {_bytes(look.size_bytes)}" if look.exists else ", yet to be made"
    yield Finding(Mark.OK, f"{look.software}, {look.place}{size}; it can be written")
    if look.free_bytes is not None:
        mark = Mark.WRONG if look.free_bytes < LEAST_FREE_BYTES else Mark.OK
        yield Finding(mark, f"{_bytes(look.free_bytes)} free on its disk")
    yield from (_tables(each) for each in look.versions)
    yield from _clock(look)


def _tables(version: "Version") -> Finding:
    name, has, wants = f"tables of {version.shop}", version.has, version.wants
    if has == wants:
        return Finding(Mark.OK, f"{name}: version {wants}")
    if has is None:
        return Finding(Mark.OK, f"{name}: to be made by the first server, or by orderup migrate")
    if version.is_newer:
        return Finding(Mark.WRONG, f"{name}: version {has}, of a later release; this one knows up to {wants}")
    return Finding(Mark.NOTE, f"{name}: version {has}; a server that starts, or orderup migrate, brings it to {wants}")


def _clock(look: "Look") -> Findings:
    now = datetime.now(UTC).timestamp()
    if look.server_now is not None:
        skew = abs(look.server_now / 1e6 - now)
        mark = Mark.WRONG if skew > WRONG_SKEW_SECONDS else Mark.NOTE if skew > NOTED_SKEW_SECONDS else Mark.OK
        yield Finding(mark, f"this machine's clock and the database's are {skew:.1f} s apart")
    if look.newest_at is not None and look.newest_at / 1e6 - now > WRONG_SKEW_SECONDS:
        ahead = look.newest_at / 1e6 - now
        yield Finding(
            Mark.WRONG,
            f"the newest operation was placed {ahead:.0f} s in the future: a clock was set back, or is wrong",
        )


def _port(port: int) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if _is_ours(port):
                return Finding(Mark.OK, f"{port}: an orderup server answers there")
            return Finding(Mark.WRONG, f"{port}: {error.strerror}; choose another with --front-port or --back-port")
    return Finding(Mark.OK, f"{port} is free")


def _is_ours(port: int) -> bool:
    import httpx2

    try:
        answer = httpx2.get(f"http://127.0.0.1:{port}/openapi.json", timeout=PATIENCE_SECONDS)
        return bool(answer.is_success and answer.json()["info"]["title"].startswith("orderup"))
    except (httpx2.HTTPError, ValueError, LookupError, AttributeError):
        return False


def _servers(settings: Settings, shops: "list[Shop]") -> Findings:
    """Those that are set, and those that shops need; the others need not be there."""
    found = False
    for finding in _third_parties(settings, shops):
        found = True
        yield finding
    for name in ("server_url", "public_url"):
        url = getattr(settings, name)
        if url is not None:
            found = True
            yield _web_server(variable_of(name), url)
    brokers = {"redis_url": settings.redis, "rabbitmq_url": settings.rabbitmq_url, "celery_broker_url": None}
    if settings.celery_broker_url is not None:
        brokers["celery_broker_url"] = settings.celery_broker_url
    for name, url in brokers.items():
        if url is not None:
            found = True
            yield _broker(variable_of(name), url)
    if settings.celery_broker_url is not None:
        yield _celery(settings)
    if not found:
        yield Finding(Mark.OK, "none is set")


def _third_parties(settings: Settings, shops: "list[Shop]") -> Findings:
    """Those that shops need, and those whose credentials are set, whoever needs them."""
    from orderup.cli.checkup import SERVICES, check_services
    from orderup.cli.stand_ins import missing_settings

    signed_in_to = {name for each in SERVICES for name in each.settings}
    missing = missing_settings(settings, shops)
    for name in sorted({name for shop in shops for name in shop.stand_ins}):
        if name in missing:
            yield Finding(Mark.NOTE, f"{variable_of(name)} is not set: orderup serve lets the sandbox stand in")
        elif name not in signed_in_to:
            yield _third_party(variable_of(name), getattr(settings, name))
    for answer in asyncio.run(check_services(settings, seconds=SERVICE_PATIENCE_SECONDS)):
        yield Finding(Mark.OK if answer.is_fine else Mark.WRONG, f"{answer.title}: {answer.words}")


def _web_server(name: str, url: str) -> Finding:
    import httpx2

    try:
        status = httpx2.get(f"{url}/healthz", timeout=PATIENCE_SECONDS).status_code
    except httpx2.HTTPError as error:
        return Finding(Mark.NOTE, f"{name} {_shown(url)} does not answer now: {error}")
    mark = Mark.OK if status == 200 else Mark.NOTE
    return Finding(mark, f"{name} {_shown(url)} answers{'' if status == 200 else f' /healthz with {status}'}")


def _third_party(name: str, url: str) -> Finding:
    """Whatever it answers to a question about nothing, it is there."""
    import httpx2

    try:
        httpx2.get(url, timeout=PATIENCE_SECONDS)
    except httpx2.HTTPError as error:
        return Finding(Mark.NOTE, f"{name} {_shown(url)} does not answer now: {error}")
    return Finding(Mark.OK, f"{name} {_shown(url)} answers")


def _celery(settings: Settings) -> Finding:
    from orderup.cli.assembly import celery_broker_of

    celery_broker_of(settings)
    return Finding(Mark.OK, "Celery is installed, and its workers can see the database")


def _broker(name: str, url: str) -> Finding:
    from orderup.cli.probes import probe_broker

    try:
        software = probe_broker(url, seconds=PATIENCE_SECONDS)
    except (OSError, ValueError) as error:
        return Finding(Mark.WRONG, f"{name} {_shown(url)} does not answer: {error}")
    return Finding(Mark.OK, f"{name} {_shown(url)} answers: {software}")


def _machine() -> Findings:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = WANTED_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, WANTED_OPEN_FILES)
    enough = limit >= WANTED_OPEN_FILES
    yield Finding(
        Mark.OK if enough else Mark.NOTE,
        f"a server may hold {limit:,} open files, one for each customer who waits"
        + ("" if enough else f"; {WANTED_OPEN_FILES:,} would be better: raise its hard limit (ulimit -Hn)"),
    )
    yield Finding(Mark.OK, f"its clock says {datetime.now(UTC):%Y-%m-%d %H:%M:%SZ}")


def _bytes(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
