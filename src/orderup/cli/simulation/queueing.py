"""How long a group of customers will wait at a coffee bar, foretold by playing their day in simulated time.

One line, served in the order in which they come, by so many baristas: each takes the next customer, and brews for a
time that is drawn. Arrivals and brewing times of a day are drawn beforehand, so that the same day can be played with
another number of baristas: one more never makes anybody wait longer.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import Any

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


def draw_day(group: Group, random: Random) -> Day:
    """By lot."""
    # brewing times first: what comes at once and what comes later brew equally long
    brews = [group.brew.draw(random) for _ in range(group.customers)]
    if group.arrivals is Arrivals.EVEN:
        comes = [group.over_seconds * number / group.customers for number in range(group.customers)]
    else:
        comes = sorted(group.over_seconds * random.random() for _ in range(group.customers))
    return Day(comes, brews)


def draw_days(group: Group, *, runs: int, seed: int) -> list[Day]:
    """The first of them has the seed itself, the others what follows from it."""
    return [draw_day(group, Random(seed + number)) for number in range(runs)]


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
    busy = sum(day.brews) / (baristas * environment.now)
    return Waiting(quantile(waited, MEDIAN), quantile(waited, NINETY_FIVE_PERCENT), waited[-1], busy)


def foretell(days: Sequence[Day], baristas: int) -> Waiting:
    """The mean of each figure over the days."""
    return mean_of([play(day, baristas) for day in days])


def mean_of(waits: Iterable[Waiting]) -> Waiting:
    rows = [(each.p50, each.p95, each.longest, each.busy) for each in waits]
    p50, p95, longest, busy = (fmean(column) for column in zip(*rows, strict=True))
    return Waiting(p50, p95, longest, busy)


def least_baristas(days: Sequence[Day], *, wanted_p95: float) -> int | None:
    """So many serve 95 of 100 within that time, and one fewer do not; None: brewing alone takes longer.

    Found by halving: more baristas never make the wait longer, and with one for each customer nobody waits in line.
    """
    fewest, most = 1, max(1, len(days[0].comes))

    if foretell(days, most).p95 > wanted_p95:
        return None
    while fewest < most:
        middle = (fewest + most) // 2
        if foretell(days, middle).p95 <= wanted_p95:
            most = middle
        else:
            fewest = middle + 1
    return most


def neighbours(days: Sequence[Day], baristas: int, *, apart: int = 2) -> Mapping[int, Waiting]:
    """Foretold for this number of baristas, and for some fewer and some more."""
    return {number: foretell(days, number) for number in range(max(1, baristas - apart), baristas + apart + 1)}
