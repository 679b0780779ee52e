"""A high-tech pizza company: staff approves, workers make the dough, add the toppings, bake and deliver."""

from orderup.shops.pizza.back import back
from orderup.shops.pizza.front import front
from orderup.shops.pizza.pages import TEMPLATES
from orderup.shops.pizza.plan import DEFAULT_REGION, shop
from orderup.shops.pizza.tables import facts_of_orders, forget_orders, metadata, prune_orders
from orderup.shops.pizza.workers import FUNCTIONS

shop.front, shop.back = front, back
shop.templates = TEMPLATES
shop.tables = metadata
shop.prune, shop.forget, shop.facts = prune_orders, forget_orders, facts_of_orders
shop.region, shop.worker_functions = DEFAULT_REGION, FUNCTIONS

__all__ = ["shop"]
