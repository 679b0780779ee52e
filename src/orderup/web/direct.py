"""Routes that are asked thousands of times a second: run on the bare connection, past the layers of the framework.

Such a route is declared like any other, so that it is described, guarded and limited alike; `directly` names the
function that does its work. A request that is as plain as can be, with no token, nothing that any of the layers would
have a say in, and no body or a little one in JSON as the route reads it, goes straight to it; any other takes the usual
way, at whose end the same function runs. What the layers would have done for a plain one is done here: headers,
problems, metrics, the log.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
import structlog
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from orderup.errors import OrderupError
from orderup.settings import Settings
from orderup.web.headers import PROBLEM_HEADERS
from orderup.web.limits import read_json
from orderup.web.logs import ids_of
from orderup.web.loopback import is_local_name
from orderup.web.observe import GONE, HUNG_UP, Notes
from orderup.web.problems import CRASHED, Problem, error_response, note_failure, problem_response
from orderup.web.routes import ROUTE_KEY, RouteEntry, RouteTable, takes_its_time
from orderup.web.tokens import LOCAL_CALLER, NOBODY, Caller
from orderup.web.wire import WIRE_KEY, Wire, hang_up, is_gone, was_hung_up

log = structlog.get_logger(__name__)
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
LONGEST_PLAIN_QUERY, MOST_PLAIN_HEADERS, LONGEST_PLAIN_HEADER, LARGEST_PLAIN_BODY = 500, 20, 300, 4_096
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
_PLAIN_LINES = b"".join(b"%b: %b\r\n" % header for header in _PLAIN_HEADERS)
_JSON_LINES = b"content-type: application/json\r\ncontent-length: %d\r\n" + _PLAIN_LINES
_encode = msgspec.json.Encoder().encode


class Call:
    """One request of such a route. body: as the route reads it; None: it reads none. is_plain: it has no header of
    those in `TELLING`, and no body but this one."""

    __slots__ = ("body", "caller", "is_plain", "receive", "scope")

    def __init__(
        self, scope: Scope, receive: Receive, caller: Caller, *, is_plain: bool, body: BaseModel | None = None
    ) -> None:
        self.scope, self.receive, self.caller, self.is_plain, self.body = scope, receive, caller, is_plain, body

    @property
    def request(self) -> Request:
        return Request(self.scope, self.receive)

    @property
    def state(self) -> Any:
        """What the app has."""
        return self.scope["app"].state


class Reply:
    """JSON, or nothing but a status."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, content: Any = None, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.body = b"" if content is None else _encode(content)
        self.status, self.headers = status, headers

    @property
    def lines(self) -> bytes:
        """Its headers as they are sent, with those of every answer."""
        lines = _JSON_LINES % len(self.body) if self.body else _PLAIN_LINES
        return lines + b"".join(b"%b: %b\r\n" % header for header in self._more()) if self.headers else lines

    async def send(self, send: Send, *, more: list[tuple[bytes, bytes]]) -> None:
        headers = [*self._more(), *more]
        if self.body:
            headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(self.body))]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})

    def _more(self) -> list[tuple[bytes, bytes]]:
        return [(name.lower().encode(), value.encode()) for name, value in (self.headers or {}).items()]


# An ASGI app; says that it is a coroutine that it returns.
App = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]
# None: nothing is to be said, as he is gone or was hung up on.
DirectWork = Callable[[Call], Awaitable[Reply | None]]


def directly(
    work: DirectWork, *, reads: type[BaseModel] | None = None, never_fails: bool = False
) -> Callable[[Endpoint], Endpoint]:
    """Marks a route whose work `work` does. reads: the body that it takes, in JSON. never_fails: its callers are never
    answered with a 5xx: where there would be one, they are hung up on, and so are those for whom the server that ends
    waits no longer. Such a route has no deadline but those that it sets itself, as by `routes.in_time`."""

    def mark(endpoint: Endpoint) -> Endpoint:
        vars(takes_its_time(endpoint)).update(works_directly=work, reads=reads, never_fails=never_fails)
        return endpoint

    return mark


