"""An order that was forgotten stays as it is: nothing is left to do it with."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from orderup.db.database import Change, Database, Refusal
from orderup.db.tables import keys
from orderup.engine.forget import forget_order
from orderup.engine.steer import rerun_task, retry_operation
from orderup.errors import Conflict
from orderup.model.operation import Operation
from orderup.model.plan import Plan, PlannedTask
from tests.engine.kitchen import SHOP, Kitchen, Time, key_of

CAKE = Plan.chain(PlannedTask("dough", params={"name": "Hypatia"}), PlannedTask("top"))
Verb = Callable[..., Awaitable[None]]


async def rerun(kitchen: Kitchen, order: Operation, **options: Any) -> None:
    await rerun_task(kitchen.engine, order.id, 0, **options)


async def retry(kitchen: Kitchen, order: Operation, **options: Any) -> None:
    await retry_operation(kitchen.engine, order.id, **options)


VERBS = pytest.mark.parametrize("verb", [retry, rerun])


async def forget(kitchen: Kitchen, order: Operation) -> None:
    await forget_order(kitchen.engine, order.id, shops={SHOP: None})


async def errored(kitchen: Kitchen, plan: Plan = CAKE) -> Operation:
    order = await kitchen.place(plan)
    await kitchen.fail(await kitchen.take("dough"), "Hypatia is not at home", final=True)
    return order


@VERBS
@pytest.mark.parametrize("plan", [CAKE, Plan([PlannedTask("dough")])])
async def test_a_forgotten_order_cannot_be_tried_again(kitchen: Kitchen, verb: Verb, plan: Plan) -> None:
    order = await errored(kitchen, plan)
    await forget(kitchen, order)
    async with kitchen.refused(Conflict, order, match="was forgotten: it cannot be tried again"):
        await verb(kitchen, order)


@VERBS
async def test_forgotten_twice_it_is_still_forgotten(kitchen: Kitchen, verb: Verb) -> None:
    order = await errored(kitchen)
    await forget(kitchen, order)
    async with kitchen.refused(Conflict, order, match="was forgotten"):
        await forget(kitchen, order)
        await verb(kitchen, order)


@VERBS
async def test_the_key_of_a_refused_try_is_not_stored(kitchen: Kitchen, verb: Verb) -> None:
    order = await errored(kitchen)
    await forget(kitchen, order)
    for _ in range(2):
        with pytest.raises(Conflict, match="was forgotten"):
            await verb(kitchen, order, key=key_of("again"))
    assert await kitchen.rows(keys) == []


@VERBS
async def test_an_order_that_was_not_forgotten_is_tried_again_with_its_parameters(kitchen: Kitchen, verb: Verb) -> None:
    forgotten, order = await errored(kitchen), await errored(kitchen)
    await forget(kitchen, forgotten)
    await verb(kitchen, order)
    assert (await kitchen.take("dough")).task.params == '{"name":"Hypatia"}'


@VERBS
async def test_an_order_that_is_tried_again_cannot_be_forgotten(kitchen: Kitchen, verb: Verb) -> None:
    order = await errored(kitchen)
    await verb(kitchen, order)
    async with kitchen.refused(Conflict, order, match="under way"):
        await forget(kitchen, order)


class Overtaken:
    """A database at which somebody is faster: what he does is written just before the first change that comes."""

    def __init__(self, database: Database, meanwhile: Callable[[], Awaitable[None]]) -> None:
        self._database, self._meanwhile = database, meanwhile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def change(self, change: Change) -> "asyncio.Future[Refusal | None]":
        return asyncio.ensure_future(self._change(change))

    async def _change(self, change: Change) -> Refusal | None:
        await self._meanwhile()
        return await self._database.change(change)


@VERBS
async def test_an_order_that_is_forgotten_while_it_is_to_be_tried_again_stays_as_it_is(
    kitchen: Kitchen, time: Time, verb: Verb
) -> None:
    order = await errored(kitchen)

    async def meanwhile() -> None:
        await forget(kitchen, order)

    slow = Kitchen(cast("Database", Overtaken(kitchen.database, meanwhile)), time)
    with pytest.raises(Conflict, match="was forgotten"):
        await verb(slow, order)
    assert await kitchen.state(order) == "errored: dough errored, top blocked"
