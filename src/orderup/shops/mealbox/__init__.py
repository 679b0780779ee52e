"""Meal boxes by code: an order microservice between two services that fail and a broker that goes away."""

from orderup.shops.mealbox import handlers as handlers, messages as messages  # they register themselves
from orderup.shops.mealbox.back import back
from orderup.shops.mealbox.front import front
from orderup.shops.mealbox.keeper import Counter
from orderup.shops.mealbox.pages import TEMPLATES
from orderup.shops.mealbox.plan import shop
from orderup.shops.mealbox.tables import facts_of_orders, forget_orders, metadata, prune_orders
from orderup.shops.mealbox.upstreams import open_upstreams

shop.front, shop.back = front, back
shop.tables, shop.templates = metadata, TEMPLATES
shop.prune, shop.forget, shop.facts = prune_orders, forget_orders, facts_of_orders
shop.keeper, shop.resources = Counter, open_upstreams
shop.stand_ins = {name: {name: "{http}/mealbox"} for name in ("user_service_url", "product_service_url")}
shop.places = {"Services that it needs": "/services"}

__all__ = ["shop"]
