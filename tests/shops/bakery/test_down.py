"""Third parties that are down or hang keep nobody from ordering, cancelling, baking or hiring; it is made up for."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from orderup.db.tables import tasks
from orderup.engine.place import place_order
from orderup.sandbox.service import Service
from orderup.shops.bakery import shop
from orderup.shops.bakery.plan import BAKE, plan_issue
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import sqlite_url
from tests.shops.bakery.conftest import bake, order, read
from tests.shops.served import Served, serve_shop

# Breakers that have opened rest.
pytestmark = pytest.mark.timeout(180)
MOST_ROUNDS = 4
JACK = {"firstName": "Jack", "lastName": "Harrot", "permissions": {"developer": True}, "github": "ada-lovelace"}


async def a_day(bakery: Served) -> Mapping[str, int]:
    """All that people do in a bakery, each of which is answered: the numbers of its orders."""
    assert (await bake(bakery, name="Egg Cake", ingredients={"eggs": 3})).status_code == 201
    wishes: Mapping[str, Mapping[str, Any]] = {
        "open": {},
        "cancelled": {"customer": "Mr Cakelover"},
        "on slack": {"customer": "Ada Lovelace"},
        "by mail": {"customer": "Nobody Here", "email": "nobody@example.com"},
    }
    numbers = {}
    for name, wish in wishes.items():
        placed = await order(bakery, **wish)
        assert placed.status_code == 201, placed.text
        numbers[name] = placed.json()["id"]
    front, back = bakery.front, bakery.back
    asked: list[tuple[str, str, Any]] = [
        ("DELETE", f"{front}/orders/{numbers['cancelled']}", None),
        ("POST", f"{front}/orders/{numbers['on slack']}/ready", None),
        ("POST", f"{front}/orders/{numbers['by mail']}/ready", None),
        ("POST", f"{front}/employees", JACK),
        ("GET", f"{front}/employees", None),
        ("GET", f"{front}/orders", None),
        ("GET", f"{front}/orders/{numbers['open']}/ingredients", None),
        ("DELETE", f"{front}/cakes/egg_cake", None),
        ("GET", f"{front}/readyz", None),
        ("GET", f"{back}/readyz", None),
        ("GET", f"{back}/api/operations", None),
    ]
    for method, url, body in asked:
        answer = await bakery.client.request(method, url, json=body)
        assert answer.is_success, (method, url, answer.text)
    return numbers


async def until_made_up_for(bakery: Served) -> None:
    """Nothing is left to do but to bake."""
    wanted = select(tasks.c.name, tasks.c.status, tasks.c.error).where(
        tasks.c.status.in_(["pending", "running", "waiting"]), tasks.c.name != BAKE
    )

    async def left() -> list[Any]:
        return list(await bakery.house.database.read(lambda connection: connection.rows(wanted)))

    async def is_done() -> bool | None:
        return None if await left() else True

    for _ in range(MOST_ROUNDS):
        with suppress(TimeoutError):
            await bakery.until(is_done)
            return
    raise AssertionError(f"not made up for: {await left()}")


async def assert_all_is_done(bakery: Served, numbers: Mapping[str, int]) -> None:
    here = bakery.sandbox
    shown = {name: (await read(bakery, f"/orders/{number}"))["status"] for name, number in numbers.items()}
    assert shown == {"open": "ordered", "cancelled": "cancelled", "on slack": "ready", "by mail": "ready"}
    failed = select(tasks.c.error).where(tasks.c.status == "errored")
    assert await bakery.house.database.read(lambda connection: connection.rows(failed)) == []
    assert len(here.jira.issues) == 1
    assert [each.text.split(":")[0] for each in here.slack.messages] == [f"Order {numbers['on slack']} is ready"]
    assert {each.recipients for each in here.smtp.messages} == {("nobody@example.com",)}
    assert len({each.message_id for each in here.smtp.messages}) == 1
    [document] = here.drive.documents
    [line] = document.lines
    assert line.startswith(f"- Order {numbers['cancelled']} [Chocolate Cake] : Date ")
    assert [each.user.login for each in here.github.invitations.values()] == ["ada-lovelace"]


@pytest.mark.parametrize("switch", [{"body": "reset", "delay_seconds": 6}, {"body": "reset"}], ids=["hang", "refuse"])
@pytest.mark.parametrize("names", [("jira", "slack", "drive", "github"), ("smtp",)], ids=["all", "mail"])
async def test_while_third_parties_are_away_everybody_is_answered_and_it_is_made_up_for(
    tmp_path: Path, names: Sequence[str], switch: Mapping[str, Any]
) -> None:
    async with serve_shop(shop, sqlite_url(tmp_path), google_search_seconds=1, jira_search_seconds=1) as bakery:
        await bake(bakery)
        away: list[Service] = [getattr(bakery.sandbox, name) for name in names]
        for party in away:
            party.switch(**switch)
        numbers = await a_day(bakery)
        await place_order(bakery.house.engine, "bakery", plan_issue())
        async with asyncio.timeout(PATIENCE_SECONDS):
            for party in away:
                await party.ledger.until(lambda ledger: ledger.arrivals)
        # all that can be asked for while they are being asked
        later = await order(bakery, customer="Somebody Else")
        assert later.status_code == 201, later.text
        assert (await bakery.client.get(f"{bakery.front}/orders/{later.json()['id']}")).status_code == 200
        for party in away:
            party.restore()
        await until_made_up_for(bakery)
        await assert_all_is_done(bakery, numbers)
