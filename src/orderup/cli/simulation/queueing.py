"""How long a group of customers will wait at a coffee bar, foretold by playing their day in simulated time.

One line, served in the order in which they come, by so many baristas: each takes the next customer, and brews for a
time that is drawn. Arrivals and brewing times of a day are drawn beforehand, so that the same day can be played with
another number of baristas: one more never makes anybody wait longer. Of many days only the seed is kept, and each is
drawn again when it is played: there is memory for one of them, not for all.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import Any, overload

import simpy

from orderup.cli.simulation.arrivals import Arrivals
from orderup.cli.simulation.span import Span
from orderup.model.quantile import MEDIAN, NINETY_FIVE_PERCENT, quantile


@dataclass(frozen=True, slots=True)
class Group:
    """over_seconds: the time over which they come; 0: all at once."""

    customers: int
    brew: Span
    over_seconds: float = 0.0
    arrivals: Arrivals = Arrivals.RANDOM


@dataclass(frozen=True, slots=True)
class Day:
    """comes: when each customer does, in order; brews: how long his coffee takes. Seconds."""

    comes: Sequence[float]
    brews: Sequence[float]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Seconds from coming to having the coffee. busy: the share of the baristas' time that they brew."""

    p50: float
    p95: float
    longest: float
    busy: float


# Called before each day is played: with how many baristas, and the number of the day, from 1.
Told = Callable[[int, int], None]


def tell_nobody(_baristas: int, _day: int) -> None:
    """Of `Told`: for who has nothing to show."""


def draw_day(group: Group, random: Random) -> Day:
    """By lot."""
    # brewing times first: what comes at once and what comes later brew equally long
    brews = [group.brew.draw(random) for _ in range(group.customers)]
    if group.arrivals is Arrivals.EVEN:
        comes = [group.over_seconds * number / group.customers for number in range(group.customers)]
    else:
        comes = sorted(group.over_seconds * random.random() for _ in range(group.customers))
    return Day(comes, brews)


class Days(Sequence[Day]):
    """Each is drawn when it is looked at. The first has the seed itself, the others what follows from it."""

    def __init__(self, group: Group, seeds: range) -> None:
        self.group, self.seeds = group, seeds

    def __len__(self) -> int:
        return len(self.seeds)

    @overload
    def __getitem__(self, index: int) -> Day: ...

    @overload
    def __getitem__(self, index: slice) -> "Days": ...

    def __getitem__(self, index: int | slice) -> "Day | Days":
        if isinstance(index, slice):
            return Days(self.group, self.seeds[index])
        return draw_day(self.group, Random(self.seeds[index]))


def draw_days(group: Group, *, runs: int, seed: int) -> Days:
    """By lot; the same seed draws the same days."""
    return Days(group, range(seed, seed + runs))


def play(day: Day, baristas: int) -> Waiting:
    """One day, with so many baristas."""
    environment = simpy.Environment()
    bar = simpy.Resource(environment, capacity=baristas)
    waited: list[float] = []

    def visit(comes: float, brews: float) -> Generator[simpy.Event, Any, None]:
        yield environment.timeout(comes)
        with bar.request() as turn:
            yield turn
            yield environment.timeout(brews)
        waited.append(environment.now - comes)

    for comes, brews in zip(day.comes, day.brews, strict=True):
        environment.process(visit(comes, brews))
    environment.run()
    waited.sort()
    busy = sum(day.brews) / (baristas * environment.now) if environment.now else 0.0
    return Waiting(quantile(waited, MEDIAN), quantile(waited, NINETY_FIVE_PERCENT), waited[-1], busy)


def foretell(days: Sequence[Day], baristas: int, told: Told = tell_nobody) -> Waiting:
    """The mean of each figure over the days."""
    return mean_of(_play_each(days, baristas, told))


def _play_each(days: Sequence[Day], baristas: int, told: Told) -> Iterator[Waiting]:
    for number, day in enumerate(days, start=1):
        told(baristas, number)
        yield play(day, baristas)


def mean_of(waits: Iterable[Waiting]) -> Waiting:
    rows = [(each.p50, each.p95, each.longest, each.busy) for each in waits]
    p50, p95, longest, busy = (fmean(column) for column in zip(*rows, strict=True))
    return Waiting(p50, p95, longest, busy)


def least_baristas(days: Sequence[Day], *, wanted_p95: float, told: Told = tell_nobody) -> int | None:
    """So many serve 95 of 100 within that time, and one fewer do not; None: brewing alone takes longer.

    Found by halving: more baristas never make the wait longer, and with one for each customer nobody waits in line.
    """
    fewest, most = 1, max(1, len(days[0].comes))
    if foretell(days, most, told).p95 > wanted_p95:
        return None
    while fewest < most:
        middle = (fewest + most) // 2
        if foretell(days, middle, told).p95 <= wanted_p95:
            most = middle
        else:
            fewest = middle + 1
    return most


def neighbours(
    days: Sequence[Day], baristas: int, *, apart: int = 2, told: Told = tell_nobody
) -> Mapping[int, Waiting]:
    """Foretold for this number of baristas, and for some fewer and some more."""
    return {number: foretell(days, number, told) for number in range(max(1, baristas - apart), baristas + apart + 1)}
