"""Queues: how long each line is, how far its limits are used up, whether it is paused and why; pause and resume."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from fastapi import Request
from starlette.responses import Response

from orderup.db.busy import MOST_COUNTED, AllowanceState
from orderup.engine.limit import pause_queue, resume_queue
from orderup.model.kind import Kind, Rate
from orderup.model.task import queue_of
from orderup.web.auth import AsStaff
from orderup.web.orders import engine_of
from orderup.web.overview import Queue, known_queue, read_allowances, read_queues
from orderup.web.pages.route import Form, PageRouter, form_of, see_other
from orderup.web.pages.site import site_of
from orderup.web.pages.words import show_count, show_exactly, show_seconds

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
    because a third party asked for it. station: where people do it. allowance: which it shares with other kinds."""

    shop: str
    kind: str
    lines: Sequence[Line]
    uses: Sequence[Use]
    allowance: str | None
    is_paused: bool
    paused_by: str | None
    rests_until: int | None
    station: str | None

    @property
    def verbs(self) -> list[Verb]:
        """What would change something."""
        is_held = self.is_paused or self.rests_until is not None
        return [*(() if self.is_paused else ("pause",)), *(("resume",) if is_held else ())]


@dataclass(frozen=True, slots=True)
class SharedLimit:
    """An allowance, or a share of one. words: how far it is used up, and how soon there is more."""

    name: str
    kinds: Sequence[str]
    use: Use
    words: str


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
    shared: dict[str, list[SharedLimit]] = {}
    for each in await read_allowances(engine, caller):
        shared.setdefault(each.name.partition("/")[0], []).append(show_allowance(each))
    return site_of(request).page(request, "queues.html", shops=shops, shared=shared, more=_more(request))


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
        allowance=known.allowance.name if known is not None and known.allowance is not None else None,
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
    rate = [Use(queue.spent, kind.rate.count, _each_period(kind.rate))] if kind.rate else []
    return rate + ([Use(queue.state.held_permits, kind.concurrency, "at once")] if kind.concurrency else [])


def show_allowance(state: AllowanceState) -> SharedLimit:
    use = Use(state.used, state.shared.rate.count, _each_period(state.shared.rate))
    words = [use.words]
    if state.calls:
        words.append(f"{state.calls:,} under way")
    if state.next_in_us is not None:
        words.append(f"the next in {show_seconds(-(-state.next_in_us // 1_000_000))}")  # and not before
    kinds = sorted(queue.partition("/")[2] for queue in state.shared.queues)
    return SharedLimit(state.name.partition("/")[2], kinds, use, ", ".join(words))


def _each_period(rate: Rate) -> str:
    """Such as "a minute" or "a 10 s"."""
    period = UNITS.get(round(rate.period.total_seconds()), show_exactly(rate.period))
    return f"an {period}" if period == "hour" else f"a {period}"


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
