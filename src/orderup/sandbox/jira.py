"""Jira Cloud, REST v3, as far as it is asked: issues, links, search, transitions; and its webhook.

The page is a board, on which a person labels and closes issues. A new issue is found by search at once, unless
`search_delay_seconds` says how much later, as with the real one.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from orderup.sandbox.behaviour import LONGEST_DELAY, Answer
from orderup.sandbox.border import Refused
from orderup.sandbox.documents import is_document, is_too_long
from orderup.sandbox.hooks import Hooks
from orderup.sandbox.jql import Query, Unreadable, read_jql
from orderup.sandbox.service import Asked, Call, Form, Said, Service

MOST_ISSUES = 1_000
LONGEST_SUMMARY, LONGEST_LABEL = 255, 255
LARGEST_PAGE, USUAL_PAGE = 100, 50
PROJECT = re.compile(r"[A-Z][A-Z0-9_]{1,9}")
SHOWN_ISSUES = 200
CATEGORIES = {"new": "To Do", "indeterminate": "In Progress", "done": "Done"}
ERRORS = {
    403: "You do not have permission to perform this operation.",
    404: "Issue does not exist or you do not have permission to see it.",
    429: "Rate limit exceeded.",
}


@dataclass(frozen=True, slots=True)
class Status:
    """`category`: what it counts as, whatever it is called."""

    id: str
    name: str
    category: str

    def as_json(self) -> dict[str, Any]:
        category = {"key": self.category, "name": CATEGORIES[self.category]}
        return {"id": self.id, "name": self.name, "statusCategory": category}


STATUSES = (
    Status("1", "To Do", "new"),
    Status("2", "In Progress", "indeterminate"),
    Status("3", "Done", "done"),
)


@dataclass(slots=True)
class Issue:
    """description: a document. links: by their global id."""

    id: str
    key: str
    project: str
    summary: str
    description: Any
    labels: list[str]
    due: str | None
    status: Status = STATUSES[0]
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    updated: datetime = field(default_factory=lambda: datetime.now(UTC))
    links: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def is_closed(self) -> bool:
        return self.status.category == "done"

    def fields(self) -> dict[str, Any]:
        return {
            "summary": self.summary,
            "labels": list(self.labels),
            "status": self.status.as_json(),
            "duedate": self.due,
            "description": self.description,
            "project": {"key": self.project, "name": self.project.title()},
            "created": _moment(self.created),
            "updated": _moment(self.updated),
        }


class Jira(Service):
    """`issues`: by key, in the order in which they were made. search_delay_seconds: of life, until a new issue is found
    by search. hooks: what it sends."""

    name, title, template = "jira", "Jira", "jira.html"

    def __init__(self, *, scale: float) -> None:
        super().__init__(scale=scale)
        self.issues: dict[str, Issue] = {}
        self.made = 0
        self.search_delay_seconds = 0.0
        self.hooks = Hooks(scale=scale, told=self.ledger.tell)

    def open(self) -> AbstractAsyncContextManager[None]:
        return self.hooks.open()

    # for tests and the page

    def send_hooks(self, url: str | None, secret: str = "") -> None:
        """Where a closed issue is told of; None: nowhere. Raises Refused."""
        if url is not None and (urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname):
            raise Refused(422, "Webhooks need an address.", {"url": "begins with http:// or https://"})
        self.hooks.url, self.hooks.secret = url, secret

    def delay_search(self, seconds: float) -> None:
        """Raises Refused."""
        if not 0 <= seconds <= LONGEST_DELAY:
            raise Refused(422, "Search was not delayed.", {"seconds": f"is from 0 to {LONGEST_DELAY}"})
        self.search_delay_seconds = seconds

    def move(self, key: str, *, labels: Sequence[str] | None = None, status: str = "Done") -> None:
        """What a person does on the board; labels are all that it has afterwards. Raises Refused."""
        found = self.issues.get(key)
        if found is None:
            raise Refused(404, f"There is no issue {key}.")
        wanted = next((each for each in STATUSES if each.name == status), None)
        if wanted is None:
            raise Refused(422, "Not moved.", {"status": f"is one of {', '.join(each.name for each in STATUSES)}"})
        if labels is not None:
            if not all(map(_is_label, labels)):
                raise Refused(422, "Not moved.", {"labels": "have no spaces, and 255 characters at most"})
            found.labels = list(dict.fromkeys(labels))
        self._moved(found, wanted)

    def delete(self, key: str) -> None:
        """Raises Refused."""
        if self.issues.pop(key, None) is None:
            raise Refused(404, f"There is no issue {key}.")

    def _moved(self, issue: Issue, status: Status) -> None:
        before, issue.status = issue.status, status
        self._touched(issue, was=before)

    def _touched(self, issue: Issue, *, was: Status) -> None:
        issue.updated = datetime.now(UTC)
        if issue.is_closed:
            self.hooks.send(issue.key, _event(issue, was=was))

    # the service

    def calls(self) -> list[Call]:
        issue = "/rest/api/3/issue"
        return [
            Call("create_issue", "POST", issue, self._create),
            Call("read_issue", "GET", f"{issue}/{{key}}", self._read_one),
            Call("update_issue", "PUT", f"{issue}/{{key}}", self._update),
            Call("link", "POST", f"{issue}/{{key}}/remotelink", self._link),
            Call("transitions", "GET", f"{issue}/{{key}}/transitions", self._transitions),
            Call("transition", "POST", f"{issue}/{{key}}/transitions", self._transition),
            Call("search", "POST", "/rest/api/3/search/jql", self._search),
            Call("read_project", "GET", "/rest/api/3/project/{key}", self._read_project),
        ]

    def routes(self) -> list[Route]:
        """Also where a link to an issue leads a person."""
        return [Route("/browse/{key}", _lead_to_page, methods=["GET"]), *super().routes()]

    def forms(self) -> list[Form]:
        return [
            Form("/page/issues/{key}", self._move_by_form),
            Form("/page/webhook", self._hooks_by_form),
            Form("/page/search", self._delay_by_form),
        ]

    def shown(self) -> Mapping[str, Any]:
        newest = list(reversed(self.issues.values()))[:SHOWN_ISSUES]
        columns = [(status, [each for each in newest if each.status is status]) for status in STATUSES]
        return {
            "columns": columns,
            "hooks": self.hooks,
            "deliveries": list(reversed(self.hooks.deliveries)),
            "search_delay_seconds": self.search_delay_seconds,
        }

    def admit(self, asked: Asked) -> Said | None:
        method, _, credentials = asked.headers.get("authorization", "").partition(" ")
        try:
            is_pair = ":" in base64.b64decode(credentials, validate=True).decode()
        except ValueError:
            is_pair = False
        return None if method == "Basic" and is_pair else self.failure(Answer(status=401))

    def failure(self, answer: Answer) -> Said:
        status = answer.status
        if status == 401:
            message = "Client must be authenticated to access this resource."
            return Said({"message": message, "status-code": 401}, status=401)
        headers = {"ratelimit-reason": "jira-burst-based"} if status == 429 else {}
        return Said(_wrong(ERRORS.get(status, "Internal server error")), status=status, headers=headers)

    # calls

    def _create(self, asked: Asked) -> Said:
        fields = _fields_of(asked)
        if fields is None:
            return _refused("INVALID_INPUT")
        errors = _errors_in(fields, is_new=True)
        if errors:
            return _refused(**errors)
        project = fields["project"]["key"]
        self.made += 1
        issue = Issue(
            id=str(9_999 + self.made),
            key=f"{project}-{self.made}",
            project=project,
            summary=fields["summary"],
            description=fields.get("description"),
            labels=list(fields.get("labels", [])),
            due=fields.get("duedate"),
        )
        self.issues[issue.key] = issue
        while len(self.issues) > MOST_ISSUES:
            del self.issues[next(iter(self.issues))]
        return Said({"id": issue.id, "key": issue.key, "self": _self(asked, issue)}, status=201)

    def _read_one(self, asked: Asked) -> Said:
        issue = self._find(asked)
        if issue is None:
            return self.failure(Answer(status=404))
        names = [name for name in asked.query.get("fields", "").split(",") if name]
        return Said(_shown(asked, issue, names or list(issue.fields())))

    def _update(self, asked: Asked) -> Said:
        issue, fields = self._find(asked), _fields_of(asked)
        if issue is None:
            return self.failure(Answer(status=404))
        if fields is None:
            return _refused("INVALID_INPUT")
        errors = _errors_in(fields, is_new=False)
        if errors:
            return _refused(**errors)
        issue.summary = fields.get("summary", issue.summary)
        issue.description = fields.get("description", issue.description)
        issue.labels = list(fields.get("labels", issue.labels))
        issue.due = fields.get("duedate", issue.due)
        self._touched(issue, was=issue.status)
        return Said(status=204)

    def _link(self, asked: Asked) -> Said:
        issue = self._find(asked)
        if issue is None:
            return self.failure(Answer(status=404))
        given = _object_of(asked)
        shown = given.get("object") if given is not None else None
        if given is None or not isinstance(shown, dict) or not shown.get("title") or not shown.get("url"):
            return _refused(object="The object with a title and a url is required.")
        global_id = given.get("globalId") or f"system={len(issue.links)}"
        if not isinstance(global_id, str) or len(global_id) > 255:
            return _refused(globalId="The global id has at most 255 characters.")
        is_new = global_id not in issue.links
        issue.links[global_id] = given
        number = 10_000 + list(issue.links).index(global_id)
        link = f"{_self(asked, issue)}/remotelink/{number}"
        return Said({"id": number, "self": link}, status=201 if is_new else 200)

    def _transitions(self, asked: Asked) -> Said:
        if self._find(asked) is None:
            return self.failure(Answer(status=404))
        return Said({"transitions": [{"id": each.id, "name": each.name, "to": each.as_json()} for each in STATUSES]})

    def _transition(self, asked: Asked) -> Said:
        issue, given = self._find(asked), _object_of(asked)
        if issue is None:
            return self.failure(Answer(status=404))
        wanted = given.get("transition") if given is not None else None
        id = wanted.get("id") if isinstance(wanted, dict) else None
        status = next((each for each in STATUSES if each.id == id), None)
        if status is None:
            return _refused("Transition id is not valid for this issue.")
        self._moved(issue, status)
        return Said(status=204)

    def _search(self, asked: Asked) -> Said:
        given = _object_of(asked)
        if given is None or not isinstance(given.get("jql"), str):
            return _refused("Invalid request payload. Refer to the REST API documentation and try again.")
        try:
            query = read_jql(given["jql"])
            most, offset = _page_of(given)
        except Unreadable as error:
            return _refused(str(error))
        names = [name for name in given.get("fields", ()) if isinstance(name, str)]
        found = self._found(query)
        page = [_shown(asked, each, names) if names else {"id": each.id} for each in found[offset : offset + most]]
        is_last = offset + most >= len(found)
        token = None if is_last else base64.urlsafe_b64encode(str(offset + most).encode()).decode()
        return Said({"issues": page, "isLast": is_last, "nextPageToken": token})

    def _found(self, query: Query) -> list[Issue]:
        now = datetime.now(UTC)
        indexed = now - timedelta(seconds=self.search_delay_seconds / self.scale)
        since = None if query.since is None else now - query.since
        found = [
            each
            for each in self.issues.values()
            if each.created <= indexed
            and (since is None or each.updated >= since)
            and all(_has(each, name, value) for name, value in query.wanted)
        ]
        return sorted(found, key=lambda each: getattr(each, query.order), reverse=query.is_descending)

    def _read_project(self, asked: Asked) -> Said:
        key = asked.parts["key"]
        if PROJECT.fullmatch(key) is None:
            return Said(_wrong(f"No project could be found with key '{key}'."), status=404)
        return Said({"id": "10000", "key": key, "name": key.title(), "self": f"{asked.url}/rest/api/3/project/10000"})

    def _find(self, asked: Asked) -> Issue | None:
        """By key, or by id."""
        name = asked.parts["key"]
        return self.issues.get(name) or next((each for each in self.issues.values() if each.id == name), None)

    # forms

    def _move_by_form(self, parts: Mapping[str, str], form: Mapping[str, str]) -> None:
        if "delete" in form:
            self.delete(parts["key"])
        else:
            self.move(parts["key"], labels=form.get("labels", "").split(), status=form.get("status", ""))

    def _hooks_by_form(self, _parts: Mapping[str, str], form: Mapping[str, str]) -> None:
        self.send_hooks(form.get("url"), form.get("secret", ""))

    def _delay_by_form(self, _parts: Mapping[str, str], form: Mapping[str, str]) -> None:
        try:
            seconds = float(form.get("seconds", "0"))
        except ValueError as error:
            raise Refused(422, "Search was not delayed.", {"seconds": "is no number"}) from error
        self.delay_search(seconds)


def _moment(at: datetime) -> str:
    """As Jira writes it: milliseconds, and an offset without a colon."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}+0000"


