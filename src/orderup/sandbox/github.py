"""GitHub's REST API, as far as it is asked: users, a repository, its collaborators, and invitations to it.

The page is a list of members, on which somebody accepts or declines his invitation, or becomes known at all.
"""

import json
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import urlencode

from orderup.sandbox.behaviour import Answer
from orderup.sandbox.border import Refused
from orderup.sandbox.service import Asked, Call, Form, Said, Service

MOST_USERS = 1_000
MOST_A_DAY = 50
DAY = timedelta(days=1)
USUAL_PAGE, LARGEST_PAGE = 30, 100
LOGIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9]|-(?=[A-Za-z0-9])){0,38}", re.ASCII)
# What is asked for, and what an invitation calls it.
PERMISSIONS = {"pull": "read", "triage": "triage", "push": "write", "maintain": "maintain", "admin": "admin"}
TYPES = ("User", "Organization", "Bot")
USUAL = (("octocat", "User"), ("ada-lovelace", "User"), ("grace-hopper", "User"), ("cake-inc", "Organization"))
ERRORS = {401: "Bad credentials", 403: "Resource not accessible by personal access token", 404: "Not Found"}
SECONDARY = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
DOCS = "https://docs.github.com/rest"
# Each user and each repository comes with its addresses.
# fmt: off
OF_USERS = (
    "followers", "following", "gists", "starred", "subscriptions", "organizations", "repos", "events",
    "received_events",
)
OF_REPOSITORIES = (
    "archive", "assignees", "blobs", "branches", "collaborators", "comments", "commits", "compare", "contents",
    "contributors", "deployments", "downloads", "events", "forks", "git_commits", "git_refs", "git_tags",
    "issue_comment", "issue_events", "issues", "keys", "labels", "languages", "merges", "milestones",
    "notifications", "pulls", "releases", "stargazers", "statuses", "subscribers", "subscription", "tags", "teams",
    "trees", "hooks",
)
COUNTED = (
    "forks_count", "stargazers_count", "watchers_count", "size", "open_issues_count", "subscribers_count",
    "network_count", "forks", "open_issues", "watchers",
)
# fmt: on


@dataclass(slots=True)
class User:
    id: int
    login: str
    type: str = "User"
    since: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(slots=True)
class Invitation:
    """permission: as it was asked for."""

    id: int
    user: User
    permission: str
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    is_expired: bool = False


