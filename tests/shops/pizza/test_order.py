import json
from datetime import datetime
from typing import Any

import pytest

from orderup.shops.pizza.front import MOST_WISHES_BYTES
from tests.services.waiting import wait_until
from tests.shops.pizza.pizzeria import STEPS, Pizzeria


def test_the_menu_lists_the_three_tiers_with_their_toppings(pizzeria: Pizzeria) -> None:
    tiers = pizzeria.client.get(f"{pizzeria.server.front}/menu").json()["tiers"]
    assert [tier["tier"] for tier in tiers] == ["basic", "standard", "premium"]
    assert all("tomato" in tier["toppings"] for tier in tiers)


def test_an_order_is_taken_at_once_and_answered_with_its_links(pizzeria: Pizzeria) -> None:
    answer = pizzeria.post(pizzeria.body())
    placed = answer.json()
    assert answer.status_code == 202
    assert placed["status"] == "waiting_for_approval"
    assert placed["rfa_id"] == placed["id"]
    path = f"{pizzeria.server.front}/pizzas/{placed['id']}"
    assert answer.headers["Location"] == path
    live = path.replace("http", "ws")
    assert placed["links"] == {"self": path, "live": f"{live}/live", "events": f"{path}/events", "cancel": path}


def test_the_region_is_optional(pizzeria: Pizzeria) -> None:
    body = {name: value for name, value in pizzeria.body().items() if name != "region"}
    placed = pizzeria.post(body).json()
    assert pizzeria.read(placed)["region"] == "eu-west-3"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "   "),
        ("name", "x" * 101),
        ("name", None),
        ("name", 7),
        ("tier", "huge"),
        ("tier", "BASIC"),
        ("region", "EU West"),
        ("region", "a@b"),
        ("region", ""),
        ("delivery_address", "x" * 501),
        ("delivery_address", ["1 Harbour Lane"]),
        ("customer", "x" * 201),
        ("extra_params", []),
        ("extra_params", "none"),
        ("extra_params", {"wish": "x" * MOST_WISHES_BYTES}),
        ("tip", 5),
    ],
)
def test_what_is_wrong_with_an_order_is_told_by_its_field(pizzeria: Pizzeria, field: str, value: object) -> None:
    answer = pizzeria.post(pizzeria.body(**{field: value}))
    assert answer.status_code == 422
    assert [problem["field"] for problem in answer.json()["errors"]] == [f"body.{field}"]


@pytest.mark.parametrize("field", ["name", "tier", "delivery_address", "customer"])
def test_a_field_that_is_missing_is_named(pizzeria: Pizzeria, field: str) -> None:
    body = {name: value for name, value in pizzeria.body().items() if name != field}
    answer = pizzeria.post(body)
    assert answer.status_code == 422
    assert [problem["field"] for problem in answer.json()["errors"]] == [f"body.{field}"]


def test_wishes_of_just_ten_thousand_bytes_are_taken(pizzeria: Pizzeria) -> None:
    wishes = {"wish": "x" * (MOST_WISHES_BYTES - len('{"wish":""}'))}
    assert len(json.dumps(wishes, separators=(",", ":"))) == MOST_WISHES_BYTES
    assert pizzeria.read(pizzeria.order(extra_params=wishes))["extra_params"] == wishes


def test_the_same_order_sent_again_is_the_same_pizza(pizzeria: Pizzeria) -> None:
    key = pizzeria.region
    first = pizzeria.post(pizzeria.body(), key=key)
    pizzeria.approve(first.json())
    again = pizzeria.post(pizzeria.body(), key=key)
    assert again.status_code == 202
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert again.json() == {**first.json(), "status": "approved"}
    assert "Idempotency-Replayed" not in first.headers


def test_another_order_under_the_same_key_is_refused(pizzeria: Pizzeria) -> None:
    key = pizzeria.region
    assert pizzeria.post(pizzeria.body(), key=key).status_code == 202
    assert pizzeria.post(pizzeria.body(tier="premium"), key=key).status_code == 422


def test_a_refused_order_uses_up_no_key(pizzeria: Pizzeria) -> None:
    key = pizzeria.region
    assert pizzeria.post(pizzeria.body(tier="huge"), key=key).status_code == 422
    assert pizzeria.post(pizzeria.body(), key=key).status_code == 202


def test_an_order_tells_how_it_stands_from_the_request_to_the_door(pizzeria: Pizzeria) -> None:
    placed = pizzeria.order()
    seen = [pizzeria.status(placed)]
    pizzeria.approve(placed)
    seen.append(pizzeria.status(placed))
    for step in STEPS:
        task = pizzeria.claim_one(step)
        seen.append(pizzeria.status(placed))
        pizzeria.answer(task, "complete", result=None)
    seen.append(pizzeria.status(placed))
    assert seen == [
        "waiting_for_approval",
        "approved",
        "making_dough",
        "adding_toppings",
        "baking",
        "delivering",
        "completed",
    ]


