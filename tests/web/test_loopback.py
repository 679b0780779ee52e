import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from orderup.errors import Misconfigured
from orderup.settings import Settings
from orderup.web.loopback import check_binding, is_local_name, is_loopback
from tests.web.sample import CLOSED, KEY, LAPTOP, SECRET, exchange, sample_app, serving


async def status_and_body(port: int, *headers: str, path: str = "/mine") -> tuple[int, str]:
    lines = [f"GET {path} HTTP/1.1", *headers, "Connection: close", "", ""]
    answer = await exchange(port, "\r\n".join(lines).encode())
    return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2].decode()


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:{port}", "127.0.0.1:{port}", "[::1]:1", "localhost:1"])
async def test_a_local_program_has_every_role(host: str) -> None:
    async with serving(sample_app(LAPTOP), LAPTOP) as port:
        status, body = await status_and_body(port, f"Host: {host.format(port=port)}")
    assert (status, body) == (200, '{"subject":"local"}')


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        (["Host: shop.example"], "called by the name 'shop.example'"),
        (["Host: localhost.shop.example"], "called by the name"),
        (["Host: localhost:80@shop.example"], "called by the name"),
        (["Host: localhost:"], "called by the name"),
        (["Host: 127.0.0.1.nip.io"], "called by the name"),
        (["Host: localhost", "Host: shop.example"], "called by the name"),
        (["Host: localhost", "Sec-Fetch-Site: cross-site"], "Sec-Fetch-Site: cross-site"),
        (["Host: localhost", "Sec-Fetch-Site: same-site"], "Sec-Fetch-Site: same-site"),
        (["Host: localhost:1", "Origin: https://shop.example"], "a page of 'https://shop.example'"),
        (["Host: localhost:1", "Origin: http://localhost:2"], "a page of 'http://localhost:2'"),
        (["Host: localhost:1", "Origin: http://127.0.0.1:1"], "a page of 'http://127.0.0.1:1'"),
        (["Host: localhost", "Origin: null"], "a page of 'null'"),
        (["Host: localhost", "Origin: http://localhost", "Origin: http://x.example"], "a page of 'http://x.example'"),
        (["Host: localhost", "Forwarded: for=10.0.0.1"], "through a proxy (forwarded)"),
        (["Host: localhost", "X-Real-IP: 10.0.0.1"], "through a proxy (x-real-ip)"),
        (["Host: localhost", "X-Forwarded-For: 10.0.0.1"], "through a proxy (x-forwarded-for)"),
        (["Host: localhost", "X-Forwarded-Anything: 1"], "through a proxy (x-forwarded-anything)"),
    ],
)
async def test_no_page_and_no_proxy_is_the_local_caller(headers: list[str], reason: str) -> None:
    async with serving(sample_app(LAPTOP), LAPTOP) as port:
        status, body = await status_and_body(port, *headers)
    assert status == 403
    assert reason in body
    assert "set SECRET_KEY" in body


async def test_even_the_open_routes_are_closed_to_strangers_on_a_laptop() -> None:
    async with serving(sample_app(LAPTOP), LAPTOP) as port:
        for path in ("/healthz", "/docs/", "/openapi.json", "/nothing"):
            status, _ = await status_and_body(port, "Host: shop.example", path=path)
            assert status == 403, path


async def test_a_request_without_a_host_is_refused_on_a_laptop() -> None:
    async with serving(sample_app(LAPTOP), LAPTOP) as port:
        answer = await exchange(port, b"GET /menu HTTP/1.0\r\n\r\n")
    assert answer.split()[1] == b"403"


@pytest.mark.parametrize(
    "headers", [["Origin: http://localhost:8001"], ["Sec-Fetch-Site: same-origin"], ["Sec-Fetch-Site: none"]]
)
async def test_the_servers_own_pages_are_let_in(headers: list[str]) -> None:
    async with serving(sample_app(LAPTOP), LAPTOP) as port:
        status, _ = await status_and_body(port, "Host: localhost:8001", *headers)
    assert status == 200


async def test_with_a_secret_key_names_and_proxies_do_not_matter() -> None:
    async with serving(sample_app(CLOSED), CLOSED) as port:
        status, _ = await status_and_body(
            port, "Host: shop.example", "X-Forwarded-For: 10.0.0.1", "Sec-Fetch-Site: cross-site", path="/menu"
        )
    assert status == 200


async def refusal_of_socket(url: str, *, origin: str | None, headers: dict[str, str] | None = None) -> int:
    """The status that the handshake was refused with, 101 if it was not."""
    try:
        async with connect(url, origin=Origin(origin) if origin else None, additional_headers=headers) as socket:
            await socket.recv()
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


@pytest.mark.parametrize(
    ("origin", "headers", "status"),
    [
        (None, None, 101),
        ("http://localhost:{port}", None, 101),
        ("http://shop.example", None, 403),
        ("http://localhost:1", None, 403),
        ("null", None, 403),
        (None, {"Forwarded": "for=10.0.0.1"}, 403),
        (None, {"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
async def test_a_laptop_refuses_strange_sockets_before_accept(
    origin: str | None, headers: dict[str, str] | None, status: int
) -> None:
    async with serving(sample_app(LAPTOP), LAPTOP) as port:
        url = f"ws://localhost:{port}/orders/x1/live"
        assert await refusal_of_socket(url, origin=origin and origin.format(port=port), headers=headers) == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 101),
        ("http://localhost:{port}", 101),
        ("https://shop.example", 101),
        ("https://shop.example:443", 101),
        ("http://shop.example", 403),
        ("https://evil.example", 403),
        ("https://shop.example.evil.example", 403),
        ("null", 403),
    ],
)
async def test_with_a_secret_key_a_socket_opens_for_our_own_pages_and_for_programs(
    origin: str | None, status: int
) -> None:
    settings = Settings(secret_key=SECRET, public_url="https://shop.example")
    async with serving(sample_app(settings), settings) as port:
        url = f"ws://localhost:{port}/orders/x1/live?key={KEY.text}"
        assert await refusal_of_socket(url, origin=origin and origin.format(port=port)) == status


async def test_a_refused_socket_is_told_why() -> None:
    async with serving(sample_app(CLOSED), CLOSED) as port:
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://localhost:{port}/work", origin=Origin("https://evil.example"))
    response = refused.value.response
    assert response.headers["content-type"] == "application/problem+json"
    assert response.body is not None
    assert b"set PUBLIC_URL to its address" in response.body


@pytest.mark.parametrize("hosts", [["0.0.0.0"], ["127.0.0.1", "::"], [""], ["shop.example"], ["192.168.1.7"]])  # noqa: S104
def test_without_a_secret_key_nothing_listens_beyond_this_machine(hosts: list[str]) -> None:
    with pytest.raises(Misconfigured, match="Set SECRET_KEY to 32 characters or more, or listen on"):
        check_binding(LAPTOP, hosts)


def test_this_machine_is_always_good_and_everywhere_is_with_a_secret_key() -> None:
    check_binding(LAPTOP, ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
    check_binding(CLOSED, ["0.0.0.0", "::"])  # noqa: S104


@pytest.mark.parametrize(
    "host", ["localhost:", "localhost:a", "localhost:\uff18", "::1", "[::1", "127.1", "", "[::1]x"]
)
def test_what_looks_like_a_local_name_is_none(host: str) -> None:
    assert not is_local_name(host)


def test_a_name_that_may_lead_anywhere_is_not_loopback() -> None:
    assert not is_loopback("my-laptop")
    assert is_loopback("[::1]")
