"""The bakery at work beside the sandbox, on either database."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest_asyncio

from orderup.shops.bakery import shop
from tests.serving import sqlite_url
from tests.shops.served import Served, serve_shop

CAKE: Mapping[str, Any] = {
    "name": "Chocolate Cake",
    "ingredients": {"chocolate": 33.5, "butter": 16.5, "flour": 8.5, "sugar": 16.5, "eggs": 1},
}
ORDER: Mapping[str, Any] = {
    "customer": "Mr. Cakelover",
    "recipe": "chocolate_cake",
    "persons": 4,
    "quantity": 2,
    "extra_ingredients": {"peanuts": 10},
}


async def bake(bakery: Served, **cake: Any) -> Any:
    """Write a recipe: the answer."""
    return await bakery.client.post(f"{bakery.front}/cakes", json={**CAKE, **cake})


async def order(bakery: Served, key: str | None = None, **wishes: Any) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await bakery.client.post(f"{bakery.front}/orders", json={**ORDER, **wishes}, headers=headers)


async def read(bakery: Served, path: str) -> Any:
    answer = await bakery.client.get(f"{bakery.front}{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest_asyncio.fixture
async def bakery(database_url: str) -> AsyncIterator[Served]:
    async with serve_shop(shop, database_url) as served:
        await bake(served)
        yield served


@pytest_asyncio.fixture
async def one_bakery(tmp_path: Path) -> AsyncIterator[Served]:
    """For tests to which one database is as good as another."""
    async with serve_shop(shop, sqlite_url(tmp_path)) as served:
        await bake(served)
        yield served
