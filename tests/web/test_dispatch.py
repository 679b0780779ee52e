"""The short way to a route and the framework's own must lead to the same place."""

import itertools

import pytest
from starlette.types import Message, Scope

from orderup.web.app import OrderupApp, build_app
from orderup.web.auth import OPEN
from orderup.web.routes import Router
from tests.web.sample import LAPTOP, client_of, sample_app

SEGMENTS = ["", "menu", "orders", "x1", "sample", "start", "fail", "conflict", "a%2Fb", "%20", "docs", "start.js"]
PATHS = ["/" + "/".join(parts) for n in (1, 2, 3) for parts in itertools.product(SEGMENTS, repeat=n)]


def the_frameworks_way(app: OrderupApp) -> OrderupApp:
    app.router.middleware_stack = app.router.app
    return app


@pytest.mark.parametrize("prefix", ["", "/sample"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_both_ways_answer_alike(prefix: str, method: str) -> None:
    short, long = sample_app(LAPTOP, prefix=prefix), the_frameworks_way(sample_app(LAPTOP, prefix=prefix))
    found = 0
    async with client_of(short) as one, client_of(long) as other:
        for path in PATHS:
            if path.endswith("/stream"):
                continue
            left, right = await one.request(method, path), await other.request(method, path)
            assert (left.status_code, left.content) == (right.status_code, right.content), path
            assert left.headers.get("allow") == right.headers.get("allow"), path
            found += left.status_code == 200
    assert found >= 10


async def test_a_path_of_its_own_goes_before_one_with_a_parameter() -> None:
    router = Router()

    @router.get("/pizzas/{name}", dependencies=[OPEN])
    async def by_name(name: str) -> str:
        return name

    @router.get("/pizzas/today", dependencies=[OPEN])
    async def today() -> str:
        return "today's"

    async with client_of(build_app("front", LAPTOP, routers=[router])) as client:
        assert (await client.get("/pizzas/today")).json() == "today's"
        assert (await client.get("/pizzas/other")).json() == "other"


async def test_parameters_of_every_kind_are_read() -> None:
    router = Router()

    @router.get("/{shop}/{number:int}/{rest:path}", dependencies=[OPEN])
    async def read(shop: str, number: int, rest: str) -> list[object]:
        return [shop, number, rest]

    app = build_app("front", LAPTOP, routers=[router])
    for one in (app, the_frameworks_way(build_app("front", LAPTOP, routers=[router]))):
        async with client_of(one) as client:
            assert (await client.get("/pizza/7/a/b")).json() == ["pizza", 7, "a/b"]
            assert (await client.get("/pizza/seven/a")).status_code == 404


async def test_a_server_below_a_prefix_finds_its_routes() -> None:
    app = sample_app(LAPTOP)
    answers: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        answers.append(message)

    scope: Scope = {
        "type": "http",
        "method": "GET",
        "path": "/below/orders/x1",
        "raw_path": b"/below/orders/x1",
        "root_path": "/below",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "scheme": "http",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8001),
        "http_version": "1.1",
        "asgi": {"version": "3.0"},
    }
    await app(scope, receive, send)
    assert answers[0]["status"] == 200
    assert answers[1]["body"] == b'{"id":"x1"}'
