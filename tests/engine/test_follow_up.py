"""What follows upon an event: an order of its own, once for each, on both databases."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from orderup import Context, Misconfigured, Plan, PlannedTask, Shop
from orderup.cli.assembly import House
from orderup.db.tables import operations
from orderup.engine.follow_up import FollowUps
from orderup.engine.place import place_order
from orderup.engine.steer import cancel_operation
from orderup.model.event import Event
from orderup.model.ids import show_id
from orderup.model.operation import Operation
from tests.web.house import DATABASES, open_test_house, settings_for, until

CAKE = Plan([PlannedTask("bake")])


def cake_shop() -> Shop:
    """A cake that is cancelled is mourned, unless its plan had another task."""
    shop = Shop("cakes")
    shop.remote("bake")
    shop.remote("frost")

    @shop.handler()
    async def mourn(context: Context) -> Any:
        return context.params

    @shop.handler()
    async def call_off(context: Context) -> list[bool]:
        """Twice, and what stands there then."""
        id = context.params["operation_id"]
        first = await context.cancel(id, reason="no flour")
        return [first, await context.cancel(id, reason="no eggs")]

    @shop.handler()
    async def count(context: Context) -> int:
        return await context.read(lambda connection: len(connection.rows(select(operations.c.id))))

    @shop.follow_up("operation.cancelled")
    def mourn_it(_connection: Any, event: Event) -> Plan | None:
        if event.n > 2:
            return None
        return Plan([PlannedTask("mourn", {"operation_id": show_id(event.operation_id)})])

    return shop


@pytest.fixture(params=DATABASES)
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    is_file = request.param == "sqlite"
    values = {} if is_file else {"database_url": request.getfixturevalue("prepared_postgres")}
    async with open_test_house(settings_for(tmp_path, **values), shops=[cake_shop()]) as house:
        yield house


async def followed_up(house: House) -> list[int]:
    return await house.database.read(
        lambda connection: [row[0] for row in connection.rows(select(operations.c.id).where(_follows()))]
    )


def _follows() -> Any:
    return operations.c.source == "follow-up"


async def until_followed_up(house: House, count: int) -> list[int]:
    async def enough() -> list[int] | None:
        found = await followed_up(house)
        return found if len(found) >= count else None

    return await until(house, enough)


async def until_completed(house: House, id: int) -> Any:
    """The result of its first task."""

    async def completed() -> Operation | None:
        operation = (await house.database.load([id]))[id]
        return operation if operation.status == "completed" else None

    return (await until(house, completed)).tasks[0].result


async def test_what_is_cancelled_has_its_follow_up_and_what_is_not_has_none(house: House) -> None:
    kept = await place_order(house.engine, "cakes", CAKE)
    gone = await place_order(house.engine, "cakes", CAKE)
    await cancel_operation(house.engine, gone.id, reason="no flour")
    [follow_up] = await until_followed_up(house, 1)
    assert await until_completed(house, follow_up) == f'{{"operation_id":"{show_id(gone.id)}"}}'
    assert (await house.database.load([kept.id]))[kept.id].status == "running"


async def test_an_event_that_comes_again_is_followed_up_once(house: House) -> None:
    placed = [await place_order(house.engine, "cakes", CAKE) for _ in range(3)]
    for operation in placed:
        await cancel_operation(house.engine, operation.id, reason="no flour")
    await until_followed_up(house, 3)
    target = FollowUps(house.engine, "cakes", cake_shop().follow_ups)
    told = [event for event in await house.database.log(0).read(100) if target.wants(event)]
    assert len(told) == 3
    for _ in range(2):
        prepared = await house.database.read(lambda connection: target.prepare(connection, told))
        assert await target.send([each for each in prepared if each is not None]) == [None] * 3
    assert len(await followed_up(house)) == 3


async def test_a_handler_cancels_an_order_of_its_shop_and_hears_when_it_is_too_late(house: House) -> None:
    cake = await place_order(house.engine, "cakes", CAKE)
    doing = await place_order(
        house.engine, "cakes", Plan([PlannedTask("call_off", {"operation_id": show_id(cake.id)})])
    )
    assert await until_completed(house, doing.id) == "[true,false]"
    stands = (await house.database.load([cake.id]))[cake.id]
    assert (stands.status, stands.reason) == ("cancelled", "no flour")


async def test_a_handler_reads_what_is_there_now(house: House) -> None:
    await place_order(house.engine, "cakes", CAKE)
    doing = await place_order(house.engine, "cakes", Plan([PlannedTask("count")]))
    assert await until_completed(house, doing.id) == "2"


def test_an_event_is_followed_up_in_one_way_only() -> None:
    shop = cake_shop()
    with pytest.raises(Misconfigured, match="twice"):
        shop.follow_up("operation.cancelled")(lambda _connection, _event: None)
    with pytest.raises(Misconfigured, match="no event"):
        shop.follow_up("operation.eaten")(lambda _connection, _event: None)
