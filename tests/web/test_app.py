import asyncio
import json
from collections.abc import Sequence

import pytest
from starlette.requests import Request

from orderup.errors import Misconfigured
from orderup.settings import Settings
from orderup.web.app import MountedShop, build_app
from orderup.web.auth import OPEN
from orderup.web.routes import Router
from tests.web.sample import CLOSED, LAPTOP, SECRET, client_of, exchange, routes, sample_app, serving


async def test_healthz_answers_whatever_else_is_wrong() -> None:
    async def never_ready() -> Sequence[str]:
        return ["the database is away"]

    async with client_of(sample_app(CLOSED, readiness=never_ready)) as client:
        answer = await client.get("/healthz")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_readyz_says_what_is_missing() -> None:
    missing: list[str] = []

    async def readiness() -> Sequence[str]:
        return missing

    async with client_of(sample_app(CLOSED, readiness=readiness)) as client:
        assert (await client.get("/readyz")).status_code == 200
        missing += ["the database is away", "it is draining"]
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "2"
        assert answer.json()["detail"] == "Not ready: the database is away; it is draining."
        missing.clear()
        assert (await client.get("/readyz")).status_code == 200


async def test_readyz_does_not_wait_for_what_hangs() -> None:
    async def hangs() -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    async with client_of(sample_app(CLOSED, readiness=hangs)) as client:
        answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["detail"]) == (503, "Not ready: no answer within 2 s.")


async def test_options_lists_the_methods_of_a_path() -> None:
    async with client_of(sample_app(CLOSED)) as client:
        answer = await client.options("/orders/x1")
        assert (answer.status_code, answer.headers["allow"]) == (204, "DELETE, GET, HEAD, OPTIONS")
        assert (await client.options("/orders")).headers["allow"] == "OPTIONS, POST"
        assert (await client.options("/start")).headers["allow"] == "GET, OPTIONS"
        assert (await client.options("/nothing")).status_code == 404


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "PATCH", "CONNECT"])
async def test_a_method_nobody_asked_for_is_refused(method: str) -> None:
    async with client_of(sample_app(CLOSED)) as client:
        answer = await client.request(method, "/menu")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


async def test_head_is_get_without_the_body() -> None:
    async with serving(sample_app(LAPTOP), LAPTOP) as port:
        get = await exchange(port, b"GET /menu HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        head = await exchange(port, b"HEAD /menu HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")

    def headers(answer: bytes) -> list[bytes]:
        return [line for line in answer.partition(b"\r\n\r\n")[0].splitlines() if not line.startswith(b"date")]

    assert headers(get) == headers(head)
    assert head.endswith(b"\r\n\r\n")


async def test_head_of_a_stream_ends() -> None:
    async with serving(sample_app(LAPTOP), LAPTOP) as port:
        answer = await exchange(port, b"HEAD /stream HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"\r\n\r\n")


async def test_head_never_does_what_a_get_does_on_purpose() -> None:
    async with client_of(sample_app(LAPTOP)) as client:
        answer = await client.head("/start")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, OPTIONS")
        assert (await client.get("/start")).json() == {"started": True}


async def test_a_slash_too_many_is_not_found_and_leads_nowhere_else() -> None:
    async with client_of(sample_app(LAPTOP)) as client:
        for path in ("/menu/", "//menu", "/orders/x1/", "//evil.example/menu"):
            answer = await client.get(f"http://localhost:8001{path}")
            assert (answer.status_code, answer.headers.get("location")) == (404, None), path


async def test_every_answer_tells_browsers_to_keep_it_to_themselves() -> None:
    async with client_of(sample_app(LAPTOP)) as client:
        for path in ("/menu", "/nothing", "/fail/crash", "/docs/", "/metrics"):
            headers = (await client.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff", path
            assert headers["referrer-policy"] == "no-referrer", path
            assert "frame-ancestors 'none'" in headers["content-security-policy"], path
            assert "unsafe" not in headers["content-security-policy"], path
            assert "strict-transport-security" not in headers, path
        assert "server" not in headers


async def test_browsers_stay_with_https_where_the_public_address_has_it() -> None:
    app = sample_app(Settings(secret_key=SECRET, public_url="https://shop.example"))
    async with client_of(app) as client:
        assert (await client.get("/menu")).headers["strict-transport-security"] == "max-age=31536000"


async def test_a_shop_among_others_lies_under_its_prefix_and_a_single_one_at_the_root() -> None:
    async with client_of(sample_app(LAPTOP, prefix="/sample")) as client:
        assert (await client.get("/sample/menu")).status_code == 200
        assert (await client.get("/menu")).status_code == 404
        assert (await client.get("/healthz")).status_code == 200
    async with client_of(sample_app(LAPTOP)) as client:
        assert (await client.get("/menu")).status_code == 200


def test_two_shops_do_not_share_a_prefix() -> None:
    other = Router()

    @other.get("/other", dependencies=[OPEN])
    async def other_route() -> str:
        return "other"

    shops = [MountedShop("one", routes, "/one"), MountedShop("two", other, "/one")]
    with pytest.raises(Misconfigured, match="mounted at one path"):
        build_app("front", LAPTOP, shops=shops)


async def test_only_the_back_has_metrics() -> None:
    async with client_of(build_app("front", LAPTOP)) as client:
        assert (await client.get("/metrics")).status_code == 404
    async with client_of(build_app("back", LAPTOP)) as client:
        assert (await client.get("/metrics")).status_code == 200


async def address_seen(settings: Settings, *, forwarded: bytes) -> str:
    router = Router()

    @router.get("/address", dependencies=[OPEN])
    async def address(request: Request) -> str:
        return request.client.host if request.client else ""

    head = b"GET /address HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: " + forwarded
    async with serving(build_app("back", settings, routers=[router]), settings) as port:
        answer = await exchange(port, head + b"\r\n\r\n")
    return str(json.loads(answer.partition(b"\r\n\r\n")[2]))


async def test_behind_a_trusted_proxy_the_callers_own_address_counts() -> None:
    settings = Settings(secret_key=SECRET, trusted_proxies=("127.0.0.0/8", "10.0.0.7"))
    assert await address_seen(settings, forwarded=b"203.0.113.9") == "203.0.113.9"
    # Whatever stands left of the last stranger was written by the stranger.
    assert await address_seen(settings, forwarded=b"1.2.3.4, 203.0.113.9, 10.0.0.7") == "203.0.113.9"


async def test_nobody_else_is_believed_about_addresses() -> None:
    settings = Settings(secret_key=SECRET, trusted_proxies=("10.0.0.0/8",))
    assert await address_seen(settings, forwarded=b"203.0.113.9") == "127.0.0.1"
    assert await address_seen(CLOSED, forwarded=b"203.0.113.9") == "127.0.0.1"
