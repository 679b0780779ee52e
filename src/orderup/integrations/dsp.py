"""An advertising platform (DSP): campaigns, ad groups and ads are submitted to it, and asked after.

It has no idempotency keys. What may have been submitted although nobody said so is looked for by an id of our own, on
platforms that can search; others answer 404, 405 or 501, and a person has to look.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec

from orderup.errors import UpstreamFailed
from orderup.integrations.upstream import NOT_THERE, Reply, Upstream, UpstreamMetrics
from orderup.settings import Settings

LEAST_IN_FLIGHT = 50
# Of statuses that come unasked, a hundred thousand.
LARGEST_LIST = 32 << 20
CANNOT_SEARCH = frozenset({404, 405, 501})
LONGEST_ID = 200
# White space before what is said.
LONGEST_MARGIN = 1_000
T = TypeVar("T")


class CannotSearch(Exception):
    """The platform cannot be asked what was submitted to it, or its answer does not say. Why, for people: "it …"."""


class Sort(NamedTuple):
    """Of what is submitted. path: of its collection. id: under which name its id is told."""

    path: str
    id: str


CAMPAIGN = Sort("/campaigns", "campaign_id")
AD_GROUP = Sort("/ad-groups", "ad_group_id")
AD = Sort("/ads", "ad_id")


class Verdict(StrEnum):
    PENDING = "pending"
    SUCCESS = "success"
    FAILED = "failed"


class Status(msgspec.Struct, frozen=True):
    """What the platform says of something. A status of its own that is neither success nor failed: pending."""

    verdict: Verdict
    error: str | None = None


class _Status(msgspec.Struct):
    """error: some say it in a list or an object."""

    status: str
    error: Any = None


class Dsp:
    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream

    async def submit(self, sort: Sort, body: Mapping[str, Any], *, our_id: str, ends_at: float | None = None) -> str:
        """The platform's id of it. `ends_at`: by `time.monotonic`, when others may begin to look for it. Raises
        OutcomeUnknown: look for it before it is submitted again. And what `Upstream.call` raises."""
        sent = {**body, "external_id": our_id}
        reply = await self.upstream.call(
            "POST", sort.path, about=our_id, json=sent, reads=lambda said: _id_in(said, sort), ends_at=ends_at
        )
        return self._told(_id_in(reply, sort)) if reply.is_success else self.upstream.refuse(reply)

    async def find(self, sort: Sort, our_id: str) -> str | None:
        """The platform's id of what was submitted under ours; None: nothing was, or it is not known there yet. Raises
        CannotSearch, and what `Upstream.call` raises."""

        def read(reply: Reply) -> list[dict[str, Any]] | None:
            return reply.read(list[dict[str, Any]])

        query = {"external_id": our_id}
        reply = await self.upstream.call("GET", sort.path, about=our_id, query=query, reads=read, judges=CANNOT_SEARCH)
        if reply.status in CANNOT_SEARCH:
            raise CannotSearch("it cannot be searched")
        if not reply.is_success:
            raise CannotSearch(f"it does not let itself be searched ({reply.status}: {reply.saying})")
        return _only_one(read(reply) or [], sort, our_id)

    async def ask(self, sort: Sort, id: str) -> Status:
        """How it stands with something that was submitted. Raises what `Upstream.call` raises."""
        reply = await self._ask(sort, id)
        if reply.status == NOT_THERE:
            raise UpstreamFailed(f"{self.upstream.called} does not know {id}")
        return self._told(_status_in(reply))

    async def knows(self, sort: Sort, id: str) -> bool:
        """Whether it has something under this id of its own. Raises what `Upstream.call` raises."""
        return (await self._ask(sort, id)).status != NOT_THERE

    async def _ask(self, sort: Sort, id: str) -> Reply:
        path = f"{sort.path}/{quote(id, safe='')}/status"
        reply = await self.upstream.call("GET", path, about=id, reads=_status_in)
        return reply if reply.is_success or reply.status == NOT_THERE else self.upstream.refuse(reply)

    async def check(self) -> str:
        """That it lets us ask, in a few words: one request. Raises what `Upstream.call` raises."""
        await self.list_tasks()
        return "it answers"

    async def list_tasks(self) -> bytes:
        """What begins as an array in JSON: what it says by itself about customers' tasks. Raises what `Upstream.call`
        raises."""
        reply = await self.upstream.call("GET", "/tasks", about="tasks", largest=LARGEST_LIST, reads=_list_in)
        return reply.body if reply.is_success else self.upstream.refuse(reply)

    def _told(self, said: T | None) -> T:
        assert said is not None  # Upstream.call raises where nothing can be read
        return said


def _only_one(found: Sequence[Mapping[str, Any]], sort: Sort, our_id: str) -> str | None:
    """Only who finds nothing at all says that there is none: one that names others looks for something else, and ours
    may be on a page that it does not show. Raises CannotSearch."""
    if not found:
        return None
    ids = {_as_id(each.get(sort.id)) for each in found if each.get("external_id") == our_id}
    if not ids:
        raise CannotSearch("it names only others when it is searched")
    if len(ids) > 1 or None in ids:
        raise CannotSearch("it does not say as which one thing it has it")
    return ids.pop()


def _as_id(value: object) -> str | None:
    """Some number what they have, from 1, others name it."""
    is_number = isinstance(value, int) and not isinstance(value, bool) and value > 0
    text = str(value) if is_number or isinstance(value, str) else ""
    return text if 0 < len(text) <= LONGEST_ID else None


def _id_in(reply: Reply, sort: Sort) -> str | None:
    found = reply.read(dict[str, Any])
    return None if found is None else _as_id(found.get(sort.id))


def _status_in(reply: Reply) -> Status | None:
    found = reply.read(_Status)
    if found is None:
        return None
    verdict = Verdict(found.status) if found.status in set(Verdict) else Verdict.PENDING
    error = found.error
    return Status(verdict, error if isinstance(error, str | None) else msgspec.json.encode(error).decode())


def _list_in(reply: Reply) -> bool | None:
    """By its first sign: to read it all is for who asked."""
    return reply.body[:LONGEST_MARGIN].lstrip().startswith(b"[") or None


@asynccontextmanager
async def open_dsp(settings: Settings, metrics: UpstreamMetrics) -> AsyncIterator[Dsp]:
    token = settings.dsp_token
    upstream = Upstream(
        "advertising platform",
        settings.dsp_url or "",
        metrics=metrics,
        deadline=settings.dsp_deadline,
        # never fewer than may be begun while one is answered: who finds no place would have been told of in vain
        most=max(LEAST_IN_FLIGHT, settings.dsp_requests_a_minute),
        resends=False,
        headers=None if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"},
    )
    async with upstream:
        yield Dsp(upstream)
