from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from orderup.model import approval, steer, work
from orderup.model.ids import OperationId
from orderup.model.operation import Draft, OperationStatus
from orderup.model.placing import place
from orderup.shops.pizza import shop
from orderup.shops.pizza.plan import example
from orderup.shops.pizza.status import STATUS_WORDS, status_of
from tests.shops.pizza.pizzeria import STEPS

NOW = 1_700_000_000_000_000
ANY: Any = None


def placed() -> Draft:
    draft = place(example(), id=OperationId(1), shop="pizza", kinds=shop.kinds, now=NOW, rfa_within=timedelta(hours=24))
    return Draft(draft.result())


def approved() -> Draft:
    draft = placed()
    approval.approve(draft, by="clerk", notes=None, now=NOW)
    return draft


def begun(step: str) -> Draft:
    """Everything before this step is done, and it is claimed."""
    draft = approved()
    for position, name in enumerate(STEPS):
        work.start(draft, position, worker="cook", token="t", now=NOW)
        if name == step:
            return draft
        work.complete(draft, position, token="t", result=None, now=NOW)
    raise AssertionError(step)


def done(step: str) -> Draft:
    draft = begun(step)
    work.complete(draft, STEPS.index(step), token="t", result=None, now=NOW)
    return draft


def changed(draft: Draft, change: Callable[..., None], **options: object) -> Draft:
    change(draft, now=NOW, **options)
    return draft


def failed() -> Draft:
    draft = begun("bake_pizza")
    work.fail(draft, 2, token="t", error="The oven is cold", final=True, now=NOW, random=ANY)
    return draft


def lost() -> Draft:
    draft = begun("bake_pizza")
    work.lose(draft, 2, token="t", now=NOW)
    return draft


@pytest.mark.parametrize(
    ("draft", "word"),
    [
        (placed(), "waiting_for_approval"),
        (approved(), "approved"),
        (begun("make_dough"), "making_dough"),
        (done("make_dough"), "making_dough"),
        (begun("add_toppings"), "adding_toppings"),
        (begun("bake_pizza"), "baking"),
        (lost(), "baking"),
        (changed(begun("bake_pizza"), steer.pause), "baking"),
        (begun("deliver_pizza"), "delivering"),
        (done("deliver_pizza"), "completed"),
        (changed(placed(), approval.decline, by="clerk", notes="no"), "declined"),
        (changed(placed(), approval.expire), "expired"),
        (changed(placed(), steer.cancel, reason="-"), "cancelled"),
        (changed(begun("make_dough"), steer.cancel, reason="-"), "cancelled"),
        (failed(), "failed"),
    ],
)
def test_where_an_order_stands_is_told_in_the_customers_words(draft: Draft, word: str) -> None:
    assert status_of(draft.result()) == word


def test_every_state_of_an_operation_and_every_step_has_a_word() -> None:
    assert STATUS_WORDS.keys() >= {*(set(OperationStatus) - {"paused"}), *shop.kinds}