def _self(asked: Asked, issue: Issue) -> str:
    return f"{asked.url}/rest/api/3/issue/{issue.id}"


def _shown(asked: Asked, issue: Issue, names: Sequence[str]) -> dict[str, Any]:
    fields = issue.fields()
    return {
        "id": issue.id,
        "key": issue.key,
        "self": _self(asked, issue),
        "fields": {name: fields[name] for name in names if name in fields},
    }


def _has(issue: Issue, name: str, value: str) -> bool:
    match name:
        case "project":
            return issue.project == value
        case "labels":
            return value in issue.labels
        case _:
            return CATEGORIES[issue.status.category].lower() == value.lower()


def _page_of(given: Mapping[str, Any]) -> tuple[int, int]:
    """How many, and from which on. Raises Unreadable."""
    most, token = given.get("maxResults", USUAL_PAGE), given.get("nextPageToken")
    if not isinstance(most, int) or most < 1:
        raise Unreadable("maxResults is a number greater than 0.")
    if token is None:
        return min(most, LARGEST_PAGE), 0
    try:
        return min(most, LARGEST_PAGE), int(base64.urlsafe_b64decode(str(token).encode()))
    except ValueError as error:
        raise Unreadable("The provided next page token is invalid or expired.") from error


def _object_of(asked: Asked) -> dict[str, Any] | None:
    try:
        given = asked.json()
    except ValueError:
        return None
    return given if isinstance(given, dict) else None


