"""The part that pytest sees: fixtures, the look before the first test, the section on what was not run."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest

from tests.services import ports, postgres, rabbitmq, redis
from tests.services.lookup import SERVICES, Lookup, Missing

_LOOKUP = pytest.StashKey[Lookup]()
_NOT_RUN = "not run for want of"


# Looking, once a run.


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "needs(*fixtures): say that a test gets these service fixtures by request.getfixturevalue, so that they are "
        "looked for before the first test, where an installation may take its time",
    )
    _allow_configured_hosts(config)
    shared = getattr(config, "workerinput", None)
    if shared is not None:
        config.stash[_LOOKUP] = Lookup(Path(shared["lookup_folder"]), owner=shared["lookup_owner"])
        return
    folder = Path(tempfile.mkdtemp(prefix="orderup-lookup-"))
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    config.stash[_LOOKUP] = Lookup(folder, owner=os.getpid())
    config.pluginmanager.register(_ForWorkers(folder), "orderup-services-for-workers")


class _ForWorkers:
    """Tells the processes that pytest-xdist starts where the answers are, and whose end ends the servers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["lookup_folder"] = str(self._folder)
        node.workerinput["lookup_owner"] = os.getpid()


def _allow_configured_hosts(config: pytest.Config) -> None:
    """Tests reach this machine only (--allow-hosts), and the servers that somebody named for them."""
    if not config.option.allow_hosts:
        return
    urls = [os.environ.get(service.variable, "") for service in SERVICES.values()]
    hosts = [host for url in urls if (host := urlsplit(url).hostname)]
    config.option.allow_hosts = ",".join([config.option.allow_hosts, *hosts])


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Look for what the selected tests need: here no test's time limit runs while a package is installed."""
    if session.config.option.collectonly:
        return
    needed = sorted({fixture for item in session.items for fixture in _needs(item)})
    with _shown(session.config):
        for fixture in needed:
            session.config.stash[_LOOKUP].look_for(fixture)


def _shown(config: pytest.Config) -> contextlib.AbstractContextManager[None]:
    """Let what is printed through: whoever waits for an installation should see that it goes on."""
    capture = config.pluginmanager.getplugin("capturemanager")
    return contextlib.nullcontext() if capture is None else capture.global_and_fixture_disabled()


def _needs(item: pytest.Item) -> set[str]:
    marked = {fixture for mark in item.iter_markers("needs") for fixture in mark.args}
    if unknown := marked - SERVICES.keys():
        raise pytest.UsageError(
            f"{item.nodeid}: needs({', '.join(sorted(unknown))}) names no service; there are {', '.join(SERVICES)}"
        )
    return marked | (set(getattr(item, "fixturenames", ())) & SERVICES.keys())


# Telling what was not run.


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for fixture in sorted(_needs(item)):
        answer = item.config.stash[_LOOKUP].look_for(fixture)
        if isinstance(answer, Missing):
            item.user_properties.append((_NOT_RUN, fixture))
            _refuse(answer)


def _refuse(missing: Missing) -> NoReturn:
    reason = f"{missing.title} is missing: {missing.reason}"
    if _services_are_required():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _services_are_required() -> bool:
    return os.environ.get("ORDERUP_REQUIRE_SERVICES", "") not in {"", "0"}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    missing = config.stash[_LOOKUP].missing()
    if not missing:
        return
    reports = terminalreporter.getreports("skipped") + terminalreporter.getreports("error")
    terminalreporter.section("NOT RUN", sep="!", red=True, bold=True)
    for fixture, answer in missing.items():
        tests = sorted({report.nodeid for report in reports if (_NOT_RUN, fixture) in report.user_properties})
        terminalreporter.write_line(f"{len(tests)} tests that need {answer.title} ({fixture}).", red=True, bold=True)
        terminalreporter.write_line(f"  Why: {answer.reason}.")
        for test in tests:
            terminalreporter.write_line(f"  {test}")


# Fixtures.


@pytest.fixture(scope="session")
def found_service(pytestconfig: pytest.Config) -> Callable[[str], str]:
    """Give the URL or path of the service behind a fixture, or skip the test."""

    def found(fixture: str) -> str:
        answer = pytestconfig.stash[_LOOKUP].look_for(fixture)
        if isinstance(answer, Missing):
            _refuse(answer)
        return answer.at

    return found


@pytest.fixture(scope="session")
def postgres_url(found_service: Callable[[str], str]) -> str:
    """The URL of a PostgreSQL database from which others can be made; tests write into `postgres_database`."""
    return found_service("postgres_url")


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database of this test's own."""
    with postgres.new_database(postgres_url) as url:
        yield url


@pytest.fixture(scope="session")
def postgres_programs(found_service: Callable[[str], str]) -> Path:
    """The folder that holds initdb, postgres, pg_dump."""
    return Path(found_service("postgres_programs"))


@pytest.fixture
def postgres_cluster(postgres_programs: Path) -> Iterator[Callable[[], postgres.PostgresCluster]]:
    """Make PostgreSQL servers of this test's own, started, which it may stop, kill and start again."""
    clusters: list[postgres.PostgresCluster] = []

    def make() -> postgres.PostgresCluster:
        clusters.append(postgres.PostgresCluster(postgres_programs))
        clusters[-1].start()
        return clusters[-1]

    yield make
    for cluster in clusters:
        cluster.remove()


@pytest.fixture(scope="session")
def rabbitmq_url(found_service: Callable[[str], str]) -> str:
    """The URL of a RabbitMQ broker that others may use too: a test gives its queues and exchanges names of its own."""
    return found_service("rabbitmq_url")


@pytest.fixture(scope="session")
def redis_server(found_service: Callable[[str], str]) -> str:
    """The URL of a Redis server; tests write into `redis_url`."""
    return found_service("redis_server")


@pytest.fixture
def redis_url(redis_server: str) -> Iterator[str]:
    """The URL of an empty Redis database of this test's own, in a server that others may use too."""
    with redis.empty_database(redis_server) as url:
        yield url


@pytest.fixture(scope="session")
def rabbitmq_program(found_service: Callable[[str], str]) -> Path:
    return Path(found_service("rabbitmq_program"))


@pytest.fixture
def broker(rabbitmq_program: Path) -> Iterator[rabbitmq.Broker]:
    """A RabbitMQ of this test's own, started, which it may kill and start again."""
    broker = rabbitmq.Broker(rabbitmq_program)
    broker.start()
    yield broker
    broker.remove()


@pytest.fixture(scope="session")
def redis_program(found_service: Callable[[str], str]) -> Path:
    return Path(found_service("redis_program"))


@pytest.fixture(scope="session")
def nginx(found_service: Callable[[str], str]) -> Path:
    """The nginx program."""
    return Path(found_service("nginx"))


@pytest.fixture(scope="session")
def caddy(found_service: Callable[[str], str]) -> Path:
    """The Caddy program."""
    return Path(found_service("caddy"))


@pytest.fixture(scope="session")
def chromium(found_service: Callable[[str], str]) -> Path:
    """The Chromium program; start it with programs.CHROMIUM_FLAGS."""
    return Path(found_service("chromium"))


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Give ports of 127.0.0.1 that nothing listens on, a new one each call."""
    return ports.free_port
