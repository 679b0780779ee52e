"""Who looks at a page: whoever pasted a token, kept in a cookie; without SECRET_KEY whoever is at this machine, by the
name he gave.

A browser sends a cookie with every request, whoever's page made it ask. So a request that changes something and is
known by its cookie alone must come from a page of ours: its Origin is ours, and its form carries a token that only a
page of ours could know.
"""

import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from orderup.errors import Forbidden
from orderup.web.tokens import Caller

TOKEN_COOKIE = "orderup_token"  # noqa: S105  a name
NAME_COOKIE = "orderup_name"
PURPOSE = b"orderup form "
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
A_MONTH = 30 * 24 * 3600
LONGEST_NAME = 60


def cookie_token(connection: HTTPConnection) -> str | None:
    return connection.cookies.get(TOKEN_COOKIE) or None


def local_name(connection: HTTPConnection) -> str | None:
    """What the visitor of a laptop calls himself."""
    name = connection.cookies.get(NAME_COOKIE, "").strip()
    return name[:LONGEST_NAME] if name.isprintable() and name else None


def check_origin(connection: HTTPConnection) -> None:
    """Raises Forbidden if a request that a cookie vouches for may come from somebody else's page."""
    if connection.scope["type"] != "http" or connection.scope["method"] in SAFE:
        return
    origin = connection.headers.get("origin")
    if origin is None or urlsplit(origin).netloc != connection.headers.get("host"):
        raise Forbidden("This must be sent from a page of ours. Open it again and send it from there.")


def csrf_token(request: Request) -> str:
    """What a form carries. Empty without SECRET_KEY: there the border guard keeps strangers out."""
    settings = request.app.state.settings
    token = cookie_token(request)
    if settings.secret_key is None or token is None:
        return ""
    return hmac.digest(settings.secret_key.get_secret_value().encode(), PURPOSE + token.encode(), "sha256").hex()


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form of ours. Raises Forbidden if it did not come from a page of ours."""
    form = await request.form()
    return checked_fields(request, {name: value for name, value in form.items() if isinstance(value, str)})


def checked_fields(request: Request, fields: Mapping[str, str]) -> dict[str, str]:
    """Those of a form of ours that somebody else has read, without what tells that it is. Raises Forbidden."""
    expected = csrf_token(request)
    if expected and not hmac.compare_digest(fields.get("csrf", "").encode(), expected.encode()):
        raise Forbidden("This form is too old, or not ours. Open the page again and send it from there.")
    return {name: value for name, value in fields.items() if name != "csrf"}


def visitor_of(request: Request) -> Caller | None:
    caller: Caller | None = request.scope.get("orderup.caller")
    return caller


def keep(response: Response, request: Request, name: str, value: str, *, seconds: int = A_MONTH) -> None:
    options: dict[str, Any] = {"httponly": True, "samesite": "lax", "secure": request.url.scheme == "https"}
    response.set_cookie(name, value, max_age=seconds, path="/", **options)
