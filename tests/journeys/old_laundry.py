"""The laundry as it was before it ironed: for workers that were not brought up to date."""

from orderup import Shop
from tests.journeys.laundry import wash

shop = Shop("laundry")
shop.handler("wash", says="Washing")(wash)
