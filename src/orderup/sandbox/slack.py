"""Slack's Web API, as far as a bot needs it to find people and to write to them.

Like Slack it answers 200 also when it says no. A switch to 401, 403, 404 or 500 is therefore told as Slack tells it:
`invalid_auth`, `missing_scope`, `channel_not_found`, `internal_error`. 429 and all others are told by their status.
`says_no` has every call answered with one error.
"""

import base64
import binascii
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from orderup.sandbox.behaviour import Answer
from orderup.sandbox.border import Refused
from orderup.sandbox.service import Asked, Call, Form, Said, Service, Switch

TEAM = {"team": "Sandbox", "team_id": "T0SANDBOX"}
BOT, SLACKBOT = "U0ORDERUP", "USLACKBOT"
MOST_MEMBERS, MOST_CHANNELS, MOST_MESSAGES = 100_000, 1_000, 500
LONGEST_TEXT, LONGEST_NAME = 40_000, 80
LARGEST_PAGE, USUAL_PAGE = 1_000, 100
SHOWN_MEMBERS, SHOWN_CHANNELS, SHOWN_MESSAGES = 50, 50, 20
# What Slack answers with 200.
SAID_BY_STATUS = {401: "invalid_auth", 403: "missing_scope", 404: "channel_not_found", 500: "internal_error"}


@dataclass(slots=True)
class Member:
    id: str
    real_name: str
    email: str | None = None
    display_name: str = ""
    deleted: bool = False
    is_bot: bool = False

    def as_json(self) -> dict[str, Any]:
        profile = {
            "real_name": self.real_name,
            "real_name_normalized": self.real_name,
            "display_name": self.display_name,
            "display_name_normalized": self.display_name,
            **({"email": self.email} if self.email else {}),
        }
        return {
            "id": self.id,
            "team_id": TEAM["team_id"],
            "name": self.id.lower(),
            "deleted": self.deleted,
            "is_bot": self.is_bot,
            "is_app_user": False,
            "profile": profile,
        }


@dataclass(frozen=True, slots=True)
class Message:
    """metadata: as it came. `ts`: its id in its channel, and when it came."""

    ts: str
    text: str
    metadata: Mapping[str, Any]

    @property
    def at(self) -> datetime:
        return datetime.fromtimestamp(float(self.ts), UTC)

    @property
    def key(self) -> str | None:
        """As which who sent it knows it again."""
        payload = self.metadata.get("event_payload", {})
        return payload.get("key") if isinstance(payload, dict) else None


@dataclass(slots=True)
class Channel:
    """Direct messages to one member, oldest first."""

    id: str
    member: Member
    messages: deque[Message] = field(default_factory=lambda: deque(maxlen=MOST_MESSAGES))


