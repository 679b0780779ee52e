"""The pizzeria's customers and staff, simulated.

Each customer knows beforehand how his order should end: most eat, some live where nobody delivers and are declined,
some change their minds and cancel. So every order can be checked.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog

from orderup.cli.simulation.follow import Following, follow
from orderup.cli.simulation.people import CUSTOMERS, Day, People
from orderup.cli.simulation.stage import Answered, Stage
from orderup.shop import Shop
from orderup.shops.pizza.plan import DEFAULT_REGION
from orderup.shops.pizza.status import STATUS_WORDS
from orderup.web.tokens import Role

if TYPE_CHECKING:
    from orderup.cli.simulation.summary import Summary

log = structlog.get_logger("orderup.simulation")
PIZZAS = (("Margherita", "basic"), ("Capricciosa", "standard"), ("Parma", "premium"))
TOO_FAR = "Sea of Tranquility"
FAR_NOTE = "We do not deliver to the Moon yet."
DECLINED_SHARE, CANCELLED_SHARE, BREAK_SHARE = 0.1, 0.1, 0.25
# Seconds of life that staff looks at one request, and how many are looked at together.
THINKING_SECONDS, CLERKS = 4.0, 4
LOOK_EVERY_SECONDS = 0.25
STAFF = "staff"
# Orders a second, in life; unless told otherwise at most so many a second whatever the speed.
RATE, MOST_RATE = 0.5, 200.0
# What a customer may read before he changes his mind.
REGRETS = ("operation.placed", "rfa.approved", "task.started")
ENDS = {
    "operation.completed": "completed",
    "operation.errored": "failed",
    "operation.cancelled": "cancelled",
    "rfa.declined": "declined",
    "rfa.expired": "expired",
}
STATUSES = tuple(STATUS_WORDS.values())


class Fate(StrEnum):
    """How a customer's order should end."""

    EATS = "completed"
    TOO_FAR = "declined"
    REGRETS = "cancelled"


@dataclass(slots=True)
class Order:
    """One order, as its customer knows it. status: by what he read last; told: by asking at the end."""

    number: int
    fate: Fate
    regrets_at: str
    breaks_after: int | None
    id: str = ""
    status: str = "ordering"
    told: str = ""
    following: Following = field(default_factory=Following)
    problem: str = ""

    @property
    def has_ended(self) -> bool:
        return bool(self.told or self.problem)

    @property
    def ended_well(self) -> bool:
        return not self.problem and self.told == self.status == self.fate and not self.following.repeats


def draw_order(stage: Stage, number: int) -> Order:
    """By lot."""
    lot = stage.random.random()
    fate = Fate.EATS
    if lot < DECLINED_SHARE + CANCELLED_SHARE:
        fate = Fate.TOO_FAR if lot < DECLINED_SHARE else Fate.REGRETS
    breaks_after = stage.random.randint(1, 3) if stage.random.random() < BREAK_SHARE else None
    return Order(number, fate, stage.random.choice(REGRETS), breaks_after)


class Pizzeria(People):
    """Customers, staff, and workers in the kitchen."""

    own_roles = (CUSTOMERS, STAFF)
    statuses = ("ordering", *STATUSES)

    def __init__(self, shop: Shop, day: Day) -> None:
        super().__init__(shop, day)
        self.orders: list[Order] = []

    @property
    def visits(self) -> Sequence[Order]:
        return self.orders

    @asynccontextmanager
    async def at_work(self, stage: Stage, roles: Collection[str], *, name: str) -> AsyncIterator[None]:
        async with super().at_work(stage, roles, name=name), asyncio.TaskGroup() as group:
            deciding = group.create_task(be_staff(stage), name=STAFF) if STAFF in roles else None
            yield
            if deciding is not None:
                deciding.cancel()

    async def be_customers(self, stage: Stage, told: Callable[[], None]) -> None:
        """Place `rate` orders a second, `count` of them or for ever, and see each to its end."""
        count, rate = self.day.count, self.day.rate
        a_second = min(RATE * stage.speed, MOST_RATE) if rate is None else rate * stage.speed
        async with asyncio.TaskGroup() as group:
            number = 0
            while count is None or number < count:
                number += 1
                order = draw_order(stage, number)
                if count is not None:
                    self.orders.append(order)
                group.create_task(be_customer(stage, order, told), name=f"customer {number}")
                await asyncio.sleep(stage.random.expovariate(a_second))

    async def sum_up(self, stage: Stage, *, seconds: float) -> "Summary":
        from orderup.cli.simulation.summary import sum_up

        return await sum_up(stage, self.orders, wanted=self.day.count or len(self.orders), seconds=seconds)


