"""Who may be the local caller, and which pages may open a WebSocket.

Without SECRET_KEY whoever reaches the server has every role. So it listens on this machine only, and a web page
elsewhere or a proxy must not become that caller: it would come with another Host, a foreign Origin, a Sec-Fetch-Site
or a Forwarded header. A program comes with none of these. With SECRET_KEY the callers have tokens, and what is left to
check is that a WebSocket, which a browser opens to anybody with the visitor's cookies, comes from a page of ours.
"""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from orderup.errors import Forbidden, Misconfigured, OrderupError
from orderup.settings import Settings
from orderup.web.problems import error_response, instance_of, problem_of, refuse

USUAL_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
FOREIGN_SITES = frozenset({"cross-site", "same-site"})
TELLING = frozenset({b"host", b"origin", b"sec-fetch-site", b"forwarded", b"x-real-ip"})


def check_binding(settings: Settings, hosts: Iterable[str]) -> None:
    """Raises Misconfigured if the server would listen beyond this machine without knowing its callers."""
    if settings.secret_key is not None:
        return
    open_hosts = [host for host in hosts if not is_loopback(host)]
    if open_hosts:
        raise Misconfigured(
            f"Without SECRET_KEY everybody who reaches the server may do everything, so it does not listen on "
            f"{', '.join(host or '(every address)' for host in open_hosts)}. Set SECRET_KEY to 32 characters or more, "
            "or listen on 127.0.0.1."
        )


def is_loopback(host: str) -> bool:
    """Of an address to listen on. A name other than localhost may lead anywhere."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class BorderGuard:
    """Refuses before anything else reads the request, and WebSockets before they are accepted."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self.app = app
        self.is_open = settings.secret_key is None
        self.public_origin = origin_of(settings.public_url) if settings.public_url else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        refusal = self._refusal_of(connection)
        if refusal is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await error_response(refusal, instance=instance_of(connection))(scope, receive, send)
        else:
            websocket = WebSocket(scope, receive, send)
            await refuse(websocket, problem_of(refusal, instance=instance_of(connection)))

    def _refusal_of(self, connection: HTTPConnection) -> OrderupError | None:
        if self.is_open:
            return refusal_of_stranger(connection)
        if connection.scope["type"] == "websocket" and not self._is_ours(connection):
            return Forbidden(
                f"A page of {connection.headers['origin']!r} may not open a WebSocket here. If that page is ours, "
                "set PUBLIC_URL to its address."
            )
        return None

    def _is_ours(self, connection: HTTPConnection) -> bool:
        origins = connection.headers.getlist("origin")
        if not origins:
            return True
        if len(origins) > 1:
            return False
        origin = origin_of(origins[0])
        return origin is not None and (origin == self.public_origin or origin[1:] == host_of(connection, origin[0]))


def refusal_of_stranger(connection: HTTPConnection) -> Forbidden | None:
    """Why this is not a program or page on this machine that called the server directly; None if it is."""
    told = _telling_headers(connection)
    hosts = told.get("host", [])
    if len(hosts) != 1 or not is_local_name(hosts[0]):
        return _closed(f"it was called by the name {', '.join(hosts) or '(none)'!r}", "Call it http://localhost:PORT")
    for site in told.get("sec-fetch-site", []):
        if site.strip().lower() in FOREIGN_SITES:
            return _closed(f"a page elsewhere sent this request (Sec-Fetch-Site: {site})", "Type its address in")
    for text in told.get("origin", []):
        origin = origin_of(text)
        if origin is None or origin[1:] != host_of(connection, origin[0]):
            return _closed(f"a page of {text!r} sent this request", "Use its own pages")
    proxies = told.keys() - {"host", "sec-fetch-site", "origin"}
    if proxies:
        return _closed(f"this request came through a proxy ({min(proxies)})", "Call it directly")
    return None


def _telling_headers(connection: HTTPConnection) -> dict[str, list[str]]:
    """By name, those that tell where a request comes from."""
    told: dict[str, list[str]] = {}
    for name, value in connection.scope["headers"]:
        if name in TELLING or name.startswith(b"x-forwarded-"):
            told.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    return told


def _closed(reason: str, way_out: str) -> Forbidden:
    return Forbidden(
        f"Without SECRET_KEY this server answers programs and pages on its own machine only, and {reason}. "
        f"{way_out}, or set SECRET_KEY and use tokens."
    )


def is_local_name(host: str) -> bool:
    """Of a Host header: localhost, 127.0.0.1 or [::1], with or without a port."""
    name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if not colon:
        name = host
    elif not (port.isascii() and port.isdigit()):
        return False
    return name.lower() in {"localhost", "127.0.0.1", "[::1]"}


def origin_of(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port, or None for `null` and whatever else names no web page."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, port or USUAL_PORTS[parts.scheme]


def host_of(connection: HTTPConnection, scheme: str) -> tuple[str, int] | None:
    """Name and port of the Host header, as a page of this scheme would mean it."""
    origin = origin_of(f"{scheme}://{connection.headers.get('host', '')}")
    return origin[1:] if origin else None
