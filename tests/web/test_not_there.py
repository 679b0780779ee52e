"""Whoever may not see a thing is answered as if there were none, to the byte: nobody learns which ids there are."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from orderup.web.tokens import Role
from tests.web.endpoints import RECIPES, SHOPS, STRANGER, WEBSOCKET, Ask, Endpoint, World, open_world
from tests.web.house import token_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROWS = sorted((row for row in RECIPES if "{id}" in row[1]), key=lambda row: (row[1], row[0]))
NOBODYS = "0" * 12 + "1"
Answer = tuple[int, dict[str, str], bytes]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with open_world(tmp_path_factory.mktemp("not-there")) as world:
        yield world


async def answer_of(world: World, endpoint: Endpoint, ask: Ask, token: str | None, query: str) -> Answer:
    path = ask.path(endpoint) + query
    if endpoint.method != WEBSOCKET:
        answer = await world.send(endpoint.app, endpoint.method, path, token=token, body=ask.body, data=ask.form)
        return answer.status_code, dict(answer.headers), answer.content
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with pytest.raises(InvalidStatus) as refused:
        async with connect(world.url(endpoint.app, path).replace("http", "ws", 1), additional_headers=headers):
            pass
    response = refused.value.response
    return response.status_code, dict(response.headers), bytes(response.body or b"")


def without(answer: Answer, id: str) -> Answer:
    """But for the id that was asked for, what its length adds, and the time of day."""
    status, headers, body = answer
    headers = {name: value for name, value in headers.items() if name.lower() not in {"date", "content-length"}}
    return status, headers, body.replace(id.encode(), b"ID")


@pytest.mark.parametrize("row", ROWS, ids=" ".join)
async def test_what_somebody_else_has_is_told_from_nothing_by_nobody(world: World, row: tuple[str, str]) -> None:
    endpoints = [endpoint for endpoint in world.endpoints if endpoint.name == row]
    assert endpoints
    for endpoint in endpoints:
        ask = await RECIPES[row](world)
        operation_id = ask.parameters["id"][: len(NOBODYS)]
        nobodys = Ask({"id": ask.parameters["id"].replace(operation_id, NOBODYS)}, ask.body, form=ask.form)
        for token, query in strangers(endpoint):
            theirs = await answer_of(world, endpoint, ask, token, query)
            none = await answer_of(world, endpoint, nobodys, token, query)
            assert theirs[0] == 404, (str(endpoint), theirs)
            assert NOBODYS.encode() in none[2]
            assert without(theirs, operation_id) == without(none, NOBODYS), str(endpoint)


def strangers(endpoint: Endpoint) -> list[tuple[str | None, str]]:
    """Tokens and queries of callers who may use this route, but not for this thing."""
    if "key" in endpoint.roles:
        customer, worker = token_of(Role.CUSTOMER, STRANGER), token_of(Role.WORKER)
        return [(None, "?key=guess"), (customer, ""), (customer, "?key=guess"), (worker, "")]
    if endpoint.app == "front":
        return []
    if endpoint.path.split("/")[1] in SHOPS:
        return []
    elsewhere = [Role.WORKER] if "worker" in endpoint.roles else [Role.STAFF, Role.ADMIN]
    return [(token_of(role, shop="coffee"), "") for role in elsewhere]


async def test_of_an_order_its_customer_reads_and_not_of_an_operation(world: World) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
        answer = await world.send("front", method, f"/pizza/pizzas/{NOBODYS}{path}?key=guess", token=None)
        assert answer.json()["detail"] == f"There is no order {NOBODYS}."
