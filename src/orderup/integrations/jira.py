"""Jira Cloud, REST v3: an issue is made, described anew, linked to, looked for.

Jira has no idempotency keys. An issue that may have been made although nobody said so is looked for by a label of its
own before it is made again; its search knows a new issue only after some seconds. All else can be said twice.
"""

import base64
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec
from pydantic import SecretStr

from orderup.errors import Invalid, Misconfigured
from orderup.integrations.adf import Node
from orderup.integrations.jira_hooks import is_issue_key
from orderup.integrations.upstream import LONGEST_SAYING, NOT_THERE, Reply, Upstream, UpstreamMetrics
from orderup.model.one_line import one_line
from orderup.settings import Settings

DEADLINE = timedelta(seconds=20)
MOST_IN_FLIGHT = 10
LONGEST_SUMMARY = 255
# One, and another one that should not be there: a copy that somebody made, or that of a second attempt.
MOST_OF_A_LABEL = 2
PAGE, MOST_PAGES = 50, 20
# A page of issues, or a description as long as it may be.
LARGEST_ANSWER = 2 << 20
ISSUE_TYPE = "Task"
DONE = "done"
T = TypeVar("T")


class IssueRef(msgspec.Struct, frozen=True):
    id: str
    key: str


class Issue(msgspec.Struct, frozen=True):
    """is_closed: its status is of the category "done", whatever people call it."""

    id: str
    key: str
    summary: str
    labels: Sequence[str]
    is_closed: bool
    updated: datetime


class _Category(msgspec.Struct):
    key: str


class _Status(msgspec.Struct):
    category: _Category = msgspec.field(name="statusCategory")


class _Fields(msgspec.Struct):
    summary: str
    labels: list[str]
    status: _Status
    updated: str


class _Issue(msgspec.Struct):
    id: str
    key: str
    fields: _Fields


FIELDS = list(_Fields.__struct_fields__)


class _Found(msgspec.Struct):
    issues: list[_Issue]
    next: str | None = msgspec.field(name="nextPageToken", default=None)


class _Refs(msgspec.Struct):
    issues: list[IssueRef]


class _Page(NamedTuple):
    issues: Sequence[Issue]
    next: str | None


class _Project(msgspec.Struct):
    key: str
    name: str


class _Refusal(msgspec.Struct):
    messages: list[str] = msgspec.field(name="errorMessages", default_factory=list)
    errors: dict[str, str] = {}


class Jira:
    """browse_url: what links for people begin with, where the API is somewhere else. project: a key, such as BAKE."""

    def __init__(self, upstream: Upstream, *, browse_url: str, project: str) -> None:
        self.upstream, self.browse_url, self.project = upstream, browse_url.rstrip("/"), project

    async def create_issue(
        self, *, summary: str, description: Node, labels: Sequence[str], due: date | None
    ) -> IssueRef:
        """labels: without spaces; one of them is of this issue only, for `find_issues`.

        Raises OutcomeUnknown: look for it before it is made again. And what `Upstream.call` raises.
        """
        fields: dict[str, Any] = {
            "project": {"key": self.project},
            "issuetype": {"name": ISSUE_TYPE},
            "summary": one_line(summary)[:LONGEST_SUMMARY],
            "description": description,
            "labels": list(labels),
        }
        if due is not None:
            fields["duedate"] = due.isoformat()
        body = {"fields": fields}
        reply = await self.upstream.call("POST", "/rest/api/3/issue", about="issue", json=body, reads=_read_ref)
        return self._told(reply, _read_ref)

    async def find_issues(self, label: str) -> list[IssueRef]:
        """Those that bear this label, at most two, oldest first. One that was made some seconds ago may be missing."""
        query = f"{self._ours} AND labels = {quoted(label)} ORDER BY created ASC"
        reply = await self._search(query, fields=["key"], most=MOST_OF_A_LABEL, reads=_read_refs)
        return self._told(reply, _read_refs)

    async def read_issue(self, key: str) -> Issue | None:
        """As it stands now, also one that was made just now. None: there is none, or none any more."""
        path = f"{_path(key)}?fields={','.join(FIELDS)}"
        reply = await self.upstream.call("GET", path, about=key, reads=_read_issue, largest=LARGEST_ANSWER)
        if reply.status == NOT_THERE:
            return None
        return self._told(reply, _read_issue)

    async def update_issue(self, key: str, *, description: Node, labels: Sequence[str] | None = None) -> bool:
        """Instead of what it said before; labels, too, if they are given. False: there is no such issue any more."""
        fields: dict[str, Any] = {"description": description}
        if labels is not None:
            fields["labels"] = list(labels)
        reply = await self.upstream.call("PUT", _path(key), about=key, json={"fields": fields})
        return self._is_done(reply)

    async def link(self, key: str, *, global_id: str, url: str, title: str) -> bool:
        """A link to a page of ours, shown beside it; the same `global_id` again replaces it. False: no such issue."""
        body = {"globalId": global_id, "relationship": "order", "object": {"url": url, "title": one_line(title)}}
        path = f"{_path(key)}/remotelink"
        reply = await self.upstream.call("POST", path, about=key, json=body, is_repeatable=True)
        return self._is_done(reply)

    async def find_closed(self, label: str, *, days: int = 1) -> list[Issue]:
        """Closed ones of this label that were changed within so many days, oldest change first, at most 1,000."""
        query = (
            f"{self._ours} AND labels = {quoted(label)} AND statusCategory = Done AND updated >= -{days}d "
            "ORDER BY updated ASC"
        )
        found: list[Issue] = []
        token: str | None = None
        for _ in range(MOST_PAGES):
            reply = await self._search(query, fields=FIELDS, most=PAGE, reads=_read_page, token=token)
            page = self._told(reply, _read_page)
            found += page.issues
            token = page.next
            if token is None:
                break
        return found

    async def check(self) -> str:
        """Whether our credentials may see the project."""
        path = f"/rest/api/3/project/{quote(self.project, safe='')}"
        reply = await self.upstream.call("GET", path, about="project", reads=_read_project)
        project = self._told(reply, _read_project)
        return f"sees the project {project.key}, {one_line(project.name)}"

    def browse(self, key: str) -> str:
        """Where people look at it."""
        return f"{self.browse_url}/browse/{quote(key, safe='')}"

    @property
    def _ours(self) -> str:
        return f"project = {quoted(self.project)}"

    async def _search(
        self,
        query: str,
        *,
        fields: Sequence[str],
        most: int,
        reads: Callable[[Reply], object],
        token: str | None = None,
    ) -> Reply:
        asked: dict[str, Any] = {"jql": query, "fields": fields, "maxResults": most}
        if token is not None:
            asked["nextPageToken"] = token
        return await self.upstream.call(
            "POST",
            "/rest/api/3/search/jql",
            about="search",
            json=asked,
            reads=reads,
            is_repeatable=True,
            largest=LARGEST_ANSWER,
        )

    def _told(self, reply: Reply, read: Callable[[Reply], T | None]) -> T:
        found = read(reply) if reply.is_success else None
        return self.upstream.refuse(reply, because=_said(reply)) if found is None else found

    def _is_done(self, reply: Reply) -> bool:
        if reply.status == NOT_THERE:
            return False
        return reply.is_success or self.upstream.refuse(reply, because=_said(reply))


