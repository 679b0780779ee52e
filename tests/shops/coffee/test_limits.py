"""What one client may ask for, what becomes of who asks for more, and that the others do not notice."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from orderup.errors import TooMany
from orderup.web.fair_use import TOLD, FairUse, Ignored
from tests.shops.coffee.barista import CoffeeBar, open_bar, settings_of

# Addresses of this machine, as good as those of two customers.
ABUSER, REGULAR = "127.0.0.2", "127.0.0.3"


async def outcomes(one_bar: CoffeeBar, count: int, *, address: str) -> "Counter[int | None]":
    """Of those orders that were answered at once."""
    customers = [one_bar.ask(address=address) for _ in range(count)]
    await one_bar.until(lambda _: sum(not each.task.done() for each in customers) <= 2, what="the rest is refused")
    answers = [await each.answer() for each in customers if each.task.done()]
    return Counter(None if answer is None else answer.status_code for answer in answers)


async def test_more_open_orders_than_one_may_have_are_refused_then_ignored(file_url: str) -> None:
    async with open_bar(settings_of(file_url, client_open_orders=2)) as bar:
        found = await outcomes(bar, 12, address=ABUSER)
        assert found == {429: TOLD, None: 10 - TOLD}
        await bar.until_open(2)
        # the regulars do not notice
        regular = await bar.order(address=REGULAR)
        for _ in range(3):
            await bar.serve()
        await regular.coffee()


async def test_a_refusal_says_when_to_come_again(file_url: str) -> None:
    async with open_bar(settings_of(file_url, client_open_orders=1)) as bar:
        await bar.order(address=ABUSER)
        answer = await bar.ask(address=ABUSER).answer()
        assert answer is not None
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "2")
        assert answer.json()["detail"].startswith("You have 1 open orders")


async def test_who_was_served_may_order_again(file_url: str) -> None:
    async with open_bar(settings_of(file_url, client_open_orders=1)) as bar:
        for _ in range(3):
            customer = await bar.order()
            await bar.serve()
            await customer.coffee()


async def test_who_hung_up_may_order_again(file_url: str) -> None:
    async with open_bar(settings_of(file_url, client_open_orders=1)) as bar:
        for _ in range(3):
            customer = await bar.order()
            await customer.hang_up()
            await bar.until_open(0)


async def test_more_new_orders_a_minute_than_one_may_place_are_refused(file_url: str) -> None:
    async with open_bar(settings_of(file_url, client_orders_a_minute=3)) as bar:
        for _ in range(3):
            customer = await bar.order(address=ABUSER)
            await bar.serve()
            await customer.coffee()
        answer = await bar.ask(address=ABUSER).answer()
        assert answer is not None
        assert answer.status_code == 429
        await bar.order(address=REGULAR)


async def test_one_with_many_waiting_takes_turns_with_all_others(file_url: str) -> None:
    async with open_bar(settings_of(file_url, client_turns_after=3)) as bar:
        for _ in range(6):
            await bar.order(address=ABUSER)
        regulars = [await bar.order(address=REGULAR) for _ in range(2)]
        for _ in range(4):
            await bar.serve()
        for each in regulars:
            await each.coffee()


async def test_with_turns_switched_off_the_oldest_is_always_first(file_url: str) -> None:
    async with open_bar(settings_of(file_url, client_turns_after=0)) as bar:
        crowd = [await bar.order(address=ABUSER) for _ in range(30)]
        regular = await bar.order(address=REGULAR)
        for _ in crowd:
            await bar.serve()
        assert not regular.task.done()
        await bar.serve()
        await regular.coffee()


class Watch:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


async def refusal(fair_use: FairUse, client: str = "a") -> float | None:
    """For how long he is refused; None: he is ignored."""
    try:
        fair_use.admit(client)
    except TooMany as error:
        return error.retry_after.total_seconds()
    except Ignored:
        return None
    raise AssertionError("He was admitted.")


async def test_the_time_out_of_who_keeps_hitting_the_limit_grows() -> None:
    watch = Watch()
    fair_use = FairUse(most_open=1, most_a_minute=1000, monotonic=watch)
    fair_use.admit("a")
    lengths = []
    for _ in range(10):
        lengths.append(await refusal(fair_use))
        watch.seconds += lengths[-1] or 0
    assert lengths == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


async def test_within_a_time_out_a_few_are_told_and_the_rest_is_ignored() -> None:
    fair_use = FairUse(most_open=1, most_a_minute=1000, monotonic=Watch())
    fair_use.admit("a")
    assert [await refusal(fair_use) for _ in range(8)] == [2.0] * TOLD + [None] * (8 - TOLD)


async def test_who_kept_to_the_limits_for_long_begins_anew() -> None:
    watch = Watch()
    fair_use = FairUse(most_open=1, most_a_minute=1000, monotonic=watch)
    fair_use.admit("a")
    assert [await refusal(fair_use)] == [2.0]
    watch.seconds += 1_000
    assert [await refusal(fair_use)] == [2.0]


async def test_so_many_orders_a_minute_may_come_at_once_and_each_client_has_his_own() -> None:
    fair_use = FairUse(most_open=1000, most_a_minute=6, monotonic=Watch())
    for _ in range(6):
        fair_use.admit("a")
    assert await refusal(fair_use) == 2.0
    fair_use.admit("b")


async def test_one_client_s_time_out_is_not_another_s() -> None:
    fair_use = FairUse(most_open=1, most_a_minute=1000, monotonic=Watch())
    fair_use.admit("a")
    await refusal(fair_use)
    fair_use.admit("b")


async def exchange(address: str, request: bytes) -> bytes:
    """All that the server says to these bytes until it closes, or has answered."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), family=socket.AF_INET)
    writer.write(request)
    async with asyncio.timeout(20):
        said = await reader.read(2000)
    writer.close()
    return said


