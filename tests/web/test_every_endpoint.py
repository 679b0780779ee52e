"""Every endpoint × every role × every state of a token, against real servers with all shops, as the OpenAPI says."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import timedelta
from typing import Any

import jwt
import pytest
import pytest_asyncio
from pydantic import SecretStr
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from orderup.engine.revoke import revoke_token
from orderup.model.plan import Plan, PlannedTask
from orderup.web.auth import utc_now
from orderup.web.tokens import Role, mint_token
from tests.services.waiting import PATIENCE_SECONDS
from tests.web.endpoints import OWNER, RECIPES, SHOPS, STRANGER, WEBSOCKET, Ask, Endpoint, World, open_world
from tests.web.house import SECRET, token_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROWS = sorted(RECIPES, key=lambda row: (row[1], row[0]))
OTHER_SECRET = SecretStr("another-key-of-thirty-two-characters")
WORKER_TOKEN, METRICS_TOKEN = "knead-knead-knead", "count-me"
# Routes that no description holds: the description's own pages.
UNDESCRIBED = {"/docs", "/docs/{path}"}


def shop_at(path: str) -> str | None:
    """Whose routes lie there."""
    name = path.split("/")[1]
    return name if name in SHOPS else None


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("endpoints")
    async with open_world(folder, worker_token=WORKER_TOKEN, metrics_token=METRICS_TOKEN) as world:
        yield world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bad_tokens(world: World) -> Mapping[str, str]:
    """By what is wrong with each. All would be an admin's, a worker's or a customer's if they counted."""
    tokens: dict[str, str] = {}
    for role in (Role.ADMIN, Role.WORKER, Role.CUSTOMER):
        expired = mint_token(SECRET, role, OWNER, now=utc_now() - timedelta(days=31)).text
        forged = mint_token(OTHER_SECRET, role, OWNER, now=utc_now()).text
        claims = jwt.decode(forged, options={"verify_signature": False})
        revoked = mint_token(SECRET, role, OWNER, now=utc_now())
        await revoke_token(world.house.database, revoked.jti, expires_at=revoked.expires_at, now=utc_now())
        tokens |= {
            f"{role}, expired": expired,
            f"{role}, forged": forged,
            f"{role}, unsigned": jwt.encode(claims, "", "none"),
            f"{role}, revoked": revoked.text,
        }
    return {"wrong": "not-a-token", **tokens}


async def status_of(world: World, endpoint: Endpoint, ask: Ask, *, token: str | None, key: str | None = None) -> int:
    """Of the answer; for a WebSocket, of its handshake."""
    path = ask.path(endpoint) + (f"?key={key}" if key else "")
    if endpoint.method == WEBSOCKET:
        return await _status_of_socket(world, endpoint, path, token)
    if endpoint.is_stream:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with world.client.stream(endpoint.method, world.url(endpoint.app, path), headers=headers) as answer:
            return answer.status_code
    sent: dict[str, Any] = {"body": ask.body, "data": ask.form, "files": ask.files, "headers": ask.headers}
    answer = await world.send(endpoint.app, endpoint.method, path, token=token, **sent)
    return answer.status_code


async def _status_of_socket(world: World, endpoint: Endpoint, path: str, token: str | None) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = world.url(endpoint.app, path).replace("http", "ws", 1)
    try:
        # Nobody reads here: with a bound to what is kept unread, the answer to our goodbye would not be read either.
        async with connect(url, additional_headers=headers, max_queue=None):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


def refusal_of(endpoint: Endpoint) -> int:
    """What a caller is told whose token is good, but of the wrong role: of a customer's order, that there is none."""
    return 404 if "key" in endpoint.roles else 403


def callers(endpoint: Endpoint) -> Iterator[tuple[str, str, bool]]:
    """Every good token: whose it is, the token, and whether it opens this endpoint."""
    for role in Role:
        yield role.value, token_of(role, OWNER), role.value in endpoint.roles or "anyone" in endpoint.roles
    yield "WORKER_TOKEN", WORKER_TOKEN, bool({"worker", "anyone"} & endpoint.roles)
    if "key" in endpoint.roles:
        yield "another customer", token_of(Role.CUSTOMER, STRANGER), False


