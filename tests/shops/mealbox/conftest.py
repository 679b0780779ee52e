"""The meal-box shop at work beside its two services, on either database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest_asyncio

from orderup.shops.mealbox import shop
from tests.serving import sqlite_url
from tests.shops.served import Served, serve_shop

SCALE = 20.0
GOOD = {"user_id": "7c11e1ce2741", "product_code": "classic-box"}


class Kiosk(Served):
    """A meal-box shop that serves, and the services that it asks, whose delays are twenty times shorter. Unless it is
    said otherwise an order is waited for until it is complete, on however busy a machine."""

    async def order(self, prefer: str | None = None, key: str | None = None, **wishes: Any) -> httpx2.Response:
        headers = {name: value for name, value in (("Prefer", prefer), ("Idempotency-Key", key)) if value is not None}
        return await self.client.post(f"{self.front}/orders", json={**GOOD, **wishes}, headers=headers)

    async def read(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.client.get(f"{self.front}/orders/{id}")).json()
        return found

    async def follow(self, id: str, *, until: str) -> list[dict[str, Any]]:
        """The events of an order, up to one of this type."""
        events: list[dict[str, Any]] = []
        async with self.client.stream("GET", f"{self.front}/orders/{id}/events") as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data:"):
                    events.append(httpx2.Response(200, content=line.removeprefix("data:")).json())
                    if events[-1]["type"] == until:
                        return events
        raise AssertionError(f"it ended before {until}: {events}")

    async def behave(self, collection: str, id: str, **behaviour: Any) -> None:
        address = f"{self.sandbox.base_url}/mealbox/{collection}/{id}/behaviour"
        answer = await self.client.put(address, json=behaviour)
        assert answer.status_code < 300, answer.text


@asynccontextmanager
async def open_kiosk(url: str, **settings: Any) -> AsyncIterator[Kiosk]:
    async with serve_shop(shop, url, scale=SCALE, **{"mealbox_wait_seconds": 60, **settings}) as served:
        yield Kiosk(**vars(served))


@pytest_asyncio.fixture
async def kiosk(database_url: str) -> AsyncIterator[Kiosk]:
    async with open_kiosk(database_url) as kiosk:
        yield kiosk


@pytest_asyncio.fixture
async def one_kiosk(tmp_path: Path) -> AsyncIterator[Kiosk]:
    """For tests to which one database is as good as another."""
    async with open_kiosk(sqlite_url(tmp_path)) as kiosk:
        yield kiosk