@asynccontextmanager
async def open_jira(settings: Settings, metrics: UpstreamMetrics) -> AsyncIterator[Jira]:
    """Raises Misconfigured."""
    if settings.jira_base_url is None:
        raise Misconfigured("JIRA_BASE_URL is not set: the sandbox may stand in for Jira, or set it.")
    token = (settings.jira_api_token or SecretStr("")).get_secret_value()
    credentials = base64.b64encode(f"{settings.jira_email or ''}:{token}".encode()).decode()
    upstream = Upstream(
        "Jira",
        settings.jira_base_url,
        metrics=metrics,
        deadline=DEADLINE,
        most=MOST_IN_FLIGHT,
        headers={"Authorization": f"Basic {credentials}"},
    )
    async with upstream:
        browse_url = settings.jira_browse_url or settings.jira_base_url
        yield Jira(upstream, browse_url=browse_url, project=settings.jira_project)


def quoted(words: str) -> str:
    """A string of JQL: it ends where we end it, whatever it says."""
    escaped = words.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def _path(key: str) -> str:
    if not is_issue_key(key):
        raise Invalid(f"{key!r} is no key of an issue at Jira, such as BAKE-24.")
    return f"/rest/api/3/issue/{key}"


def _read_ref(reply: Reply) -> IssueRef | None:
    return reply.read(IssueRef)


def _read_refs(reply: Reply) -> list[IssueRef] | None:
    found = reply.read(_Refs)
    return None if found is None else found.issues


def _read_issue(reply: Reply) -> Issue | None:
    found = reply.read(_Issue)
    with suppress(ValueError):
        return None if found is None else _issue(found)
    return None


def _read_page(reply: Reply) -> _Page | None:
    found = reply.read(_Found)
    with suppress(ValueError):
        return None if found is None else _Page([_issue(each) for each in found.issues], found.next)
    return None


def _read_project(reply: Reply) -> _Project | None:
    return reply.read(_Project)


def _issue(found: _Issue) -> Issue:
    """Raises ValueError. Jira writes +0000 for +00:00, which is no date to msgspec."""
    fields = found.fields
    return Issue(
        id=found.id,
        key=found.key,
        summary=fields.summary,
        labels=tuple(fields.labels),
        is_closed=fields.status.category.key == DONE,
        updated=datetime.fromisoformat(fields.updated),
    )


def _said(reply: Reply) -> str:
    """What Jira says is wrong stands in one of two places, or in both."""
    refusal = reply.read(_Refusal)
    if refusal is None:
        return reply.saying
    told = [*refusal.messages, *(f"{field}: {words}" for field, words in refusal.errors.items())]
    return one_line("; ".join(told))[:LONGEST_SAYING] or reply.saying