async def be_customer(stage: Stage, order: Order, told: Callable[[], None]) -> None:
    """Order, follow, perhaps cancel, and ask at the end how it stands."""
    try:
        links = await _place(stage, order)
        told()
        regrets = order.fate is Fate.REGRETS
        async with aclosing(follow(stage, links["live"], order.following, breaks_after=order.breaks_after)) as events:
            async for event in events:
                _read(order, event)
                told()
                if regrets and event["type"] == order.regrets_at:
                    regrets = False
                    await _cancel(stage, order, links["cancel"])
                if event["type"] in ENDS:
                    break
        order.told = (await stage.ask("GET", links["self"]))["status"]
    except Answered as error:
        order.problem = str(error)
        log.warning("the customer gives up", operation_id=order.id, error=str(error))
    told()


async def _place(stage: Stage, order: Order) -> dict[str, str]:
    name, tier = stage.random.choice(PIZZAS)
    body = {
        "name": name,
        "tier": tier,
        "region": DEFAULT_REGION,
        "delivery_address": f"{order.number} {TOO_FAR if order.fate is Fate.TOO_FAR else 'Harbour Lane'}",
        "customer": f"Customer {order.number}",
    }
    key = str(UUID(int=stage.random.getrandbits(128), version=4))
    placed = await stage.ask("POST", f"{stage.front}/pizzas", key=key, json=body)
    order.id, order.status = placed["id"], placed["status"]
    links: dict[str, str] = placed["links"]
    return links


def _read(order: Order, event: dict[str, Any]) -> None:
    log.info(event["message"], operation_id=order.id)
    if event["type"] == "task.started":
        order.status = STATUS_WORDS[event["task"]]
    elif event["type"] == "rfa.approved":
        order.status = STATUS_WORDS["running"]
    else:
        order.status = ENDS.get(event["type"], order.status)


async def _cancel(stage: Stage, order: Order, url: str) -> None:
    """Who comes too late gets a pizza after all."""
    try:
        await stage.ask("DELETE", url)
    except Answered as error:
        if error.status != 409:
            raise
        order.fate = Fate.EATS


async def be_staff(stage: Stage) -> None:
    """Answer every request for approval, the oldest first, until cancelled."""
    while True:
        waiting = (await stage.ask("GET", f"{stage.api}/api/rfas?shop=pizza&limit=100", role=Role.STAFF))["rfas"]
        clerks = asyncio.Semaphore(CLERKS)
        async with asyncio.TaskGroup() as group:
            for rfa in waiting:
                group.create_task(_answer(stage, rfa["id"], clerks), name=f"staff: {rfa['id']}")
        if not waiting:
            await asyncio.sleep(LOOK_EVERY_SECONDS)


async def _answer(stage: Stage, id: str, clerks: asyncio.Semaphore) -> None:
    async with clerks:
        try:
            order = await stage.ask("GET", f"{stage.back}/pizzas/{id}", role=Role.STAFF)
            await stage.live_for(THINKING_SECONDS)
            is_too_far = TOO_FAR in (order["delivery_address"] or "")
            verb, notes = ("decline", FAR_NOTE) if is_too_far else ("approve", None)
            await stage.ask("POST", f"{stage.api}/api/rfas/{id}/{verb}", role=Role.STAFF, json={"notes": notes})
            log.info("staff decides", operation_id=id, verb=verb)
        except Answered as error:
            if error.status not in (404, 409):  # somebody else was quicker, or the customer thought better of it
                raise
