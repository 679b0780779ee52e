"""Slack's Web API: who somebody is there, and a message to him.

It answers 200 also when it says no: `ok` tells, and `error` why. A message has no key by which Slack would know it
again, so that each carries one as metadata: whoever does not know whether a message was posted looks for its key.

Names are looked up in a directory of all members, which is read 200 at a time, 20 times a minute at most. A large one
takes several minutes: who asks meanwhile rests, and reading goes on from there.
"""

import asyncio
import time
import unicodedata
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from orderup.errors import OutcomeUnknown, Resting, UpstreamFailed
from orderup.integrations.upstream import Reply, Upstream, UpstreamMetrics, rest_of
from orderup.settings import Settings

DEADLINE = timedelta(seconds=15)
MOST_IN_FLIGHT = 20
# 200 members have a few hundred kilobytes.
LARGEST_PAGE_BYTES = 4 << 20
PAGE_SIZE = 200
# Slack's tier 2: "20+ per minute". A second more, for pages that travel at different speeds.
PAGES_A_MINUTE, MINUTE = 20, timedelta(seconds=61)
# A directory is used so long; and while a new one cannot be read to its end, at most so long.
FRESH, STALE = timedelta(minutes=30), timedelta(minutes=60)
# A reading that nobody went on with for so long begins anew: Slack forgets where it was.
ABANDONED = timedelta(minutes=10)
# Slack's clock and ours.
CLOCKS_DIFFER = timedelta(minutes=5)
MOST_HISTORY_PAGES = 20
EVENT_TYPE = "orderup_notification"
SLACKBOT = "USLACKBOT"
# The token is wrong, or may not do this: somebody has to change that first.
UNKNOWN_TO_IT = frozenset(
    {
        "account_inactive",
        "access_denied",
        "ekm_access_denied",
        "enterprise_is_restricted",
        "invalid_auth",
        "missing_scope",
        "no_permission",
        "not_allowed_token_type",
        "not_authed",
        "org_login_required",
        "token_expired",
        "token_revoked",
        "two_factor_setup_required",
    }
)
LIMITED = frozenset({"ratelimited", "rate_limited", "message_limit_exceeded"})
# Slack failed, and some of it may have been done.
FAILED = frozenset({"fatal_error", "internal_error", "request_timeout", "service_unavailable"})
AMBIGUOUS = ""


class Said(msgspec.Struct):
    """What all answers have."""

    ok: bool
    error: str | None = None
    needed: str | None = None


class Next(msgspec.Struct):
    next_cursor: str = ""


class Profile(msgspec.Struct):
    real_name: str = ""
    display_name: str = ""


class Member(msgspec.Struct):
    id: str
    deleted: bool = False
    is_bot: bool = False
    is_app_user: bool = False
    profile: Profile = msgspec.field(default_factory=Profile)

    @property
    def is_person(self) -> bool:
        return not (self.deleted or self.is_bot or self.is_app_user or self.id == SLACKBOT)


class Found(msgspec.Struct):
    user: Member


class Page(msgspec.Struct):
    members: list[Member]
    response_metadata: Next = msgspec.field(default_factory=Next)


class Opened(msgspec.Struct):
    class Channel(msgspec.Struct):
        id: str

    channel: Channel


class Posted(msgspec.Struct):
    ts: str


class Metadata(msgspec.Struct):
    event_type: str = ""
    event_payload: Mapping[str, Any] = msgspec.field(default_factory=dict)


class Message(msgspec.Struct):
    ts: str
    metadata: Metadata = msgspec.field(default_factory=Metadata)


class History(msgspec.Struct):
    messages: list[Message]
    response_metadata: Next = msgspec.field(default_factory=Next)


class Us(msgspec.Struct):
    team: str
    user: str


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Match:
    """Who has a name. `user_id` None: nobody, or more than one, which `is_ambiguous` tells apart."""

    user_id: str | None = None
    is_ambiguous: bool = False