def test_an_order_tells_each_tasks_times(pizzeria: Pizzeria) -> None:
    placed = pizzeria.order()
    pizzeria.approve(placed)
    pizzeria.do("make_dough")
    pizzeria.claim_one("add_toppings")
    dough, toppings, baking, delivery = pizzeria.read(placed)["tasks"]
    assert (dough["name"], dough["status"]) == ("make_dough", "completed")
    assert dough["started_at"] <= dough["finished_at"] <= toppings["started_at"]
    assert toppings["finished_at"] is None
    assert [task["started_at"] for task in (baking, delivery)] == [None, None]


def test_each_worker_is_given_what_he_needs(pizzeria: Pizzeria) -> None:
    pizzeria.approve(pizzeria.order(tier="premium", extra_params={"no": "olives"}))
    params = {}
    for step in STEPS:
        task = pizzeria.claim_one(step)
        params[step] = task["params"]
        pizzeria.answer(task, "complete", result=None)
    assert params["make_dough"].keys() == {"flour_g", "water_ml", "yeast_g", "salt_g", "oil_ml"}
    assert "truffle oil" in params["add_toppings"]["toppings"]
    assert params["add_toppings"]["extra_params"] == {"no": "olives"}
    assert params["bake_pizza"] == {"temperature_celsius": 280, "minutes": 8}
    assert params["deliver_pizza"]["address"] == "1 Harbour Lane"


def test_a_pizza_waits_for_the_workers_of_its_own_region(pizzeria: Pizzeria) -> None:
    pizzeria.approve(pizzeria.order(region=f"{pizzeria.region}-elsewhere"))
    assert pizzeria.claim(wait=0) == []


def test_a_declined_order_gives_the_note(pizzeria: Pizzeria) -> None:
    placed = pizzeria.order()
    pizzeria.decide(placed, "decline", notes="The oven is cold today.")
    order = pizzeria.read(placed)
    assert (order["status"], order["note"]) == ("declined", "The oven is cold today.")
    assert order["expected_delivery"] is None


def test_a_note_of_an_approved_order_stays_with_staff(pizzeria: Pizzeria) -> None:
    placed = pizzeria.order()
    pizzeria.approve(placed, notes="He always complains")
    assert pizzeria.read(placed)["note"] is None


def test_a_request_that_nobody_answers_expires(hasty_pizzeria: Pizzeria) -> None:
    placed = hasty_pizzeria.order()
    wait_until(lambda: hasty_pizzeria.status(placed) == "expired", what="it expires")


def test_a_step_that_fails_for_good_makes_the_order_failed_until_staff_retries_it(pizzeria: Pizzeria) -> None:
    placed = pizzeria.order()
    pizzeria.approve(placed)
    pizzeria.answer(pizzeria.claim_one(), "fail", error="No flour", final=True)
    assert pizzeria.status(placed) == "failed"
    url = f"{pizzeria.server.back}/api/operations/{placed['id']}/retry"
    assert pizzeria.client.post(url, json={}).status_code == 200
    pizzeria.do(*STEPS)
    assert pizzeria.status(placed) == "completed"


def test_staff_reads_the_order_at_the_back(pizzeria: Pizzeria) -> None:
    placed = pizzeria.order(customer="Grace")
    told = pizzeria.client.get(f"{pizzeria.server.back}/pizzas/{placed['id']}").json()
    assert (told["customer"], told["status"]) == ("Grace", "waiting_for_approval")


@pytest.mark.parametrize("id", ["0000000000000", "nonsense", "zzzzzzzzzzzzz"])
def test_an_order_that_there_is_not_is_not_found(pizzeria: Pizzeria, id: str) -> None:
    assert pizzeria.client.get(f"{pizzeria.server.front}/pizzas/{id}").status_code == 404
    assert pizzeria.client.delete(f"{pizzeria.server.front}/pizzas/{id}").status_code == 404


def delivered(pizzeria: Pizzeria) -> dict[str, Any]:
    placed = pizzeria.order()
    pizzeria.approve(placed)
    pizzeria.do(*STEPS)
    return placed


def test_the_expected_time_comes_from_what_was_delivered_lately(pizzeria: Pizzeria) -> None:
    delivered(pizzeria)
    placed = pizzeria.order()
    pizzeria.approve(placed)
    expected = pizzeria.read(placed)["expected_delivery"]
    assert minutes_between(pizzeria.read(placed)["placed_at"], expected["median_at"]) < 5  # 21 by the plan
    assert expected["median_at"] <= expected["ninety_percent_at"]


def minutes_between(since: str, until: str) -> float:
    return (datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds() / 60


def test_a_delivered_pizza_is_expected_no_more(pizzeria: Pizzeria) -> None:
    order = pizzeria.read(delivered(pizzeria))
    assert order["expected_delivery"] is None
    assert order["finished_at"] is not None