class GitHub(Service):
    """`repository`: the one that there is, OWNER/NAME; None: whichever is asked for. users: by login in lower case.
    collaborators: what each may, by his id. is_admin: whether the token may invite."""

    name, title, template = "github", "GitHub", "github.html"

    def __init__(self, *, scale: float) -> None:
        super().__init__(scale=scale)
        self.repository: str | None = None
        self.is_admin = True
        self.users: dict[str, User] = {}
        self.collaborators: dict[int, str] = {}
        self.invitations: dict[int, Invitation] = {}
        self.sent: deque[datetime] = deque(maxlen=MOST_A_DAY)
        self._ids = count(1_001)
        for login, kind in USUAL:
            self.add_user(login, kind=kind)

    # for tests and the page

    def add_user(self, login: str, *, kind: str = "User") -> User:
        """Raises Refused."""
        if LOGIN.fullmatch(login) is None or kind not in TYPES:
            raise Refused(422, "Nobody was added.", {"login": "letters, digits and single hyphens inside, at most 39"})
        if login.lower() in self.users:
            raise Refused(409, f"{login} is there already.")
        if len(self.users) >= MOST_USERS:
            raise Refused(409, f"There are {MOST_USERS} users.")
        user = self.users[login.lower()] = User(next(self._ids), login, kind)
        return user

    def rename_user(self, login: str, new: str) -> None:
        """The old login is anybody's then. Raises Refused."""
        user = self._user(login)
        if new.lower() in self.users or LOGIN.fullmatch(new) is None:
            raise Refused(409, f"Nobody can be called {new} now.")
        del self.users[login.lower()]
        user.login = new
        self.users[new.lower()] = user

    def has_access(self, login: str) -> bool:
        user = self.users.get(login.lower())
        return user is not None and user.id in self.collaborators

    def accept(self, login: str) -> None:
        """Raises Refused."""
        invitation = self._invitation(login)
        if invitation.is_expired:
            raise Refused(409, f"The invitation of {login} has expired.")
        del self.invitations[invitation.id]
        self.collaborators[invitation.user.id] = invitation.permission

    def decline(self, login: str) -> None:
        """Raises Refused."""
        del self.invitations[self._invitation(login).id]

    def expire(self, login: str) -> None:
        """Raises Refused."""
        self._invitation(login).is_expired = True

    def _user(self, login: str) -> User:
        found = self.users.get(login.lower())
        if found is None:
            raise Refused(404, f"There is no user {login}.")
        return found

    def _invitation(self, login: str) -> Invitation:
        found = self._invitation_of(self._user(login))
        if found is None:
            raise Refused(404, f"{login} is not invited.")
        return found

    def _invitation_of(self, user: User) -> Invitation | None:
        return next((each for each in self.invitations.values() if each.user is user), None)

    # the service

    def calls(self) -> list[Call]:
        repository = "/repos/{owner}/{repo}"
        person, invitation = f"{repository}/collaborators/{{login}}", f"{repository}/invitations"
        return [
            Call("read_user", "GET", "/users/{login}", self._read_user),
            Call("is_collaborator", "GET", person, self._in_repository(self._is_collaborator)),
            Call("invite", "PUT", person, self._in_repository(self._invite)),
            Call("remove", "DELETE", person, self._in_repository(self._remove)),
            Call("invitations", "GET", invitation, self._in_repository(self._list)),
            Call("withdraw", "DELETE", f"{invitation}/{{id:int}}", self._in_repository(self._withdraw)),
            Call("read_repository", "GET", repository, self._in_repository(self._read_repository)),
        ]

    def forms(self) -> list[Form]:
        return [Form("/page/users", self._add_by_form), Form("/page/users/{login}", self._act_by_form)]

    def shown(self) -> Mapping[str, Any]:
        return {
            "members": [
                (user, self.collaborators.get(user.id), self._invitation_of(user)) for user in self.users.values()
            ]
        }

    def admit(self, asked: Asked) -> Said | None:
        if not asked.headers.get("user-agent"):
            words = "Request forbidden by administrative rules. Please make sure your request has a User-Agent header"
            return _error(403, words)
        kind, _, token = asked.headers.get("authorization", "").partition(" ")
        return None if kind.lower() in {"bearer", "token"} and token else self.failure(Answer(status=401))

    def failure(self, answer: Answer) -> Said:
        """A switched 403 with a Retry-After, and 429, are GitHub's secondary limit."""
        is_limit = answer.status == 429 or (answer.status == 403 and answer.retry_after_seconds is not None)
        return _error(answer.status, SECONDARY if is_limit else ERRORS.get(answer.status, "Server Error"))

    # calls

    def _in_repository(self, work: Any) -> Any:
        def done(asked: Asked) -> Said:
            name = f"{asked.parts['owner']}/{asked.parts['repo']}"
            if self.repository is not None and name.lower() != self.repository.lower():
                return _error(404, "Not Found")
            said: Said = work(asked)
            return said

        return done

    def _read_user(self, asked: Asked) -> Said:
        user = self.users.get(asked.parts["login"].lower())
        if user is None:
            return _error(404, "Not Found")
        at = _moment(user.since)
        unknown = dict.fromkeys(("name", "company", "blog", "location", "email", "hireable", "bio"))
        counted = dict.fromkeys(("public_repos", "public_gists", "followers", "following"), 0)
        return Said({**_shown_user(user, asked.url), **unknown, **counted, "created_at": at, "updated_at": at})

    def _is_collaborator(self, asked: Asked) -> Said:
        return Said(status=204) if self.has_access(asked.parts["login"]) else _error(404, "Not Found")

    def _invite(self, asked: Asked) -> Said:
        user = self.users.get(asked.parts["login"].lower())
        permission = _permission_in(asked)
        wrong = self._wrong_invitation(asked, user, permission)
        if wrong is not None or user is None or permission is None:
            return wrong or _error(404, "Not Found")
        if user.id in self.collaborators:
            self.collaborators[user.id] = permission
            return Said(status=204)
        invitation = self._invitation_of(user)
        if invitation is None:
            if self._is_spent():
                return _error(422, "You have exceeded the limit of 50 invitations to a repository per 24 hours.")
            invitation = Invitation(next(self._ids), user, permission)
            self.invitations[invitation.id] = invitation
            self.sent.append(invitation.at)
        invitation.permission = permission
        return Said(_shown_invitation(invitation, asked), status=201)

    def _wrong_invitation(self, asked: Asked, user: User | None, permission: str | None) -> Said | None:
        if not self.is_admin:
            return _error(403, "Must have admin rights to Repository.")
        if user is None:
            return _error(404, "Not Found")
        if permission is None or user.type != "User":
            return _error(422, "Validation Failed", f"{asked.parts['login']} cannot be given this permission")
        if user.login.lower() == asked.parts["owner"].lower():
            return _error(422, "Validation Failed", "Repository owner cannot be a collaborator")
        return None

    def _is_spent(self) -> bool:
        return len(self.sent) == MOST_A_DAY and datetime.now(UTC) - self.sent[0] < DAY / self.scale

    def _remove(self, asked: Asked) -> Said:
        if not self.is_admin:
            return _error(403, "Must have admin rights to Repository.")
        user = self.users.get(asked.parts["login"].lower())
        if user is None:
            return _error(404, "Not Found")
        self.collaborators.pop(user.id, None)
        return Said(status=204)

    def _list(self, asked: Asked) -> Said:
        size = min(_number(asked.query.get("per_page"), USUAL_PAGE), LARGEST_PAGE)
        page = _number(asked.query.get("page"), 1)
        every = list(self.invitations.values())
        end = page * size
        headers = {}
        if end < len(every):
            rest = urlencode({"per_page": size, "page": page + 1})
            path = f"/repos/{asked.parts['owner']}/{asked.parts['repo']}/invitations"
            headers["link"] = f'<{asked.url}{path}?{rest}>; rel="next", <{asked.url}{path}?{rest}>; rel="last"'
        return Said([_shown_invitation(each, asked) for each in every[end - size : end]], headers=headers)

    def _withdraw(self, asked: Asked) -> Said:
        if not self.is_admin:
            return _error(403, "Must have admin rights to Repository.")
        found = self.invitations.pop(int(asked.parts["id"]), None)
        return _error(404, "Not Found") if found is None else Said(status=204)

    def _read_repository(self, asked: Asked) -> Said:
        at = _moment(datetime.now(UTC))
        base = _shown_repository(asked)
        return Said(
            {
                **base,
                **dict.fromkeys(COUNTED, 0),
                **dict.fromkeys(("has_issues", "has_projects", "has_wiki"), True),
                **dict.fromkeys(("has_pages", "has_discussions", "archived", "disabled"), False),
                **dict.fromkeys(("git_url", "ssh_url", "clone_url", "svn_url"), base["html_url"]),
                **dict.fromkeys(("mirror_url", "homepage", "language", "license")),
                **dict.fromkeys(("pushed_at", "created_at", "updated_at"), at),
                "default_branch": "main",
                "permissions": {"admin": self.is_admin, "maintain": True, "push": True, "triage": True, "pull": True},
            }
        )

    # forms

    def _add_by_form(self, _parts: Mapping[str, str], form: Mapping[str, str]) -> None:
        self.add_user(form.get("login", ""), kind=form.get("type", "User"))

    def _act_by_form(self, parts: Mapping[str, str], form: Mapping[str, str]) -> None:
        acts = {"accept": self.accept, "decline": self.decline, "expire": self.expire}
        act = acts.get(form.get("act", ""))
        if act is None:
            raise Refused(422, "Nothing was done.", {"act": f"is one of {', '.join(acts)}"})
        act(parts["login"])


