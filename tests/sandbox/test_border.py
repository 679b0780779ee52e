"""Nobody reaches the sandbox from outside this machine, not even through a browser on it."""

import socket

import httpx2
import pytest

from orderup.sandbox import Sandbox, serve_sandbox
from orderup.sandbox.wire import LARGEST_HEAD
from tests.sandbox.conftest import JSON
from tests.services.waiting import PATIENCE_SECONDS
from tests.web.sample import exchange


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8002"},
        {"Host": "localhost.evil.example"},
        {"Host": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_what_a_page_elsewhere_sends_is_refused(
    sandbox: Sandbox, mealbox: httpx2.AsyncClient, headers: dict[str, str]
) -> None:
    for method, path in [("GET", "/users/7c11e1ce2741"), ("DELETE", "/users/7c11e1ce2741/behaviour")]:
        answer = await mealbox.request(method, path, headers=headers)
        assert answer.status_code == 403
        assert answer.json()["error"]
    assert not sandbox.mealbox.ledger.arrivals


@pytest.mark.parametrize(
    "headers", [{"Host": "localhost:8002"}, {"Host": "127.0.0.1"}, {"Sec-Fetch-Site": "same-origin"}]
)
async def test_a_browser_at_its_own_page_is_let_in(mealbox: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    assert (await mealbox.get("/users/7c11e1ce2741", headers=headers)).status_code == 200


async def test_it_listens_at_one_address_of_this_machine_only(sandbox: Sandbox) -> None:
    """Another one is free for somebody else; at every address, none would be."""
    with socket.create_server(("127.0.0.2", int(sandbox.base_url.rpartition(":")[2]))):
        assert sandbox.base_url.startswith("http://127.0.0.1:")


async def test_a_head_without_an_end_is_cut_off(sandbox: Sandbox, mealbox: httpx2.AsyncClient) -> None:
    port = int(sandbox.base_url.rpartition(":")[2])
    begin, goes_on = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ", b"x" * LARGEST_HEAD
    assert await exchange(port, begin, *[goes_on] * 16) == b""
    assert (await mealbox.get("/users/7c11e1ce2741")).status_code == 200


async def test_by_a_name_that_was_given_it_is_reached_at_every_address_and_by_no_other_name() -> None:
    everywhere = "0.0.0.0"  # noqa: S104  what it is about
    async with (
        serve_sandbox(host=everywhere, names=["sandbox"]) as sandbox,
        httpx2.AsyncClient(headers=JSON, timeout=PATIENCE_SECONDS) as client,
    ):
        assert sandbox.base_url.startswith("http://sandbox:")
        port = int(sandbox.base_url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.2", port))
        url = f"http://127.0.0.1:{port}/mealbox/users/7c11e1ce2741"
        told = [(await client.get(url, headers={"Host": name})).status_code for name in ("sandbox", "Sandbox:8002")]
        assert told == [200, 200]
        assert (await client.get(url, headers={"Host": "evil.example"})).status_code == 403
