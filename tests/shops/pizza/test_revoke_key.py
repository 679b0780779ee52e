"""Links that got into wrong hands: staff closes them, whatever the order is doing, in every process at once."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, nullcontext
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from orderup.web.tokens import Role
from tests.services.postgres import new_database
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import ServerProcess, sqlite_url
from tests.shops.pizza.conftest import DATABASES, SECRET, token_of
from tests.shops.pizza.pizzeria import STEPS, Pizzeria, bearer, following, read_until
from tests.shops.pizza.test_keys import everything_about, without_key


@pytest.fixture(scope="module", params=DATABASES)
def branches(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Pizzeria, Pizzeria]]:
    """Two processes on one database, which ask for keys and tokens."""
    folder = tmp_path_factory.mktemp("branches")
    is_file = request.param == "sqlite"
    made = nullcontext(sqlite_url(folder)) if is_file else new_database(request.getfixturevalue("postgres_url"))
    environment = {"SECRET_KEY": SECRET.get_secret_value()}
    tokens = {"staff": token_of(Role.STAFF, "clerk"), "worker": token_of(Role.WORKER, "cook")}
    with made as url, ExitStack() as stack:
        found = []
        for name in ("here", "there"):
            server = ServerProcess("pizza", folder=folder, database_url=url, environment=environment, name=name)
            pizzeria = Pizzeria(stack.enter_context(server.start()), tokens=tokens)
            stack.enter_context(closing(pizzeria.client))
            found.append(pizzeria)
        yield found[0], found[1]


def revoke(pizzeria: Pizzeria, placed: dict[str, Any], *, key: str | None = None) -> httpx2.Response:
    headers = {**bearer(pizzeria.tokens.get("staff")), **({"Idempotency-Key": key} if key else {})}
    url = f"{pizzeria.server.back}/api/operations/{placed['id']}/revoke-key"
    return pizzeria.client.post(url, headers=headers)


def new_links(pizzeria: Pizzeria, placed: dict[str, Any]) -> dict[str, str]:
    answer = revoke(pizzeria, placed)
    assert answer.status_code == 200, answer.text
    assert answer.json()["id"] == placed["id"]
    links: dict[str, str] = answer.json()["links"]
    return links


def at(pizzeria: Pizzeria, links: dict[str, str]) -> dict[str, str]:
    """The same paths in this process."""
    here = f"127.0.0.1:{pizzeria.server.front_port}"
    return {name: urlsplit(link)._replace(netloc=here).geturl() for name, link in links.items()}


def test_the_old_links_open_nothing_in_any_process_and_the_new_ones_do(branches: tuple[Pizzeria, Pizzeria]) -> None:
    here, there = branches
    placed = here.order()
    links = new_links(there, placed)
    assert set(links) == set(placed["links"])
    assert not set(links.values()) & set(placed["links"].values())
    for pizzeria in branches:
        assert everything_about(pizzeria, at(pizzeria, placed["links"]), token=None) == {404}
        assert pizzeria.client.get(at(pizzeria, links)["self"]).status_code == 200
    # as they stand, too: they lead to the front of the process that made them
    assert there.client.get(links["self"]).status_code == 200
    assert there.client.delete(links["cancel"]).json()["status"] == "cancelled"


def test_the_order_goes_on_and_its_links_can_be_revoked_at_any_time(branches: tuple[Pizzeria, Pizzeria]) -> None:
    here, there = branches
    there.region = here.region
    placed = here.order()
    links = new_links(there, placed)
    here.approve(placed)
    here.do(*STEPS[:2])
    links = new_links(here, placed)
    there.do(*STEPS[2:])
    with following(links["live"]) as messages:
        assert len(read_until(messages, "operation.completed")) == 7
    links = new_links(there, placed)
    assert here.client.get(at(here, links)["self"]).json()["status"] == "completed"


def test_who_follows_by_an_old_link_is_told_nothing_more(branches: tuple[Pizzeria, Pizzeria]) -> None:
    here, there = branches
    placed = here.order()
    events = here.client.stream("GET", placed["links"]["events"])
    with connect(placed["links"]["live"]) as socket, events as answer:
        lines = answer.iter_lines()
        assert msgspec.json.decode(socket.recv(PATIENCE_SECONDS))["type"] == "operation.placed"
        assert any("operation.placed" in line for line in lines)
        links = new_links(there, placed)
        there.approve(placed)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(PATIENCE_SECONDS)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, f"There is no order {placed['id']}.")
        assert not any("data:" in line for line in lines)
    with following(links["live"]) as messages:
        assert read_until(messages, "rfa.approved")[-1]["type"] == "rfa.approved"


def test_who_follows_by_his_token_goes_on(branches: tuple[Pizzeria, Pizzeria]) -> None:
    here, there = branches
    token = token_of(Role.CUSTOMER, "ada")
    placed = here.order(token=token)
    with connect(without_key(placed["links"]["live"]), additional_headers=bearer(token)) as socket:
        new_links(there, placed)
        there.approve(placed)
        types = [msgspec.json.decode(socket.recv(PATIENCE_SECONDS))["type"] for _ in range(2)]
    assert types == ["operation.placed", "rfa.approved"]


def test_a_revocation_that_is_sent_again_is_the_same_one(branches: tuple[Pizzeria, Pizzeria]) -> None:
    here, there = branches
    placed = here.order()
    first, again = revoke(here, placed, key="lost"), revoke(there, placed, key="lost")
    assert again.headers["idempotency-replayed"] == "true"
    assert key_in(first.json()["links"]) == key_in(again.json()["links"])
    assert key_in(revoke(here, placed, key="once more").json()["links"]) != key_in(first.json()["links"])


def test_the_customer_who_sends_his_order_again_gets_the_new_links(branches: tuple[Pizzeria, Pizzeria]) -> None:
    here, there = branches
    token = token_of(Role.CUSTOMER, "ada")
    body = here.body()
    placed = here.post(body, key="mine", token=token).json()
    links = new_links(there, placed)
    assert key_in(here.post(body, key="mine", token=token).json()["links"]) == key_in(links)


def key_in(links: dict[str, str]) -> str:
    [key] = {link.partition("?key=")[2] for link in links.values()}
    assert key
    return key


def test_without_secret_key_there_is_nothing_to_revoke(pizzeria: Pizzeria) -> None:
    answer = revoke(pizzeria, pizzeria.order())
    assert answer.status_code == 409
    assert "Without SECRET_KEY" in answer.json()["detail"]
