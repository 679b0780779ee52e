"""What a request may weigh, and what text it may hold: checked before any route sees it.

Everything here answers 4xx for what would otherwise end as a crash further in: a text with a NUL that PostgreSQL does
not store, JSON nested so deep that a parser runs out of stack, half a surrogate pair that cannot be written out again.
"""

import json
import math
from collections.abc import Callable
from email.message import Message as EmailMessage
from functools import lru_cache
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from orderup.errors import Invalid, OrderupError, TooLarge
from orderup.web.problems import (
    BodyTooLarge,
    HeadTooLarge,
    MalformedRequest,
    UnsupportedBody,
    error_response,
    instance_of,
    problem_of,
    refuse,
)

DEEPEST_JSON = 64
# A body that is refused anyhow may cost no more than this, only to name what is wrong in it.
LONGEST_LOOKED_THROUGH = 64 << 10


class RequestLimits:
    """`max_body_bytes` is kept whatever the request says of itself: declared, in chunks, or not at all. `largest_at`:
    how much a route may be sent that takes files, and so keeps little of it in memory; None: as all others."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int,
        max_header_bytes: int,
        largest_at: Callable[[Scope], int | None] = lambda _scope: None,
    ) -> None:
        self.app, self.max_body_bytes, self.max_header_bytes = app, max_body_bytes, max_header_bytes
        self.largest_at = largest_at

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        refusal = self._refusal_of(scope)
        if refusal is not None:
            await _refuse(refusal, scope, receive, send)
        elif scope["type"] == "websocket":
            await self.app(scope, receive, send)
        else:
            await self.app(scope, self._limited(scope, receive), send)

    def _refusal_of(self, scope: Scope) -> OrderupError | None:
        head = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        head += sum(len(name) + len(value) for name, value in scope["headers"])
        if head > self.max_header_bytes:
            return HeadTooLarge(f"The head of this request has more than {self.max_header_bytes} bytes.")
        declared = [value for name, value in scope["headers"] if name == b"content-length"]
        if any(not value.isdigit() or int(value[:20]) > self.max_body_bytes for value in declared):
            largest = self._largest(scope)
            if any(not value.isdigit() or int(value[:20]) > largest for value in declared):
                return _too_large(largest)
        if not _is_text(scope.get("raw_path") or b""):
            return MalformedRequest("The path is not text: use UTF-8, percent-encoded, without NUL.", field="path")
        if not _is_text(scope["query_string"]):
            return MalformedRequest("The query is not text: use UTF-8, percent-encoded, without NUL.", field="query")
        return None

    def _largest(self, scope: Scope) -> int:
        """Looked up only where a body is larger than usual."""
        return max(self.max_body_bytes, self.largest_at(scope) or 0)

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        received, largest = 0, self.max_body_bytes

        async def receive_within_limit() -> Message:
            nonlocal received, largest
            message = await receive()
            received += len(message.get("body", b""))
            if received > largest:
                largest = self._largest(scope)
                if received > largest:
                    # The framework lets no other error than its own through where it reads bodies.
                    raise BodyTooLarge(_too_large(largest))
            return message

        return receive_within_limit


def _too_large(largest: int) -> TooLarge:
    return TooLarge(f"The body of a request may have {largest} bytes at most.")


async def _refuse(error: OrderupError, scope: Scope, receive: Receive, send: Send) -> None:
    instance = instance_of(HTTPConnection(scope))
    if scope["type"] == "http":
        await error_response(error, instance=instance)(scope, receive, send)
    else:
        await refuse(WebSocket(scope, receive, send), problem_of(error, instance=instance))


def _is_text(encoded: bytes) -> bool:
    if b"%" not in encoded and encoded.isascii():
        return b"\0" not in encoded
    try:
        return "\0" not in unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        return False


@lru_cache(maxsize=256)
def check_json_type(content_type: str | None) -> None:
    """Raises UnsupportedBody for a body that is not announced as JSON in UTF-8."""
    message = EmailMessage()
    message["content-type"] = content_type or ""
    kind, charset = message.get_content_type(), message.get_content_charset("utf-8")
    is_json = kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
    if not content_type or not is_json or charset not in {"utf-8", "utf8", "us-ascii"}:
        raise UnsupportedBody("Send JSON in UTF-8, with the header Content-Type: application/json.")


def read_json(body: bytes) -> object:
    """Raises MalformedRequest for what is no JSON, Invalid for JSON nested too deep or with a NUL in it.

    Stricter than Python's own parser: no NaN, no lone surrogates, no numbers beyond a double.
    """
    try:
        value: object = msgspec.json.decode(body)
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        field = _out_of_range(body) if "out of range" in str(error) else None
        if field is not None:
            raise MalformedRequest(f"{field}: This number is out of range.", field=field) from error
        raise MalformedRequest(f"The body is not JSON: {error}.", field="body") from error
    # Both are rare, so that most bodies are not walked through.
    if body.count(b"{") + body.count(b"[") > DEEPEST_JSON or rb"\u0000" in body:
        _check_depth_and_text(value)
    return value


# Where something stands: its parent's place and its own name there. The path is only written out for a complaint.
_Place = tuple["_Place | None", str | int]


def _out_of_range(body: bytes) -> str | None:
    """The path to a number beyond a double, in a body that was refused for it. The strict parser names no fields."""
    if len(body) > LONGEST_LOOKED_THROUGH:
        return None
    try:
        root: object = json.loads(body, parse_int=float, parse_float=float)
    except (ValueError, RecursionError):
        return None  # there is more wrong with it than that
    to_do: list[tuple[_Place, object]] = [((None, "body"), root)]
    while to_do:
        place, value = to_do.pop()
        if isinstance(value, float) and math.isinf(value):
            return _path_to(place)
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        to_do.extend(((place, name), child) for name, child in children)
    return None


def _check_depth_and_text(root: object) -> None:
    to_do: list[tuple[_Place, object, int]] = [((None, "body"), root, 1)]
    while to_do:
        place, value, depth = to_do.pop()
        if isinstance(value, str):
            _check_text(value, place)
            continue
        if depth > DEEPEST_JSON:
            raise _too_deep()
        if isinstance(value, dict):
            for key in value:
                _check_text(key, place)
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        to_do.extend(
            ((place, name), child, depth + 1) for name, child in children if isinstance(child, str | dict | list)
        )


def _check_text(text: str, place: _Place) -> None:
    if "\0" in text:
        path = _path_to(place)
        raise Invalid(f"{path}: A text may not hold a NUL.", field=path)


def _path_to(place: _Place) -> str:
    names: list[str] = []
    here: _Place | None = place
    while here is not None:
        here, name = here
        names.append(str(name))
    return ".".join(reversed(names))


def _too_deep() -> Invalid:
    return Invalid(f"The body is nested deeper than {DEEPEST_JSON} levels.", field="body")
