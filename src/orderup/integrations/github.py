"""Who may write to a repository at GitHub: people are invited, and removed again.

Whoever has not accepted yet has an invitation and no access: to be rid of him takes both, `withdraw` and `remove`.
Everything here can be said twice. A login can be renamed, and then be somebody else's: an id cannot.
"""

import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final, Literal, NoReturn, TypeVar
from urllib.parse import quote

import msgspec
from pydantic import SecretStr

from orderup.errors import Invalid, Misconfigured, Resting, UpstreamFailed, UpstreamRefused
from orderup.integrations.upstream import LONGEST_SAYING, NOT_THERE, Reply, Upstream, UpstreamMetrics, rest_of
from orderup.integrations.webhook import read_retry_after
from orderup.model.one_line import one_line
from orderup.settings import Settings

DEADLINE = timedelta(seconds=20)
MOST_IN_FLIGHT = 10
API_VERSION: Final = "2026-03-10"
# As GitHub gives them out; what has an underscore belongs to a company that manages its people's accounts.
LOGIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9]|-(?=[A-Za-z0-9])){0,38}(?:_[A-Za-z0-9]{1,20})?", re.ASCII)
PAGE, MOST_PAGES = 100, 20
LARGEST_ANSWER = 4 << 20
NEXT = re.compile(r'<([^<>]+)>\s*;\s*rel="next"')
FORBIDDEN, UNPROCESSABLE, TOO_MANY = 403, 422, 429
CREATED, NO_CONTENT = 201, 204
MOVED = frozenset({301, 307, 308})
# Where it asks for a rest and does not say for how long.
SHORTEST_REST, LONGEST_REST = timedelta(minutes=1), timedelta(hours=1)
# 50 invitations a day may be sent for a repository. Who was refused for that asks again so much later.
NEXT_INVITATION = timedelta(hours=1)
T = TypeVar("T")
Permission = Literal["pull", "triage", "push", "maintain", "admin"]


class User(msgspec.Struct, frozen=True):
    """type: "User" is a person; there are organisations and robots."""

    id: int
    login: str
    type: str


class Invitation(msgspec.Struct, frozen=True):
    """user_id, login: None, if somebody was invited by e-mail. is_expired: it lets nobody in any more, and stays."""

    id: int
    user_id: int | None
    login: str | None
    is_expired: bool


class _Invitation(msgspec.Struct):
    id: int
    invitee: User | None = None
    expired: bool = False


class _Permissions(msgspec.Struct):
    admin: bool = False


class _Repository(msgspec.Struct):
    full_name: str
    permissions: _Permissions = msgspec.field(default_factory=_Permissions)


class _Error(msgspec.Struct):
    message: str = ""


class _Refusal(msgspec.Struct):
    message: str = ""
    errors: list[_Error | str] = []


class GitHub:
    """repository: OWNER/NAME."""

    def __init__(self, upstream: Upstream, *, repository: str) -> None:
        owner, _, name = repository.partition("/")
        self.upstream, self.repository = upstream, repository
        self._path = f"/repos/{quote(owner, safe='')}/{quote(name, safe='')}"

    async def find_user(self, login: str) -> User | None:
        """Whoever has this login now, in whatever case it is written. Raises Invalid: nobody can be called so."""
        path = f"/users/{_checked(login)}"
        reply = await self._call("GET", path, about=login, reads=_read_user)
        return None if reply.status == NOT_THERE else self._told(reply, _read_user)

    async def is_collaborator(self, login: str) -> bool:
        """Whether he has access to the repository by himself. A team may give it, too."""
        reply = await self._call("GET", f"{self._path}/collaborators/{_checked(login)}", about=login)
        return await self._is_there(reply)

    async def invitations(self) -> list[Invitation]:
        """Those that nobody has accepted yet, expired ones included."""
        path: str | None = f"{self._path}/invitations?per_page={PAGE}"
        found: list[Invitation] = []
        for _ in range(MOST_PAGES):
            if path is None:
                break
            reply = await self._call("GET", path, about="invitations", reads=_read_invitations)
            found += self._told(reply, _read_invitations)
            path = self._next(reply)
        return found

    async def invite(self, login: str, *, permission: Permission = "push") -> Literal["invited", "has access"]:
        """Once more changes the permission only. It counts in the repository of an organisation; elsewhere it is push.

        Raises Resting: no more are sent today.
        """
        path = f"{self._path}/collaborators/{_checked(login)}"
        reply = await self._call("PUT", path, about=login, json={"permission": permission})
        if reply.status == UNPROCESSABLE and _is_daily_limit(_said(reply)):
            raise Resting(NEXT_INVITATION.total_seconds())
        if not reply.is_success:
            self._refuse(reply)
        return "has access" if reply.status == NO_CONTENT else "invited"

    async def withdraw(self, invitation_id: int) -> None:
        """One that is gone, accepted or withdrawn before, is no error."""
        reply = await self._call("DELETE", f"{self._path}/invitations/{invitation_id}", about="invitation")
        await self._is_there(reply)

    async def remove(self, login: str) -> None:
        """One who is none is no error. His invitation, if he has not accepted it, stays: see `withdraw`."""
        reply = await self._call("DELETE", f"{self._path}/collaborators/{_checked(login)}", about=login)
        await self._is_there(reply)

    async def check(self) -> str:
        """Whether our token may invite. Raises UpstreamRefused."""
        repository = await self._read_repository()
        if not repository.permissions.admin:
            raise UpstreamRefused(
                f"GitHub lets this token see {self.repository} but not administer it: give it Administration, write"
            )
        return f"may invite to {one_line(repository.full_name)}"

    async def _read_repository(self) -> _Repository:
        return self._told(
            await self._call("GET", self._path, about="repository", reads=_read_repository), _read_repository
        )

    async def _is_there(self, reply: Reply) -> bool:
        """404 says no. Whoever may not see the repository is told the same, and must not take it for a no."""
        if reply.status == NOT_THERE:
            await self._read_repository()
            return False
        return reply.is_success or self._refuse(reply)

    async def _call(
        self, method: str, path: str, *, about: str, json: Any = None, reads: Callable[[Reply], object] | None = None
    ) -> Reply:
        reply = await self.upstream.call(
            method, path, about=about, json=json, reads=reads, judges=MOVED, largest=LARGEST_ANSWER
        )
        if reply.status in MOVED:
            self.upstream.refuse(reply, because=f"{self.repository} has another name now: set GITHUB_REPOSITORY")
        return reply

    def _next(self, reply: Reply) -> str | None:
        """The path of the next page; our token is sent nowhere else."""
        link = NEXT.search(reply.headers.get("link", ""))
        if link is None:
            return None
        if not link[1].startswith(f"{self.upstream.base_url}/"):
            raise UpstreamFailed("GitHub says that its next page is somewhere else")
        return link[1].removeprefix(self.upstream.base_url)

    def _told(self, reply: Reply, read: Callable[[Reply], T | None]) -> T:
        found = read(reply) if reply.is_success else None
        return self._refuse(reply) if found is None else found

    def _refuse(self, reply: Reply) -> NoReturn:
        self.upstream.refuse(reply, because=_said(reply))