class Slack(Service):
    """`token`: the only one that is taken; None: whatever begins with xoxb-. `says_no`: Slack's word for why, such as
    `rate_limited`, whatever it is asked; None: it does as it is told."""

    name, title, template = "slack", "Slack", "slack.html"

    def __init__(self, *, scale: float) -> None:
        super().__init__(scale=scale)
        self.token: str | None = None
        self.says_no: str | None = None
        self.members: dict[str, Member] = {}
        self.channels: dict[str, Channel] = {}
        self._last_ts = 0.0
        self._keep(Member(SLACKBOT, "Slackbot"))
        self._keep(Member(BOT, "orderup", is_bot=True))
        self.add_member("Mr Cakelover", email="mr_cakelover@gmail.com", display_name="cakelover")
        self.add_member("Ada Lovelace", email="ada@example.com", display_name="ada")
        self.add_member("John Smith", email="john@example.com")
        self.add_member("John Smith", email="john.smith@example.com", display_name="smithy")
        self.add_member("Grace Hopper", email="grace@example.com").deleted = True

    # for tests

    def add_member(self, real_name: str, *, email: str | None = None, display_name: str = "") -> Member:
        """Raises Refused if there are too many."""
        if len(self.members) >= MOST_MEMBERS:
            raise Refused(409, f"There are {MOST_MEMBERS} members.")
        return self._keep(Member(f"U{len(self.members):08d}", real_name, email, display_name))

    def add_members(self, count: int) -> None:
        """Of names that only they have: "Member 17"."""
        for number in range(count):
            self.add_member(f"Member {number}", email=f"member{number}@example.com", display_name=f"m{number}")

    @property
    def messages(self) -> list[Message]:
        """Of all channels."""
        return [message for channel in self.channels.values() for message in channel.messages]

    def messages_to(self, member: Member) -> list[Message]:
        channel = self.channels.get(_channel_of(member))
        return list(channel.messages) if channel else []

    def _keep(self, member: Member) -> Member:
        self.members[member.id] = member
        return member

    # what it is

    def calls(self) -> Sequence[Call]:
        return [
            Call("check", "POST", "/api/auth.test", self._check),
            Call("find_by_email", "GET", "/api/users.lookupByEmail", self._find_by_email),
            Call("list_members", "GET", "/api/users.list", self._list_members),
            Call("open_dm", "POST", "/api/conversations.open", _of_json(self._open_dm)),
            Call("post_message", "POST", "/api/chat.postMessage", _of_json(self._post_message)),
            Call("read_messages", "GET", "/api/conversations.history", self._read_messages),
        ]

    def admit(self, asked: Asked) -> Said | None:
        kind, _, token = asked.headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or not token:
            return _no("not_authed")
        is_known = token.startswith("xoxb-") if self.token is None else token == self.token
        if not is_known:
            return _no("invalid_auth")
        return None if self.says_no is None else _no(self.says_no)

    def failure(self, answer: Answer) -> Said:
        if answer.status == 429:
            return Said({"ok": False, "error": "ratelimited"}, status=429)
        if answer.status in SAID_BY_STATUS:
            needs = {"needed": "chat:write", "provided": "users:read"} if answer.status == 403 else {}
            return Said({"ok": False, "error": SAID_BY_STATUS[answer.status], **needs})
        return Said({"ok": False, "error": "service_unavailable"}, status=answer.status)

    def _played(self, switch: Switch, said: Said | None) -> tuple[Answer, Said]:
        answer, told = super()._played(switch, said)
        return (answer.model_copy(update={"status": told.status}) if switch.status >= 300 else answer), told

    def shown(self) -> Mapping[str, Any]:
        people = [member for member in self.members.values() if member.id not in {SLACKBOT, BOT}]
        return {
            "channels": list(self.channels.values())[-SHOWN_CHANNELS:][::-1],
            "last_messages": SHOWN_MESSAGES,
            "people": people[:SHOWN_MEMBERS],
            "more_people": max(0, len(people) - SHOWN_MEMBERS),
        }

    def routes(self) -> list[Route]:
        """Also where a link to a conversation leads a person."""
        return [Route("/app_redirect", _lead_to_page, methods=["GET"]), *super().routes()]

    def forms(self) -> Sequence[Form]:
        return [
            Form("/members", self._add),
            Form("/members/{id}", self._change),
            Form("/says-no", self._say_no),
        ]

    def _add(self, _parts: Mapping[str, str], form: Mapping[str, str]) -> None:
        name = form.get("real_name", "").strip()
        if not name or len(name) > LONGEST_NAME:
            raise Refused(422, "Not added.", {"real_name": f"has 1 to {LONGEST_NAME} characters"})
        display_name, email = form.get("display_name", "")[:LONGEST_NAME], form.get("email", "")[:LONGEST_NAME]
        self.add_member(name, email=email or None, display_name=display_name)

    def _change(self, parts: Mapping[str, str], _form: Mapping[str, str]) -> None:
        member = self.members.get(parts["id"])
        if member is None:
            raise Refused(404, "There is no such member.")
        member.deleted = not member.deleted

    def _say_no(self, _parts: Mapping[str, str], form: Mapping[str, str]) -> None:
        self.says_no = form.get("error", "").strip()[:LONGEST_NAME] or None

    # the calls

    def _check(self, asked: Asked) -> Said:
        return _yes({"url": f"{asked.url}/", **TEAM, "user": "orderup", "user_id": BOT, "bot_id": "B0ORDERUP"})

    def _find_by_email(self, asked: Asked) -> Said:
        email = asked.query.get("email", "").casefold()
        for member in self.members.values():
            if member.email is not None and member.email.casefold() == email and not member.deleted:
                return _yes({"user": member.as_json()})
        return _no("users_not_found")

    def _list_members(self, asked: Asked) -> Said:
        members = list(self.members.values())
        page = _page_of(asked, members)
        if page is None:
            return _no("invalid_cursor")
        found, cursor = page
        listed = [member.as_json() for member in found]
        return _yes({"members": listed, "cache_ts": int(time.time()), "response_metadata": {"next_cursor": cursor}})

    def _open_dm(self, given: Mapping[str, Any]) -> Said:
        member = self.members.get(str(given.get("users")))
        if member is None:
            return _no("user_not_found")
        if member.deleted:
            return _no("user_disabled")
        if member.is_bot or member.id == SLACKBOT:
            return _no("cannot_dm_bot")
        id = _channel_of(member)
        is_open = id in self.channels
        if not is_open:
            while len(self.channels) >= MOST_CHANNELS:
                del self.channels[next(iter(self.channels))]
            self.channels[id] = Channel(id, member)
        already = {"no_op": True, "already_open": True} if is_open else {}
        return _yes({**already, "channel": {"id": id}})

    def _post_message(self, given: Mapping[str, Any]) -> Said:
        channel, text, metadata = self.channels.get(str(given.get("channel"))), given.get("text"), given.get("metadata")
        if channel is None:
            return _no("channel_not_found")
        if not isinstance(text, str) or not text:
            return _no("no_text")
        if len(text) > LONGEST_TEXT:
            return _no("msg_too_long")
        if metadata is not None and not _is_metadata(metadata):
            return _no("invalid_metadata_format")
        message = Message(self._next_ts(), text, metadata or {})
        channel.messages.append(message)
        told = {"type": "message", "user": BOT, "bot_id": "B0ORDERUP", "text": text, "ts": message.ts}
        return _yes({"channel": channel.id, "ts": message.ts, "message": told})

    def _read_messages(self, asked: Asked) -> Said:
        channel = self.channels.get(asked.query.get("channel", ""))
        if channel is None:
            return _no("channel_not_found")
        try:
            oldest = float(asked.query.get("oldest", "0"))
        except ValueError:
            return _no("invalid_ts_oldest")
        newest_first = [message for message in reversed(channel.messages) if float(message.ts) > oldest]
        page = _page_of(asked, newest_first)
        if page is None:
            return _no("invalid_cursor")
        found, cursor = page
        with_metadata = asked.query.get("include_all_metadata") in {"true", "1"}
        told = [
            {"type": "message", "user": BOT, "text": message.text, "ts": message.ts}
            | ({"metadata": message.metadata} if with_metadata and message.metadata else {})
            for message in found
        ]
        more = {"response_metadata": {"next_cursor": cursor}} if cursor else {}
        return _yes({"messages": told, "has_more": bool(cursor), **more})

    def _next_ts(self) -> str:
        """Later than all before it."""
        self._last_ts = max(round(time.time(), 6), self._last_ts + 0.000_01)
        return f"{self._last_ts:.6f}"


