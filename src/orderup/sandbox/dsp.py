"""An advertising platform (DSP): campaigns, ad groups and ads are submitted to it, judged after a while, asked after.

It has no idempotency keys: the same thing submitted twice is two things. What it counts is there to find that out, and
whether anybody asked more often than it allows.
"""

import json
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from orderup.sandbox.behaviour import LONGEST_DELAY, Answer
from orderup.sandbox.border import Refused
from orderup.sandbox.service import Asked, Call, Form, Said, Service

# Of each sort; and of arrivals, whose times are kept.
MOST_THINGS, MOST_ARRIVALS = 100_000, 100_000
SHOWN_CAMPAIGNS, SHOWN_BELOW, SHOWN_TASKS = 50, 20, 100
TASKS = (
    {"id": "1", "status": "In Progress"},
    {"id": "3", "status": "Error", "error_message": "Invalid IP range: 192.168.1.256"},
    {"id": "2", "status": "Completed"},
)
ERRORS = {401: "unauthorized", 404: "not found", 422: "unprocessable", 429: "too many requests"}
REJECTS = "reject"


class Sort(NamedTuple):
    """Of what can be submitted. id: as which its id is told. parent: below which sort it is."""

    path: str
    id: str
    parent: str | None


SORTS = {
    "campaign": Sort("/campaigns", "campaign_id", None),
    "ad_group": Sort("/ad-groups", "ad_group_id", "campaign"),
    "ad": Sort("/ads", "ad_id", "ad_group"),
}


@dataclass(frozen=True, slots=True)
class Thing:
    """What was submitted. our_id: the id that who submitted it has for it. below: what was submitted below it. made_at:
    by a clock that is never set."""

    id: str
    our_id: str | None
    body: Mapping[str, Any]
    below: list["Thing"] = field(default_factory=list)
    made_at: float = field(default_factory=time.monotonic)

    @property
    def is_rejected(self) -> bool:
        return any(REJECTS in each.lower() for each in self.body.values() if isinstance(each, str))


