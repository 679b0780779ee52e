"""The coffee bar's customers and baristas, simulated.

A customer asks for a coffee, and waits on that request until he has it; whoever is hung up on asks again under his key
and finds his order in its old place. A barista starts one coffee at a time, brews, and says that it is finished.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import structlog

from orderup.cli.simulation.people import CUSTOMERS, PATIENCE_SECONDS, Day, People
from orderup.cli.simulation.record import count_completions, fetch_operations
from orderup.cli.simulation.stage import ANSWER_SECONDS, Answered, Stage
from orderup.errors import Misconfigured
from orderup.model.quantile import MEDIAN, NINETY_FIVE_PERCENT, quantile
from orderup.shop import Shop
from orderup.web.tokens import Role

log = structlog.get_logger("orderup.simulation")
BARISTAS = "baristas"
# Customers a second, in life, if they come for ever: four in five of what ten baristas manage.
RATE = 0.18
# Who has not been answered for so long asks again: the connection may be dead, and his place is kept.
ASKS_AGAIN_SECONDS = 300.0
# A barista with nothing to do asks for so long at a time. One who goes home has so long for the coffee at hand.
START_SECONDS, LAST_SECONDS = 20.0, 5.0
# Each of them holds a connection, and in a demo both ends of it are in one process.
MOST_AT_ONCE = 5_000
NO_LIMIT = 1_000_000
MOST_SHOWN = 10
WHOLE_FROM_SECONDS = 9.95


def in_seconds(seconds: float) -> str:
    """As many digits as tell it: whole seconds, and two digits of what is shorter than ten."""
    return f"{seconds:.0f} s" if seconds >= WHOLE_FROM_SECONDS else f"{seconds:.2g} s"


@dataclass(slots=True)
class Visit:
    """One customer. id: of his order, which he learns with his coffee. waited_seconds: of life, until he had it."""

    number: int
    status: str = "waiting"
    id: str = ""
    waited_seconds: float = 0.0
    problem: str = ""

    @property
    def has_ended(self) -> bool:
        return self.status != "waiting"


class CoffeeBar(People):
    """Customers and baristas. finished: how many coffees, by barista. brewed: how often, by order. at_hand:
    orders that are being brewed."""

    own_roles = (CUSTOMERS, BARISTAS)
    statuses = ("waiting", "ready", "failed")
    team, usual_count, usual_speed = "barista", 200, 60.0

    def __init__(self, shop: Shop, day: Day, *, random: Random | None = None) -> None:
        """random: decides how long each coffee takes, in the order in which they are started."""
        super().__init__(shop, day)
        if day.rate is None and (day.count or 0) > MOST_AT_ONCE:
            raise Misconfigured(f"At most {MOST_AT_ONCE:,} customers come at once, not {day.count:,}.")
        self.random = random
        self.guests: list[Visit] = []
        self.finished: Counter[str] = Counter()
        self.brewed: Counter[str] = Counter()
        self.at_hand: set[str] = set()

    @property
    def visits(self) -> Sequence[Visit]:
        return self.guests

    def settings(self, *, speed: float) -> Mapping[str, Any]:
        lease = min(86_400, 60 + math.ceil(2 * self.day.brew.most / speed))
        return {
            "client_open_orders": NO_LIMIT,
            "client_orders_a_minute": NO_LIMIT,
            "coffee_lease_seconds": lease,
        }

    def patience_seconds(self, *, speed: float) -> float:
        return PATIENCE_SECONDS + 2 * self.day.brew.most / speed

    @asynccontextmanager
    async def at_work(self, stage: Stage, roles: Collection[str], *, name: str) -> AsyncIterator[None]:
        async with super().at_work(stage, roles, name=name), asyncio.TaskGroup() as group:
            names = [f"{name}-{number}" for number in range(1, self.day.baristas + 1)] if BARISTAS in roles else []
            working = [group.create_task(self._be_barista(stage, each), name=each) for each in names]
            yield
            for task in working:
                task.cancel()

    async def _be_barista(self, stage: Stage, name: str) -> None:
        """One coffee after the other, until cancelled; the one at hand is handed over even then."""
        url = f"{stage.back}/start/?{urlencode({'barista': name, 'wait': START_SECONDS})}"
        random = self.random or stage.random
        while True:
            started = await stage.ask("GET", url, role=Role.WORKER, within=START_SECONDS + ANSWER_SECONDS)
            if started is None:
                continue
            id = started["order_id"]
            log.info("a coffee is brewed", operation_id=id, barista=name)
            self.at_hand.add(id)
            try:
                await asyncio.sleep(self.day.brew.draw(random) / stage.speed)
            except asyncio.CancelledError:
                async with asyncio.timeout(LAST_SECONDS):
                    await self._finish(stage, id, name)
                raise
            await self._finish(stage, id, name)

    async def _finish(self, stage: Stage, id: str, name: str) -> None:
        self.at_hand.discard(id)
        try:
            await stage.ask("POST", f"{stage.back}/finish/?{urlencode({'order_id': id})}", role=Role.WORKER)
        except Answered as error:
            if error.status not in (404, 409):
                raise
            log.warning("nobody wants this coffee any more", operation_id=id, error=str(error))
            return
        self.finished[name] += 1
        self.brewed[id] += 1

    async def be_customers(self, stage: Stage, told: Callable[[], None]) -> None:
        """Come at once, or so many a second, and wait for their coffee."""
        count, rate = self.day.count, self.day.rate
        if rate is None and count is None:
            rate = RATE
        async with asyncio.TaskGroup() as group:
            number = 0
            while count is None or number < count:
                number += 1
                visit = Visit(number)
                if count is not None:
                    self.guests.append(visit)
                group.create_task(_be_customer(stage, visit, told), name=f"customer {number}")
                if rate is not None:
                    await asyncio.sleep(stage.random.expovariate(rate * stage.speed))

    async def sum_up(self, stage: Stage, *, seconds: float) -> "Summary":
        served = [visit for visit in self.guests if visit.status == "ready"]
        ids = Counter(visit.id for visit in served)
        completions = await count_completions(stage, await fetch_operations(stage, list(ids)))
        twice = {id for counts in (ids, self.brewed) for id, count in counts.items() if count > 1}
        twice |= {id for (id, _), count in completions.items() if count > 1}
        wrong = [f"customer {visit.number}: {visit.problem or 'still waits'}" for visit in self.guests if not visit.id]
        wrong += [f"order {id} was brewed, and nobody got it" for id in self.brewed if id not in ids]
        if missing := (self.day.count or 0) - len(self.guests):
            wrong.append(f"{missing} customers never came")
        return Summary(
            customers=len(self.guests),
            seconds=seconds,
            waited=sorted(visit.waited_seconds for visit in served),
            finished=self.finished,
            setbacks=stage.setbacks,
            twice=len(twice),
            wrong=wrong,
        )


async def _be_customer(stage: Stage, visit: Visit, told: Callable[[], None]) -> None:
    key = str(UUID(int=stage.random.getrandbits(128), version=4))
    began = time.monotonic()
    try:
        answer = await stage.ask("POST", f"{stage.front}/order/", key=key, within=ASKS_AGAIN_SECONDS, leaves=True)
    except Answered as error:
        visit.status, visit.problem = "failed", str(error)
        log.warning("the customer gives up", error=str(error))
    else:
        visit.status, visit.id = answer["status"], answer["order_id"]
        visit.waited_seconds = (time.monotonic() - began) * stage.speed
        log.info("a customer has his coffee", operation_id=visit.id, waited_seconds=round(visit.waited_seconds))
    told()


@dataclass(frozen=True, slots=True)
class Summary:
    """seconds: that the day took. waited: in seconds of life, the shortest first; p50, p95 and longest are of them.
    twice: orders that were answered or brewed more than once. wrong: what did not go as it should."""

    customers: int
    seconds: float
    waited: list[float] = field(default_factory=list)
    finished: Counter[str] = field(default_factory=Counter)
    setbacks: Counter[str] = field(default_factory=Counter)
    twice: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not self.wrong and not self.twice and len(self.waited) == self.customers

    @property
    def p50(self) -> float:
        return quantile(self.waited, MEDIAN)

    @property
    def p95(self) -> float:
        return quantile(self.waited, NINETY_FIVE_PERCENT)

    @property
    def longest(self) -> float:
        return self.waited[-1]

    def text(self) -> str:
        setbacks = ", ".join(f"{count} × {what}" for what, count in sorted(self.setbacks.items()))
        baristas = ", ".join(f"{name} {count}" for name, count in sorted(self.finished.items()))
        lines = [
            "",
            f"{len(self.waited)} of {self.customers} customers served in {self.seconds:.1f} s",
            f"  waiting     {self._waiting()}, in seconds of life",
            f"  coffees     {sum(self.finished.values())} finished: {baristas or 'none'}",
            f"  asked again {setbacks or 'nobody had to'}",
            f"  errors      {len(self.wrong)}",
            f"  duplicates  {self.twice}",
            "",
        ]
        if self.is_good:
            lines.append("Every customer got one coffee.")
        else:
            more = [f"  and {len(self.wrong) - MOST_SHOWN} more"] if len(self.wrong) > MOST_SHOWN else []
            lines += ["Not every customer got one coffee:", *(f"  {each}" for each in self.wrong[:MOST_SHOWN]), *more]
        return "\n".join(lines)

    def _waiting(self) -> str:
        if not self.waited:
            return "p50 –, p95 –, max –"
        return f"p50 {in_seconds(self.p50)}, p95 {in_seconds(self.p95)}, max {in_seconds(self.longest)}"
