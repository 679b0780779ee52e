"""What staff reads of an order beside its state: from the rows of its shop, which alone knows what was ordered."""

from collections.abc import Iterable, Mapping

from fastapi import Request

from orderup.db.database import ReadConnection
from orderup.web.orders import engine_of
from orderup.web.pages.site import site_of

Facts = Mapping[str, str]


async def facts_of(request: Request, orders: Iterable[tuple[int, str]]) -> Mapping[int, Facts]:
    """`orders`: ids and shops. Words and values by id; nothing of those whose shop has none to tell. The first value is
    the order's name."""
    by_shop: dict[str, list[int]] = {}
    for id, shop in orders:
        by_shop.setdefault(shop, []).append(id)
    tellers = {shop.name: shop.facts for shop in site_of(request).shops if shop.facts and shop.name in by_shop}
    if not tellers:
        return {}

    def read(connection: ReadConnection) -> dict[int, Facts]:
        found: dict[int, Facts] = {}
        for shop, tell in tellers.items():
            found.update(tell(connection, by_shop[shop]))
        return found

    return await engine_of(request).database.read(read)
