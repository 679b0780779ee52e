"""Stations: where a person does one kind of task by hand.

A person is a worker as any other: he claims, beats, completes, fails and hands back by the verbs of the API, under a
lease and a token. His page beats for him as long as it is open. Where what counts is the thing and not the attempt
(`Kind.counts_late`), it is done although his claim has ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal
from urllib.parse import quote
from uuid import uuid4

from fastapi import Query, Request, WebSocket
from pydantic import Field
from starlette.requests import HTTPConnection
from starlette.responses import Response, StreamingResponse

from orderup.db.busy import QueueState, queue_states
from orderup.db.database import ReadConnection
from orderup.db.station import (
    Pause,
    Place,
    StationTask,
    lost_at,
    read_held,
    read_inputs,
    read_line,
    read_pause,
    read_tasks,
    regions_waiting,
)
from orderup.engine.engine import Engine
from orderup.errors import Conflict, Invalid, NotFound, StaleToken
from orderup.model import work
from orderup.model.event import Audience
from orderup.model.ids import read_task_id, show_task_id
from orderup.model.placing import encode
from orderup.model.task import LONGEST_REGION, REGION_LETTERS, queue_name, queue_of
from orderup.web import work_verbs as verbs
from orderup.web.auth import requires
from orderup.web.live import After, event_stream, stream_to
from orderup.web.orders import engine_of, settings_of
from orderup.web.pages.handwork import Card, State, card_of, count_in_words, in_words, state_of, words_of
from orderup.web.pages.route import Form, PageRouter, form_of, see_other
from orderup.web.pages.site import site_of
from orderup.web.pages.taken import Taken, remember_taken, taken_by
from orderup.web.paging import shop_of
from orderup.web.routes import Router
from orderup.web.tokens import LOCAL_CALLER, Caller, Role

MOST_SHOWN = 12
LONGEST_NOTE = 2_000
# As often does a page beat, so that one that gets lost does no harm.
BEATS_A_LEASE = 4
# What a form says in place of a token that its claim has no more.
LATE = "late"
# A worker's name has 100 characters.
LONGEST_SUBJECT = 90
AsHand = Annotated[Caller, requires(Role.STAFF, Role.WORKER)]
RegionFilter = Annotated[
    str | None,
    Query(
        max_length=LONGEST_REGION,
        pattern=f"^{REGION_LETTERS}*$",
        description="where; left out: tasks that have no region",
    ),
]
NOTHING_TAKEN = (
    "Nothing was taken: nothing waits, somebody else was faster, or nothing is let through just now. What comes shows "
    "up here by itself; take it then."
)
router = PageRouter()
# What live.js reads: refused in JSON, as by the API.
feeds = Router(tags=["pages"])


class Station:
    """One kind of one shop, where a person of one region does it. queues: those that he takes from."""

    def __init__(
        self, connection: HTTPConnection, caller: Caller, shop: str, kind: str, region: str | None = None
    ) -> None:
        """Raises NotFound, Forbidden."""
        engine = engine_of(connection)
        known = engine.kinds.get(shop, {}).get(kind)
        if known is None or known.has_handler or not caller.may_enter(shop):
            raise NotFound("station", f"{shop}/{kind}"[:200])
        self.shop, self.kind, self.worker = shop, kind, worker_of(caller)
        self.counts_late = known.counts_late
        self.name, self.region = queue_name(shop, kind), region or caller.region
        self.asks_for_name = caller.subject == LOCAL_CALLER.subject and settings_of(connection).secret_key is None
        # a tablet that falls asleep is no worker that died: the longer of the two
        self.lease = max(settings_of(connection).station_lease, known.lease or engine.limits.lease)
        self.queues = verbs.queues_of(engine, caller, self.claim())

    def claim(self) -> verbs.ClaimBody:
        return verbs.ClaimBody(worker=self.worker, shop=self.shop, tasks=[self.kind], region=self.region)

    def does(self, task: StationTask) -> bool:
        return queue_of(task.task.queue) == self.name

    @property
    def title(self) -> str:
        return in_words(self.kind)

    @property
    def path(self) -> str:
        return f"/station/{self.shop}/{self.kind}"

    @property
    def query(self) -> str:
        return query_of(self.region)

    @property
    def address(self) -> str:
        return self.path + self.query


def query_of(region: str | None) -> str:
    return f"?region={quote(region)}" if region else ""


def worker_of(caller: Caller) -> str:
    """Under which name a person claims: his own, as far as it may be a worker's."""
    subject = caller.subject or "somebody"
    kept = "".join(each if each.isalpha() or each.isdecimal() or each in "_.:@/-" else "-" for each in subject)
    return f"{kept[:LONGEST_SUBJECT]}@station"


# The list


