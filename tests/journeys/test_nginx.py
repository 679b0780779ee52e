"""The coffee bar behind nginx, set up as deploy/nginx/ says: what customers and baristas meet on one port."""

import asyncio
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.journeys.proxy import Proxy
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import ORDERUP, ServerProcess, plain_environment, sqlite_url

SECRETS = {"SECRET_KEY": "a-key-of-thirty-two-characters-or-more", "WORKER_TOKEN": "grind-grind-grind"}
# Long enough for a machine that is busy.
PATIENT = 60.0
GROUP = 200


@dataclass(frozen=True)
class Bar:
    server: ServerProcess
    proxy: Proxy

    def client(self, address: str = "127.0.0.1") -> httpx2.AsyncClient:
        """Whoever comes from this address. All of 127.0.0.0/8 is this machine."""
        limits = httpx2.Limits(max_connections=None)
        transport = httpx2.AsyncHTTPTransport(local_address=address, limits=limits)
        return httpx2.AsyncClient(transport=transport, base_url=self.proxy.url, timeout=PATIENT)

    def staff(self) -> httpx2.AsyncClient:
        """At the back, past nginx."""
        minted = subprocess.run(
            [ORDERUP, "token", "staff", "ann"],
            env={**plain_environment(), **SECRETS},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
        headers = {"Authorization": f"Bearer {minted.stdout.split()[0]}"}
        return httpx2.AsyncClient(base_url=self.server.back, headers=headers, timeout=PATIENT)


@contextmanager
def open_bar(nginx: Path, folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Bar]:
    server = ServerProcess(
        "coffee",
        folder=folder,
        database_url=sqlite_url(folder),
        environment={**SECRETS, "TRUSTED_PROXIES": "127.0.0.1", **(environment or {})},
    )
    with server.start(), Proxy(nginx, server, folder=folder, token=SECRETS["WORKER_TOKEN"]).start() as proxy:
        yield Bar(server, proxy)


@pytest.fixture(scope="module")
def bar(nginx: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bar]:
    with open_bar(nginx, tmp_path_factory.mktemp("bar")) as bar:
        yield bar


async def start(barista: httpx2.AsyncClient) -> str:
    """The order that comes next, once there is one."""
    async with asyncio.timeout(PATIENT):
        while True:
            answer = await barista.get("/start/", params={"barista": "bea", "wait": 5})
            assert answer.status_code in {200, 204}, answer.text
            if answer.status_code == 200:
                return str(answer.json()["order_id"])


async def finish(barista: httpx2.AsyncClient, order: str) -> None:
    answer = await barista.post("/finish/", params={"order_id": order})
    assert (answer.status_code, answer.json()["status"]) == (200, "ready")


async def placed(staff: httpx2.AsyncClient, count: int) -> list[dict[str, Any]]:
    """The orders that are open, once there are so many."""
    async with asyncio.timeout(PATIENT):
        while True:
            answer = await staff.get("/api/operations", params={"shop": "coffee", "status": "running", "limit": 100})
            found: list[dict[str, Any]] = answer.json()["operations"]
            if len(found) == count:
                return found
            await asyncio.sleep(0.05)


async def test_a_coffee_is_ordered_started_and_finished_without_a_token(bar: Bar) -> None:
    async with bar.client() as customer, bar.client() as barista:
        ordering = asyncio.create_task(customer.post("/order/"), name="customer")
        order = await start(barista)
        await finish(barista, order)
        answer = await ordering
    assert (answer.status_code, answer.json()["order_id"], answer.json()["status"]) == (200, order, "ready")
    direct = httpx2.get(f"{bar.server.back}/start/", timeout=PATIENCE_SECONDS)
    assert direct.status_code == 401


async def test_a_token_that_a_barista_sends_is_replaced_by_the_one_that_nginx_has(bar: Bar) -> None:
    async with bar.client() as barista:
        assert (await barista.get("/start/", headers={"Authorization": "Bearer guess"})).status_code == 204


async def test_a_group_behind_one_address_is_served(bar: Bar) -> None:
    async with bar.client("127.0.0.4") as office, bar.client() as barista:
        orders = [asyncio.create_task(office.post("/order/"), name="customer") for _ in range(GROUP)]
        for _ in range(GROUP):
            await finish(barista, await start(barista))
        answers = await asyncio.gather(*orders)
    assert [answer.status_code for answer in answers] == [200] * GROUP


async def test_a_customer_who_hangs_up_leaves_the_line(bar: Bar) -> None:
    async with bar.client("127.0.0.5") as customer, bar.staff() as staff, asyncio.timeout(PATIENT):
        ordering = asyncio.create_task(customer.post("/order/"), name="customer")
        [order] = await placed(staff, 1)
        ordering.cancel()
        await placed(staff, 0)
        assert (await staff.get(f"/api/operations/{order['id']}")).json()["status"] == "cancelled"


async def test_whoever_asks_far_too_often_is_refused_by_nginx_and_told_when_to_come_again(bar: Bar) -> None:
    """What the bar refuses by itself, for another reason, counts as well."""
    async with bar.client("127.0.0.6") as hasty, asyncio.timeout(PATIENT):
        answer = await hasty.get("/order/")
        assert answer.status_code == 405
        while answer.status_code == 405:
            answers = await asyncio.gather(*[hasty.get("/order/") for _ in range(50)])
            answer = max(answers, key=lambda each: each.status_code)
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "5")
        assert answer.headers["Server"] == "nginx"
        assert "application/problem+json" not in answer.headers["Content-Type"]
    async with bar.client("127.0.0.7") as other:
        assert (await other.get("/order/")).status_code == 405