@asynccontextmanager
async def open_github(settings: Settings, metrics: UpstreamMetrics) -> AsyncIterator[GitHub]:
    """Raises Misconfigured."""
    if settings.github_repository is None:
        raise Misconfigured("GITHUB_REPOSITORY is not set: the sandbox may stand in for GitHub, or set it.")
    token = (settings.github_token or SecretStr("none")).get_secret_value()
    headers = {
        "Authorization": f"Bearer {token}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": API_VERSION,
    }
    upstream = Upstream(
        "GitHub",
        settings.github_base_url,
        metrics=metrics,
        deadline=DEADLINE,
        most=MOST_IN_FLIGHT,
        headers=headers,
        rest=rest_of_github,
    )
    async with upstream:
        yield GitHub(upstream, repository=settings.github_repository)


def rest_of_github(reply: Reply) -> timedelta | None:
    """It limits requests with 403 as well as with 429, and says how long in one of three ways, or not at all."""
    if reply.status not in {FORBIDDEN, TOO_MANY}:
        return rest_of(reply)
    if (asked := read_retry_after(reply.headers.get("retry-after"))) is not None:
        return asked
    if reply.headers.get("x-ratelimit-remaining") == "0":
        return _until(reply.headers.get("x-ratelimit-reset", ""))
    is_limit = reply.status == TOO_MANY or b"rate limit" in reply.body.lower()
    return SHORTEST_REST if is_limit else None


def is_login(text: str) -> bool:
    """Whether somebody can be called so."""
    return LOGIN.fullmatch(text) is not None


def _until(reset: str) -> timedelta:
    """From now on, to a moment in seconds since 1970."""
    if not (reset.isascii() and reset.isdigit()) or len(reset) > 12:
        return SHORTEST_REST
    return min(max(timedelta(seconds=int(reset) - time.time()), timedelta(seconds=1)), LONGEST_REST)


def _checked(login: str) -> str:
    if not is_login(login):
        raise Invalid(f"{login!r} is no login at GitHub: letters, digits and single hyphens inside, at most 39.")
    return login


def _is_daily_limit(said: str) -> bool:
    """422 is what is wrong with a request, but for this."""
    words = said.lower()
    return "invitation" in words and ("limit" in words or "24 hour" in words)


def _read_user(reply: Reply) -> User | None:
    return reply.read(User)


def _read_invitations(reply: Reply) -> list[Invitation] | None:
    found = reply.read(list[_Invitation])
    return None if found is None else [_invitation(each) for each in found]


def _invitation(found: _Invitation) -> Invitation:
    invitee = found.invitee
    return Invitation(
        id=found.id,
        user_id=None if invitee is None else invitee.id,
        login=None if invitee is None else invitee.login,
        is_expired=found.expired,
    )


def _read_repository(reply: Reply) -> _Repository | None:
    return reply.read(_Repository)


def _said(reply: Reply) -> str:
    refusal = reply.read(_Refusal)
    if refusal is None or not refusal.message:
        return reply.saying
    more = [each if isinstance(each, str) else each.message for each in refusal.errors]
    return one_line("; ".join(filter(None, [refusal.message, *more])))[:LONGEST_SAYING]
