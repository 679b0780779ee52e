"""Whose request it is, by the address it came from: IPv4 is IPv4 as well where a socket listens for both."""

import httpx2
import pytest
from starlette.requests import Request

from orderup.settings import Settings
from orderup.web.app import build_app
from orderup.web.auth import OPEN
from orderup.web.idempotency import client_of
from orderup.web.routes import Router
from orderup.web.tokens import NOBODY
from tests.web.sample import SECRET


async def client_seen(peer: str, *, forwarded: str | None = None, trusted: tuple[str, ...] = ()) -> str:
    router = Router()

    @router.get("/client", dependencies=[OPEN])
    async def client(request: Request) -> str:
        return client_of(request.scope, NOBODY)

    app = build_app("front", Settings(secret_key=SECRET, trusted_proxies=trusted), routers=[router])
    transport = httpx2.ASGITransport(app, client=(peer, 1))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as asking:
        answer = await asking.get("/client", headers={"X-Forwarded-For": forwarded} if forwarded else {})
    return str(answer.json())


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("203.0.113.9", "address:203.0.113.9"),
        ("::ffff:203.0.113.9", "address:203.0.113.9"),
        ("::FFFF:cb00:7109", "address:203.0.113.9"),
        ("2001:db8::9", "address:2001:db8::/64"),
        ("::1", "address:::/64"),
        ("testclient", "address:testclient"),
    ],
)
async def test_a_client_is_an_ipv4_address_or_a_64_of_ipv6(peer: str, client: str) -> None:
    assert await client_seen(peer) == client


@pytest.mark.parametrize("peer", ["127.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1"])
@pytest.mark.parametrize("trusted", ["127.0.0.1", "127.0.0.0/8"])
@pytest.mark.parametrize("forwarded", ["203.0.113.9", "::ffff:203.0.113.9", "1.2.3.4, 203.0.113.9, ::ffff:127.0.0.1"])
async def test_a_proxy_is_known_by_its_ipv4_address_and_tells_one(peer: str, trusted: str, forwarded: str) -> None:
    assert await client_seen(peer, forwarded=forwarded, trusted=(trusted,)) == "address:203.0.113.9"


async def test_a_proxy_that_was_written_as_the_socket_tells_it_is_known_as_well() -> None:
    seen = await client_seen("::ffff:10.0.0.7", forwarded="203.0.113.9", trusted=("::ffff:10.0.0.0/104",))
    assert seen == "address:203.0.113.9"


@pytest.mark.parametrize("peer", ["10.0.0.8", "::ffff:10.0.0.8", "2001:db8::9"])
async def test_another_one_is_not_believed(peer: str) -> None:
    assert await client_seen(peer, forwarded="203.0.113.9", trusted=("10.0.0.7",)) == await client_seen(peer)