@router.get("/station")
async def show_stations(request: Request, caller: AsHand) -> Response:
    engine = engine_of(request)
    names = [
        queue_name(shop, kind.name)
        for shop in shop_of(engine, caller, None)
        for kind in engine.kinds[shop].values()
        if not kind.has_handler
    ]
    states = await engine.database.read(lambda connection: queue_states(connection, names))
    lines = [each for each in states if _may_do(caller, each.name)]
    stations = [
        {
            "shop": shop,
            "kind": kind,
            "title": in_words(kind),
            "lines": [_line(each) for each in lines if each.name.partition("@")[0] == name],
        }
        for name in names
        for shop, _, kind in [name.partition("/")]
    ]
    return site_of(request).page(request, "stations.html", stations=stations)


def _line(state: QueueState) -> dict[str, Any]:
    base, _, region = state.name.partition("@")
    return {"region": region, "waiting": count_in_words(state.pending), "address": f"/station/{base}{query_of(region)}"}


def _may_do(caller: Caller, queue: str) -> bool:
    region = queue.partition("@")[2]
    return not region or caller.region in (None, region)


# One station


@dataclass(frozen=True, slots=True)
class View:
    """waiting: the first in line. oldest_at: since when the one waits who has waited longest. mine: what the person
    has, and what was his until he says that he has seen that it is not. done: what he did lately, the latest first."""

    waiting: Sequence[Card]
    count: int
    oldest_at: int | None
    mine: Sequence[Card]
    done: Sequence[Card]
    regions: Sequence[str]
    pause: Pause | None

    @property
    def count_in_words(self) -> str:
        return count_in_words(self.count)


def _look(
    connection: ReadConnection, station: Station, taken: Sequence[Taken], *, in_turn: Sequence[Place], now: int
) -> View:
    line = read_line(connection, station.queues, most=MOST_SHOWN, in_turn=in_turn)
    held = read_held(connection, station.worker, station.queues)
    mine = {each.place: card_of(each, "running", inputs=read_inputs(connection, each)) for each in held}
    found = read_tasks(connection, [each.place for each in taken])
    remembered = {}
    for each in taken:
        if (task := found.get(each.place)) is not None and station.does(task):
            state = state_of(task, worker=station.worker, is_done=each.is_done)
            if state is not None:
                remembered[each.place] = card_of(task, state, words=_words_of(connection, task, state))
    cards = list({**remembered, **mine}.values())
    return View(
        waiting=[card_of(each, "pending") for each in line.first],
        count=line.count,
        oldest_at=line.oldest_at,
        mine=[card for card in cards if card.state != "completed"],
        done=[card for card in reversed(cards) if card.state == "completed"],
        regions=regions_waiting(connection, station.name),
        pause=read_pause(connection, station.name, now=now),
    )


def _words_of(connection: ReadConnection, task: StationTask, state: State) -> str:
    return words_of(state, task, lost_at=lost_at(connection, task.place) if state == "lost" else None)


