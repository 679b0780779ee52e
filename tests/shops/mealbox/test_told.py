"""What a customer was told of an order holds, whatever the services say afterwards; what was refused is as if it had
never been asked for."""

import asyncio
from pathlib import Path

import pytest

from orderup.sandbox import serve_sandbox
from orderup.web import routes
from tests.db.cutter import Cut, Cutter
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import sqlite_url
from tests.shops.mealbox.conftest import GOOD, Kiosk, open_kiosk


async def errs_again(kiosk: Kiosk, id: str, *, after: int) -> bool:
    """Once it has ended anew: whether it failed. `after`: the event up to which it is known."""
    address = f"{kiosk.front}/orders/{id}/events?after={after}"
    async with kiosk.client.stream("GET", address) as answer:
        async for line in answer.aiter_lines():
            if '"operation.errored"' in line or '"operation.completed"' in line:
                return "errored" in line
    raise AssertionError("it ended before the order did")


async def test_an_order_that_was_told_to_have_failed_stays_one_when_it_is_tried_again(tmp_path: Path) -> None:
    async with open_kiosk(sqlite_url(tmp_path), mealbox_attempts=1) as kiosk:
        await kiosk.behave("products", "new-box", name="New Box", price=5, status=500)
        answer = await kiosk.order(product_code="new-box", prefer="wait=30")
        assert (answer.status_code, answer.json()["status"]) == (202, "failed")
        id = answer.json()["id"]
        last = (await kiosk.follow(id, until="operation.errored"))[-1]
        kiosk.sandbox.mealbox.products.restore("new-box")  # nobody knows it any more
        retried = await kiosk.client.post(f"{kiosk.back}/api/operations/{id}/retry")
        assert retried.status_code == 200, retried.text
        assert await errs_again(kiosk, id, after=last["seq"])
        shown = await kiosk.read(id)
        assert (shown["status"], shown["product_code"]) == ("failed", "new-box")
        assert shown["reason"] == "There is no such product"


@pytest.mark.parametrize("code", [".", "..", "../products/classic-box", "%2e%2e", "?", "#"])
async def test_what_is_ordered_leads_to_nothing_else_of_the_service(tmp_path: Path, code: str) -> None:
    async with serve_sandbox() as sandbox:
        above = f"{sandbox.base_url}/mealbox/products/classic-box"  # what `..` would lead to, and is there
        async with open_kiosk(sqlite_url(tmp_path), product_service_url=above) as kiosk:
            answer = await kiosk.order(product_code=code, prefer="wait=30")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "body.product_code"


async def test_an_order_of_nothing_leaves_its_key_free(kiosk: Kiosk) -> None:
    refused = [await kiosk.order(key="one", prefer="wait=30", user_id="nobody") for _ in range(2)]
    assert [answer.status_code for answer in refused] == [422, 422]
    assert [answer.json()["errors"][0]["field"] for answer in refused] == ["body.user_id"] * 2
    answer = await kiosk.order(key="one", prefer="wait=30")
    assert answer.status_code == 201, answer.text
    assert answer.json()["user_id"] == GOOD["user_id"]
    assert "Idempotency-Replayed" not in answer.headers


@pytest.mark.needs("postgres_url")
async def test_while_nobody_knows_of_the_commit_its_caller_is_told_so_in_time(
    prepared_postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Cutter(prepared_postgres).running() as cutter, open_kiosk(cutter.url) as kiosk:
        # from here on the statement is prepared: what carries the order also commits it
        assert (await kiosk.order(key="zero")).status_code == 201
        monkeypatch.setattr(routes, "ANSWER_SECONDS", 3)
        cutter.is_away = True
        cutter.lose(Cut.ANSWER, of=GOOD["product_code"].encode())
        unknown = await kiosk.order(key="one", prefer="wait=30")
        assert (unknown.status_code, cutter.cuts) == (503, 1)
        assert "may or may not have been" in unknown.json()["detail"]
        assert unknown.headers["Retry-After"]
        cutter.is_away = False
        async with asyncio.timeout(PATIENCE_SECONDS):
            known = await kiosk.order(key="one", prefer="wait=20")
            while known.status_code == 503:
                await asyncio.sleep(0.1)
                known = await kiosk.order(key="one", prefer="wait=20")
        assert known.status_code == 201, known.text
        assert known.headers["Idempotency-Replayed"] == "true"
        assert len((await kiosk.client.get(f"{kiosk.front}/orders")).json()["orders"]) == 2
