"""Queues: how long each line is, how far its limits are used up, whether it is paused and why; pause and resume."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from fastapi import Request
from starlette.responses import Response

from orderup.db.busy import MOST_COUNTED
from orderup.engine.limit import pause_queue, resume_queue
from orderup.model.kind import Kind, Rate
from orderup.model.task import queue_of
from orderup.web.auth import AsStaff
from orderup.web.orders import engine_of
from orderup.web.overview import Queue, known_queue, read_queues
from orderup.web.pages.route import Form, PageRouter, form_of, see_other
from orderup.web.pages.site import site_of
from orderup.web.pages.words import show_count, show_exactly

Verb = Literal["pause", "resume"]
UNITS = {1: "second", 60: "minute", 3600: "hour", 86400: "day"}
router = PageRouter()


@dataclass(frozen=True, slots=True)
class Use:
    """How far a limit is used up: `used` of `most`, of what."""

    used: int
    most: int
    of: str

    @property
    def words(self) -> str:
        return f"{self.used:,} of {self.most:,} {self.of}"


@dataclass(frozen=True, slots=True)
class Line:
    """Of one region, or of none."""

    region: str
    waiting: str
    oldest_ready_at: int | None
    running: int


@dataclass(frozen=True, slots=True)
class Row:
    """A kind's queue in all its regions: limits and pauses hold for them together. is_paused: by hand. rests_until:
    because a third party asked for it. station: where people do it."""

    shop: str
    kind: str
    lines: Sequence[Line]
    uses: Sequence[Use]
    is_paused: bool
    paused_by: str | None
    rests_until: int | None
    station: str | None

    @property
    def verbs(self) -> list[Verb]:
        """What would change something."""
        is_held = self.is_paused or self.rests_until is not None
        return [*(() if self.is_paused else ("pause",)), *(("resume",) if is_held else ())]


@router.get("/queues")
async def show_queues(request: Request, caller: AsStaff) -> Response:
    engine = engine_of(request)
    now, found = engine.now(), await read_queues(engine, caller)
    found.sort(key=lambda each: (queue_of(each.state.name), each.state.name))
    rows = [
        _row(list(regions), engine.kinds, now=now)
        for _, regions in groupby(found, key=lambda each: queue_of(each.state.name))
    ]
    shops = {shop: list(some) for shop, some in groupby(rows, key=lambda row: row.shop)}
    return site_of(request).page(request, "queues.html", shops=shops, more=_more(request))


def _more(request: Request) -> Mapping[str, Mapping[str, str]]:
    """Where each shop leads staff to: words and addresses."""
    prefixes = request.app.state.shop_prefixes
    return {
        shop.name: {words: f"{prefixes[shop.name]}{path}" for words, path in shop.places.items()}
        for shop in site_of(request).shops
    }


def _row(regions: Sequence[Queue], kinds: Mapping[str, Mapping[str, Kind]], *, now: int) -> Row:
    first = regions[0]
    name = queue_of(first.state.name)
    shop, _, kind = name.partition("/")
    known = kinds.get(shop, {}).get(kind)
    until = first.state.paused_until
    return Row(
        shop,
        kind,
        lines=[_line(each) for each in regions],
        uses=_uses(first),
        is_paused=first.state.is_paused,
        paused_by=first.state.paused_by,
        rests_until=until if until is not None and until > now else None,
        station=None if known is None or known.has_handler else f"/station/{name}",
    )


def _line(queue: Queue) -> Line:
    state = queue.state
    waiting = show_count(state.pending, is_at_least=state.pending == MOST_COUNTED)
    return Line(state.name.partition("@")[2], waiting, state.oldest_ready_at, queue.running)


def _uses(queue: Queue) -> list[Use]:
    kind = queue.kind
    if kind is None:
        return []
    rate = [Use(queue.spent, kind.rate.count, f"a {_period(kind.rate)}")] if kind.rate else []
    return rate + ([Use(queue.state.held_permits, kind.concurrency, "at once")] if kind.concurrency else [])


def _period(rate: Rate) -> str:
    """Such as "minute" or "10 s"."""
    return UNITS.get(round(rate.period.total_seconds()), show_exactly(rate.period))


class SteerQueue(Form):
    verb: Verb


@router.form("/queues/{shop}/{kind}", SteerQueue, summary="Pause or resume a queue")
async def steer_queue(request: Request, caller: AsStaff, shop: str, kind: str) -> Response:
    engine = engine_of(request)
    queue = known_queue(engine, caller, shop, kind)
    form = await form_of(request, SteerQueue)
    if form.verb == "pause":
        await pause_queue(engine, queue, by=caller.subject or "staff")
    else:
        await resume_queue(engine, queue)
    return see_other(f"/queues#queue-{shop}-{kind}")
