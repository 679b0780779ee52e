"""Cakes, orders and what they need, by the API."""

import asyncio
from typing import Any

import pytest

from tests.shops.bakery.conftest import CAKE, ORDER, bake, order, read
from tests.shops.served import Served

NEEDED = [
    {"name": "chocolate", "quantity": 268.0, "unit": "g"},
    {"name": "butter", "quantity": 132.0, "unit": "g"},
    {"name": "flour", "quantity": 68.0, "unit": "g"},
    {"name": "sugar", "quantity": 132.0, "unit": "g"},
    {"name": "eggs", "quantity": 8, "unit": "pcs"},
    {"name": "peanuts", "quantity": 10, "unit": "pcs"},
]


async def test_a_recipe_comes_back_as_it_was_written(bakery: Served) -> None:
    answer = await bakery.client.get(f"{bakery.front}/cakes/chocolate_cake")
    assert answer.json() == {"id": "chocolate_cake", **CAKE}
    assert '"eggs":1}' in answer.text
    written = await bake(bakery, name="Salt Cake", ingredients={"salt": 8.0, "stones": 8})
    assert written.status_code == 201
    assert '"salt":8.0,"stones":8}' in (await bakery.client.get(f"{bakery.front}/cakes/salt_cake")).text
    assert [cake["id"] for cake in (await read(bakery, "/cakes"))["cakes"]] == ["chocolate_cake", "salt_cake"]


async def test_a_second_cake_of_one_id_is_refused_until_the_first_is_deleted(bakery: Served) -> None:
    again = await bake(bakery, name="chocolate  CAKE!")
    assert (again.status_code, again.json()["detail"]) == (
        409,
        "There is a cake chocolate_cake already. Give this one another name, or delete that one first.",
    )
    assert (await bakery.client.delete(f"{bakery.front}/cakes/chocolate_cake")).status_code == 204
    assert (await bakery.client.get(f"{bakery.front}/cakes/chocolate_cake")).status_code == 404
    assert (await bakery.client.delete(f"{bakery.front}/cakes/chocolate_cake")).status_code == 404
    assert (await bake(bakery)).status_code == 201


async def test_a_cake_with_open_orders_cannot_be_deleted_and_ready_ones_keep_its_recipe(bakery: Served) -> None:
    number = (await order(bakery)).json()["id"]
    refused = await bakery.client.delete(f"{bakery.front}/cakes/chocolate_cake")
    assert refused.status_code == 409
    assert "open" in refused.json()["detail"]
    await bakery.client.delete(f"{bakery.front}/orders/{number}")
    assert (await bakery.client.delete(f"{bakery.front}/cakes/chocolate_cake")).status_code == 204
    await bake(bakery, ingredients={"air": 1.0})
    assert (await read(bakery, f"/orders/{number}/ingredients"))["ingredients"] == NEEDED


async def test_a_cake_can_be_deleted_once_its_orders_are_ready_though_nobody_can_be_told_so(bakery: Served) -> None:
    bakery.sandbox.slack.switch(status=503)
    number = (await order(bakery)).json()["id"]
    assert (await bakery.client.post(f"{bakery.front}/orders/{number}/ready")).status_code == 200
    deleted = await bakery.client.delete(f"{bakery.front}/cakes/chocolate_cake")
    assert deleted.status_code == 204, deleted.text
    assert (await read(bakery, f"/orders/{number}/ingredients"))["ingredients"] == NEEDED


async def test_an_order_has_a_small_number_and_needs_what_it_needs(bakery: Served) -> None:
    answer = await order(bakery)
    assert answer.status_code == 201, answer.text
    shown = answer.json()
    assert 0 < shown["id"] < 1000
    assert {name: shown[name] for name in ORDER} == ORDER
    assert (shown["status"], shown["cake"], shown["issue"]) == ("ordered", "Chocolate Cake", None)
    links = shown.pop("links")
    assert await read(bakery, f"/orders/{shown['id']}") == shown
    assert (await bakery.client.get(links["self"])).json() == shown
    assert await read(bakery, f"/orders/{shown['id']}/ingredients") == {"ingredients": NEEDED}


