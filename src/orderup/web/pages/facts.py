"""What staff reads of an order beside its state: from the rows of its shop, which alone knows what was ordered."""

from collections.abc import Iterable, Mapping

from fastapi import Request

from orderup.db.database import ReadConnection
from orderup.web.orders import engine_of
from orderup.web.pages.handwork import value_in_words
from orderup.web.pages.site import site_of

Facts = Mapping[str, str]


async def facts_of(request: Request, orders: Iterable[tuple[int, str]]) -> Mapping[int, Facts]:
    """`orders`: ids and shops. Names and values in plain words, by id, the order's name first; nothing of those whose
    shop has none to tell."""
    by_shop: dict[str, list[int]] = {}
    for id, shop in orders:
        by_shop.setdefault(shop, []).append(id)
    tellers = {shop.name: shop.facts for shop in site_of(request).shops if shop.facts and shop.name in by_shop}
    if not tellers:
        return {}

    def read(connection: ReadConnection) -> dict[int, Facts]:
        found: dict[int, Facts] = {}
        for shop, tell in tellers.items():
            for id, facts in tell(connection, by_shop[shop]).items():
                found[id] = {name: value_in_words(value) for name, value in facts.items()}
        return found

    return await engine_of(request).database.read(read)
