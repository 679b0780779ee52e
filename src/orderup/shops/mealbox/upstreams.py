"""The two services that the meal boxes ask: who is it, and what costs it. Opened once a process."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from cachetools import TTLCache
from prometheus_client import CollectorRegistry, Counter

from orderup.errors import UpstreamFailed
from orderup.integrations.upstream import Upstream, UpstreamMetrics
from orderup.settings import Settings

NAMES = (("firstName", "lastName"), ("first_name", "last_name"))
# Nobody is called so, and in an address they lead elsewhere.
DOTS = {".", ".."}
LARGEST_PRICE = 10**12
# With room for more codes than any shop has.
MOST_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Product:
    name: str
    price: Decimal


@dataclass(frozen=True, slots=True)
class Upstreams:
    """`remembered`: products that were found, by code. hits: how often one of them was taken."""

    users: Upstream
    products: Upstream
    remembered: TTLCache[str, Product]
    hits: Counter

    async def find_user(self, user_id: str) -> str | None:
        """First and last name; None: there is none. Raises as `Upstream.get` does."""
        found = await _find(self.users, "users", user_id)
        return None if found is None else _fullname(found)

    async def find_product(self, code: str) -> Product | None:
        """None: there is none. Raises as `Upstream.get` does.

        Only what was found is remembered: a product that is new, or whose service has failed, is asked for.
        """
        if (known := self.remembered.get(code)) is not None:
            self.hits.inc()
            return known
        found = await _find(self.products, "products", code)
        if found is None:
            return None
        product = self.remembered[code] = _product(found)
        return product


@asynccontextmanager
async def open_upstreams(settings: Settings, registry: CollectorRegistry) -> AsyncIterator[Upstreams]:
    metrics = UpstreamMetrics.of(registry)
    deadline, most = timedelta(seconds=settings.upstream_deadline_seconds), settings.upstream_most_in_flight
    urls = settings.user_service_url, settings.product_service_url
    users, products = (
        Upstream(name, str(url or ""), metrics=metrics, deadline=deadline, most=most)
        for name, url in zip(("user service", "product service"), urls, strict=True)
    )
    remembered: TTLCache[str, Product] = TTLCache(MOST_REMEMBERED, settings.mealbox_product_cache_seconds)
    hits = Counter(
        "orderup_mealbox_product_cache_hits_total", "Products that were remembered, not asked for.", registry=registry
    )
    async with users, products:
        yield Upstreams(users, products, remembered, hits)


async def _find(upstream: Upstream, collection: str, id: str) -> Mapping[str, Any] | None:
    return None if id in DOTS else await upstream.get(f"/{collection}/{quote(id, safe='')}", about=id)


def _fullname(user: Mapping[str, Any]) -> str:
    for names in NAMES:
        found = [user.get(name) for name in names]
        if all(isinstance(name, str) and _can_be_kept(name) for name in found):
            return " ".join(str(name).strip() for name in found).strip()
    raise UpstreamFailed("The user service answered a user without firstName and lastName")


def _product(product: Mapping[str, Any]) -> Product:
    name, price = product.get("name"), product.get("price", -1)
    is_number = isinstance(price, int | Decimal) and not isinstance(price, bool)
    if not (isinstance(name, str) and _can_be_kept(name) and is_number and 0 <= price < LARGEST_PRICE):
        raise UpstreamFailed("The product service answered a product without a name and a price")
    return Product(name, Decimal(price))


def _can_be_kept(text: str) -> bool:
    """Whether every database can: none has half a character, and PostgreSQL no NUL."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)
