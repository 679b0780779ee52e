"""A whole process without its web servers: engine, clock, both apps, on a database of its own, and a workshop as the
shop, whose tasks a test can do itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
from pydantic import SecretStr

from orderup.cli.assembly import House, open_house
from orderup.engine.place import place_order
from orderup.model.ids import show_id
from orderup.model.plan import Approval, Plan, PlannedTask
from orderup.settings import Settings
from orderup.shop import Context, Shop
from orderup.web.app import OrderupApp
from orderup.web.auth import utc_now
from orderup.web.tokens import Role, mint_token
from tests.services.waiting import PATIENCE_SECONDS

SECRET = SecretStr("a-key-of-thirty-two-characters-or-more")
BACK_URL = "http://localhost:8001"


def workshop() -> Shop:
    """`saw`, `paint` and `polish` are done by remote workers, `glue` here, at once. There is a
    chair every night, and another one every week."""
    shop = Shop("workshop")
    shop.remote("saw", says="Sawing")
    shop.remote("paint", says="Painting", concurrency=2)
    shop.remote("polish", says="Polishing")
    shop.schedule("nightly", cron="0 3 * * *")(lambda: CHAIN)
    shop.schedule("weekly", cron="0 4 * * 1")(lambda: CHAIN)

    @shop.handler()
    async def glue(context: Context) -> dict[str, int]:
        return {"attempt": context.attempt}

    return shop


T = TypeVar("T")
CHAIN = Plan.chain(PlannedTask("saw"), PlannedTask("glue"), PlannedTask("paint"))
ASKED = Plan.chain(PlannedTask("saw"), PlannedTask("paint"), approval=Approval("Make a chair?"))


# For tests whose outcome hangs on the database.
DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgres_url"))]


def settings_for(folder: Path, **values: object) -> Settings:
    """With SECRET_KEY and a database file in this folder, unless `values` say otherwise."""
    return Settings.model_validate(
        {"database_url": f"sqlite:///{folder / 'orderup.db'}", "secret_key": SECRET, **values}
    )


@asynccontextmanager
async def open_test_house(
    settings: Settings, *, shops: Sequence[Shop] | None = None, executor: str = "local"
) -> AsyncIterator[House]:
    mounted = [workshop()] if shops is None else shops
    async with open_house(settings, mounted, back_url=BACK_URL, executor=executor) as house:
        await house.engine.feed.started()
        yield house
        house.stop_serving()


def client_of(app: OrderupApp, *, token: str | None = None) -> httpx2.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    return httpx2.AsyncClient(
        transport=transport, base_url="http://localhost:8001", headers=headers, timeout=PATIENCE_SECONDS
    )


def token_of(role: Role, name: str = "ann", *, shop: str | None = None, region: str | None = None) -> str:
    return mint_token(SECRET, role, name, shop=shop, region=region, now=utc_now()).text


async def place(house: House, plan: Plan = CHAIN, *, shop: str = "workshop") -> str:
    """The id of a new operation."""
    return show_id((await place_order(house.engine, shop, plan)).id)


# For a server process: `orderup serve tests.web.house:shop`.
shop = workshop()


async def until(house: House, fact: Callable[[], Awaitable[T | None]]) -> T:
    """What it gives once it is not None. It is asked again at each event of the log."""
    heard = asyncio.Event()

    def hear(_events: Any) -> None:
        heard.set()

    house.engine.feed.count(hear)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (found := await fact()) is None:
                await heard.wait()
                heard.clear()
            return found
    finally:
        house.engine.feed.stop_counting(hear)
