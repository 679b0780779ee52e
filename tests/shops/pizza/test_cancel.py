from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from tests.shops.pizza.pizzeria import STEPS, Pizzeria, following, read_until

RACES = 16


@pytest.mark.parametrize("done", range(3))
def test_a_customer_cancels_until_baking_has_begun(pizzeria: Pizzeria, done: int) -> None:
    placed = pizzeria.order()
    pizzeria.approve(placed)
    pizzeria.do(*STEPS[:done])
    answer = pizzeria.cancel(placed)
    assert answer.status_code == 200
    assert answer.json()["status"] == "cancelled"
    assert pizzeria.status(placed) == "cancelled"
    assert pizzeria.claim(wait=0) == []


def test_a_customer_cancels_before_anybody_has_answered(pizzeria: Pizzeria) -> None:
    placed = pizzeria.order()
    assert pizzeria.cancel(placed).json()["status"] == "cancelled"
    url = f"{pizzeria.server.back}/api/rfas/{placed['rfa_id']}/approve"
    assert pizzeria.client.post(url, json={}).status_code == 409


def test_who_works_on_a_cancelled_pizza_is_refused(pizzeria: Pizzeria) -> None:
    placed = pizzeria.order()
    pizzeria.approve(placed)
    task = pizzeria.claim_one("make_dough")
    assert pizzeria.cancel(placed).status_code == 200
    assert pizzeria.answer(task, "heartbeat").status_code == 409
    assert pizzeria.answer(task, "complete", result=None).status_code == 409
    assert pizzeria.status(placed) == "cancelled"


def test_a_pizza_in_the_oven_or_past_it_cannot_be_cancelled(pizzeria: Pizzeria) -> None:
    placed = pizzeria.order()
    pizzeria.approve(placed)
    pizzeria.do("make_dough", "add_toppings")
    baking = pizzeria.claim_one("bake_pizza")
    answer = pizzeria.cancel(placed)
    assert answer.status_code == 409
    assert "oven" in answer.json()["detail"]
    assert pizzeria.answer(baking, "complete", result=None).status_code == 200
    assert pizzeria.cancel(placed).status_code == 409
    pizzeria.do("deliver_pizza")
    assert pizzeria.cancel(placed).status_code == 409
    assert pizzeria.status(placed) == "completed"


def test_a_failed_baking_has_begun_all_the_same(pizzeria: Pizzeria) -> None:
    placed = pizzeria.order()
    pizzeria.approve(placed)
    pizzeria.do("make_dough", "add_toppings")
    pizzeria.answer(pizzeria.claim_one("bake_pizza"), "fail", error="The oven is cold")
    assert pizzeria.cancel(placed).status_code == 409


def test_a_baking_that_was_handed_back_undone_has_not_begun(pizzeria: Pizzeria) -> None:
    placed = pizzeria.order()
    pizzeria.approve(placed)
    pizzeria.do("make_dough", "add_toppings")
    pizzeria.answer(pizzeria.claim_one("bake_pizza"), "hand-back")
    assert pizzeria.cancel(placed).status_code == 200


def test_what_was_cancelled_cannot_be_cancelled_again(pizzeria: Pizzeria) -> None:
    placed = pizzeria.order()
    assert pizzeria.cancel(placed).status_code == 200
    assert pizzeria.cancel(placed).status_code == 409


def test_the_same_cancellation_sent_again_is_answered_as_before(pizzeria: Pizzeria) -> None:
    placed = pizzeria.order()
    first, again = (pizzeria.cancel(placed, key=pizzeria.region) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    assert again.headers["Idempotency-Replayed"] == "true"


def test_a_cancellation_is_told_to_who_follows(pizzeria: Pizzeria) -> None:
    placed = pizzeria.order()
    with following(placed["links"]["live"]) as messages:
        pizzeria.cancel(placed)
        assert read_until(messages, "operation.cancelled")[-1]["message"] == "Your order was cancelled"


def test_a_cancellation_and_the_beginning_of_the_baking_never_both_win(pizzeria: Pizzeria) -> None:
    placed = [pizzeria.order() for _ in range(RACES)]
    for each in placed:
        pizzeria.approve(each)
    for step in STEPS[:2]:
        for task in pizzeria.claim(step, most=RACES):
            pizzeria.answer(task, "complete", result=None)
    gate = Barrier(RACES + 1)

    def cancel(each: dict[str, Any]) -> bool:
        gate.wait(30)
        return pizzeria.cancel(each).status_code == 200

    def bake() -> set[str]:
        gate.wait(30)
        claimed: set[str] = set()
        while tasks := pizzeria.claim("bake_pizza", wait=0, most=2):
            claimed |= {task["operation_id"] for task in tasks}
        return claimed

    with ThreadPoolExecutor(RACES + 1) as pool:
        cancelling = [pool.submit(cancel, each) for each in placed]
        in_the_oven = pool.submit(bake).result(60)
        cancelled = {each["id"] for each, won in zip(placed, cancelling, strict=True) if won.result(60)}
    in_the_oven |= {task["operation_id"] for task in pizzeria.claim("bake_pizza", wait=0, most=RACES)}
    assert not cancelled & in_the_oven
    assert cancelled | in_the_oven == {each["id"] for each in placed}
    for each in placed:
        assert pizzeria.status(each) == ("cancelled" if each["id"] in cancelled else "baking")
