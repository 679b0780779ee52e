"""Amounts, exact: grams with a point, pieces without."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st
from pydantic import TypeAdapter, ValidationError

from orderup.shops.bakery.amounts import Amount, JsonAmount, as_json, needed, read_amount, total

CHOCOLATE_CAKE = {"chocolate": 33.5, "butter": 16.5, "flour": 8.5, "sugar": 16.5, "eggs": 1}
adapter: TypeAdapter[dict[str, Amount]] = TypeAdapter(dict[str, JsonAmount])


def lines(recipe: dict[str, Any]) -> list[tuple[str, Amount]]:
    return list(adapter.validate_python(recipe).items())


def test_a_recipe_is_for_one_eater_and_extras_are_added_once() -> None:
    found = needed(lines(CHOCOLATE_CAKE), eaters=4 * 2, extras=lines({"peanuts": 10}))
    assert as_json(found) == [
        {"name": "chocolate", "quantity": 268.0, "unit": "g"},
        {"name": "butter", "quantity": 132.0, "unit": "g"},
        {"name": "flour", "quantity": 68.0, "unit": "g"},
        {"name": "sugar", "quantity": 132.0, "unit": "g"},
        {"name": "eggs", "quantity": 8, "unit": "pcs"},
        {"name": "peanuts", "quantity": 10, "unit": "pcs"},
    ]


def test_a_weight_that_is_whole_stays_a_weight() -> None:
    [(_, eight)] = lines(json.loads('{"salt": 8.0}'))
    [(_, pieces)] = lines(json.loads('{"salt": 8}'))
    assert (eight.unit, pieces.unit) == ("g", "pcs")
    assert (json.dumps(eight.number), json.dumps(pieces.number)) == ("8.0", "8")


def test_an_extra_in_another_unit_has_a_line_of_its_own_and_one_in_the_same_has_not() -> None:
    found = needed(lines({"eggs": 1, "salt": 0.5}), eaters=2, extras=lines({"eggs": 30.0, "salt": 0.25}))
    assert [(name, amount.words) for name, amount in found] == [
        ("eggs", "2 pcs"),
        ("salt", "1.25 g"),
        ("eggs", "30 g"),
    ]


def test_tenths_add_up() -> None:
    tenths = [("salt", read_amount(0.1))] * 3
    assert total(tenths) == [("salt", Amount(Decimal("0.3"), "g"))]


@pytest.mark.parametrize(
    "wrong", [0, -1, 0.0, -0.5, 1e-9, 10_000_001, 1e300, float("nan"), float("inf"), True, "5", None, [1], {}]
)
def test_what_is_no_amount_is_refused(wrong: Any) -> None:
    with pytest.raises(ValidationError):
        adapter.validate_python({"flour": wrong})


@given(st.floats(min_value=1e-6, max_value=1e7), st.integers(1, 10_000))
def test_whatever_was_written_comes_out_and_is_multiplied_exactly(written: float, eaters: int) -> None:
    amount = read_amount(written)
    assert amount.number == written
    assert amount.times(eaters).value == Decimal(repr(written)) * eaters
