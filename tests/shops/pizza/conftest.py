"""Pizzerias to order from, a process each, on either database."""

from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import pytest
from pydantic import SecretStr

from orderup.web.auth import utc_now
from orderup.web.tokens import Role, mint_token
from tests.services.postgres import new_database
from tests.serving import ServerProcess, sqlite_url
from tests.shops.pizza.pizzeria import Pizzeria, open_pizzeria

SECRET = SecretStr("a-key-of-thirty-two-characters-or-more")
DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgres_url"))]


@pytest.fixture(scope="module", params=DATABASES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that needs no token, shared by the tests of a file: each of them works in a region of its own."""
    folder = tmp_path_factory.mktemp("pizzeria")
    is_file = request.param == "sqlite"
    made = nullcontext(sqlite_url(folder)) if is_file else new_database(request.getfixturevalue("postgres_url"))
    with made as url, ServerProcess("pizza", folder=folder, database_url=url) as server:
        yield server.start()


@pytest.fixture
def pizzeria(server: ServerProcess) -> Iterator[Pizzeria]:
    pizzeria = Pizzeria(server)
    with closing(pizzeria.client):
        yield pizzeria


def token_of(role: Role, name: str) -> str:
    return mint_token(SECRET, role, name, now=utc_now()).text


@pytest.fixture(scope="module")
def closed_pizzeria(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pizzeria]:
    """One with SECRET_KEY: keys and tokens are asked for."""
    folder = tmp_path_factory.mktemp("closed")
    environment = {"SECRET_KEY": SECRET.get_secret_value()}
    server = ServerProcess("pizza", folder=folder, database_url=sqlite_url(folder), environment=environment)
    tokens = {"staff": token_of(Role.STAFF, "clerk"), "worker": token_of(Role.WORKER, "cook")}
    with open_pizzeria(server, tokens=tokens) as pizzeria:
        yield pizzeria


@pytest.fixture
def hasty_pizzeria(tmp_path: Path) -> Iterator[Pizzeria]:
    """One in which a request for approval expires after half a second."""
    environment = {"RFA_EXPIRY_HOURS": str(0.5 / 3600)}
    server = ServerProcess("pizza", folder=tmp_path, database_url=sqlite_url(tmp_path), environment=environment)
    with open_pizzeria(server) as pizzeria:
        yield pizzeria
