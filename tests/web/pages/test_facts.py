"""What was ordered is told to staff from the shop's own rows, on every page that shows an order, and no more once it
was forgotten."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from orderup.cli.assembly import House
from orderup.cli.shops import load_shops
from orderup.model.ids import read_id
from orderup.shops.pizza.tables import forget_orders
from orderup.web.tokens import Role
from tests.web.house import ASKED, client_of, open_test_house, place, settings_for, token_of, workshop

ORDER = {"tier": "premium", "name": "Tartufo", "customer": "Ada <b>", "delivery_address": "1 Harbour Lane"}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_test_house(settings_for(tmp_path), shops=[*load_shops(["pizza"]), workshop()]) as house:
        yield house


async def ordered(house: House) -> str:
    async with client_of(house.front) as front:
        address = (await front.post("/pizza/", data=ORDER)).headers["location"]
    found = re.search(r"/track/(\w+)", address)
    assert found is not None
    return found[1]


async def shown(back: httpx2.AsyncClient, path: str) -> str:
    page = await back.get(path)
    assert page.status_code == 200
    return page.text


async def test_staff_reads_what_was_ordered_wherever_an_order_is_shown(house: House) -> None:
    id = await ordered(house)
    other = await place(house, ASKED)  # of a shop that tells nothing
    async with client_of(house.back) as back:
        back.headers["Authorization"] = f"Bearer {token_of(Role.STAFF)}"
        inbox, listed, one = [await shown(back, path) for path in ("/inbox", "/operations", f"/operations/{id}")]
        assert "Tartufo (premium)" in listed
        for page in (inbox, one):
            assert "<dd>Tartufo (premium)</dd>" in page
            assert "<dd>Ada &lt;b&gt;</dd>" in page
            assert "<dd>1 Harbour Lane</dd>" in page
        assert 'class="facts"' not in await shown(back, f"/operations/{other}")


async def test_wishes_are_read_in_plain_words(house: House) -> None:
    async with client_of(house.front) as front:
        body = {**ORDER, "extra_params": {"no": ["olives", "capers"]}}
        id = (await front.post("/pizza/pizzas", json=body)).json()["id"]
    async with client_of(house.back) as back:
        back.headers["Authorization"] = f"Bearer {token_of(Role.STAFF)}"
        assert "<dd>No: olives, capers</dd>" in await shown(back, f"/operations/{id}")


async def test_of_a_forgotten_order_nothing_personal_is_told(house: House) -> None:
    id = await ordered(house)
    await house.database.write(lambda connection: forget_orders(connection, [read_id(id)]))
    async with client_of(house.back) as back:
        back.headers["Authorization"] = f"Bearer {token_of(Role.STAFF)}"
        page = await shown(back, f"/operations/{id}")
        assert "<dd>Pizza (premium)</dd>" in page
        facts = page.partition('class="facts"')[2].partition("</dl>")[0]
        assert not any(word in facts for word in ("Ada", "Harbour", "Tartufo"))
