"""Routes that are asked thousands of times a second: run on the bare connection, past the layers of the framework.

Such a route is declared like any other, so that it is described, guarded and limited alike; `directly` names the ASGI
endpoint that does its work. A request that is as plain as can be, with no body, no token and nothing that any of the
layers would have a say in, goes straight to the endpoint; any other takes the usual way, at whose end the same endpoint
runs. What the layers would have done for a plain one is done here: headers, problems, metrics, the log.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeVar

import msgspec
import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orderup.errors import OrderupError
from orderup.settings import Settings
from orderup.web.headers import PROBLEM_HEADERS
from orderup.web.logs import ids_of
from orderup.web.loopback import is_local_name
from orderup.web.observe import GONE, HUNG_UP, Notes
from orderup.web.problems import CRASHED, Problem, error_response, problem_response
from orderup.web.routes import ROUTE_KEY, RouteEntry, RouteTable, takes_its_time
from orderup.web.tokens import LOCAL_CALLER, NOBODY, Caller
from orderup.web.wire import WIRE_KEY, Wire, hang_up, is_gone, was_hung_up

log = structlog.get_logger(__name__)
DirectEndpoint = Callable[[Scope, Receive, Send, Caller], Awaitable[None]]
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
LONGEST_PLAIN_QUERY, MOST_PLAIN_HEADERS, LONGEST_PLAIN_HEADER = 500, 20, 300
# Headers that some layer has a say about, or that announce a body.
TELLING = frozenset(
    name.encode()
    for name in (
        "authorization",
        "connection",
        "cookie",
        "expect",
        "forwarded",
        "idempotency-key",
        "origin",
        "purpose",
        "sec-fetch-site",
        "sec-purpose",
        "transfer-encoding",
        "x-real-ip",
    )
)
_PLAIN_HEADERS = [(name.lower().encode(), value.encode()) for name, value in PROBLEM_HEADERS.items()]


def directly(work: DirectEndpoint, *, never_fails: bool = False) -> Callable[[Endpoint], Endpoint]:
    """Marks a route whose work `work` does. never_fails: its callers are never answered with a 5xx: where there would
    be one, they are hung up on."""

    def mark(endpoint: Endpoint) -> Endpoint:
        vars(takes_its_time(endpoint)).update(works_directly=work, never_fails=never_fails)
        return endpoint

    return mark


class Direct(Response):
    """What such a route returns when it is reached the usual way."""

    def __init__(self, work: DirectEndpoint, caller: Caller) -> None:
        super().__init__()
        self.work, self.caller = work, caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.work(scope, receive, send, self.caller)


async def send_json(send: Send, content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
    body = msgspec.json.encode(content)
    told = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if headers:
        told += [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})


class DirectRoutes:
    """`usual`: the app with all its layers."""

    def __init__(self, app: Any, usual: ASGIApp, table: RouteTable, settings: Settings, notes: Notes) -> None:
        self.app, self.usual, self.notes = app, usual, notes
        self.is_open = settings.secret_key is None
        is_https = (settings.public_url or "").startswith("https://")
        self.may_be_plain = not settings.trusted_proxies and not is_https
        self.entries: dict[tuple[str, str], tuple[RouteEntry, DirectEndpoint, bool]] = {}
        for entry in table.entries:
            told: MutableMapping[str, Any] = getattr(entry.endpoint, "__dict__", {})
            if "works_directly" in told:
                for method in entry.methods:
                    self.entries[method, entry.path] = entry, told["works_directly"], told["never_fails"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self.entries.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if found is None:
            await self.usual(scope, receive, send)
            return
        entry, work, never_fails = found
        caller = self._plain_caller(scope, entry)
        if caller is not None:
            await self._work(scope, receive, send, caller, entry=entry, work=work, never_fails=never_fails)
        elif never_fails:
            await self.usual(scope, receive, _without_failures(scope, send))
        else:
            await self.usual(scope, receive, send)

    def _plain_caller(self, scope: Scope, entry: RouteEntry) -> Caller | None:
        """Who calls, if it is as plain a request as can be."""
        if not self.may_be_plain or (entry.access.roles and not self.is_open) or not _is_plain_query(scope):
            return None
        hosts = 0
        for name, value in scope["headers"]:
            if name == b"host":
                hosts += 1
                if self.is_open and not is_local_name(value.decode("latin-1")):
                    return None
            elif not _is_plain_header(name, value):
                return None
        if hosts != 1:
            return None
        return LOCAL_CALLER if self.is_open else NOBODY

    async def _work(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        caller: Caller,
        *,
        entry: RouteEntry,
        work: DirectEndpoint,
        never_fails: bool,
    ) -> None:
        started_at, status = time.perf_counter(), 0
        scope["app"], scope["endpoint"], scope["path_params"], scope[ROUTE_KEY] = (
            self.app,
            entry.endpoint,
            {},
            entry.path,
        )
        scope["route"] = entry.route

        wire: Wire | None = scope.get(WIRE_KEY)
        start: Message | None = None

        async def send_noted(message: Message) -> None:
            """The start is held back until its body is there: most answers are one write."""
            nonlocal status, start
            if message["type"] == "http.response.start":
                status, start = message["status"], message
                message["headers"] += _PLAIN_HEADERS
                return
            if start is not None:
                is_whole = wire is not None and not message.get("more_body", False)
                if is_whole and wire.answer(scope, status, start["headers"], message.get("body", b"")):  # type: ignore[union-attr]
                    return
                await send(start)
                start = None
            await send(message)

        structlog.contextvars.clear_contextvars()
        try:
            await work(scope, receive, send_noted, caller)
        except OrderupError as error:
            await self._refuse(
                error_response(error, instance=entry.path), scope, receive, send, never_fails=never_fails
            )
            status = status or (HUNG_UP if was_hung_up(scope) else error_response(error).status_code)
        except Exception as error:
            log.exception("request failed", exc_info=error, **ids_of(scope))
            crashed = Problem(status=500, title="Internal Server Error", detail=CRASHED, instance=entry.path)
            await self._refuse(problem_response(crashed), scope, receive, send, never_fails=never_fails)
            status = status or 500
        finally:
            status = status or (HUNG_UP if was_hung_up(scope) else GONE if is_gone(scope) else 500)
            self.notes.note(scope, status=status, seconds=time.perf_counter() - started_at)

    async def _refuse(
        self, response: Response, scope: Scope, receive: Receive, send: Send, *, never_fails: bool
    ) -> None:
        if never_fails and response.status_code >= 500 and hang_up(scope):
            return
        await response(scope, receive, send)


def _is_plain_query(scope: Scope) -> bool:
    query: bytes = scope["query_string"]
    is_short = len(query) <= LONGEST_PLAIN_QUERY and len(scope["headers"]) <= MOST_PLAIN_HEADERS
    return is_short and b"%" not in query and query.isascii() and b"\0" not in query


def _is_plain_header(name: bytes, value: bytes) -> bool:
    if name == b"content-length":
        return value == b"0"
    return name not in TELLING and not name.startswith(b"x-forwarded-") and len(value) <= LONGEST_PLAIN_HEADER


def _without_failures(scope: Scope, send: Send) -> Send:
    """Hangs up where a 5xx would be sent."""
    is_silent = False

    async def send_unless_failed(message: Message) -> None:
        nonlocal is_silent
        if message["type"] == "http.response.start" and message["status"] >= 500:
            is_silent = hang_up(scope)
        if not is_silent:
            await send(message)

    return send_unless_failed
