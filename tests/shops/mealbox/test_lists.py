"""Lists of orders, the newest first: what matches is found among however many that do not."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import insert

from orderup.db.database import Database, ReadConnection, WriteConnection
from orderup.shops.mealbox import shop
from orderup.shops.mealbox.tables import list_orders, mealbox_orders
from tests.shops.lists import add_operation, filled, filled_one, steps_of
from tests.web.house import DATABASES

MANY = 60


@pytest_asyncio.fixture(params=DATABASES)
async def database(request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    async with filled_one(request, shop, fill) as database:
        yield database


def fill(connection: WriteConnection) -> None:
    """Orders 1 to MANY, each third one errored, each fourth one Bo's, the rest Ann's. Those of tens have no row."""
    for id in range(1, MANY + 1):
        status, owner = "errored" if id % 3 == 0 else "completed", "bo" if id % 4 == 0 else "ann"
        add_operation(connection, shop, id=id, status=status, owner=owner)
        if id % 10:
            order = {"operation_id": id, "user_id": f"u{id % 2}", "product_code": "classic-box", "is_accepted": 1}
            connection.execute(insert(mealbox_orders).values(**order))


def asked(connection: ReadConnection, **wanted: Any) -> list[int]:
    everything: dict[str, Any] = {"user_id": None, "statuses": [], "owner": None, "before": None, "most": MANY}
    return [row["operation_id"] for row in list_orders(connection, **{**everything, **wanted})]


def expected(**wanted: Any) -> list[int]:
    """By hand, of all."""
    most, before = wanted.get("most", MANY), wanted.get("before") or MANY + 1
    found = [
        id
        for id in range(MANY, 0, -1)
        if id % 10
        and id < before
        and (not wanted.get("statuses") or ("errored" if id % 3 == 0 else "completed") in wanted["statuses"])
        and wanted.get("owner") in (None, "bo" if id % 4 == 0 else "ann")
        and wanted.get("user_id") in (None, f"u{id % 2}")
    ]
    return found[:most]


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"most": 7},
        {"statuses": ["errored"]},
        {"statuses": ["errored"], "most": 3},
        {"statuses": ["errored"], "most": 4, "before": 40},
        {"statuses": ["errored", "completed"], "most": 11},
        {"statuses": ["running"]},
        {"owner": "bo"},
        {"owner": "bo", "most": 4, "before": 50},
        {"owner": "bo", "statuses": ["errored"]},
        {"owner": "eve"},
        {"user_id": "u1", "statuses": ["errored"], "owner": "ann"},
        {"user_id": "u0", "before": 21, "most": 5},
    ],
)
async def test_a_list_holds_what_matches_and_nothing_else(database: Database, wanted: dict[str, Any]) -> None:
    assert await database.read(lambda connection: asked(connection, **wanted)) == expected(**wanted)


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        ({"statuses": ["errored"]}, "operations_list (shop=? AND status=?)"),
        ({"owner": "bo"}, "operations_of_owner (owner=? AND shop=? AND status=?)"),
        ({"owner": "bo", "statuses": ["errored"]}, "operations_of_owner (owner=? AND shop=? AND status=?)"),
    ],
)
async def test_what_does_not_match_is_not_read(tmp_path: Path, wanted: dict[str, Any], index: str) -> None:
    async with filled(f"sqlite:///{tmp_path / 'orderup.db'}", shop, fill) as database:
        steps = await steps_of(database, lambda connection: asked(connection, **wanted))
    assert any(index in step for step in steps), steps
    assert not any(step.startswith(("SCAN operations", "SCAN mealbox_orders")) for step in steps), steps
