"""What becomes of an order with each of the users and products that the services know."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.shops.mealbox.conftest import GOOD, Kiosk

FLAKY, UNKNOWN = "e6f24d7d1c7e", "nobody"
NULLS = {"customer_fullname": None, "product_name": None, "total_amount": None, "reason": None}


def without(shown: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in shown.items() if name not in names}


async def test_a_good_pair_is_complete_at_once(kiosk: Kiosk) -> None:
    answer = await kiosk.order()
    assert answer.status_code == 201, answer.text
    shown = answer.json()
    assert answer.headers["Location"] == shown["links"]["self"] == f"{kiosk.front}/orders/{shown['id']}"
    assert without(shown, "id", "links", "created_at") == {
        **GOOD,
        "status": "completed",
        "customer_fullname": "Ada Lovelace",
        "product_name": "Classic Box",
        "total_amount": 9.99,
        "reason": None,
    }
    assert '"total_amount":9.99' in answer.text
    assert abs((datetime.now(UTC) - datetime.fromisoformat(shown["created_at"])).total_seconds()) < 60
    assert await kiosk.read(shown["id"]) == without(shown, "links")


async def test_a_slow_service_is_waited_for_after_the_answer(kiosk: Kiosk) -> None:
    answer = await kiosk.order(product_code="family-box", prefer="wait=1")  # it takes three seconds here
    assert answer.status_code == 202
    assert answer.headers["Preference-Applied"] == "wait=1"
    shown = answer.json()
    assert without(shown, "id", "links", "created_at") == {
        **GOOD,
        **NULLS,
        "status": "pending",
        "product_code": "family-box",
    }
    await kiosk.follow(shown["id"], until="operation.completed")
    assert (await kiosk.read(shown["id"]))["total_amount"] == 24.5


async def test_a_service_that_fails_every_other_time_is_asked_again(kiosk: Kiosk) -> None:
    answers = [await kiosk.order(user_id=FLAKY, prefer="wait=30") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert {answer.json()["customer_fullname"] for answer in answers} == {"Grace Hopper"}


async def test_an_order_that_cannot_be_completed_fails_after_five_attempts_and_says_why(kiosk: Kiosk) -> None:
    answer = await kiosk.order(product_code="veggie-box", prefer="respond-async")
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    id = answer.json()["id"]
    await kiosk.follow(id, until="operation.errored")
    shown = await kiosk.read(id)
    assert shown["status"] == "failed"
    assert shown["reason"].startswith("The product service answered 500")
    [listed] = (await kiosk.client.get(f"{kiosk.front}/orders")).json()["orders"]
    assert listed == shown
    task = (await kiosk.client.get(f"{kiosk.back}/api/operations/{id}")).json()["tasks"][1]
    assert task["attempt"] == 5
    # staff has it tried again, once the box is there
    await kiosk.behave("products", "veggie-box", status=200)
    retried = await kiosk.client.post(f"{kiosk.back}/api/operations/{id}/retry")
    assert retried.status_code == 200, retried.text
    await kiosk.follow(id, until="operation.completed")
    assert (await kiosk.read(id))["status"] == "completed"


@pytest.mark.parametrize(
    ("wish", "field"),
    [({"user_id": UNKNOWN}, "body.user_id"), ({"product_code": UNKNOWN}, "body.product_code")],
    ids=["user", "product"],
)
async def test_of_nobody_and_nothing_no_order_is_made(kiosk: Kiosk, wish: dict[str, str], field: str) -> None:
    answer = await kiosk.order(prefer="wait=30", **wish)
    assert answer.status_code == 422
    assert [each["field"] for each in answer.json()["errors"]] == [field]
    assert (await kiosk.client.get(f"{kiosk.front}/orders")).json() == {"orders": [], "cursor": None}


async def test_an_order_that_was_answered_is_one_and_fails_if_there_is_no_such_thing(kiosk: Kiosk) -> None:
    answer = await kiosk.order(product_code=UNKNOWN, prefer="respond-async")
    assert answer.status_code == 202
    id = answer.json()["id"]
    await kiosk.follow(id, until="operation.errored")
    shown = await kiosk.read(id)
    assert (shown["status"], shown["reason"]) == ("failed", "There is no such product")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"user_id": 7, "product_code": "classic-box"}, "body.user_id"),
        ({"product_code": "classic-box"}, "body.user_id"),
        ({**GOOD, "product_code": ""}, "body.product_code"),
        ({**GOOD, "product_code": " x"}, "body.product_code"),
        ({**GOOD, "product_code": "a\nb"}, "body.product_code"),
        ({**GOOD, "colour": "red"}, "body.colour"),
    ],
)
async def test_a_malformed_order_names_the_field(one_kiosk: Kiosk, body: dict[str, Any], field: str) -> None:
    answer = await one_kiosk.client.post(f"{one_kiosk.front}/orders", json=body)
    assert answer.status_code == 422
    assert [each["field"] for each in answer.json()["errors"]] == [field]


async def test_the_same_request_again_is_the_same_order(kiosk: Kiosk) -> None:
    first, second = [await kiosk.order(key="one") for _ in range(2)]
    assert [first.status_code, second.status_code] == [201, 201]
    assert first.json() == second.json()
    assert second.headers["Idempotency-Replayed"] == "true"
    assert (await kiosk.order(key="one", product_code="family-box")).status_code == 422
    assert len((await kiosk.client.get(f"{kiosk.front}/orders")).json()["orders"]) == 1


async def test_whoever_asks_again_waits_for_the_order_that_goes_on(kiosk: Kiosk) -> None:
    first = await kiosk.order(key="slow", product_code="family-box", prefer="respond-async")
    assert first.status_code == 202
    second = await kiosk.order(key="slow", product_code="family-box", prefer="wait=30")
    assert (second.status_code, second.json()["id"]) == (201, first.json()["id"])


async def test_orders_are_listed_by_user_and_status_page_by_page(kiosk: Kiosk) -> None:
    made = [(await kiosk.order()).json()["id"] for _ in range(3)]
    pending = (await kiosk.order(user_id=FLAKY, product_code="family-box", prefer="respond-async")).json()["id"]

    async def listed(**query: str) -> tuple[list[str], str | None]:
        page = (await kiosk.client.get(f"{kiosk.front}/orders", params=query)).json()
        return [each["id"] for each in page["orders"]], page["cursor"]

    assert await listed() == ([pending, *reversed(made)], None)
    assert await listed(user_id=GOOD["user_id"]) == (made[::-1], None)
    assert await listed(status="pending") == ([pending], None)
    first, cursor = await listed(status="completed", limit="2")
    assert first == made[:0:-1]
    assert cursor is not None
    assert await listed(status="completed", limit="2", cursor=cursor) == (made[:1], None)
