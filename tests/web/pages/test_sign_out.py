"""Signing out, by the button in the bar over staff's pages."""

import re
from pathlib import Path

import httpx2

from tests.web.house import client_of, open_test_house, settings_for
from tests.web.pages.reading import ORIGIN, press


def bar_of(page: str) -> str:
    [bar] = re.findall(r"<header.*?</header>", page, re.DOTALL)
    return str(bar)


async def test_whoever_is_signed_in_signs_out(staff: httpx2.AsyncClient) -> None:
    bar = bar_of((await staff.get("/queues")).text)
    assert (await staff.post("/sign-out", headers=ORIGIN)).status_code == 403, "as if from somebody else's page"
    assert (await press(staff, bar, "Sign out")).headers["location"] == "/sign-in"
    refused = await staff.get("/queues")
    assert refused.status_code == 401
    assert "Sign out" not in refused.text


async def test_without_a_secret_whoever_gave_a_name_takes_it_back(tmp_path: Path) -> None:
    async with open_test_house(settings_for(tmp_path, secret_key=None)) as house, client_of(house.back) as client:
        assert "Sign out" not in (await client.get("/queues")).text
        await client.post("/sign-in", data={"name": "Bo", "next": "/queues"}, headers=ORIGIN)
        bar = bar_of((await client.get("/queues")).text)
        assert ">Bo</a>" in bar
        await press(client, bar, "Sign out")
        assert "Sign out" not in (await client.get("/queues")).text