def _fields_of(asked: Asked) -> dict[str, Any] | None:
    given = _object_of(asked)
    fields = given.get("fields") if given is not None else None
    return fields if isinstance(fields, dict) else None


def _errors_in(fields: Mapping[str, Any], *, is_new: bool) -> dict[str, str]:
    """What Jira says of fields that are wrong, by their names."""
    errors: dict[str, str] = {}
    known = {"summary", "description", "labels", "duedate", *(("project", "issuetype") if is_new else ())}
    for name in set(fields) - known:
        errors[name] = f"Field '{name}' cannot be set. It is not on the appropriate screen, or unknown."
    if is_new:
        project, kind = fields.get("project"), fields.get("issuetype")
        if not isinstance(project, dict) or PROJECT.fullmatch(str(project.get("key"))) is None:
            errors["project"] = "Specify a valid project ID or key"
        if not isinstance(kind, dict) or not kind.get("name"):
            errors["issuetype"] = "Specify an issue type"
    if is_new or "summary" in fields:
        errors |= _wrong_summary(fields.get("summary"))
    if fields.get("description") is not None:
        errors |= _wrong_description(fields["description"])
    labels = fields.get("labels", [])
    if not isinstance(labels, list) or not all(map(_is_label, labels)):
        errors["labels"] = "The label contains spaces which is invalid."
    if fields.get("duedate") is not None and not _is_date(fields["duedate"]):
        errors["duedate"] = "Error parsing date string"
    return errors


