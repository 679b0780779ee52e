"""A house with pages on both databases, and staff before them."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from orderup.cli.assembly import House
from orderup.engine.schedule import register_schedules
from orderup.web.tokens import Role
from tests.web.house import DATABASES, client_of, open_test_house, settings_for, token_of, workshop
from tests.web.pages.reading import signed_in


@pytest.fixture(params=DATABASES)
async def limited_house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    """The workshop, which also sands at most three boards a minute, and may knock at the neighbour's twice an hour, to
    borrow something, or once to give it back."""
    is_file = request.param == "sqlite"
    values = {} if is_file else {"database_url": request.getfixturevalue("prepared_postgres")}
    shop = workshop()
    shop.remote("sand", says="Sanding", rate="3/minute", concurrency=2)
    neighbour = shop.allowance("neighbour", "2/hour")
    shop.remote("borrow", allowance=neighbour)
    shop.remote("return", allowance=neighbour, share=0.5)
    shop.schedule("monthly", cron="30 6 1 * *", zone="Europe/Paris")(shop.schedules["nightly"].plan)
    async with open_test_house(settings_for(tmp_path, **values), shops=[shop]) as house:
        # the clock does this, too, some time after the start; twice is as once
        schedules = {f"{shop.name}/{name}": each for name, each in shop.schedules.items()}
        await register_schedules(house.engine, schedules)
        yield house


@pytest.fixture
async def staff(limited_house: House) -> AsyncIterator[httpx2.AsyncClient]:
    """With the cookie of somebody who has signed in."""
    async with client_of(limited_house.back) as client:
        yield await signed_in(client, token_of(Role.STAFF, "ann"))