class Direct(Response):
    """What such a route returns when it is reached the usual way."""

    def __init__(self, work: DirectWork, caller: Caller, body: BaseModel | None = None) -> None:
        super().__init__()
        self.work, self.caller, self.read = work, caller, body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self.work(Call(scope, receive, self.caller, is_plain=False, body=self.read))
        except asyncio.CancelledError:
            # Here, and not only around the layers, one of which notes how it ended.
            if getattr(scope.get("endpoint"), "never_fails", False):
                hang_up(scope)
            raise
        if answer is not None:
            await answer.send(send, more=[])


class _Route:
    """`told`: what the router would have noted in the scope. `caller`: of plain requests; None: there are none."""

    __slots__ = ("caller", "never_fails", "path", "reads", "told", "work")

    def __init__(self, app: Any, entry: RouteEntry, *, is_open: bool, marks: Mapping[str, Any]) -> None:
        self.work: DirectWork = marks["works_directly"]
        self.reads: type[BaseModel] | None = marks["reads"]
        self.never_fails: bool = marks["never_fails"]
        self.path = entry.path
        self.told = {"app": app, "endpoint": entry.endpoint, "route": entry.route, "path_params": {}}
        self.told[ROUTE_KEY] = entry.path
        self.caller = LOCAL_CALLER if is_open else None if entry.access.roles else NOBODY


class DirectRoutes:
    """`usual`: the app with all its layers."""

    def __init__(self, app: Any, usual: App, table: RouteTable, settings: Settings, notes: Notes) -> None:
        self.usual, self.notes = usual, notes
        self.is_open = settings.secret_key is None
        is_https = (settings.public_url or "").startswith("https://")
        self.may_be_plain = not settings.trusted_proxies and not is_https
        self.largest_body = min(LARGEST_PLAIN_BODY, settings.max_body_bytes)
        self.largest_head = settings.max_header_bytes
        self.routes: dict[tuple[str, str], _Route] = {}
        for entry in table.entries:
            marks: Mapping[str, Any] = getattr(entry.endpoint, "__dict__", {})
            if "works_directly" in marks:
                route = _Route(app, entry, is_open=self.is_open, marks=marks)
                self.routes.update({(method, entry.path): route for method in entry.methods})

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        route = self.routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is None:
            return self.usual(scope, receive, send)
        if not self._is_plain(scope, route):
            return self._go_the_usual_way(scope, receive, send, route)
        if route.reads is None:
            return self._work(scope, receive, send, route)
        reading = self._read_and_work(scope, receive, send, route)
        return _hanging_up_if_cancelled(scope, reading) if route.never_fails else reading

    def _go_the_usual_way(self, scope: Scope, receive: Receive, send: Send, route: _Route) -> Coroutine[Any, Any, None]:
        if not route.never_fails:
            return self.usual(scope, receive, send)
        return _hanging_up_if_cancelled(scope, self.usual(scope, receive, _without_failures(scope, send)))

    def _is_plain(self, scope: Scope, route: _Route) -> bool:
        if route.caller is None or not self.may_be_plain or len(scope["headers"]) > MOST_PLAIN_HEADERS:
            return False
        query, largest = scope["query_string"], None if route.reads is None else self.largest_body
        size = _size_of_plain_head(tuple(scope["headers"]), is_open=self.is_open, largest_body=largest)
        return size is not None and _is_plain_query(query) and size + len(route.path) + len(query) <= self.largest_head

    async def _read_and_work(self, scope: Scope, receive: Receive, send: Send, route: _Route) -> None:
        """What is wrong with a body, or that its sender left in the middle of it, is said by the layers."""
        began = time.perf_counter()
        received = await _receive_all(receive)
        body = _read(received, route)
        if body is None:
            await self._go_the_usual_way(scope, _once_more(received, receive), send, route)
        else:
            await self._work(scope, receive, send, route, body, began=began)

    async def _work(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        route: _Route,
        body: BaseModel | None = None,
        *,
        began: float | None = None,
    ) -> None:
        assert route.caller is not None
        began, status = began or time.perf_counter(), 0
        scope.update(route.told)
        if self.notes.is_logged(logging.INFO):
            # Requests sent in one go over one connection follow each other in one context.
            structlog.contextvars.clear_contextvars()
        try:
            answer = await route.work(Call(scope, receive, route.caller, is_plain=True, body=body))
            if answer is not None:
                status = answer.status
                wire: Wire | None = scope.get(WIRE_KEY)
                if wire is None or not wire.answer(scope, status, answer.lines, answer.body):
                    await answer.send(send, more=_PLAIN_HEADERS)
        except asyncio.CancelledError:
            if route.never_fails:
                hang_up(scope)
            raise
        except OrderupError as error:
            note_failure(error, scope)
            response = error_response(error, instance=route.path)
            await self._refuse(response, scope, receive, send, never_fails=route.never_fails)
            status = status or (HUNG_UP if was_hung_up(scope) else response.status_code)
        except Exception as error:
            log.exception("request failed", exc_info=error, **ids_of(scope))
            crashed = Problem(status=500, title="Internal Server Error", detail=CRASHED, instance=route.path)
            await self._refuse(problem_response(crashed), scope, receive, send, never_fails=route.never_fails)
            status = status or (HUNG_UP if was_hung_up(scope) else 500)
        finally:
            status = status or (HUNG_UP if was_hung_up(scope) else GONE if is_gone(scope) else 500)
            self.notes.note(scope, status=status, seconds=time.perf_counter() - began)

    async def _refuse(
        self, response: Response, scope: Scope, receive: Receive, send: Send, *, never_fails: bool
    ) -> None:
        if never_fails and response.status_code >= 500 and hang_up(scope):
            return
        await response(scope, receive, send)