def test_one_client_is_an_address_and_of_ipv6_its_64(bar: Bar) -> None:
    groups = [
        ["192.0.2.1"],
        ["192.0.2.2"],
        ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2:ffff::1", "2001:db8:1:2::"],
        ["2001:db8:1:3::1", "2001:db8:1:3:4:5:6:7"],
        ["2001:db8:1::1", "2001:db8:1::ffff:1"],
        ["2001:db8::1", "2001:db8::2:1"],
        ["fe80::1", "fe80::2"],
        ["::1"],
        ["::ffff:192.0.2.1"],
        ["::ffff:192.0.2.2"],
    ]
    clients = [{bar.proxy.client_of(address) for address in group} for group in groups]
    assert [len(each) for each in clients] == [1] * len(groups)
    assert len(set.union(*clients) - {b""}) == len(groups)


async def test_there_is_nothing_else_behind_it(bar: Bar) -> None:
    async with bar.client() as client:
        for path in ("/", "/order", "/start", "/api/operations", "/metrics", "/readyz", "/order/../api/operations"):
            assert (await client.get(path)).status_code == 404
        assert (await client.post("/order/", content=b"x" * 20_000)).status_code == 413


@pytest.mark.parametrize(
    "request_line",
    [
        b"POST /order/ HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"POST /order/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"POST /order/%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /order/ HTTP/1.1\r\nHost: localhost\r\nX-Large: " + b"x" * 70_000 + b"\r\n\r\n",
    ],
    ids=["version", "coding", "path", "head"],
)
async def test_no_request_however_broken_is_answered_with_a_5xx(bar: Bar, request_line: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bar.proxy.port)
    try:
        writer.write(request_line)
        answer = await reader.read(1024)
        assert answer == b"" or answer.split()[1].startswith(b"4"), answer
    finally:
        writer.close()


async def test_each_address_has_limits_of_its_own_and_nobody_borrows_anothers(nginx: Path, tmp_path: Path) -> None:
    """And when the bar is killed, whoever waits and whoever comes is hung up on."""
    with open_bar(nginx, tmp_path, {"CLIENT_OPEN_ORDERS": "2"}) as bar:
        async with bar.client("127.0.0.2") as one, bar.client("127.0.0.3") as other, bar.staff() as staff:
            waiting = [asyncio.create_task(one.post("/order/"), name="customer") for _ in range(2)]
            await placed(staff, 2)
            for said in ({}, {"X-Forwarded-For": "203.0.113.9"}, {"Forwarded": "for=203.0.113.9"}):
                refused = await one.post("/order/", headers=said)
                assert refused.status_code == 429
                assert int(refused.headers["Retry-After"]) > 0
            waiting.append(asyncio.create_task(other.post("/order/", headers={"X-Forwarded-For": "127.0.0.2"})))
            await placed(staff, 3)

            bar.server.kill()
            ends = await asyncio.gather(*waiting, one.post("/order/"), other.post("/order/"), return_exceptions=True)
            assert [type(end) for end in ends] == [httpx2.RemoteProtocolError] * 5
            bar.server.start()
            async with bar.client() as barista:
                waiting = [asyncio.create_task(other.post("/order/"), name="customer")]
                for _ in range(4):  # those of whom nobody waits any more are in the line as well
                    await finish(barista, await start(barista))
                assert (await waiting[0]).status_code == 200