async def _show(
    request: Request, station: Station, *, taken: Sequence[Taken] | None = None, said: str = "", code: int = 200
) -> Response:
    engine = engine_of(request)
    known, now = taken_by(request, station.worker) if taken is None else taken, engine.now()
    in_turn = engine.lines.first(station.queues, MOST_SHOWN) if engine.lines is not None else ()
    view = await engine.database.read(lambda connection: _look(connection, station, known, in_turn=in_turn, now=now))
    return site_of(request).page(
        request,
        "station.html",
        code=code,
        station=station,
        view=view,
        said=said,
        beat_seconds=max(1, station.lease // (BEATS_A_LEASE * timedelta(seconds=1))),
        form_id=uuid4().hex,
        late=LATE,
    )


@router.get("/station/{shop}/{kind}")
async def show_station(request: Request, caller: AsHand, shop: str, kind: str, region: RegionFilter = None) -> Response:
    return await _show(request, Station(request, caller, shop, kind, region))


class AtStation(Form):
    """verb: take the next task, or have seen what became of `task`. request: of the page that it was sent from; sent
    twice, it takes once."""

    verb: Literal["take", "seen"] = "take"
    request: Annotated[str, Field(pattern=r"^([0-9a-f]{32})?$")] = ""
    task: Annotated[str, Field(max_length=40)] = ""


@router.form("/station/{shop}/{kind}", AtStation, summary="Take the next task")
async def take(request: Request, caller: AsHand, shop: str, kind: str, region: RegionFilter = None) -> Response:
    station = Station(request, caller, shop, kind, region)
    form = await form_of(request, AtStation)
    taken = taken_by(request, station.worker)
    if form.verb == "seen":
        return _back_to(request, station, without(taken, read_task_id(form.task)))
    claimed = await verbs.claim_until(
        request,
        caller,
        station.claim(),
        most=1,
        request=form.request or None,
        wait_seconds=0,
        lease=station.lease,
    )
    if not claimed:
        return await _show(request, station, said=NOTHING_TAKEN, code=409)
    for each in claimed:
        place = each.operation_id, each.task.position
        taken = [*without(taken, place), Taken(place)]
    return _back_to(request, station, taken)


def without(taken: Sequence[Taken], place: Place) -> list[Taken]:
    return [each for each in taken if each.place != place]


def _back_to(request: Request, station: Station, taken: Sequence[Taken]) -> Response:
    answer = see_other(station.address)
    remember_taken(answer, request, station.worker, taken)
    return answer


class Finish(Form):
    """note: what the next ones should know, stored as the result. reason: why it cannot be done."""

    verb: Literal["beat", "done", "hand-back", "fail", "fail-for-good"]
    token: verbs.Token
    note: Annotated[str, Field(max_length=LONGEST_NOTE)] = ""
    reason: Annotated[str, Field(max_length=LONGEST_NOTE)] = ""


@router.form("/station/{id}", Finish, summary="Go on with, finish or give up a task that was taken")
async def finish(request: Request, caller: AsHand, id: str, region: RegionFilter = None) -> Response:
    engine, place = engine_of(request), read_task_id(id)
    found = await _find(engine, caller, place)
    form = await form_of(request, Finish)
    station = Station(request, caller, found.shop, found.task.kind, region)
    taken = without(taken_by(request, station.worker), place)
    try:
        await _do(request, caller, id, form)
    except StaleToken:
        if form.verb != "done" or not station.counts_late or not await _do_late(engine, place, form):
            return await _refuse(request, station, place, form)
    if form.verb == "beat":
        # nothing to remember: it is sent beside what the person does, and must not undo that
        return see_other(station.address)
    if form.verb == "done":
        taken.append(Taken(place, is_done=True))
    return _back_to(request, station, taken)


async def _find(engine: Engine, caller: Caller, place: Place) -> StationTask:
    """Raises NotFound."""
    found = (await engine.database.read(lambda connection: read_tasks(connection, [place]))).get(place)
    if found is None or not caller.may_enter(found.shop):
        raise NotFound("task", show_task_id(*place))
    return found


async def _do_late(engine: Engine, place: Place, form: Finish) -> bool:
    """Whether it is done now, whoever has it; not if it has ended otherwise."""
    operation_id, position = place
    result = _result_of(form)
    encoded = None if result is None else encode(result)
    try:
        await engine.desk.decide(
            operation_id, lambda draft: work.complete_late(draft, position, result=encoded, now=engine.now())
        )
    except Conflict:
        return False
    return True


def _result_of(form: Finish) -> dict[str, str] | None:
    note = form.note.strip()
    return {"note": note} if note else None


async def _do(request: Request, caller: Caller, id: str, form: Finish) -> None:
    """Raises StaleToken."""
    reason = form.reason.strip()
    match form.verb:
        case "beat":
            await verbs.do_heartbeat(request, caller, id, verbs.TokenBody(token=form.token))
        case "done":
            body = verbs.CompleteBody(token=form.token, result=_result_of(form))
            await verbs.do_complete(request, caller, id, body)
        case "hand-back":
            await verbs.do_hand_back(request, caller, id, verbs.TokenBody(token=form.token))
        case "fail" | "fail-for-good":
            if not reason:
                raise Invalid("Say why it cannot be done: others must know. You still have it.", field="form.reason")
            is_final = form.verb == "fail-for-good"
            await verbs.do_fail(request, caller, id, verbs.FailBody(token=form.token, error=reason, final=is_final))


async def _refuse(request: Request, station: Station, place: Place, form: Finish) -> Response:
    """The claim has ended: what happened, what was kept, what to do now."""

    def look(connection: ReadConnection) -> Card:
        task = read_tasks(connection, [place])[place]
        state = state_of(task, worker=station.worker, is_done=False)
        if state in (None, "running"):
            state = "lost"
        return card_of(task, state, words=_words_of(connection, task, state))

    card = await engine_of(request).database.read(look)
    return site_of(request).page(
        request, "station_refused.html", code=409, station=station, card=card, written=form.note or form.reason
    )


# What happens, told to the page


@feeds.get(
    "/station/{shop}/{kind}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
    summary="Follow what happens at a station by server-sent events",
)
async def follow_events(request: Request, caller: AsHand, shop: str, kind: str, after: After = 0) -> Response:
    station, engine = Station(request, caller, shop, kind), engine_of(request)
    return await event_stream(
        request, engine.feed, after=after, operation_id=None, shop=station.shop, audience=Audience.STAFF
    )


@feeds.websocket("/station/{shop}/{kind}/live")
async def follow_live(websocket: WebSocket, caller: AsHand, shop: str, kind: str, after: After = 0) -> None:
    station, engine = Station(websocket, caller, shop, kind), engine_of(websocket)
    await stream_to(websocket, engine.feed, after=after, operation_id=None, shop=station.shop, audience=Audience.STAFF)


router.include_router(feeds)
