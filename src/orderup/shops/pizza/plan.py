"""From an order to its plan. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orderup import Approval, Plan, PlannedTask, Shop

DEFAULT_REGION = "eu-west-3"

shop = Shop("pizza", title="Pizzeria", about="Pizzas, approved by staff and made by workers of your region.")
shop.remote("make_dough", says="Preparing dough")
shop.remote("add_toppings", says="Adding toppings")
shop.remote("bake_pizza", says="Baking pizza")
shop.remote("deliver_pizza", says="Delivering pizza")

WORDS = {
    "operation.placed": "Request received",
    "rfa.approved": "Approved",
    "rfa.declined": "Declined",
    "rfa.expired": "Nobody answered your request in time, so it was closed",
    "task.retrying": "This takes a little longer than planned: we are doing it once more",
    "task.lost": "This takes a little longer than planned: somebody else takes over",
    "operation.paused": "Your order is on hold for a moment",
    "operation.resumed": "Your order goes on",
    "operation.retried": "We are trying again",
    "operation.errored": "Something went wrong with your pizza; our staff looks into it",
    "operation.cancelled": "Your order was cancelled",
    "operation.completed": "Delivered. Enjoy your pizza!",
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """One tier. flour_g: grams of flour. hydration: millilitres of water to 100 g of it. rises_hours: the shorter the
    dough rises, the more yeast it takes. temperature_celsius, minutes: in the oven."""

    flour_g: int
    hydration: int
    rises_hours: int
    toppings: tuple[str, ...]
    temperature_celsius: int
    minutes: int


TIERS: Mapping[str, Recipe] = {
    "basic": Recipe(250, 60, 4, ("tomato", "mozzarella"), 250, 9),
    "standard": Recipe(280, 65, 8, ("tomato", "mozzarella", "mushrooms", "ham"), 260, 10),
    "premium": Recipe(300, 70, 24, ("tomato", "buffalo mozzarella", "parma ham", "rocket", "truffle oil"), 280, 8),
}

# What a step takes as long as nobody knows better; baking takes what its recipe says.
USUAL_MINUTES: Mapping[str, float] = {"make_dough": 4, "add_toppings": 2, "deliver_pizza": 6}


@dataclass(frozen=True, slots=True)
class PizzaOrder:
    """name: of the pizza. tier: a key of TIERS. region: whose workers make it. extra_params: wishes, as JSON."""

    name: str
    tier: str
    delivery_address: str
    customer: str
    region: str = DEFAULT_REGION
    extra_params: Mapping[str, Any] = field(default_factory=dict)


def create_pizza(order: PizzaOrder) -> Plan:
    """Each task holds what its worker needs, and no more: only the courier learns who lives where."""
    recipe, region = TIERS[order.tier], order.region
    toppings: dict[str, Any] = {"toppings": list(recipe.toppings)}
    if order.extra_params:
        toppings["extra_params"] = dict(order.extra_params)
    baking = {"temperature_celsius": recipe.temperature_celsius, "minutes": recipe.minutes}
    delivery = {"pizza": order.name, "customer": order.customer, "address": order.delivery_address}
    return Plan.chain(
        PlannedTask("make_dough", params=dough(recipe), region=region),
        PlannedTask("add_toppings", params=toppings, region=region),
        PlannedTask("bake_pizza", params=baking, region=region),
        PlannedTask("deliver_pizza", params=delivery, region=region),
        approval=Approval(f"Make a {order.tier} pizza in {region}? If you decline, the customer reads your note."),
        words=WORDS,
    )


def dough(recipe: Recipe) -> dict[str, float]:
    """Of baker's percentages, to the flour: 2 % of salt, 4 % of oil, and of fresh yeast 4 % over the hours it rises."""
    flour = recipe.flour_g
    return {
        "flour_g": flour,
        "water_ml": round(flour * recipe.hydration / 100),
        "yeast_g": round(flour * 0.04 / recipe.rises_hours, 1),
        "salt_g": round(flour * 0.02, 1),
        "oil_ml": round(flour * 0.04),
    }


def example() -> Plan:
    """The plan that `orderup diagram pizza` draws."""
    return create_pizza(PizzaOrder("Margherita", "basic", delivery_address="1 Harbour Lane", customer="Ada"))


shop.example = example