def _wrong_summary(summary: Any) -> dict[str, str]:
    if not isinstance(summary, str) or not summary.strip():
        return {"summary": "You must specify a summary of the issue."}
    if "\n" in summary or "\r" in summary:
        return {"summary": "The summary is invalid because it contains newline characters."}
    return {} if len(summary) <= LONGEST_SUMMARY else {"summary": "Summary must be less than 255 characters."}


def _wrong_description(description: Any) -> dict[str, str]:
    if not is_document(description):
        return {"description": "Operation value must be an Atlassian Document (see the Atlassian Document Format)"}
    if is_too_long(description):
        return {"description": "The entered text is too long. It exceeds the allowed limit of 32,767 characters."}
    return {}


def _is_label(label: Any) -> bool:
    return isinstance(label, str) and 0 < len(label) <= LONGEST_LABEL and not any(map(str.isspace, label))


def _is_date(text: Any) -> bool:
    try:
        return isinstance(text, str) and date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _wrong(*messages: str, **errors: str) -> dict[str, Any]:
    return {"errorMessages": list(messages), "errors": errors}


def _refused(*messages: str, **errors: str) -> Said:
    return Said(_wrong(*messages, **errors), status=400)


def _event(issue: Issue, *, was: Status) -> dict[str, Any]:
    """Of a webhook. Its descriptions are not documents but text; this one has none."""
    fields = {name: value for name, value in issue.fields().items() if name != "description"}
    item = {
        "field": "status",
        "fieldId": "status",
        "from": was.id,
        "fromString": was.name,
        "to": issue.status.id,
        "toString": issue.status.name,
    }
    return {
        "timestamp": int(issue.updated.timestamp() * 1000),
        "webhookEvent": "jira:issue_updated",
        "issue_event_type_name": "issue_generic",
        "user": {"accountId": "sandbox"},
        "issue": {"id": issue.id, "key": issue.key, "fields": fields},
        "changelog": {"id": str(int(issue.updated.timestamp() * 1000)), "items": [item]},
    }


async def _lead_to_page(request: Request) -> Response:
    return RedirectResponse(f"/jira/#{quote(request.path_params['key'])}", status_code=303)