class Meter:
    """What it allows: `most` requests in any window of `seconds`, of real time whatever the sandbox's scale is.

    arrivals: when requests came, by a clock that is never set, also those that were refused. most_seen: in any window.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self.most, self.seconds = most, seconds
        self.arrivals: deque[float] = deque(maxlen=MOST_ARRIVALS)
        self.most_seen = self.refused = 0
        self._window: deque[float] = deque()
        self._admitted: deque[float] = deque()

    def admit(self, now: float) -> float | None:
        """Count a request. None: it is allowed; else how many seconds later one is."""
        self.arrivals.append(now)
        self._window.append(now)
        self.most_seen = max(self.most_seen, self.used(now))
        _forget(self._admitted, now - self.seconds)
        if len(self._admitted) < self.most:
            self._admitted.append(now)
            return None
        self.refused += 1
        return self._admitted[0] + self.seconds - now

    def used(self, now: float) -> int:
        """How many came in the window that ends now."""
        _forget(self._window, now - self.seconds)
        return len(self._window)


class Dsp(Service):
    """`verdict_seconds`, `search_delay_seconds`: of life, until something that was submitted is judged, or found.
    can_search: whether it finds anything by the id of who submitted it. tasks: what it says about tasks, as it is sent.
    things: by sort and id. named: the same, by sort and the submitter's id. too_early: how many were submitted below
    what had not succeeded."""

    name, title, template = "dsp", "Advertising platform", "dsp.html"

    def __init__(self, *, scale: float) -> None:
        super().__init__(scale=scale)
        self.verdict_seconds, self.search_delay_seconds = 1.0, 0.0
        self.can_search = True
        self.tasks: Any = list(TASKS)
        self.things: dict[str, dict[str, Thing]] = {sort: {} for sort in SORTS}
        self.named: defaultdict[tuple[str, str], list[Thing]] = defaultdict(list)
        self.too_early = 0
        self.meter = Meter(40, 60)

    # for tests and the page

    def allow(self, requests: int, *, seconds: float = 60) -> None:
        """From now on so many in any window of this length; what was counted is forgotten. Raises Refused."""
        if not (1 <= requests <= 1_000_000 and 0 < seconds <= LONGEST_DELAY):
            raise Refused(422, "Not allowed so.", {"requests": "1 to 1,000,000, in a window of at most an hour"})
        self.meter = Meter(requests, seconds)

    @property
    def doubles(self) -> dict[tuple[str, str], int]:
        """What was submitted more than once, and how often."""
        return {name: len(things) for name, things in self.named.items() if len(things) > 1}

    def status_of(self, thing: Thing) -> dict[str, str]:
        if time.monotonic() - thing.made_at < self.verdict_seconds / self.scale:
            return {"status": "pending"}
        if thing.is_rejected:
            return {"status": "failed", "error": "Rejected by policy"}
        return {"status": "success"}

    # the service

    def calls(self) -> list[Call]:
        each = [
            call
            for name, sort in SORTS.items()
            for call in (
                Call(f"submit_{name}", "POST", sort.path, partial(self._submit, name)),
                Call(f"find_{name}", "GET", sort.path, partial(self._find, name)),
                Call(f"read_{name}", "GET", f"{sort.path}/{{id}}/status", partial(self._read_status, name)),
            )
        ]
        return [*each, Call("list_tasks", "GET", "/tasks", lambda _asked: Said(self.tasks))]

    def forms(self) -> list[Form]:
        return [Form("/page/settings", self._set_by_form), Form("/page/tasks", self._set_tasks_by_form)]

    def shown(self) -> Mapping[str, Any]:
        newest = list(reversed(self.things["campaign"].values()))[:SHOWN_CAMPAIGNS]
        is_long = isinstance(self.tasks, list) and len(self.tasks) > SHOWN_TASKS
        return {
            "tree": newest,
            "counts": {sort.path: len(self.things[name]) for name, sort in SORTS.items()},
            "most_below": SHOWN_BELOW,
            "used": self.meter.used(time.monotonic()),
            "count_of_tasks": len(self.tasks) if isinstance(self.tasks, list) else None,
            "tasks": None if is_long else json.dumps(self.tasks, indent=1, ensure_ascii=False),
        }

    def failure(self, answer: Answer) -> Said:
        return _error(answer.status, ERRORS.get(answer.status, "internal error"))

    async def _answer(self, request: Request, call: Call) -> Response:
        """Counted as it arrives, whatever it is switched to answer."""
        rest = self.meter.admit(time.monotonic())
        if rest is None:
            return await super()._answer(request, call)
        headers = {"retry-after": str(max(1, ceil(rest)))}
        too_many = Said({"error": ERRORS[429]}, status=429, headers=headers)
        return await super()._answer(request, Call(call.name, call.method, call.path, lambda _asked: too_many))

    async def _requests(self, _request: Request) -> Response:
        return JSONResponse(
            {
                "rate": {
                    "requests": self.meter.most,
                    "window_seconds": self.meter.seconds,
                    "in_window": self.meter.used(time.monotonic()),
                    "most_in_window": self.meter.most_seen,
                    "refused": self.meter.refused,
                },
                "submitted": {name: len(things) for name, things in self.things.items()},
                "submitted_more_than_once": [
                    {"sort": sort, "external_id": our_id, "times": times}
                    for (sort, our_id), times in self.doubles.items()
                ],
                "submitted_too_early": self.too_early,
                "calls": dict(self.asked),
                **self.ledger.as_json(),
            }
        )

    # calls

    def _submit(self, name: str, asked: Asked) -> Said:
        body, sort, things = _object_of(asked), SORTS[name], self.things[name]
        our_id = None if body is None else body.get("external_id")
        if body is None or not isinstance(our_id, str | None):
            return _error(422, "the body is an object, its external_id a text")
        parent = None
        if sort.parent is not None:
            parent = self._named(sort.parent, body)
            if parent is None:
                return _error(422, f"there is no such {SORTS[sort.parent].id}")
            self.too_early += self.status_of(parent)["status"] != "success"
        if len(things) >= MOST_THINGS:
            return _error(507, f"there is room for {MOST_THINGS}")
        id = f"{name}-{len(things) + 1}"
        thing = things[id] = Thing(id, our_id, body)
        if parent is not None:
            parent.below.append(thing)
        if our_id is not None:
            self.named[name, our_id].append(thing)
        return Said({sort.id: id}, status=201)

    def _named(self, name: str, body: Mapping[str, Any]) -> Thing | None:
        """What stands above it, as the body names it."""
        id = body.get(SORTS[name].id)
        return self.things[name].get(id) if isinstance(id, str) else None

    def _read_status(self, name: str, asked: Asked) -> Said:
        found = self.things[name].get(asked.parts["id"])
        return self._not_there() if found is None else Said(self.status_of(found))

    def _find(self, name: str, asked: Asked) -> Said:
        wanted = asked.query.get("external_id")
        if not self.can_search:
            return self._not_there()
        if not wanted:
            return _error(422, "say which external_id")
        known_since = time.monotonic() - self.search_delay_seconds / self.scale
        found = (each for each in self.named.get((name, wanted), ()) if each.made_at <= known_since)
        return Said([{SORTS[name].id: each.id, "external_id": each.our_id} for each in found])

    # forms

    def _set_by_form(self, _parts: Mapping[str, str], form: Mapping[str, str]) -> None:
        verdict, search = (_seconds(form, name) for name in ("verdict_seconds", "search_delay_seconds"))
        most, window = _number(form, "requests"), _seconds(form, "window_seconds")
        if (most, window) != (self.meter.most, self.meter.seconds):
            self.allow(most, seconds=window)
        self.verdict_seconds, self.search_delay_seconds = verdict, search
        self.can_search = "can_search" in form

    def _set_tasks_by_form(self, _parts: Mapping[str, str], form: Mapping[str, str]) -> None:
        try:
            self.tasks = json.loads(form.get("tasks", ""))
        except (ValueError, RecursionError) as error:
            raise Refused(422, "The tasks stay as they are.", {"tasks": "is no JSON"}) from error


def _forget(times: deque[float], until: float) -> None:
    while times and times[0] <= until:
        times.popleft()


def _error(status: int, message: str) -> Said:
    return Said({"error": message}, status=status)


def _object_of(asked: Asked) -> dict[str, Any] | None:
    try:
        given = asked.json()
    except ValueError:
        return None
    return given if isinstance(given, dict) else None


def _seconds(form: Mapping[str, str], name: str) -> float:
    try:
        seconds = float(form.get(name, ""))
    except ValueError as error:
        raise Refused(422, "Nothing was set.", {name: "is no number"}) from error
    if not 0 <= seconds <= LONGEST_DELAY:
        raise Refused(422, "Nothing was set.", {name: f"is from 0 to {LONGEST_DELAY}"})
    return seconds


def _number(form: Mapping[str, str], name: str) -> int:
    text = form.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Refused(422, "Nothing was set.", {name: "is no whole number"})
    return int(text)
