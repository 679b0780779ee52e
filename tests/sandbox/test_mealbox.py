"""The two services as they are when nothing is switched."""

from typing import Any

import httpx2
import pytest

from orderup.sandbox import Sandbox
from tests.services.waiting import PATIENCE_SECONDS


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/products/classic-box", {"code": "classic-box", "name": "Classic Box", "price": 9.99}),
        ("/products/family-box", {"code": "family-box", "name": "Family Box", "price": 24.5}),
        ("/users/7c11e1ce2741", {"id": "7c11e1ce2741", "firstName": "Ada", "lastName": "Lovelace"}),
    ],
)
async def test_a_product_and_a_user_are_told(mealbox: httpx2.AsyncClient, path: str, told: dict[str, Any]) -> None:
    answer = await mealbox.get(path)
    assert (answer.status_code, answer.json()) == (200, told)
    assert answer.headers["content-type"] == "application/json"


async def test_the_veggie_box_fails_always(mealbox: httpx2.AsyncClient) -> None:
    answers = [await mealbox.get("/products/veggie-box") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [500, 500, 500]
    assert answers[0].json()["error"]


async def test_one_user_fails_every_other_time(mealbox: httpx2.AsyncClient) -> None:
    answers = [await mealbox.get("/users/e6f24d7d1c7e") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [500, 200, 500, 200]
    assert answers[1].json() == {"id": "e6f24d7d1c7e", "firstName": "Grace", "lastName": "Hopper"}


async def test_each_takes_as_long_as_it_is_known_for(sandbox: Sandbox) -> None:
    collections = sandbox.mealbox.collections
    things = {id: entry.thing for collection in collections for id, entry in collection.entries.items()}
    assert {id: thing.delay_seconds for id, thing in things.items()} == {
        "classic-box": 0.2,
        "family-box": 60,
        "veggie-box": 0.2,
        "7c11e1ce2741": 0.3,
        "e6f24d7d1c7e": 0.3,
    }


@pytest.mark.parametrize("path", ["/products/no-box", "/users/nobody"])
async def test_who_is_not_known_is_not_found(mealbox: httpx2.AsyncClient, path: str) -> None:
    answer = await mealbox.get(path)
    assert answer.status_code == 404
    assert path.rpartition("/")[2] in answer.json()["error"]


@pytest.mark.parametrize("said", [None, "text/plain", "application/jsonp"])
async def test_a_request_that_does_not_say_json_is_refused(sandbox: Sandbox, said: str | None) -> None:
    headers = {} if said is None else {"Content-Type": said}
    async with httpx2.AsyncClient(base_url=sandbox.base_url, timeout=PATIENCE_SECONDS) as client:
        answer = await client.get("/mealbox/users/7c11e1ce2741", headers=headers)
    assert answer.status_code == 415
    assert "application/json" in answer.json()["error"]


async def test_json_may_be_said_with_a_charset(mealbox: httpx2.AsyncClient) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert (await mealbox.get("/users/7c11e1ce2741", headers=headers)).status_code == 200
