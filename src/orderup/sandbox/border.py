"""Who may talk to the sandbox, how much he may send, and how he is told that something was wrong with it."""

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import parse_qsl

from pydantic import ValidationError
from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LARGEST_BODY = 64 << 10
MOST_FORM_FIELDS = 20
NAMES_OF_THIS_MACHINE = frozenset({"localhost", "127.0.0.1"})
FOREIGN_SITES = frozenset({"cross-site", "same-site"})
FORM = "application/x-www-form-urlencoded"


class Refused(Exception):
    """Something is wrong with a request. `fields`: what, by the names of its fields."""

    def __init__(self, status: int, message: str, fields: Mapping[str, str] | None = None) -> None:
        self.status, self.message, self.fields = status, message, dict(fields or {})
        super().__init__(message)

    @classmethod
    def of(cls, error: ValidationError, message: str) -> "Refused":
        fields = {".".join(map(str, each["loc"])): each["msg"] for each in error.errors()}
        return cls(422, message, fields)

    def as_json(self) -> JSONResponse:
        return JSONResponse({"error": self.message, "fields": self.fields}, self.status)


class OnlyFromHere:
    """The sandbox listens on this machine only, unless somebody says otherwise. A page elsewhere, or a name that
    somebody else lets lead here, must not reach it through a browser on this machine. `names`: that may lead here."""

    def __init__(self, app: ASGIApp, *, names: Collection[str] = ()) -> None:
        self.app = app
        self.names = NAMES_OF_THIS_MACHINE | {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if headers.get("host", "").partition(":")[0].lower() not in self.names:
            refused = Refused(403, f"The sandbox answers at {' and '.join(sorted(self.names))} only.")
        elif headers.get("sec-fetch-site") in FOREIGN_SITES:
            refused = Refused(403, "A page elsewhere sent this. Open the sandbox's own page.")
        else:
            await self.app(scope, receive, send)
            return
        await refused.as_json()(scope, receive, send)


def media_type_of(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def json_of(request: Request) -> dict[str, Any]:
    """Raises Refused unless it is an object."""
    try:
        given = from_json(await body_of(request))
    except ValueError as error:
        raise Refused(400, f"The body is not JSON: {error}.") from error
    if not isinstance(given, dict):
        raise Refused(422, "The body is not a JSON object.")
    return given


async def form_of(request: Request) -> dict[str, str]:
    """What was filled in. Raises Refused."""
    try:
        return dict(parse_qsl((await body_of(request)).decode(), max_num_fields=MOST_FORM_FIELDS))
    except ValueError as error:
        raise Refused(400, f"The body is not a form of the sandbox's: {error}.") from error


async def body_of(request: Request, *, largest: int = LARGEST_BODY) -> bytes:
    """Raises Refused."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > largest:
            raise Refused(413, f"The body has more than {largest} bytes.")
    return bytes(body)
