import json

import pytest

from orderup.model.event import EVENT_TYPES, Audience
from orderup.shops.pizza import shop
from orderup.shops.pizza.plan import TIERS, WORDS, PizzaOrder, create_pizza, dough
from tests.shops.pizza.pizzeria import STEPS

ADA = PizzaOrder("Margherita", "basic", delivery_address="1 Harbour Lane", customer="Ada")


@pytest.mark.parametrize("tier", TIERS)
def test_a_pizza_is_made_step_by_step_by_the_workers_of_its_region(tier: str) -> None:
    plan = create_pizza(PizzaOrder("Parma", tier, delivery_address="-", customer="-", region="us-east-1"))
    assert [task.name for task in plan.tasks] == list(STEPS)
    assert [list(task.after) for task in plan.tasks] == [[], *([step] for step in STEPS[:-1])]
    assert {task.region for task in plan.tasks} == {"us-east-1"}


@pytest.mark.parametrize("tier", TIERS)
def test_the_parameters_are_worked_out_from_the_tier(tier: str) -> None:
    recipe = TIERS[tier]
    made, topped, baked, _ = (task.params for task in create_pizza(PizzaOrder("P", tier, "-", "-")).tasks)
    assert made == dough(recipe)
    assert topped == {"toppings": list(recipe.toppings)}
    assert baked == {"temperature_celsius": recipe.temperature_celsius, "minutes": recipe.minutes}


def test_dough_follows_bakers_percentages() -> None:
    assert dough(TIERS["standard"]) == {"flour_g": 280, "water_ml": 182, "yeast_g": 1.4, "salt_g": 5.6, "oil_ml": 11}


def test_only_the_courier_learns_who_lives_where() -> None:
    *kitchen, delivery = create_pizza(ADA).tasks
    assert delivery.params == {"pizza": "Margherita", "customer": "Ada", "address": "1 Harbour Lane"}
    in_the_kitchen = json.dumps([task.params for task in kitchen])
    assert "Harbour" not in in_the_kitchen
    assert "Ada" not in in_the_kitchen


def test_wishes_go_to_whoever_adds_the_toppings() -> None:
    plan = create_pizza(PizzaOrder("M", "basic", "-", "-", extra_params={"no": "olives"}))
    assert [task.name for task in plan.tasks if "extra_params" in task.params] == ["add_toppings"]


def test_staff_is_asked_first_and_told_that_the_customer_reads_the_note() -> None:
    approval = create_pizza(ADA).approval
    assert approval is not None
    assert "the customer reads your note" in approval.question
    assert "Ada" not in approval.question
    assert "Harbour" not in approval.question


def test_every_event_that_a_customer_sees_has_words_of_the_pizzerias_own() -> None:
    seen = {type for type, (audience, _) in EVENT_TYPES.items() if audience is Audience.CUSTOMER}
    assert WORDS.keys() == seen - {"task.started"}  # which says what the kind says
    assert all(kind.says for kind in shop.kinds.values())
