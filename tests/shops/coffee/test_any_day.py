"""Any day at the bar, against a plain model of it: orders, hang-ups, starts, finishes, leases that run out, customers
who come back, orders that nobody came back for, and restarts."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from orderup.model import work
from orderup.model.ids import read_id
from orderup.model.operation import Draft
from orderup.web.orders import load
from tests.serving import sqlite_url
from tests.shops.coffee.barista import CoffeeBar, Customer, open_bar, settings_of


@dataclass(slots=True)
class Order:
    """As the model has it. state: waiting, started, ready, or left. is_lost: it came back to the head of the line."""

    id: str
    key: str | None
    customer: Customer | None
    state: str = "waiting"
    is_lost: bool = False


class Day:
    """The bar, and the model beside it: a list of orders in the order in which they were placed."""

    def __init__(self, url: str, stack: AsyncExitStack) -> None:
        self.url, self.stack = url, stack
        self.orders: list[Order] = []
        self.bar: CoffeeBar

    async def open(self) -> None:
        self.opened = await self.stack.enter_async_context(AsyncExitStack())
        values = {"coffee_keep_seconds": 3600, "coffee_orphan_seconds": 3600}
        self.bar = await self.opened.enter_async_context(open_bar(settings_of(self.url, **values)))

    def pick(self, state: str, lot: int) -> Order | None:
        found = [order for order in self.orders if order.state == state]
        return found[lot % len(found)] if found else None

    @property
    def line(self) -> list[Order]:
        waiting = [order for order in self.orders if order.state == "waiting"]
        return sorted(waiting, key=lambda order: not order.is_lost)

    async def until_line_is(self) -> None:
        """Whoever left is out, whoever came is in."""
        expected = {order.id for order in self.orders if order.state in ("waiting", "started")}
        await self.bar.until(lambda found: set(found) == expected, what="the line is as the model has it")

    # what happens

    async def order(self, lot: int) -> None:
        key = f"key-{len(self.orders)}" if lot % 2 else None
        before = set(await self.bar.open_orders())
        customer = await self.bar.order(key=key)
        [id] = set(await self.bar.open_orders()) - before
        self.orders.append(Order(id, key, customer))

    async def hang_up(self, lot: int) -> None:
        there = [order for order in self.orders if order.customer and order.state in ("waiting", "started")]
        if not there:
            return
        order = there[lot % len(there)]
        assert order.customer is not None
        await order.customer.hang_up()
        order.customer = None
        if order.key is None and order.state == "waiting":
            order.state = "left"

    async def come_back(self, lot: int) -> None:
        away = [o for o in self.orders if o.key and not o.customer and o.state in ("waiting", "started")]
        if away:
            order = away[lot % len(away)]
            order.customer = self.bar.ask(key=order.key)
            # he is there once it is known who holds his connection
            await self.until_all_are_held()

    async def until_all_are_held(self) -> None:
        keeper: Any = self.bar.house.keepers["coffee"]
        expected = sum(each.customer is not None and not each.customer.task.done() for each in self.orders)
        async with asyncio.timeout(20):
            while keeper.waiting != expected:  # noqa: ASYNC110  # its count is told to nobody
                await asyncio.sleep(0.01)

    async def nobody_came(self, lot: int) -> None:
        """The time for which an order is kept is over."""
        away = [o for o in self.orders if o.key and not o.customer and o.state == "waiting"]
        if away:
            order = away[lot % len(away)]
            keeper: Any = self.bar.house.keepers["coffee"]
            keeper.hold(await load(self.bar.house.engine, read_id(order.id)), seconds=0)
            order.state = "left"

    async def start(self, _lot: int) -> None:
        line = self.line
        started = await self.bar.start(wait=5 if line else 0)
        assert started == (line[0].id if line else None)
        if line:
            line[0].state = "started"

    async def finish(self, lot: int) -> None:
        if order := self.pick("started", lot):
            assert (await self.bar.finish(order.id)).json() == {"order_id": order.id, "status": "ready"}
            await self.drink(order)

    async def drink(self, order: Order) -> None:
        order.state = "ready"
        if order.customer is not None:
            assert (await order.customer.coffee())["order_id"] == order.id

    async def finish_late(self, lot: int) -> None:
        """One whose lease ran out is ready all the same."""
        lost = [order for order in self.line if order.is_lost]
        if lost:
            order = lost[lot % len(lost)]
            assert (await self.bar.finish(order.id)).status_code == 200
            await self.drink(order)

    async def finish_what_was_not_started(self, lot: int) -> None:
        fresh = [order for order in self.line if not order.is_lost]
        if fresh:
            assert (await self.bar.finish(fresh[lot % len(fresh)].id)).status_code == 409

    async def finish_again(self, lot: int) -> None:
        if order := self.pick("ready", lot):
            assert (await self.bar.finish(order.id)).json()["status"] == "ready"

    async def lose(self, lot: int) -> None:
        """A barista's lease runs out."""
        order = self.pick("started", lot)
        if order is None:
            return
        engine = self.bar.house.engine

        def lose(draft: Draft) -> None:
            work.lose(draft, 0, token=draft.task(0).token or "", now=engine.now())

        await engine.desk.decide(read_id(order.id), lose)
        # who had left while it was brewed is not brewed for again
        is_awaited = order.customer is not None or order.key is not None
        order.state, order.is_lost = ("waiting", True) if is_awaited else ("left", False)

    async def restart(self, _lot: int) -> None:
        """Everybody is hung up on; all orders are kept."""
        self.bar.customers.clear()  # it is the bar that hangs up, not they
        await self.opened.aclose()
        for order in self.orders:
            if order.customer is not None and order.state != "ready":
                assert await order.customer.answer() is None
                order.customer = None
        await self.open()


STEPS = (
    *["order"] * 5,
    *["start"] * 3,
    *("finish", "hang_up", "hang_up", "come_back", "nobody_came", "lose"),
    *("finish_late", "finish_again", "finish_what_was_not_started"),
)
STEPS_A_DAY, RESTARTS_A_DAY = 45, 2


@pytest.mark.parametrize("seed", range(4))
async def test_any_day_goes_as_the_model_has_it(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    steps = [*random.choices(STEPS, k=STEPS_A_DAY), *["restart"] * RESTARTS_A_DAY]
    random.shuffle(steps)
    async with AsyncExitStack() as stack:
        day = Day(sqlite_url(tmp_path), stack)
        await day.open()
        for name in steps:
            await getattr(day, name)(random.randrange(100))
            await day.until_line_is()
        while day.line:
            await day.start(0)
            await day.until_line_is()
        statuses = {each["id"]: each["status"] for each in await day.bar.operations()}
        ends = {"ready": "completed", "left": "cancelled", "started": "running"}
        assert statuses == {order.id: ends[order.state] for order in day.orders}