def _error(status: int, message: str, *more: str) -> Said:
    errors = {"errors": [{"message": each} for each in more]} if more else {}
    return Said({"message": message, **errors, "documentation_url": DOCS, "status": str(status)}, status=status)


def _permission_in(asked: Asked) -> str | None:
    """What is asked for, push unless it says; None: there is no such thing."""
    try:
        given = json.loads(asked.body or b"{}")
    except ValueError:
        return None
    permission = given.get("permission", "push") if isinstance(given, dict) else None
    return permission if permission in PERMISSIONS else None


def _number(text: str | None, usual: int) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and int(text[:6]) > 0 else usual


def _moment(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _shown_user(user: User, url: str) -> dict[str, Any]:
    own = f"{url}/users/{user.login}"
    return {
        "login": user.login,
        "id": user.id,
        "node_id": f"U_{user.id}",
        "avatar_url": f"{own}/avatar",
        "gravatar_id": "",
        "url": own,
        "html_url": own,
        **{f"{each}_url": f"{own}/{each}" for each in OF_USERS},
        "type": user.type,
        "site_admin": False,
    }


def _shown_repository(asked: Asked) -> dict[str, Any]:
    owner, name = asked.parts["owner"], asked.parts["repo"]
    own = f"{asked.url}/repos/{owner}/{name}"
    return {
        "id": 1,
        "node_id": "R_1",
        "name": name,
        "full_name": f"{owner}/{name}",
        "owner": _shown_user(User(1, owner, "Organization"), asked.url),
        "private": True,
        "html_url": own,
        "description": None,
        "fork": False,
        "url": own,
        **{f"{each}_url": f"{own}/{each}" for each in OF_REPOSITORIES},
    }


def _shown_invitation(invitation: Invitation, asked: Asked) -> dict[str, Any]:
    repository = _shown_repository(asked)
    return {
        "id": invitation.id,
        "node_id": f"RI_{invitation.id}",
        "repository": repository,
        "invitee": _shown_user(invitation.user, asked.url),
        "inviter": repository["owner"],
        "permissions": PERMISSIONS[invitation.permission],
        "created_at": _moment(invitation.at),
        "expired": invitation.is_expired,
        "url": f"{repository['url']}/invitations/{invitation.id}",
        "html_url": f"{repository['html_url']}/invitations",
    }
