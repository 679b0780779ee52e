"""The shell that front and back share: which checks a request meets, in which order, and the routes every app has.

From the outside in: a crash becomes a problem; the address that a trusted proxy tells is taken for the caller's; the
request is logged and counted; headers for browsers; strangers are refused where there are no tokens; sizes and text;
HEAD. Then the route: its caller's role, its body, its work.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette._utils import get_route_path  # what the router itself matches
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware, _TrustedHosts

from orderup.errors import Misconfigured, Unavailable
from orderup.settings import Settings
from orderup.web.auth import METRICS, OPEN, Doorkeeper, IsRevoked, utc_now
from orderup.web.details import details_finder
from orderup.web.direct import App, DirectRoutes
from orderup.web.dispatch import Dispatcher
from orderup.web.docs import Docs
from orderup.web.headers import SecurityHeaders
from orderup.web.idempotency import plain_address
from orderup.web.limits import RequestLimits
from orderup.web.loopback import BorderGuard
from orderup.web.metrics import Metrics
from orderup.web.observe import Notes, Observe
from orderup.web.openapi import PROBLEM_RESPONSES, describe_access, describe_headers
from orderup.web.problems import handle_problems
from orderup.web.routes import GuardedRoute, HeadAsGet, Router, RouteTable, operation_id_of

Kind = Literal["front", "back"]
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
# What is not ready now, each in a few words; nothing: ready.
Readiness = Callable[[], Awaitable[Sequence[str]]]
READINESS_SECONDS = 2.0
VERSION = "0.1.0"


class Json(Response):
    """JSON from anything that msgspec writes: structs, dataclasses, dicts, datetimes."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)


@dataclass(frozen=True, slots=True)
class MountedShop:
    """prefix: "/pizza" among others, "" for the only one."""

    name: str
    router: Router
    prefix: str


class ProxyHeaders(ProxyHeadersMiddleware):
    """Uvicorn's own, which knows a proxy by its IPv4 address on a socket that listens on IPv6 for both as well."""

    def __init__(self, app: Any, *, trusted: Sequence[str]) -> None:
        super().__init__(app, [])
        self.trusted_hosts = _Proxies(list(trusted))


class _Proxies(_TrustedHosts):
    def _compute_trust(self, host: str) -> bool:
        return super()._compute_trust(host) or super()._compute_trust(_plain(host))


def _plain(host: str) -> str:
    try:
        return str(plain_address(host))
    except ValueError:
        return host


class OrderupApp(FastAPI):
    """FastAPI whose OpenAPI says who may use what."""

    table: RouteTable
    asks_for_tokens: bool
    direct: App | None = None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        return (self.direct or super().__call__)(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            schema = get_openapi(title=self.title, version=self.version, routes=self.routes)
            describe_access(schema, self.table, asks_for_tokens=self.asks_for_tokens)
            describe_headers(schema, self.table)
            self.openapi_schema = schema
        return self.openapi_schema


async def nobody_is_revoked(_jti: str) -> bool:
    return False


async def always_ready() -> Sequence[str]:
    return ()


def build_app(
    kind: Kind,
    settings: Settings,
    *,
    shops: Sequence[MountedShop] = (),
    routers: Sequence[Router] = (),
    is_revoked: IsRevoked = nobody_is_revoked,
    readiness: Readiness = always_ready,
    metrics: Metrics | None = None,
    lifespan: Lifespan | None = None,
    now: Callable[[], datetime] = utc_now,
) -> OrderupApp:
    """The app, complete: no route may be added later.

    Raises Misconfigured for a route that does not say who may use it, and for two at one path. readiness is given two
    seconds. metrics: shared by front and back of one process.
    """
    metrics = metrics or Metrics()
    app = OrderupApp(
        title=f"orderup, {kind}",
        version=VERSION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        responses=PROBLEM_RESPONSES,
        generate_unique_id_function=operation_id_of,
    )
    app.router.route_class = GuardedRoute
    app.include_router(_own_routes(kind, readiness=readiness, metrics=metrics))
    app.mount("/docs", Docs(), name="docs")
    for router in routers:
        app.include_router(router)
    for shop in shops:
        app.include_router(shop.router, prefix=shop.prefix)
    app.table = RouteTable(app)
    app.router.middleware_stack = Dispatcher(app.table, otherwise=app.router.app)
    app.asks_for_tokens = settings.secret_key is not None
    app.state.settings = settings
    app.state.doorkeeper = Doorkeeper(settings, is_revoked=is_revoked, now=now)
    app.state.methods_at = app.table.methods_at
    app.state.shop_at = _shop_finder(shops)
    app.state.tells_details = details_finder(
        [f"{shop.prefix}{shop.router.details_below}" for shop in shops if shop.router.details_below]
    )
    app.state.keyed_turn = asyncio.Lock()
    handle_problems(app)
    notes = Notes(kind=kind, metrics=metrics, table=app.table)
    _add_checks(app, settings, notes=notes)
    app.direct = DirectRoutes(app, super(OrderupApp, app).__call__, app.table, settings, notes)
    return app


def _add_checks(app: OrderupApp, settings: Settings, *, notes: Notes) -> None:
    """The last added is the first met."""
    app.add_middleware(HeadAsGet)
    app.add_middleware(
        RequestLimits,
        max_body_bytes=settings.max_body_bytes,
        max_header_bytes=settings.max_header_bytes,
        largest_at=lambda scope: app.table.largest_at(scope, settings),
    )
    app.add_middleware(BorderGuard, settings=settings)
    app.add_middleware(SecurityHeaders, https=(settings.public_url or "").startswith("https://"))
    app.add_middleware(Observe, notes=notes)
    if settings.trusted_proxies:
        app.add_middleware(ProxyHeaders, trusted=settings.trusted_proxies)


def _shop_finder(shops: Sequence[MountedShop]) -> Callable[[Scope], str | None]:
    """Tells in which shop a path lies, so that a token for another one is refused there."""
    names = {shop.prefix.strip("/"): shop.name for shop in shops}
    if len(names) < len(shops):
        raise Misconfigured("Two shops are mounted at one path. Give each a prefix of its own.")
    return lambda scope: names.get(get_route_path(scope).strip("/").partition("/")[0], names.get(""))


def _own_routes(kind: Kind, *, readiness: Readiness, metrics: Metrics) -> Router:
    router = Router(tags=["server"])

    @router.get("/healthz", dependencies=[OPEN], summary="Whether the process lives")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/readyz", dependencies=[OPEN], summary="Whether it can do its work now")
    async def readyz() -> dict[str, str]:
        try:
            async with asyncio.timeout(READINESS_SECONDS):
                missing = await readiness()
        except TimeoutError as error:
            raise Unavailable(f"Not ready: no answer within {READINESS_SECONDS:g} s.") from error
        if missing:
            raise Unavailable(f"Not ready: {'; '.join(missing)}.")
        return {"status": "ready"}

    @router.get("/openapi.json", dependencies=[OPEN], summary="This description")
    async def openapi(request: Request) -> Response:
        return Json(request.app.openapi())

    @router.get("/docs", dependencies=[OPEN], include_in_schema=False)
    async def docs() -> Response:
        return RedirectResponse("docs/")

    if kind == "back":

        @router.get("/metrics", dependencies=[METRICS], summary="Figures for Prometheus", response_class=Response)
        async def read_metrics() -> Response:
            text, content_type = await metrics.read()
            return Response(text, media_type=content_type)

    return router
