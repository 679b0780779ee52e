"""A shop's people, to be played: customers, and whoever serves them.

Of any shop those can be played who do its remote tasks. Who else comes to a shop stands in a file of its own, as a
class that knows more; the table says where.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from orderup.cli.simulation.span import Span
from orderup.cli.simulation.stage import Stage
from orderup.shop import Shop

# By the shop's name.
PEOPLE: Mapping[str, str] = {
    "coffee": "orderup.cli.simulation.coffee:CoffeeBar",
    "pizza": "orderup.cli.simulation.pizza:Pizzeria",
}
CUSTOMERS, WORKERS = "customers", "workers"
# Nothing at all has happened for so long: something hangs.
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Day:
    """What is played. count: orders; None: it goes on. rate: orders a second, in life; None: as usual in that shop.
    baristas, brew: at a coffee bar, how many there are and how long one coffee takes them."""

    count: int | None
    baristas: int
    brew: Span
    rate: float | None = None


class Visit(Protocol):
    """One customer and his order, as he knows it."""

    @property
    def status(self) -> str: ...

    @property
    def has_ended(self) -> bool: ...


class Outcome(Protocol):
    """What a day came to."""

    @property
    def is_good(self) -> bool: ...

    def text(self) -> str: ...


class People:
    """statuses: what a visit goes through, in order. visits: all of this day, if they are counted. team: what those who
    serve are called in a demo. usual_count, usual_speed: of a demo."""

    own_roles: Sequence[str] = ()
    statuses: Sequence[str] = ()
    team, usual_count, usual_speed = "kitchen", 50, 20.0

    def __init__(self, shop: Shop, day: Day) -> None:
        self.shop, self.day = shop, day

    @property
    def roles(self) -> Sequence[str]:
        """Who can be played."""
        return (*self.own_roles, *((WORKERS,) if self.shop.worker_functions else ()))

    @property
    def visits(self) -> Sequence[Visit]:
        return ()

    def settings(self, *, speed: float) -> Mapping[str, Any]:
        """What the server of a demo needs to be told: all its customers come from one address, and life is faster."""
        del speed
        return {}

    def patience_seconds(self, *, speed: float) -> float:
        """For so long nothing may happen on a day on which all is well."""
        del speed
        return PATIENCE_SECONDS

    @asynccontextmanager
    async def at_work(self, stage: Stage, roles: Collection[str], *, name: str) -> AsyncIterator[None]:
        """Whoever of these serves, for the length of the block. name: what those begin with who have one."""
        from orderup.cli.simulation.workers import workers_of

        if WORKERS not in roles:
            yield
            return
        async with workers_of(self.shop, stage, region=self.shop.region, name=name):
            yield

    async def be_customers(self, stage: Stage, told: Callable[[], None]) -> None:
        """Come, and see every order to its end. `told` is called whenever something moves."""
        raise NotImplementedError

    async def sum_up(self, stage: Stage, *, seconds: float) -> Outcome:
        """To be asked when all is over. seconds: that it took."""
        raise NotImplementedError


def people_of(shop: Shop) -> type[People]:
    """By the table."""
    if shop.name not in PEOPLE:
        return People
    module, _, name = PEOPLE[shop.name].partition(":")
    people: type[People] = getattr(import_module(module), name)
    return people
