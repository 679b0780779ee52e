"""A bakery that automates everything around its cakes."""

from orderup.shops.bakery import (  # they register themselves
    access as access,
    employee_pages as employee_pages,
    issues as issues,
    recording as recording,
    telling as telling,
)
from orderup.shops.bakery.facts import facts_of_operations
from orderup.shops.bakery.front import front
from orderup.shops.bakery.hooks import hooks
from orderup.shops.bakery.orders import forget_orders, prune_orders
from orderup.shops.bakery.pages import TEMPLATES
from orderup.shops.bakery.plan import shop
from orderup.shops.bakery.services import STAND_INS, open_services
from orderup.shops.bakery.staff import staff
from orderup.shops.bakery.staff_pages import back
from orderup.shops.bakery.tables import metadata

front.include_router(staff)
front.include_router(hooks)
shop.front, shop.back = front, back
shop.tables, shop.templates = metadata, TEMPLATES
shop.prune, shop.forget, shop.facts = prune_orders, forget_orders, facts_of_operations
shop.resources, shop.stand_ins = open_services, STAND_INS
shop.places = {"Orders": "/board", "Recipes": "/recipes", "Issues": "/issues", "Services": "/services"}

__all__ = ["shop"]