def _is_plain_query(query: bytes) -> bool:
    return len(query) <= LONGEST_PLAIN_QUERY and b"%" not in query and query.isascii() and b"\0" not in query


# A client sends the same ones again and again.
@lru_cache(maxsize=256)
def _size_of_plain_head(
    headers: tuple[tuple[bytes, bytes], ...], *, is_open: bool, largest_body: int | None
) -> int | None:
    """How many bytes its headers have; None: they are not plain."""
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1 or (is_open and not is_local_name(hosts[0].decode("latin-1"))):
        return None
    has_body = largest_body is not None
    if largest_body is not None and not _announces_plain_body(headers, largest=largest_body):
        return None
    if not all(_is_plain_header(name, value, has_body=has_body) for name, value in headers if name != b"host"):
        return None
    return sum(len(name) + len(value) for name, value in headers)


def _announces_plain_body(headers: tuple[tuple[bytes, bytes], ...], *, largest: int) -> bool:
    types = [value for name, value in headers if name == b"content-type"]
    lengths = [value for name, value in headers if name == b"content-length"]
    if types != [b"application/json"] or len(lengths) != 1 or not lengths[0].isdigit():
        return False
    return len(lengths[0]) <= len(str(largest)) and int(lengths[0]) <= largest


def _is_plain_header(name: bytes, value: bytes, *, has_body: bool) -> bool:
    if name == b"content-length":
        return has_body or value == b"0"
    return name not in TELLING and not name.startswith(b"x-forwarded-") and len(value) <= LONGEST_PLAIN_HEADER


async def _receive_all(receive: Receive) -> list[Message]:
    """The messages of a body; the last of them says that it was all, or that its sender is gone."""
    received = [await receive()]
    while received[-1].get("more_body"):
        received.append(await receive())
    return received


def _read(received: list[Message], route: _Route) -> BaseModel | None:
    """None: it is not what the route reads."""
    assert route.reads is not None
    if received[-1]["type"] != "http.request":
        return None  # its sender is gone
    try:
        said = read_json(b"".join(message.get("body", b"") for message in received))
        return route.reads.model_validate(said)
    except (OrderupError, ValidationError):
        return None


def _once_more(received: list[Message], receive: Receive) -> Receive:
    messages = iter(received)

    async def receive_again() -> Message:
        message = next(messages, None)
        return await receive() if message is None else message

    return receive_again


async def _hanging_up_if_cancelled(scope: Scope, way: Coroutine[Any, Any, None]) -> None:
    """Uvicorn answers what it cancels with a 500, unless the caller is gone."""
    try:
        await way
    except asyncio.CancelledError:
        hang_up(scope)
        raise


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
