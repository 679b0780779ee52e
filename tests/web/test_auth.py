"""Every route × every role × every state of a token, as the OpenAPI says; the table is generated, none is left out."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx2
import jwt
import pytest
from fastapi import APIRouter
from pydantic import SecretStr
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from orderup.errors import Invalid, Misconfigured, Unauthenticated
from orderup.web.app import build_app
from orderup.web.auth import OPEN, AsStaff, AsWorker, requires
from orderup.web.routes import Router
from orderup.web.tokens import LOCAL_CALLER, NOBODY, Caller, Role, mint_token, read_token
from tests.web.sample import CLOSED, LAPTOP, NOW, SECRET, bearer, client_of, sample_app, serving, token_of

OTHER_SECRET = SecretStr("another-key-of-thirty-two-characters")
METHODS = ("get", "post", "put", "patch", "delete")
BODY = {"name": "margherita"}


def routes_and_roles(app: Any) -> Iterator[tuple[str, str, set[str]]]:
    for path, operations in app.openapi()["paths"].items():
        for method in METHODS:
            if method in operations:
                yield method.upper(), path, set(operations[method]["x-roles"])


async def ask(client: httpx2.AsyncClient, method: str, path: str, headers: dict[str, str]) -> httpx2.Response:
    path = path.replace("{order_id}", "x1").replace("{how}", "conflict")
    if path == "/form":
        return await client.request(method, path, headers=headers, data=BODY)
    return await client.request(method, path, headers=headers, json=BODY if method == "POST" else None)


TABLE = [(method, path, roles) for method, path, roles in routes_and_roles(sample_app(CLOSED)) if path != "/stream"]


def test_the_table_holds_every_route() -> None:
    assert {(method, path) for method, path, _ in TABLE} == {
        (method, entry.path)
        for entry in sample_app(CLOSED).table.entries
        for method in entry.methods - {"WEBSOCKET"}
        if entry.path not in {"/stream", "/docs", "/docs/{path}"}
    }


@pytest.mark.parametrize(("method", "path", "roles"), TABLE)
async def test_each_role_may_do_what_the_openapi_says_and_nothing_else(method: str, path: str, roles: set[str]) -> None:
    async with client_of(sample_app(CLOSED)) as client:
        for role in Role:
            answer = await ask(client, method, path, bearer(token_of(role)))
            may = role.value in roles or "anyone" in roles
            # Who may not see an order is told that there is none.
            refusal = 404 if "key" in roles else 403
            assert (answer.status_code == refusal) != may, (role, answer.status_code, answer.text)


@pytest.mark.parametrize(("method", "path", "roles"), TABLE)
async def test_without_a_token_only_the_open_routes_answer(method: str, path: str, roles: set[str]) -> None:
    async with client_of(sample_app(CLOSED)) as client:
        answer = await ask(client, method, path, {})
    expected = {200, 202, 409} if "anyone" in roles else {401}
    assert answer.status_code in expected
    assert ("www-authenticate" in answer.headers) == (answer.status_code == 401)


def forge(**claims: Any) -> str:
    good = jwt.decode(token_of(Role.ADMIN), options={"verify_signature": False})
    return jwt.encode({**good, **claims}, OTHER_SECRET.get_secret_value(), "HS256")


def resign(*drop: str, **claims: Any) -> str:
    good = jwt.decode(token_of(Role.ADMIN), options={"verify_signature": False})
    kept = {name: value for name, value in {**good, **claims}.items() if name not in drop}
    return jwt.encode(kept, SECRET.get_secret_value(), "HS256")


GOOD = token_of(Role.ADMIN)
HEAD, PAYLOAD, SIGNATURE = GOOD.split(".")
UNSIGNED = jwt.encode(jwt.decode(GOOD, options={"verify_signature": False}), "", "none")
BAD_TOKENS = {
    "wrong": "not-a-token",
    "forged": forge(),
    "expired": mint_token(SECRET, Role.ADMIN, "ann", now=NOW - timedelta(days=30)).text,
    "revoked": GOOD,
    "changed": f"{HEAD}.{token_of(Role.ADMIN, 'eve').split('.')[1]}.{SIGNATURE}",
    "unsigned": UNSIGNED,
    "unsigned, stripped": f"{UNSIGNED.split('.')[0]}.{PAYLOAD}.",
    "signed with another algorithm": jwt.encode({"sub": "ann"}, SECRET.get_secret_value() * 2, "HS512"),
    "of no issuer": resign("iss"),
    "of another issuer": resign(iss="somebody"),
    "without an end": resign("exp"),
    "with an end that is no number": resign(exp="never"),
    "with an end beyond all calendars": resign(exp=10**18),
    "without an id": resign("jti"),
    "of no role": resign("role"),
    "of an unknown role": resign(role="owner"),
    "of a shop that is no name": resign(shop=["sample"]),
    "endless": "a" * 5000,
    "of nothing but brackets": f"{'W1tb' * 900}.{PAYLOAD}.{SIGNATURE}",
}


@pytest.mark.parametrize("token", BAD_TOKENS.values(), ids=BAD_TOKENS.keys())
async def test_a_token_that_does_not_count_opens_nothing(token: str) -> None:
    jti = jwt.decode(GOOD, options={"verify_signature": False})["jti"]
    async with client_of(sample_app(CLOSED, revoked=[jti])) as client:
        for method, path, roles in TABLE:
            answer = await ask(client, method, path, bearer(token))
            if "anyone" not in roles:
                assert answer.status_code == 401, (method, path, answer.text)
        assert (await client.get("/menu", headers=bearer(token))).status_code == 200
        assert (await client.post("/orders", headers=bearer(token), json=BODY)).status_code == 401


@pytest.mark.parametrize("value", ["Basic YTpi", "Bearer", "Bearer ", "token", "bearer\tx"])
async def test_the_header_must_be_a_bearers(value: str) -> None:
    async with client_of(sample_app(CLOSED)) as client:
        answer = await client.get("/mine", headers={"Authorization": value})
    assert answer.status_code == 401


async def test_two_tokens_are_no_token() -> None:
    headers = [("Authorization", f"Bearer {token_of(Role.ADMIN)}"), ("Authorization", f"Bearer {token_of(Role.STAFF)}")]
    async with client_of(sample_app(CLOSED)) as client:
        assert (await client.delete("/orders/x1", headers=headers)).status_code == 401


async def test_the_worker_token_is_a_worker_and_nothing_else() -> None:
    async with client_of(sample_app(CLOSED)) as client:
        headers = bearer("knead-knead-knead")
        assert (await client.post("/work", headers=headers)).json() == {"subject": "worker", "region": None}
        assert (await client.delete("/orders/x1", headers=headers)).status_code == 403
        assert (await client.post("/work", headers=bearer("knead-knead-knead!"))).status_code == 401


async def test_the_metrics_token_reads_metrics_and_nothing_else() -> None:
    async with client_of(sample_app(CLOSED)) as client:
        headers = bearer("count-me")
        assert (await client.get("/metrics", headers=headers)).status_code == 200
        assert (await client.post("/work", headers=headers)).status_code == 401
        assert (await client.get("/metrics", headers=bearer("count-you"))).status_code == 401


async def test_a_caller_is_checked_before_the_body_is_read() -> None:
    headers = {**bearer("wrong"), "Content-Type": "application/json"}
    async with client_of(sample_app(CLOSED)) as client:
        assert (await client.post("/orders", headers=headers, content=b"{")).status_code == 401


async def test_a_token_for_one_shop_is_refused_in_another() -> None:
    async with client_of(sample_app(CLOSED, prefix="/sample")) as client:
        for shop, status in [("sample", 200), ("other", 403), (None, 200)]:
            answer = await client.delete("/sample/orders/x1", headers=bearer(token_of(Role.STAFF, shop=shop)))
            assert answer.status_code == status, (shop, answer.text)


async def test_a_token_carries_its_subject_and_scope() -> None:
    token = mint_token(SECRET, Role.WORKER, "oven 7", shop="sample", region="eu-west-3", now=NOW)
    async with client_of(sample_app(CLOSED)) as client:
        answer = await client.post("/work", headers=bearer(token.text))
    assert answer.json() == {"subject": "oven 7", "region": "eu-west-3"}


def test_a_token_lasts_thirty_days_to_the_second() -> None:
    token = mint_token(SECRET, Role.STAFF, "ann", now=NOW)
    assert token.expires_at == NOW + timedelta(days=30)
    assert read_token(token.text, secret=SECRET, now=token.expires_at - timedelta(seconds=1)).subject == "ann"
    with pytest.raises(Unauthenticated, match=r"expired at 2026-12-21 09:30:00Z"):
        read_token(token.text, secret=SECRET, now=token.expires_at)


def test_no_two_tokens_share_an_id() -> None:
    assert len({mint_token(SECRET, Role.STAFF, "ann", now=NOW).jti for _ in range(100)}) == 100


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 101])
def test_a_token_needs_a_name_of_one_line(name: str) -> None:
    with pytest.raises(Invalid):
        mint_token(SECRET, Role.STAFF, name, now=NOW)


@pytest.mark.parametrize("life", [timedelta(), timedelta(days=-1), timedelta(days=4000)])
def test_a_token_lives_for_a_sensible_time(life: timedelta) -> None:
    with pytest.raises(Invalid):
        mint_token(SECRET, Role.STAFF, "ann", now=NOW, life=life)


def test_admin_is_staff_and_nobody_else_is_two() -> None:
    def roles_of(role: Role) -> frozenset[Role]:
        return read_token(token_of(role), secret=SECRET, now=NOW).roles

    assert roles_of(Role.ADMIN) == {Role.ADMIN, Role.STAFF}
    assert all(roles_of(role) == {role} for role in Role if role is not Role.ADMIN)
    assert LOCAL_CALLER.roles == set(Role)
    assert NOBODY.roles == set()


def test_a_caller_without_a_shop_may_enter_all() -> None:
    assert Caller().may_enter("pizza")
    assert Caller(shop="pizza").may_enter("pizza")
    assert not Caller(shop="coffee").may_enter("pizza")


async def test_sockets_ask_for_the_same_roles_before_accept() -> None:
    app = sample_app(CLOSED)
    assert app.openapi()["x-websockets"] == {
        "/orders/{order_id}/live": {"x-roles": ["admin", "customer", "staff", "key"]},
        "/work": {"x-roles": ["worker"]},
        "/late/{how}": {"x-roles": ["anyone"]},
    }
    async with serving(app, CLOSED) as port:

        async def status_of(path: str, token: str | None) -> int:
            headers = bearer(token) if token else None
            try:
                async with connect(f"ws://127.0.0.1:{port}{path}", additional_headers=headers) as socket:
                    await socket.recv()
                    return 101
            except InvalidStatus as refused:
                return refused.response.status_code

        for role in Role:
            assert await status_of("/work", token_of(role)) == (101 if role is Role.WORKER else 403), role
            may_follow = role is not Role.WORKER
            assert await status_of("/orders/x1/live", token_of(role)) == (101 if may_follow else 404), role
        for path in ("/work", "/orders/x1/live"):
            for name, token in BAD_TOKENS.items():
                if name not in {"revoked", "endless", "of nothing but brackets"}:
                    assert await status_of(path, token) == 401, (path, name)
        assert await status_of("/work", None) == 401
        assert await status_of("/orders/x1/live", None) == 401
        assert await status_of("/orders/x1/live?key=guess", None) == 404
        assert await status_of("/orders/x1/live", token_of(Role.CUSTOMER, "bob")) == 404


async def test_on_a_laptop_every_caller_has_every_role_and_the_openapi_asks_for_no_token() -> None:
    app = sample_app(LAPTOP)
    async with client_of(app) as client:
        for method, path, _ in TABLE:
            answer = await ask(client, method, path, {})
            assert answer.status_code in {200, 202, 409}, (method, path, answer.text)
    operations = [value for operations in app.openapi()["paths"].values() for value in operations.values()]
    assert [operation["security"] for operation in operations] == [[]] * len(operations)


def test_a_route_that_does_not_say_who_may_use_it_is_an_error_where_it_is_written() -> None:
    router = Router()
    with pytest.raises(Misconfigured, match=r"GET /menu does not say who may use it"):

        @router.get("/menu")
        async def menu() -> str:
            return "menu"


def test_a_route_that_says_it_in_two_ways_is_an_error() -> None:
    router = Router(dependencies=[OPEN])
    with pytest.raises(Misconfigured, match=r"says in 2 ways"):

        @router.get("/menu")
        async def menu(_caller: AsStaff) -> str:
            return "menu"


def test_a_router_may_say_it_for_all_its_routes() -> None:
    router = Router(dependencies=[requires(Role.STAFF)])

    @router.get("/menu")
    async def menu(caller: AsStaff) -> str | None:
        return caller.subject

    app = build_app("back", CLOSED, routers=[router])
    assert app.openapi()["paths"]["/menu"]["get"]["x-roles"] == ["admin", "staff"]


def test_a_socket_that_does_not_say_who_may_open_it_is_refused_with_its_app() -> None:
    router = Router()

    @router.websocket("/live")
    async def live() -> None:
        return None

    with pytest.raises(Misconfigured, match=r"WEBSOCKET /live does not say who may use it"):
        build_app("front", LAPTOP, routers=[router])


def test_a_plain_router_is_refused_for_its_routes_check_nothing_before_the_body() -> None:
    plain = APIRouter()

    @plain.get("/menu", dependencies=[OPEN])
    async def menu() -> str:
        return "menu"

    with pytest.raises(Misconfigured, match=r"GET /menu belongs to a plain APIRouter"):
        build_app("front", LAPTOP, routers=[plain])  # type: ignore[list-item]  # that it is refused is the point


def test_one_path_belongs_to_one_route() -> None:
    router = Router()

    @router.get("/work", dependencies=[OPEN])
    async def one() -> str:
        return "one"

    @router.get("/work")
    async def other(caller: AsWorker) -> str | None:
        return caller.subject

    with pytest.raises(Misconfigured, match=r"GET /work is declared twice"):
        build_app("front", LAPTOP, routers=[router])
