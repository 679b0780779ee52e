"""`Idempotency-Key` over HTTP: sent again, a request does nothing again and tells how things stand."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from fastapi import Request
from sqlalchemy import select
from starlette.responses import Response

from orderup.db.database import ReadConnection
from orderup.db.tables import operations
from orderup.engine.limit import pause_queue
from orderup.errors import KeyMisused
from orderup.model.plan import Plan, PlannedTask
from orderup.shop import Shop
from orderup.shops.bakery.plan import SYNC_ACCESS
from orderup.shops.campaigns.campaigns_api import CAMPAIGN
from orderup.shops.campaigns.plan import SUBMIT
from orderup.web import AsAnyone, Router, add_order_routes, place as place_for_caller
from orderup.web.tokens import Role
from tests.services.postgres import new_database
from tests.web.endpoints import BOX, OWNER, PIZZA, RECIPES, STRANGER, WEBSOCKET, Ask, Endpoint, World, open_world
from tests.web.house import DATABASES, client_of, open_test_house, settings_for, token_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
KEYED = [
    ("POST", "/pizza/pizzas"),
    ("DELETE", "/pizza/pizzas/{id}"),
    ("POST", "/coffee/order/"),
    ("DELETE", "/coffee/orders/{id}"),
    ("POST", "/mealbox/orders"),
    ("DELETE", "/mealbox/orders/{id}"),
    ("POST", "/bakery/orders"),
    ("DELETE", "/bakery/orders/{id}"),
    ("POST", "/bakery/employees"),
    ("POST", "/campaigns/campaigns"),
    ("DELETE", "/campaigns/campaigns/{id}"),
    ("POST", "/campaigns/campaigns/{id}/tasks/{task_id}/settle"),
    ("POST", "/campaigns/api/tasks"),
    ("POST", "/campaigns/api/tasks/"),
    ("POST", "/api/rfas/{id}/approve"),
    ("POST", "/api/rfas/{id}/decline"),
    ("POST", "/api/operations/{id}/cancel"),
    ("POST", "/api/operations/{id}/pause"),
    ("POST", "/api/operations/{id}/resume"),
    ("POST", "/api/operations/{id}/retry"),
    ("POST", "/api/operations/{id}/revoke-key"),
    ("POST", "/api/tasks/{id}/rerun"),
    ("POST", "/api/tasks/{id}/cancel"),
    ("POST", "/api/queues/{shop}/{kind}/pause"),
    ("POST", "/api/queues/{shop}/{kind}/resume"),
    ("POST", "/api/schedules/{shop}/{name}/pause"),
    ("POST", "/api/schedules/{shop}/{name}/resume"),
    ("POST", "/api/schedules/{shop}/{name}/run"),
    ("POST", "/api/deliveries/{id}/redeliver"),
    ("POST", "/api/targets/{target}/redeliver"),
]
# What places an order.
PLACE = {
    ("POST", "/pizza/pizzas"),
    ("POST", "/coffee/order/"),
    ("POST", "/mealbox/orders"),
    ("POST", "/bakery/orders"),
    ("POST", "/bakery/employees"),
    ("POST", "/campaigns/campaigns"),
    ("POST", "/api/schedules/{shop}/{name}/run"),
}
# Asked for nothing that could be wrong.
NEVER_WRONG = {("POST", "/coffee/order/")}
# Done again, it changes nothing, whoever asks.
ONCE_ANYHOW = {
    "/coffee/finish/",
    "/bakery/cakes",  # there is one of that name then
    "/bakery/cakes/{id}",
    "/bakery/orders/{id}/ready",
    "/bakery/employees/{id}",
    "/bakery/hooks/jira",  # Jira has names of its own for what it sends again
    "/campaigns/api/tasks/{id}",
    "/campaigns/api/tasks/{id}/",
    "/campaigns/campaigns/import",  # of a file read twice, each campaign is placed once
    "/campaigns/campaigns/imports/{id}/start",
    "/campaigns/campaigns/imports/{id}/discard",
}
# Where another order is another thing of the same kind.
OTHERS: dict[tuple[str, str], Mapping[str, str]] = {
    ("POST", "/api/queues/{shop}/{kind}/pause"): {"kind": "paint"},
    ("POST", "/api/queues/{shop}/{kind}/resume"): {"kind": "paint"},
    ("POST", "/api/schedules/{shop}/{name}/pause"): {"name": "weekly"},
    ("POST", "/api/schedules/{shop}/{name}/resume"): {"name": "weekly"},
    ("POST", "/api/schedules/{shop}/{name}/run"): {"name": "weekly"},
}
# Another body for each route that reads one.
OTHER_BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/pizza/pizzas"): {**PIZZA, "tier": "premium"},
    ("POST", "/mealbox/orders"): {**BOX, "product_code": "family-box"},
    ("POST", "/campaigns/campaigns"): {**CAMPAIGN, "campaign_name": "Autumn"},
    ("POST", "/campaigns/campaigns/{id}/tasks/{task_id}/settle"): {"platform_id": None},
    ("POST", "/campaigns/api/tasks"): {"status": "In Progress"},
    ("POST", "/campaigns/api/tasks/"): {"status": "In Progress"},
    ("POST", "/api/rfas/{id}/approve"): {"notes": "on the house"},
    ("POST", "/api/rfas/{id}/decline"): {"notes": "no flour"},
    ("POST", "/api/operations/{id}/cancel"): {"reason": "no flour"},
}
AT_ONCE = 50


@pytest.fixture(scope="module", params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('keys') / 'orderup.db'}"
        return
    with new_database(request.getfixturevalue("postgres_url")) as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with open_world(tmp_path_factory.mktemp("keys"), database_url=database_url) as world:
        # what somebody's hiring or a campaign leads to is not about keys
        for queue in (f"bakery/{SYNC_ACCESS}", f"campaigns/{SUBMIT}"):
            await pause_queue(world.house.engine, queue, by="nobody")
        yield world


def token_for(endpoint: Endpoint, name: str = OWNER) -> str:
    roles = (Role.STAFF,) if endpoint.app == "back" else (Role.CUSTOMER, Role.ADMIN)
    return token_of(next(role for role in roles if {role.value, "anyone"} & endpoint.roles), name)


def endpoint_at(world: World, row: tuple[str, str]) -> Endpoint:
    return next(endpoint for endpoint in world.endpoints if endpoint.name == row)


async def send(world: World, endpoint: Endpoint, ask: Ask, key: str, *, token: str | None = None) -> httpx2.Response:
    return await world.send(
        endpoint.app,
        endpoint.method,
        ask.path(endpoint),
        token=token or token_for(endpoint),
        body=ask.body,
        headers={"Idempotency-Key": key.encode("latin-1")},
    )


async def versions(world: World) -> dict[int, int]:
    """Of every operation, the number of its last event; but for those that followed upon others, which come when they
    do."""

    def read(connection: ReadConnection) -> dict[int, int]:
        statement = select(operations.c.id, operations.c.version).where(operations.c.source != "follow-up")
        return {row[0]: row[1] for row in connection.rows(statement)}

    return await world.house.engine.database.read(read)


def id_in(answer: httpx2.Response) -> object:
    """What was placed, written down or changed; None: it has no id of its own."""
    told = answer.json()
    return told.get("task", told).get("id")


def key_of(*parts: object) -> str:
    return "/".join(map(str, parts))


@pytest.mark.parametrize("row", KEYED, ids=" ".join)
async def test_the_same_request_again_is_answered_again_and_does_nothing(world: World, row: tuple[str, str]) -> None:
    endpoint = endpoint_at(world, row)
    ask, key = await RECIPES[row](world), key_of("again", *row)
    first = await send(world, endpoint, ask, key)
    before = await versions(world)
    second = await send(world, endpoint, ask, key)
    assert first.status_code == second.status_code == endpoint.success, second.text
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert id_in(second) == id_in(first)
    assert second.headers.get("location") == first.headers.get("location")
    assert await versions(world) == before


@pytest.mark.parametrize("row", OTHER_BODIES, ids=" ".join)
async def test_the_same_key_with_another_body_is_422(world: World, row: tuple[str, str]) -> None:
    endpoint = endpoint_at(world, row)
    ask, key = await RECIPES[row](world), key_of("body", *row)
    assert (await send(world, endpoint, ask, key)).status_code == endpoint.success
    before = await versions(world)
    answer = await send(world, endpoint, Ask(ask.parameters, OTHER_BODIES[row]), key)
    assert answer.status_code == 422, answer.text
    if endpoint.tells_details:
        assert answer.json() == {"detail": str(KeyMisused())}
    else:
        assert answer.json()["type"] == "urn:orderup:problem:key-misused"
    assert await versions(world) == before


@pytest.mark.parametrize("row", [row for row in KEYED if "{id}" in row[1] or row in OTHERS], ids=" ".join)
async def test_the_same_key_for_another_order_is_422(world: World, row: tuple[str, str]) -> None:
    endpoint = endpoint_at(world, row)
    one, other, key = await RECIPES[row](world), await RECIPES[row](world), key_of("path", *row)
    other = Ask({**other.parameters, **OTHERS.get(row, {})}, other.body)
    assert (await send(world, endpoint, one, key)).status_code == endpoint.success
    assert (await send(world, endpoint, other, key)).status_code == 422
    assert (await send(world, endpoint, other, f"{key} 2")).status_code == endpoint.success


@pytest.mark.parametrize("row", KEYED, ids=" ".join)
async def test_of_many_at_once_one_is_carried_out_and_all_get_its_answer(world: World, row: tuple[str, str]) -> None:
    endpoint = endpoint_at(world, row)
    ask, key = await RECIPES[row](world), key_of("at once", *row)
    before = len(await versions(world))
    answers = await asyncio.gather(*(send(world, endpoint, ask, key) for _ in range(AT_ONCE)))
    assert {answer.status_code for answer in answers} == {endpoint.success}, [answer.text for answer in answers][:2]
    assert len({id_in(answer) for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert len(await versions(world)) - before == (row in PLACE)


@pytest.mark.parametrize("row", [row for row in KEYED if row not in NEVER_WRONG], ids=" ".join)
async def test_a_request_that_was_refused_leaves_its_key_free(world: World, row: tuple[str, str]) -> None:
    endpoint = endpoint_at(world, row)
    key = key_of("refused", *row)
    ask = await RECIPES[row](world)
    nobodys = Ask(dict.fromkeys(ask.parameters, "0" * 13), ask.body if ask.parameters else {**PIZZA, "tier": "huge"})
    assert (await send(world, endpoint, nobodys, key)).status_code in {404, 422}
    answer = await send(world, endpoint, ask, key)
    assert answer.status_code == endpoint.success, answer.text
    assert "idempotency-replayed" not in answer.headers


async def test_the_api_tells_of_keys_where_they_are_honoured_and_nowhere_else(world: World) -> None:
    def tells(endpoint: Endpoint) -> bool:
        return "Idempotency-Key" in [each["name"] for each in endpoint.operation.get("parameters", ())]

    assert {endpoint.name for endpoint in world.endpoints if tells(endpoint)} == set(KEYED)
    # What a worker says is known again by its token and words, a claim by its `request`, an order by its form.
    writes = {
        endpoint.name
        for endpoint in world.endpoints
        if endpoint.method not in {"GET", WEBSOCKET} and not endpoint.is_page
    }
    assert {path for _, path in writes - set(KEYED) if not path.startswith("/api/work/")} == ONCE_ANYHOW


@pytest.mark.parametrize(
    ("things", "name", "parameters"),
    [
        ("queues", "workshop/polish", {"shop": "workshop", "kind": "polish"}),
        ("schedules", "workshop/nightly", {"shop": "workshop", "name": "nightly"}),
    ],
)
async def test_a_pause_that_comes_again_after_the_resume_pauses_nothing(
    world: World, things: str, name: str, parameters: Mapping[str, str]
) -> None:
    names = "/".join(f"{{{each}}}" for each in parameters)
    pause, resume = (endpoint_at(world, ("POST", f"/api/{things}/{names}/{verb}")) for verb in ("pause", "resume"))
    ask, key = Ask(parameters), key_of("late", things)

    def is_paused(answer: httpx2.Response) -> bool:
        [found] = [each for each in answer.json()[things] if each["name"] == name]
        return bool(found["is_paused"])

    assert is_paused(await send(world, pause, ask, key))
    assert not is_paused(await send(world, resume, ask, f"{key} 2"))
    late = await send(world, pause, ask, key)
    assert late.headers["idempotency-replayed"] == "true"
    assert not is_paused(late)


def counter_of(name: str) -> Shop:
    """A shop like any other of its kind: `POST /orders`, `DELETE /orders/{id}`."""
    front = Router(tags=[name])
    shop = Shop(name, front=front)
    shop.remote("make")

    @front.post("/orders", status_code=202)
    async def order(request: Request, caller: AsAnyone) -> Response:
        plan = Plan([PlannedTask("make")])
        return (await place_for_caller(request, caller, name, plan, body=None, path="orders")).answer()

    add_order_routes(front, name, path="orders")
    return shop


async def test_the_same_key_at_two_shops_is_two_keys(tmp_path: Path) -> None:
    token, headers = token_of(Role.CUSTOMER), {"Idempotency-Key": "mine"}
    async with (
        open_test_house(settings_for(tmp_path), shops=[counter_of("north"), counter_of("south")]) as house,
        client_of(house.front, token=token) as client,
    ):
        placed = [await client.post(f"/{shop}/orders", headers=headers) for shop in ("north", "south", "north")]
        assert [answer.status_code for answer in placed] == [202, 202, 202]
        ids = [answer.json()["id"] for answer in placed]
        assert ids[0] == ids[2] != ids[1]
        for shop, id in (("north", ids[0]), ("south", ids[1])):
            answer = await client.delete(f"/{shop}/orders/{id}", headers=headers)
            assert answer.status_code == 200, answer.text
            assert "idempotency-replayed" not in answer.headers


async def test_an_order_placed_again_has_the_same_links_and_they_open_it(world: World) -> None:
    endpoint = endpoint_at(world, ("POST", "/pizza/pizzas"))
    first = (await send(world, endpoint, Ask(body=PIZZA), "links")).json()
    second = (await send(world, endpoint, Ask(body=PIZZA), "links")).json()
    assert second["links"] == first["links"]
    key = second["links"]["self"].partition("?key=")[2]
    found = await world.send("front", "GET", f"/pizza/pizzas/{first['id']}?key={key}", token=None)
    assert found.status_code == 200


async def test_a_replay_tells_how_things_stand_now(world: World) -> None:
    endpoint = endpoint_at(world, ("POST", "/pizza/pizzas"))
    placed = await send(world, endpoint, Ask(body=PIZZA), "now")
    assert placed.json()["status"] == "waiting_for_approval"
    path = f"/api/rfas/{placed.json()['id']}/decline"
    await world.send("back", "POST", path, token=token_of(Role.STAFF), body={"notes": "no flour"})
    again = await send(world, endpoint, Ask(body=PIZZA), "now")
    assert again.status_code == 202
    assert again.json()["status"] == "declined"


async def test_two_customers_may_choose_the_same_key(world: World) -> None:
    endpoint = endpoint_at(world, ("POST", "/pizza/pizzas"))
    names = (OWNER, STRANGER)
    answers = [
        await send(world, endpoint, Ask(body=PIZZA), "mine", token=token_of(Role.CUSTOMER, name)) for name in names
    ]
    assert len({answer.json()["id"] for answer in answers}) == 2
    assert not any("idempotency-replayed" in answer.headers for answer in answers)


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "\xe9"])
async def test_a_key_that_is_none_is_refused_by_its_name(world: World, key: str) -> None:
    for row in KEYED:
        endpoint = endpoint_at(world, row)
        ask = await RECIPES[row](world)
        answer = await send(world, endpoint, ask, key)
        assert answer.status_code == 422, (row, answer.text)
        told = answer.json()
        field = ".".join(told["detail"][0]["loc"]) if endpoint.tells_details else told["errors"][0]["field"]
        assert field == "header.Idempotency-Key"
        # nothing was done
        assert (await send(world, endpoint, ask, key_of("good", len(key), *row))).status_code == endpoint.success