async def test_an_order_is_cancelled_until_it_is_ready(bakery: Served) -> None:
    numbers = [(await order(bakery)).json()["id"] for _ in range(2)]
    cancelled = await bakery.client.delete(f"{bakery.front}/orders/{numbers[0]}")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    ready = await bakery.client.post(f"{bakery.front}/orders/{numbers[1]}/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    for number, verb in ((numbers[0], "ready"), (numbers[1], "ready")):
        again = await bakery.client.post(f"{bakery.front}/orders/{number}/{verb}")
        assert again.status_code == 409, again.text
    assert (await bakery.client.delete(f"{bakery.front}/orders/{numbers[1]}")).status_code == 409
    listed = (await read(bakery, "/orders"))["orders"]
    assert [(each["id"], each["status"]) for each in listed] == [(numbers[1], "ready"), (numbers[0], "cancelled")]
    for status, expected in (("ready", [numbers[1]]), ("cancelled", [numbers[0]]), ("ordered", [])):
        found = (await read(bakery, f"/orders?status={status}"))["orders"]
        assert [each["id"] for each in found] == expected


async def test_the_same_request_again_is_the_same_order(bakery: Served) -> None:
    first, second = await order(bakery, key="once"), await order(bakery, key="once")
    assert first.json()["id"] == second.json()["id"]
    assert (await order(bakery, key="once", persons=5)).status_code == 422
    assert len((await read(bakery, "/orders"))["orders"]) == 1


async def test_lists_have_pages(bakery: Served) -> None:
    numbers = [(await order(bakery)).json()["id"] for _ in range(5)]
    seen: list[int] = []
    cursor = ""
    while True:
        page = await read(bakery, f"/orders?limit=2{cursor}")
        seen += [each["id"] for each in page["orders"]]
        if page["cursor"] is None:
            break
        cursor = f"&cursor={page['cursor']}"
    assert seen == numbers[::-1]


async def test_many_orders_at_once_have_a_number_each(bakery: Served) -> None:
    answers = await asyncio.gather(*(order(bakery) for _ in range(40)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 40


@pytest.mark.parametrize(
    ("wishes", "field"),
    [
        ({"recipe": "stone_soup"}, "body.recipe"),
        ({"persons": 0}, "body.persons"),
        ({"persons": -1}, "body.persons"),
        ({"persons": True}, "body.persons"),
        ({"persons": 1_000_000}, "body.persons"),
        ({"quantity": 0}, "body.quantity"),
        ({"quantity": 2.5}, "body.quantity"),
        ({"customer": ""}, "body.customer"),
        ({"customer": "?!"}, "body.customer"),
        ({"customer": "x" * 201}, "body.customer"),
        ({"extra_ingredients": {"peanuts": -1}}, "body.extra_ingredients"),
        ({"extra_ingredients": {"peanuts": True}}, "body.extra_ingredients"),
        ({"extra_ingredients": {"": 1}}, "body.extra_ingredients"),
        ({"extra_ingredients": {f"i{n}": 1 for n in range(10_000)}}, "body.extra_ingredients"),
        ({"email": "a@b.c, evil@x.y"}, "body.email"),
        ({"email": "a@b.c\r\nBcc: evil@x.y"}, "body.email"),
        ({"surprise": 1}, "body.surprise"),
    ],
)
async def test_a_wrong_order_names_the_field(one_bakery: Served, wishes: dict[str, Any], field: str) -> None:
    answer = await order(one_bakery, **wishes)
    assert answer.status_code == 422, answer.text
    assert any(each["field"].startswith(field) for each in answer.json()["errors"]), answer.text
    assert (await read(one_bakery, "/orders"))["orders"] == []


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "-0.0", "1e400", "true", '"5"', "null", "0", "99999999999"])
async def test_a_recipe_takes_finite_amounts_above_nothing(one_bakery: Served, amount: str) -> None:
    body = f'{{"name": "Odd Cake", "ingredients": {{"flour": {amount}}}}}'
    headers = {"Content-Type": "application/json"}
    answer = await one_bakery.client.post(f"{one_bakery.front}/cakes", content=body, headers=headers)
    assert answer.status_code in {400, 422}, answer.text
    assert (await one_bakery.client.get(f"{one_bakery.front}/cakes/odd_cake")).status_code == 404


@pytest.mark.parametrize(
    ("name", "id"),
    [("Торт «Наполеон»", "tort_napoleon"), ("Crème brûlée", "creme_brulee"), ("<b>Cake</b>\n", "b_cake_b")],
)
async def test_a_name_in_any_script_makes_an_id(one_bakery: Served, name: str, id: str) -> None:
    answer = await bake(one_bakery, name=name)
    assert (answer.status_code, answer.json()["id"]) == (201, id)
    assert "\n" not in answer.json()["name"]


@pytest.mark.parametrize("number", ["0", "999", "-1", "1e3", "..%2F1", "0000000000001", "9" * 40, "٣"])
async def test_an_order_that_is_not_there_is_not_found(one_bakery: Served, number: str) -> None:
    assert (await one_bakery.client.get(f"{one_bakery.front}/orders/{number}")).status_code == 404
