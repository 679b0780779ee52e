"""With SECRET_KEY: an order is its customer's, and nobody else learns that there is one."""

from typing import Any

import httpx2
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from orderup.web.tokens import Role
from tests.shops.pizza.conftest import token_of
from tests.shops.pizza.pizzeria import STEPS, Pizzeria, bearer, following, read_until


def without_key(link: str) -> str:
    return link.partition("?")[0]


def ask(pizzeria: Pizzeria, method: str, url: str, *, token: str | None = None) -> httpx2.Response:
    return pizzeria.client.request(method, url, headers=bearer(token))


def status_of_socket(url: str, *, token: str | None = None) -> int:
    """What a socket is refused with; 101 if it is not."""
    try:
        with connect(url, additional_headers=bearer(token)):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


def everything_about(pizzeria: Pizzeria, links: dict[str, str], *, token: str | None) -> set[int]:
    """The answers to all that one can do with an order."""
    asked = [("GET", links["self"]), ("DELETE", links["cancel"]), ("GET", links["events"])]
    answers = {ask(pizzeria, method, url, token=token).status_code for method, url in asked}
    return answers | {status_of_socket(links["live"], token=token)}


def test_the_links_carry_a_key_that_opens_the_order(closed_pizzeria: Pizzeria) -> None:
    placed = closed_pizzeria.order()
    assert all("?key=" in link for link in placed["links"].values())
    closed_pizzeria.approve(placed)
    closed_pizzeria.do(*STEPS)
    assert closed_pizzeria.status(placed) == "completed"
    with following(placed["links"]["live"]) as messages:
        assert len(read_until(messages, "operation.completed")) == 7


def test_the_key_cancels(closed_pizzeria: Pizzeria) -> None:
    assert closed_pizzeria.cancel(closed_pizzeria.order()).json()["status"] == "cancelled"


def test_without_key_or_token_one_is_asked_for_it(closed_pizzeria: Pizzeria) -> None:
    links = {name: without_key(link) for name, link in closed_pizzeria.order()["links"].items()}
    assert everything_about(closed_pizzeria, links, token=None) == {401}


def test_another_orders_key_finds_nothing(closed_pizzeria: Pizzeria) -> None:
    mine, other = closed_pizzeria.order(), closed_pizzeria.order()
    key = mine["links"]["self"].partition("?")[2]
    links = {name: f"{without_key(link)}?{key}" for name, link in other["links"].items()}
    assert everything_about(closed_pizzeria, links, token=None) == {404}


def test_another_customers_token_finds_nothing(closed_pizzeria: Pizzeria) -> None:
    placed = closed_pizzeria.order(token=token_of(Role.CUSTOMER, "ada"))
    links = {name: without_key(link) for name, link in placed["links"].items()}
    assert everything_about(closed_pizzeria, links, token=token_of(Role.CUSTOMER, "grace")) == {404}


def test_a_worker_finds_nothing(closed_pizzeria: Pizzeria) -> None:
    links = {name: without_key(link) for name, link in closed_pizzeria.order()["links"].items()}
    assert everything_about(closed_pizzeria, links, token=closed_pizzeria.tokens["worker"]) == {404}


@pytest.mark.parametrize("role", [Role.CUSTOMER, Role.STAFF])
def test_its_customers_token_and_staffs_open_it_without_the_key(closed_pizzeria: Pizzeria, role: Role) -> None:
    placed = closed_pizzeria.order(token=token_of(Role.CUSTOMER, "ada"))
    token = token_of(role, "ada")
    assert ask(closed_pizzeria, "GET", without_key(placed["links"]["self"]), token=token).status_code == 200
    assert status_of_socket(without_key(placed["links"]["live"]), token=token) == 101


def test_an_order_sent_again_gets_the_same_links(closed_pizzeria: Pizzeria) -> None:
    body, token = closed_pizzeria.body(), token_of(Role.CUSTOMER, "ada")
    first, again = (closed_pizzeria.post(body, key="the same", token=token).json() for _ in range(2))
    assert first["links"] == again["links"]


def test_what_is_told_of_an_order_has_no_key_in_it(closed_pizzeria: Pizzeria) -> None:
    placed = closed_pizzeria.order()
    key = placed["links"]["self"].partition("=")[2]
    told: dict[str, Any] = closed_pizzeria.read(placed)
    assert key not in str(told)
    assert key not in closed_pizzeria.server.printed()


def test_only_staff_reads_orders_at_the_back(closed_pizzeria: Pizzeria) -> None:
    url = f"{closed_pizzeria.server.back}/pizzas/{closed_pizzeria.order()['id']}"
    tokens = [None, token_of(Role.CUSTOMER, "ada"), closed_pizzeria.tokens["worker"], closed_pizzeria.tokens["staff"]]
    answers = [ask(closed_pizzeria, "GET", url, token=token).status_code for token in tokens]
    assert answers == [401, 403, 403, 200]