async def _lead_to_page(request: Request) -> Response:
    return RedirectResponse(f"/slack/#{quote(request.query_params.get('channel', ''))}", status_code=303)


def _of_json(work: Callable[[Mapping[str, Any]], Said]) -> Callable[[Asked], Said]:
    """Methods that write take JSON, and say so if it is none."""

    def read(asked: Asked) -> Said:
        if not asked.headers.get("content-type", "").startswith("application/json"):
            return _no("invalid_arguments")
        try:
            given = asked.json()
        except ValueError:
            return _no("invalid_json")
        return work(given) if isinstance(given, dict) else _no("json_not_object")

    return read


def _page_of(asked: Asked, things: Sequence[Any]) -> tuple[Sequence[Any], str] | None:
    """And the cursor of the next one, empty at the end; None: the given one is none."""
    try:
        limit = min(LARGEST_PAGE, int(asked.query.get("limit") or USUAL_PAGE))
        given = base64.b64decode(asked.query.get("cursor", ""), validate=True).decode()
        begin = int(given.removeprefix("from:")) if given else 0
    except (ValueError, binascii.Error):
        return None
    if limit < 1 or not 0 <= begin <= len(things):
        return None
    end = begin + limit
    cursor = base64.b64encode(f"from:{end}".encode()).decode() if end < len(things) else ""
    return things[begin:end], cursor


def _channel_of(member: Member) -> str:
    return f"D{member.id[1:]}"


def _is_metadata(given: Any) -> bool:
    return isinstance(given, dict) and isinstance(given.get("event_type"), str) and "event_payload" in given


def _yes(more: Mapping[str, Any]) -> Said:
    return Said({"ok": True, **more})


def _no(error: str) -> Said:
    return Said({"ok": False, "error": error})