async def test_no_endpoint_is_without_a_row_and_no_row_without_an_endpoint(world: World) -> None:
    assert {endpoint.name for endpoint in world.endpoints} == set(RECIPES)


async def test_the_openapi_describes_every_route_there_is(world: World) -> None:
    described = {(endpoint.app, endpoint.method, endpoint.path, endpoint.roles) for endpoint in world.endpoints}
    for kind, app in (("front", world.house.front), ("back", world.house.back)):
        there = {
            (kind, method, entry.path, frozenset(map(str, entry.access.documented_roles)))
            for entry in app.table.entries
            for method in entry.methods
            if entry.path not in UNDESCRIBED
        }
        assert there == {row for row in described if row[0] == kind}


@pytest.mark.parametrize(("method", "path"), ROWS)
async def test_a_good_token_opens_what_its_role_may_use(world: World, method: str, path: str) -> None:
    for endpoint in endpoints_at(world, method, path):
        for who, token, may in callers(endpoint):
            if may or endpoint.is_open:
                ask = await RECIPES[endpoint.name](world)
                assert await status_of(world, endpoint, ask, token=token) == endpoint.success, (str(endpoint), who)


@pytest.mark.parametrize(("method", "path"), ROWS)
async def test_whoever_may_not_is_refused_and_changes_nothing(
    world: World, bad_tokens: Mapping[str, str], method: str, path: str
) -> None:
    for endpoint in endpoints_at(world, method, path):
        if endpoint.is_open:
            continue
        ask = await RECIPES[endpoint.name](world)
        for who, token, may in callers(endpoint):
            if not may:
                found = await status_of(world, endpoint, ask, token=token)
                assert found == refusal_of(endpoint), (str(endpoint), who)
        for wrong, token in bad_tokens.items():
            assert await status_of(world, endpoint, ask, token=token) == 401, (str(endpoint), wrong)
        # What it is about was left as it was: the first who may finds it so.
        first = next(token for _, token, may in callers(endpoint) if may)
        assert await status_of(world, endpoint, ask, token=first) == endpoint.success, str(endpoint)


@pytest.mark.parametrize(("method", "path"), ROWS)
async def test_without_a_token_only_what_is_for_anyone_opens(world: World, method: str, path: str) -> None:
    for endpoint in endpoints_at(world, method, path):
        ask = await RECIPES[endpoint.name](world)
        expected = endpoint.success if "anyone" in endpoint.roles else 401
        assert await status_of(world, endpoint, ask, token=None) == expected, str(endpoint)


@pytest.mark.parametrize(("method", "path"), ROWS)
async def test_what_is_open_answers_whatever_the_token_is(
    world: World, bad_tokens: Mapping[str, str], method: str, path: str
) -> None:
    for endpoint in endpoints_at(world, method, path):
        if endpoint.is_open:
            ask = await RECIPES[endpoint.name](world)
            for wrong, token in bad_tokens.items():
                found = await status_of(world, endpoint, ask, token=token)
                assert found == endpoint.success, (str(endpoint), wrong)


@pytest.mark.parametrize(("method", "path"), [row for row in ROWS if shop_at(row[1]) and "{id}" in row[1]])
async def test_an_orders_key_opens_that_order_and_no_other(
    world: World, bad_tokens: Mapping[str, str], method: str, path: str
) -> None:
    for endpoint in endpoints_at(world, method, path):
        if endpoint.is_open:
            continue
        ask, another = await RECIPES[endpoint.name](world), await RECIPES[endpoint.name](world)
        if "key" not in endpoint.roles:
            assert await status_of(world, endpoint, ask, token=None, key=ask.key) == 401
            continue
        for key in (another.key, "guess", (ask.key or "")[:-1]):
            assert await status_of(world, endpoint, ask, token=None, key=key) == 404, key
        stranger = token_of(Role.CUSTOMER, STRANGER)
        assert await status_of(world, endpoint, ask, token=stranger, key=another.key) == 404
        for wrong, token in bad_tokens.items():
            assert await status_of(world, endpoint, ask, token=token, key=ask.key) == 401, wrong
        assert await status_of(world, endpoint, ask, token=None, key=ask.key) == endpoint.success


