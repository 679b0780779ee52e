"""A coffee bar: customers wait on one request each, baristas start and finish."""

from orderup.shops.coffee.back import back
from orderup.shops.coffee.bar import Bar
from orderup.shops.coffee.front import front
from orderup.shops.coffee.pages import TEMPLATES
from orderup.shops.coffee.plan import shop

shop.front, shop.back = front, back
shop.templates = TEMPLATES
shop.keeper = Bar

__all__ = ["shop"]