class Slack:
    """`monotonic`: seconds."""

    def __init__(self, upstream: Upstream, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.upstream = upstream
        self.directory = Directory(self._read_page, monotonic=monotonic)

    # All of these raise Resting, UpstreamFailed and UpstreamRefused.

    async def find_by_email(self, email: str) -> str | None:
        """The id of the member with this address; None: there is none, or he has left."""
        found = await self._ask("users.lookupByEmail", Found, query={"email": email}, nobody={"users_not_found"})
        return found.user.id if found is not None and found.user.is_person else None

    async def find_by_name(self, name: str) -> Match:
        """By the real names and the display names, which people choose themselves: one of several is not guessed."""
        return await self.directory.find(name)

    async def open_dm(self, user_id: str) -> str:
        """The channel of messages to this member; the same each time."""
        asked = {"users": user_id}
        opened = await self._tell("conversations.open", Opened, json=asked, about=user_id, is_repeatable=True)
        return opened.channel.id

    async def post(self, channel: str, *, text: str, key: str) -> str:
        """The message's `ts`, its id in this channel. text: what came from elsewhere goes through `escape` first.

        Raises OutcomeUnknown: ask `find_posted` before it is posted again.
        """
        message = {
            "channel": channel,
            "text": text,
            "unfurl_links": False,
            "unfurl_media": False,
            "metadata": {"event_type": EVENT_TYPE, "event_payload": {"key": key}},
        }
        posted = await self._tell("chat.postMessage", Posted, json=message, about=channel, is_repeatable=False)
        return posted.ts

    async def find_posted(self, channel: str, *, key: str, since: datetime) -> str | None:
        """The `ts` of the message with this key, if it was posted since then."""
        query = {
            "channel": channel,
            "oldest": f"{(since - CLOCKS_DIFFER).timestamp():.6f}",
            "include_all_metadata": "true",
            "limit": str(PAGE_SIZE),
        }
        for _ in range(MOST_HISTORY_PAGES):
            page = await self._ask("conversations.history", History, query=query)
            assert page is not None
            for message in page.messages:
                if message.metadata.event_type == EVENT_TYPE and message.metadata.event_payload.get("key") == key:
                    return message.ts
            if not page.response_metadata.next_cursor:
                return None
            query["cursor"] = page.response_metadata.next_cursor
        raise UpstreamFailed(f"Slack has more than {MOST_HISTORY_PAGES * PAGE_SIZE} messages in {channel} since then")

    def link(self, channel: str) -> str:
        """Where whoever takes part in this conversation looks at it."""
        return f"{self.upstream.base_url.removesuffix('/api')}/app_redirect?channel={quote(channel, safe='')}"

    async def check(self) -> str:
        us = await self._tell("auth.test", Us, json={}, about="who we are", is_repeatable=True)
        return f"{us.user} in the workspace {us.team}"

    async def _read_page(self, cursor: str) -> Page | None:
        query = {"limit": str(PAGE_SIZE), **({"cursor": cursor} if cursor else {})}
        return await self._ask("users.list", Page, query=query, nobody={"invalid_cursor"})

    async def _ask(
        self, name: str, kind: type[T], *, query: Mapping[str, str], nobody: Collection[str] = ()
    ) -> T | None:
        """None: it said one of `nobody`."""
        reply = await self.upstream.call(
            "GET", f"/{name}", about=name, query=query, reads=_is_answer(kind), largest=LARGEST_PAGE_BYTES
        )
        said = self._judge(reply, name, is_repeatable=True)
        if said.error in nobody:
            return None
        return self._read(reply, said, kind)

    async def _tell(self, name: str, kind: type[T], *, json: Any, about: str, is_repeatable: bool) -> T:
        reply = await self.upstream.call(
            "POST",
            f"/{name}",
            about=about,
            json=json,
            headers={"Content-Type": "application/json; charset=utf-8"},
            reads=_is_answer(kind),
            is_repeatable=is_repeatable,
        )
        return self._read(reply, self._judge(reply, name, is_repeatable=is_repeatable), kind)

    def _judge(self, reply: Reply, name: str, *, is_repeatable: bool) -> Said:
        """Raises what is wrong whatever was asked."""
        said = reply.read(Said)
        if not reply.is_success or said is None:
            self.upstream.refuse(reply)
        if said.error in UNKNOWN_TO_IT:
            resting = self.upstream.unknown_to_it()
            needs = f", it wants {said.needed}" if said.needed else ""
            self.upstream.last_error = f"does not take our token ({said.error}{needs}): renew it, and start again"
            raise resting
        if said.error in FAILED:
            self.upstream.last_error = f"answered {said.error} to {name}"
            text = f"Slack answered {said.error} to {name}"
            raise UpstreamFailed(text) if is_repeatable else OutcomeUnknown(text)
        return said

    def _read(self, reply: Reply, said: Said, kind: type[T]) -> T:
        if not said.ok:
            self.upstream.refuse(reply, because=said.error or "no, without a reason")
        answer = reply.read(kind)
        assert answer is not None
        return answer


class Directory:
    """Who has which name, in memory. read: a page from a cursor on, "" the first; None: it knows no such cursor."""

    def __init__(self, read: Callable[[str], Any], *, monotonic: Callable[[], float]) -> None:
        self.read, self.monotonic = read, monotonic
        self._known: dict[str, str] | None = None
        self._known_at = 0.0
        # what is being read: those before the cursor
        self._gathered: dict[str, str] = {}
        self._cursor = ""
        self._went_on_at = 0.0
        self._pages: deque[float] = deque(maxlen=PAGES_A_MINUTE)
        self._reading = asyncio.Lock()

    async def find(self, name: str) -> Match:
        """Raises Resting while it is not read to its end, and what `read` raises."""
        known = await self._fresh()
        plain = plain_name(name)
        user_id = known.get(plain) if plain else None
        return Match(user_id or None, is_ambiguous=user_id == AMBIGUOUS)

    async def _fresh(self) -> dict[str, str]:
        old = self._younger_than(FRESH)
        if old is not None:
            return old
        old = self._younger_than(STALE)
        if old is not None and (self._reading.locked() or self._seconds_to_rest()):
            return old
        async with self._reading:
            # somebody else may have read it meanwhile
            known = self._younger_than(FRESH)
            try:
                while known is None:
                    known = await self._go_on()
            except (Resting, UpstreamFailed):
                if old is None:
                    raise
                return old
            return known

    async def _go_on(self) -> dict[str, str] | None:
        """One page more; the whole, if it was the last one."""
        if seconds := self._seconds_to_rest():
            raise Resting(seconds)
        now = self.monotonic()
        if now - self._went_on_at > ABANDONED.total_seconds():
            self._begin()
        self._pages.append(now)
        self._went_on_at = now
        page = await self.read(self._cursor)
        if page is None:
            self._begin()
            raise UpstreamFailed("Slack has forgotten where in its list of members we were: it is read anew")
        for member in page.members:
            if member.is_person:
                self._gather(member)
        self._cursor = page.response_metadata.next_cursor
        if self._cursor:
            return None
        known, self._known, self._known_at = self._gathered, self._gathered, self.monotonic()
        self._begin()
        return known

    def _begin(self) -> None:
        self._gathered, self._cursor = {}, ""

    def _gather(self, member: Member) -> None:
        for name in {plain_name(member.profile.real_name), plain_name(member.profile.display_name)} - {""}:
            before = self._gathered.setdefault(name, member.id)
            if before != member.id:
                self._gathered[name] = AMBIGUOUS

    def _younger_than(self, age: timedelta) -> dict[str, str] | None:
        is_young = self.monotonic() - self._known_at < age.total_seconds()
        return self._known if is_young else None

    def _seconds_to_rest(self) -> float:
        """Until the next page may be asked for."""
        if len(self._pages) < PAGES_A_MINUTE:
            return 0.0
        return max(0.0, self._pages[0] + MINUTE.total_seconds() - self.monotonic())


def plain_name(name: str) -> str:
    """What is compared: letters, with the marks that belong to them, and digits, without regard to case."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(each for each in folded if unicodedata.category(each)[0] in "LMN" and not _is_variant(each))


def escape(text: str) -> str:
    """What somebody wrote, so that Slack shows it and reads no mention or link in it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@asynccontextmanager
async def open_slack(settings: Settings, metrics: UpstreamMetrics) -> AsyncIterator[Slack]:
    token = settings.slack_bot_token.get_secret_value() if settings.slack_bot_token else "xoxb-sandbox"
    upstream = Upstream(
        "Slack",
        settings.slack_base_url,
        metrics=metrics,
        deadline=DEADLINE,
        most=MOST_IN_FLIGHT,
        headers={"Authorization": f"Bearer {token}"},
        rest=_rest_of,
    )
    async with upstream:
        yield Slack(upstream)


def _rest_of(reply: Reply) -> timedelta | None:
    rest = rest_of(reply)
    if rest is not None or not reply.is_success:
        return rest
    said = reply.read(Said)
    if said is None or said.error not in LIMITED:
        return None
    return rest_of(Reply(429, reply.headers, b""))


def _is_answer(kind: type[Any]) -> Callable[[Reply], object]:
    """Of what says ok, all that we read has to be there; of what does not, that it says so."""

    def read(reply: Reply) -> object:
        said = reply.read(Said)
        if said is None or not said.ok:
            return said
        return reply.read(kind)

    return read


def _is_variant(character: str) -> bool:
    """It says how the character before it looks, such as an emoji in colour."""
    return "\ufe00" <= character <= "\ufe0f"
