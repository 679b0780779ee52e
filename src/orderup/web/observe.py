"""Each request on one line of the log, and in the metrics. The query stays out of both: it may hold a key."""

import logging
import time

import structlog
from prometheus_client import Gauge
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orderup.web.logs import ids_of
from orderup.web.metrics import NO_ROUTE, Metrics
from orderup.web.problems import instance_of
from orderup.web.routes import RouteTable
from orderup.web.wire import is_gone, was_hung_up

log = structlog.get_logger(__name__)

# Asked every few seconds by machines.
QUIET_ROUTES = frozenset({"/healthz", "/readyz", "/metrics"})


# What the log says where a connection was closed without an answer, and where its caller was gone, as nginx says it.
HUNG_UP, GONE = 444, 499


class Notes:
    """Notes a request that was answered."""

    def __init__(self, *, kind: str, metrics: Metrics, table: RouteTable) -> None:
        self.kind, self.metrics, self.table = kind, metrics, table
        # Asked first: putting a line together costs more than all other checks of a request.
        self.is_logged = logging.getLogger(__name__).isEnabledFor

    def note(self, scope: Scope, *, status: int, seconds: float) -> None:
        method, route = scope["method"], self.table.template_of(scope)
        self.metrics.count_request(app=self.kind, route=route, method=method, status=status, seconds=seconds)
        level = logging.DEBUG if route in QUIET_ROUTES else logging.INFO
        if not self.is_logged(level):
            return
        path, ms = instance_of(HTTPConnection(scope)), round(seconds * 1000, 1)
        log.log(level, "request", app=self.kind, method=method, path=path, status=status, ms=ms, **ids_of(scope))


class Observe:
    def __init__(self, app: ASGIApp, *, notes: Notes) -> None:
        self.app, self.notes = app, notes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Requests sent in one go over one connection follow each other in one context.
        structlog.contextvars.clear_contextvars()
        if scope["type"] == "http":
            await self._observe_request(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._observe_socket(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _observe_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        started_at, status = time.perf_counter(), 0

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, send_observed)
        finally:
            if not status:
                status = HUNG_UP if was_hung_up(scope) else GONE if is_gone(scope) else 500
            self.notes.note(scope, status=status, seconds=time.perf_counter() - started_at)

    async def _observe_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_open = False
        started_at = time.perf_counter()

        def note_open() -> None:
            nonlocal is_open
            is_open = True
            self._sockets_at(scope).inc()

        async def send_observed(message: Message) -> None:
            if message["type"] == "websocket.accept":
                note_open()
            await send(message)

        try:
            await self.app(scope, receive, send_observed)
        finally:
            if is_open:
                self._sockets_at(scope).dec()
            path = instance_of(HTTPConnection(scope))
            seconds = round(time.perf_counter() - started_at, 1)
            log.info("websocket", app=self.notes.kind, path=path, accepted=is_open, seconds=seconds, **ids_of(scope))

    def _sockets_at(self, scope: Scope) -> Gauge:
        return self.notes.metrics.websockets.labels(self.notes.kind, self.notes.table.template_of(scope) or NO_ROUTE)
