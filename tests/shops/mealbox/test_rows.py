"""Orders' rows: as many as are asked for at once are read in one look."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy import Table

from orderup.model.ids import read_id
from tests.shops.mealbox.conftest import Kiosk

NONE = 17


async def test_rows_that_are_asked_for_at_once_are_read_in_one_look(
    kiosk: Kiosk, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [await kiosk.order(prefer="respond-async") for _ in range(5)]
    ids = [read_id(answer.json()["id"]) for answer in answers]
    counter = kiosk.house.keepers["mealbox"]
    database = kiosk.house.database
    look_up, looks = database.look_up, list[Sequence[int]]()

    async def look(table: Table, ids: Sequence[int]) -> Mapping[int, Mapping[str, Any]]:
        looks.append(ids)
        return await look_up(table, ids)

    monkeypatch.setattr(database, "look_up", look)
    rows = await asyncio.gather(*(counter.row(id) for id in (*ids, NONE)))  # type: ignore[attr-defined]
    assert [None if row is None else row["product_code"] for row in rows] == ["classic-box"] * 5 + [None]
    assert len(looks) == 1