def expected_of_another_shop(endpoint: Endpoint, role: Role) -> int:
    """What a token is told that is for the pizzeria only, of the workshop's things, and the other way round."""
    if endpoint.is_open:
        return endpoint.success
    if shop_at(endpoint.path) is not None:
        return 403
    if role.value not in endpoint.roles:
        return refusal_of(endpoint)
    if endpoint.path == "/api/work/claim":
        return 403
    # A thing of another shop is not there; lists leave it out.
    return 404 if "{" in endpoint.path else endpoint.success


@pytest.mark.parametrize(("method", "path"), ROWS)
async def test_a_token_for_one_shop_opens_nothing_of_another(world: World, method: str, path: str) -> None:
    shop = "workshop" if shop_at(path) is not None else "pizza"
    for endpoint in endpoints_at(world, method, path):
        ask = await RECIPES[endpoint.name](world)
        for role in Role:
            token = token_of(role, OWNER, shop=shop)
            found = await status_of(world, endpoint, ask, token=token)
            assert found == expected_of_another_shop(endpoint, role), (str(endpoint), role)


@pytest.mark.parametrize(("method", "path"), ROWS)
async def test_the_metrics_token_reads_metrics_and_nothing_else(world: World, method: str, path: str) -> None:
    for endpoint in endpoints_at(world, method, path):
        ask = await RECIPES[endpoint.name](world)
        expected = endpoint.success if endpoint.is_open or "metrics" in endpoint.roles else 401
        assert await status_of(world, endpoint, ask, token=METRICS_TOKEN) == expected, str(endpoint)


async def test_lists_hold_what_is_of_the_tokens_shop(world: World) -> None:
    await world.order()
    await RECIPES["POST", "/api/rfas/{id}/approve"](world)
    for shop in ("pizza", "workshop"):
        token = token_of(Role.STAFF, shop=shop)
        for path, name in (("operations", "operations"), ("rfas", "rfas")):
            found = (await world.send("back", "GET", f"/api/{path}", token=token)).json()[name]
            assert {each["shop"] for each in found} == {shop}, path
        for path, name in (("queues", "queues"), ("schedules", "schedules")):
            found = (await world.send("back", "GET", f"/api/{path}", token=token)).json()[name]
            assert {each["name"].partition("/")[0] for each in found} <= {shop}, path


async def tasks_of(world: World, worker: str, shop: str | None) -> list[str]:
    """As staff of this shop sees them, or of all."""
    answer = await world.send("back", "GET", "/api/workers", token=token_of(Role.STAFF, shop=shop))
    return [id for each in answer.json()["workers"] if each["id"] == worker for id in each["tasks"]]


async def test_of_a_worker_for_two_shops_each_shops_staff_sees_its_own_tasks(world: World) -> None:
    held = {}
    for shop, kind in (("workshop", "polish"), ("pizza", "make_dough")):
        if shop == "pizza":
            ask = await world.order()
            approve = f"/api/rfas/{ask.parameters['id']}/approve"
            await world.send("back", "POST", approve, token=token_of(Role.STAFF))
        else:
            await world.operation(Plan([PlannedTask(kind)]))
        body = {"worker": "both", "shop": shop, "tasks": [kind], "region": "eu-west-3"}
        answer = await world.send("back", "POST", "/api/work/claim", token=token_of(Role.WORKER), body=body)
        [held[shop]] = [task["id"] for task in answer.json()["tasks"]]
    async with asyncio.timeout(PATIENCE_SECONDS):
        # who asked for work is written down a moment later
        while set(await tasks_of(world, "both", None)) != set(held.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    for shop, id in held.items():
        assert await tasks_of(world, "both", shop) == [id]


async def test_a_worker_of_one_region_claims_nothing_elsewhere(world: World) -> None:
    token = token_of(Role.WORKER, region="eu-west-3")
    body = {"worker": "w1", "shop": "pizza", "tasks": ["make_dough"]}
    for region, status in (("us-east-1", 403), ("eu-west-3", 200), (None, 200)):
        ask = body if region is None else {**body, "region": region}
        answer = await world.send("back", "POST", "/api/work/claim", token=token, body=ask)
        assert answer.status_code == status, region


def endpoints_at(world: World, method: str, path: str) -> list[Endpoint]:
    found = [endpoint for endpoint in world.endpoints if endpoint.name == (method, path)]
    assert found, f"{method} {path} is in neither app"
    return found
