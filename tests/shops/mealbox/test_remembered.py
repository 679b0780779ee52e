"""Products are asked for once in a while instead of for each order, if the owner has set how long that is."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from cachetools import TTLCache
from prometheus_client import CollectorRegistry, Counter

from orderup.integrations.upstream import Upstream, UpstreamMetrics
from orderup.sandbox import serve_sandbox
from orderup.shops.mealbox.upstreams import Product, Upstreams
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import sqlite_url
from tests.shops.mealbox.conftest import GOOD, Kiosk, open_kiosk

BOX, USER = f"/products/{GOOD['product_code']}", f"/users/{GOOD['user_id']}"
AN_HOUR = 3600
KEPT_SECONDS = 60.0


async def hits(kiosk: Kiosk) -> str:
    lines = (await kiosk.client.get(f"{kiosk.back}/metrics")).text.splitlines()
    [line] = [line for line in lines if line.startswith("orderup_mealbox_product_cache_hits_total ")]
    return line.split()[1]


async def test_unless_it_is_set_each_order_asks_for_its_product(one_kiosk: Kiosk) -> None:
    answers = [await one_kiosk.order() for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert one_kiosk.sandbox.mealbox.ledger.counts[BOX] == 3
    assert await hits(one_kiosk) == "0.0"


async def test_a_product_that_is_remembered_is_asked_for_once_and_its_user_each_time(tmp_path: Path) -> None:
    async with open_kiosk(sqlite_url(tmp_path), mealbox_product_cache_seconds=AN_HOUR) as kiosk:
        answers = [await kiosk.order() for _ in range(3)]
        counts = kiosk.sandbox.mealbox.ledger.counts
        assert (counts[BOX], counts[USER]) == (1, 3)
        assert await hits(kiosk) == "2.0"
        told = [{**answer.json(), "id": 0, "links": 0, "created_at": 0} for answer in answers]
        assert told == [told[0]] * 3
        assert told[0]["total_amount"] == 9.99


async def test_what_was_not_there_and_what_failed_is_asked_for_again(tmp_path: Path) -> None:
    async with open_kiosk(sqlite_url(tmp_path), mealbox_product_cache_seconds=AN_HOUR) as kiosk:
        assert (await kiosk.order(product_code="new-box", prefer="wait=30")).status_code == 422
        await kiosk.behave("products", "new-box", name="New Box", price=5, alternate={}, status=500)
        answer = await kiosk.order(product_code="new-box", prefer="wait=30")
        assert (answer.status_code, answer.json()["total_amount"]) == (201, 5)
        assert kiosk.sandbox.mealbox.ledger.counts["/products/new-box"] == 3
        assert await hits(kiosk) == "0.0"


async def test_after_a_while_a_product_is_asked_for_again_and_has_its_new_price() -> None:
    now, registry = 0.0, CollectorRegistry()
    metrics, deadline = UpstreamMetrics(registry), timedelta(seconds=PATIENCE_SECONDS)
    remembered: TTLCache[str, Product] = TTLCache(10, KEPT_SECONDS, timer=lambda: now)
    async with serve_sandbox(scale=100) as sandbox:
        url = f"{sandbox.base_url}/mealbox"
        users, products = (Upstream(name, url, metrics=metrics, deadline=deadline, most=1) for name in "ab")
        async with users, products:
            upstreams = Upstreams(users, products, remembered, Counter("hits", "hits", registry=registry))

            async def price() -> Decimal:
                found = await upstreams.find_product("classic-box")
                assert found is not None
                return found.price

            assert await price() == Decimal("9.99")
            sandbox.mealbox.products.switch("classic-box", price=12.5)
            now = KEPT_SECONDS - 1
            assert await price() == Decimal("9.99")
            now = KEPT_SECONDS + 1
            assert await price() == Decimal("12.5")
