"""Lists of orders: what matches is found among however many that do not."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import insert

from orderup.db.database import Database, ReadConnection, WriteConnection
from orderup.db.tables import tasks
from orderup.shops.bakery import shop
from orderup.shops.bakery.orders import list_orders, status_of
from orderup.shops.bakery.tables import cakes, orders
from tests.shops.lists import add_operation, filled, filled_one, steps_of
from tests.web.house import DATABASES

MANY = 60
STATES = ("running", "completed", "cancelled", "errored", "pending")


@pytest_asyncio.fixture(params=DATABASES)
async def database(request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    async with filled_one(request, shop, fill) as database:
        yield database


def stands(id: int) -> tuple[str, str]:
    """How the operation with this id stands, and whether it is baked: completed ones are, and others here and there."""
    status = STATES[id % len(STATES)]
    baked = status == "completed" or (status != "pending" and id % 4 == 0)
    return status, "completed" if baked else "blocked"


def owner_of(id: int) -> str:
    return "bo" if id % 7 == 0 else "ann"


def fill(connection: WriteConnection) -> None:
    """Operations 1 to MANY; those of tens are none of a cake. The later an operation, the smaller its number here."""
    connection.execute(insert(cakes).values(number=1, id="sponge", name="Sponge", added_at=1))
    for id in range(1, MANY + 1):
        status, bake = stands(id)
        add_operation(connection, shop, id=id, status=status, owner=owner_of(id))
        if id % 10:
            row = {"number": MANY + 1 - id, "operation_id": id, "cake": 1, "persons": 2, "quantity": 1}
            connection.execute(insert(orders).values(**row))
            told = {"operation_id": id, "position": 0, "name": "bake", "kind": "bake", "queue": "bakery/bake"}
            told |= {"status": bake, "after": "", "next": "", "params": "{}", "retry": "1,1,1"}
            told |= {"finished_at": id if bake == "completed" else None}
            none = ("priority", "within_us", "lease_us", "blocked_by", "attempt", "failures", "losses")
            connection.execute(insert(tasks).values(**told, **dict.fromkeys(none, 0)))


def asked(connection: ReadConnection, **wanted: Any) -> list[int]:
    everything: dict[str, Any] = {"status": None, "beyond": None, "most": MANY}
    return [order.operation_id for order in list_orders(connection, **{**everything, **wanted})]


def expected(**wanted: Any) -> list[int]:
    """By hand, of all."""
    found = [
        id
        for id in range(1, MANY + 1)
        if id % 10
        and wanted.get("status") in (None, status_of(*stands(id)))
        and wanted.get("owner") in (None, owner_of(id))
    ]
    if not wanted.get("oldest_first"):
        found.reverse()
    if (beyond := wanted.get("beyond")) is not None:
        found = [id for id in found if (id > beyond if wanted.get("oldest_first") else id < beyond)]
    return found[: wanted.get("most", MANY)]


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"most": 7, "beyond": 33},
        {"most": 7, "beyond": 33, "oldest_first": True},
        {"status": "ordered"},
        {"status": "ordered", "oldest_first": True, "most": 4},
        {"status": "ordered", "oldest_first": True, "most": 4, "beyond": 24},
        {"status": "ready"},
        {"status": "ready", "most": 5, "beyond": 41},
        {"status": "cancelled", "most": 3},
        {"status": "failed"},
        {"owner": "bo"},
        {"owner": "bo", "status": "ordered"},
        {"owner": "eve"},
    ],
)
async def test_a_list_holds_what_matches_and_nothing_else(database: Database, wanted: dict[str, Any]) -> None:
    assert await database.read(lambda connection: asked(connection, **wanted)) == expected(**wanted)
    assert expected(**wanted) or wanted == {"owner": "eve"}


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        ({"status": "ordered", "oldest_first": True}, "operations_list (shop=? AND status=?)"),
        ({"status": "failed"}, "operations_list (shop=? AND status=?)"),
        ({"owner": "bo"}, "operations_of_owner (owner=? AND shop=? AND status=?)"),
    ],
)
async def test_what_does_not_match_is_not_read(tmp_path: Path, wanted: dict[str, Any], index: str) -> None:
    async with filled(f"sqlite:///{tmp_path / 'orderup.db'}", shop, fill) as database:
        steps = await steps_of(database, lambda connection: asked(connection, **wanted))
    assert any(index in step for step in steps), steps
    assert not any(step.startswith(("SCAN operations", "SCAN bakery_orders", "SCAN tasks")) for step in steps), steps