@pytest.mark.parametrize(
    "target", ["GET /start/", "GET /start/?wait=x", "POST /finish/", "POST /finish/?order_id=nope"]
)
async def test_the_short_way_answers_as_the_usual_one_does(one_bar: CoffeeBar, target: str) -> None:
    """With a cookie, which nobody reads, it takes the usual one."""
    head = f"{target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
    heads = []
    for cookie in ("", "Cookie: a=b\r\n"):
        said = await exchange(one_bar.back, f"{head}{cookie}\r\n".encode())
        lines = said.partition(b"\r\n\r\n")[0].split(b"\r\n")
        heads.append({line for line in lines if not line.startswith(b"date:")})
    assert heads[0] == heads[1]
    assert len(heads[0]) > 7


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD"])
async def test_other_methods_are_405(one_bar: CoffeeBar, method: str) -> None:
    answer = await one_bar.client.request(method, f"{one_bar.front}/order/")
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]


async def test_other_paths_are_404(one_bar: CoffeeBar) -> None:
    for path in ("/order", "/order/x", "/orders/", "/ORDER/"):
        assert (await one_bar.client.post(f"{one_bar.front}{path}")).status_code == 404


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "application/json"),
        (b"{}", "application/json"),
        (b'{"broken', "application/json"),
        (b"\0\xff\xfe", "application/octet-stream"),
        (b"a=b", "application/x-www-form-urlencoded"),
        (b"[" * 100_000, "application/json"),
    ],
)
async def test_a_body_of_any_kind_is_a_coffee(one_bar: CoffeeBar, body: bytes, kind: str) -> None:
    asking = asyncio.create_task(
        one_bar.client.post(f"{one_bar.front}/order/", content=body, headers={"Content-Type": kind})
    )
    await one_bar.until_open(1)
    await one_bar.serve()
    assert (await asking).status_code == 200


async def test_what_is_too_large_is_refused(one_bar: CoffeeBar) -> None:
    large = await one_bar.client.post(f"{one_bar.front}/order/", content=b"x" * (2 << 20))
    assert large.status_code == 413

    async def drip() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * (64 << 10)

    chunked = await one_bar.client.post(f"{one_bar.front}/order/", content=drip())
    assert chunked.status_code == 413
    head = await one_bar.client.post(f"{one_bar.front}/order/", headers={"X-Long": "x" * (70 << 10)})
    assert head.status_code == 431
    assert await one_bar.open_orders() == []


async def test_a_request_that_is_none_is_refused_and_orders_nothing(one_bar: CoffeeBar) -> None:
    said = await exchange(one_bar.front, b"POST /order/ HTTP/1.1\r\nhost: 127.0.0.1\r\nbad header\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 400")
    assert await one_bar.open_orders() == []
