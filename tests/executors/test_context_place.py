"""Orders that handlers place: once for each key, on both databases."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from orderup import Conflict, Context, Plan, PlannedTask, Retry, Shop, TaskFailed
from orderup.cli.assembly import House
from orderup.db.database import WriteConnection
from orderup.db.tables import operations
from orderup.engine.place import place_order
from orderup.errors import KeyMisused
from orderup.model.ids import show_id
from orderup.model.operation import Operation
from tests.web.house import DATABASES, open_test_house, settings_for, until

CAKE = Plan([PlannedTask("bake")])


def cake_shop() -> Shop:
    shop = Shop("cakes")
    shop.remote("bake")

    @shop.handler(retry=Retry(attempts=3))
    async def order_cakes(context: Context) -> list[str]:
        """Of these names, and fails once after it has."""
        placed = await asyncio.gather(*(context.place(CAKE, key=name) for name in context.params["names"]))
        if context.attempt == 1:
            raise TaskFailed("the lights went out")
        return list(placed)

    @shop.handler()
    async def misuse_a_key(context: Context) -> str:
        await context.place(CAKE, key="mine")
        try:
            await context.place(Plan([PlannedTask("bake", {"layers": 2})]), key="mine")
        except KeyMisused:
            return "refused"
        return "placed"

    @shop.handler()
    async def think_better_of_it(context: Context) -> str:
        def refuse(_connection: WriteConnection, _operation_id: int) -> None:
            raise Conflict("there is no flour")

        try:
            await context.place(CAKE, key="no flour", also=refuse)
        except Conflict as error:
            return str(error)
        return "placed"

    return shop


@pytest.fixture(params=DATABASES)
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    is_file = request.param == "sqlite"
    values = {} if is_file else {"database_url": request.getfixturevalue("prepared_postgres")}
    async with open_test_house(settings_for(tmp_path, **values), shops=[cake_shop()]) as house:
        yield house


async def result_of(house: House, kind: str, **params: Any) -> Any:
    placed = await place_order(house.engine, "cakes", Plan([PlannedTask(kind, params)]))

    async def completed() -> Operation | None:
        operation = (await house.database.load([placed.id]))[placed.id]
        return operation if operation.status == "completed" else None

    return (await until(house, completed)).tasks[0].result


async def placed_by_handlers(house: House) -> set[str]:
    ours = select(operations.c.id).where(operations.c.source == "handler")
    return await house.database.read(lambda connection: {show_id(row[0]) for row in connection.rows(ours)})


async def test_a_handler_that_is_done_again_places_nothing_again(house: House) -> None:
    result = await result_of(house, "order_cakes", names=["lemon", "plum"])
    placed = await placed_by_handlers(house)
    assert len(placed) == 2
    assert all(id in result for id in placed)


async def test_a_key_is_the_shops_whichever_handler_comes_with_it(house: House) -> None:
    first = await result_of(house, "order_cakes", names=["lemon"])
    assert await result_of(house, "order_cakes", names=["lemon"]) == first
    assert len(await placed_by_handlers(house)) == 1


async def test_a_key_does_not_stand_for_two_plans(house: House) -> None:
    assert await result_of(house, "misuse_a_key") == '"refused"'
    assert len(await placed_by_handlers(house)) == 1


async def test_what_is_refused_while_it_is_written_is_not_placed(house: House) -> None:
    assert await result_of(house, "think_better_of_it") == '"there is no flour"'
    assert await placed_by_handlers(house) == set()
