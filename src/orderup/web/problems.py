"""What went wrong, told to the caller: RFC 9457 problem details, and the one table from error class to status.

A problem names what happened, to which thing and what to do now; of a crash it tells nothing but that there was one.
Before a WebSocket is accepted it is refused with the answer that a request would get, afterwards with a close code.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import msgspec
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Scope
from starlette.websockets import WebSocket, WebSocketState

from orderup import errors
from orderup.web.details import detail_of, detail_of_invalid, details_response, tells_details
from orderup.web.headers import PROBLEM_HEADERS
from orderup.web.logs import ids_of

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
LONGEST_DETAIL = 1000
LONGEST_FIELD = 200
MOST_FIELDS = 20
# Control frames carry 125 bytes, two of them the code.
LONGEST_REASON = 123


class MalformedRequest(errors.Invalid):
    """The request cannot be read at all: broken JSON, bytes that are no text, a path with a NUL in it."""


class UnsupportedBody(errors.Refused):
    """The body is of a kind that this route does not read."""


class HeadTooLarge(errors.TooLarge):
    """The headers are larger than MAX_HEADER_BYTES."""


class BodyTooLarge(HTTPException):
    """Carries `error` out of where the framework reads bodies, which lets no errors but its own through."""

    def __init__(self, error: errors.TooLarge) -> None:
        self.error = error
        super().__init__(status_code=HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail=str(error))


STATUS: Mapping[type[Exception], HTTPStatus] = {
    MalformedRequest: HTTPStatus.BAD_REQUEST,
    errors.Unauthenticated: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.Gone: HTTPStatus.GONE,
    errors.TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.TooMany: HTTPStatus.TOO_MANY_REQUESTS,
    UnsupportedBody: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.KeyMisused: HTTPStatus.UNPROCESSABLE_ENTITY,
    HeadTooLarge: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.Refused: HTTPStatus.BAD_REQUEST,
    errors.UpstreamFailed: HTTPStatus.BAD_GATEWAY,
    errors.UpstreamRefused: HTTPStatus.BAD_GATEWAY,
    errors.StorageFull: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.OrderupError: HTTPStatus.INTERNAL_SERVER_ERROR,
}

# What a WebSocket that was accepted before is closed with; everything else is 1008, "policy violation".
CLOSE_CODES: Mapping[HTTPStatus, int] = {
    HTTPStatus.GONE: 4410,
    HTTPStatus.SERVICE_UNAVAILABLE: 1013,
    HTTPStatus.INSUFFICIENT_STORAGE: 1013,
    HTTPStatus.BAD_GATEWAY: 1013,
    HTTPStatus.INTERNAL_SERVER_ERROR: 1011,
}

# Where the library's words are not for people.
WORDS: Mapping[str, str] = {
    "extra_forbidden": "There is no such field.",
    "missing": "This field is required.",
    **dict.fromkeys(("model_attributes_type", "model_type", "dict_type"), "This should be an object: {…}."),
    "list_type": "This should be a list: […].",
}
CRASHED = "Something went wrong on our side. It has been logged; please try again later."


class FieldProblem(msgspec.Struct, frozen=True):
    """field: a dotted path such as `body.tasks.0.name`, `query.limit` or `header.Idempotency-Key`."""

    field: str
    message: str


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 9457. type: `urn:orderup:problem:…`, or about:blank where the status says it all. instance: the path."""

    type: str = "about:blank"
    status: int
    title: str
    detail: str
    instance: str = ""
    errors: tuple[FieldProblem, ...] = ()


# A page that tells of a problem, for whoever asks for pages.
ShowPage = Callable[[Request, Problem], Response | None]


def status_of(error: Exception) -> HTTPStatus:
    """By the nearest class in the table; 500 for what is not in it."""
    return next((STATUS[cls] for cls in type(error).__mro__ if cls in STATUS), HTTPStatus.INTERNAL_SERVER_ERROR)


def problem_of(error: Exception, *, instance: str = "") -> Problem:
    status = status_of(error)
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        return Problem(status=status, title=status.phrase, detail=CRASHED, instance=instance)
    words = re.sub(r"(?<!^)(?=[A-Z])", " ", type(error).__name__).lower()
    field = error.field if isinstance(error, errors.Invalid) else None
    detail = str(error)[:LONGEST_DETAIL]
    return Problem(
        type=f"urn:orderup:problem:{words.replace(' ', '-')}",
        status=status,
        title=words.capitalize(),
        detail=detail,
        instance=instance,
        errors=(FieldProblem(field[:LONGEST_FIELD], detail.removeprefix(f"{field}: ")),) if field else (),
    )


def problem_response(problem: Problem, *, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        msgspec.json.encode(problem),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers={**PROBLEM_HEADERS, **(headers or {})},
    )


def error_response(error: Exception, *, instance: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """What a caller is answered when `error` was raised; with these headers, too."""
    return problem_response(problem_of(error, instance=instance), headers={**headers_of(error), **(headers or {})})


def headers_of(error: Exception) -> dict[str, str]:
    """The headers that an answer to `error` carries beside the usual ones."""
    match error:
        case errors.Unauthenticated():
            return {"WWW-Authenticate": "Bearer"}
        case (
            errors.Unavailable(retry_after=wait)
            | errors.UpstreamFailed(retry_after=wait)
            | errors.TooMany(retry_after=wait)
        ) if wait:
            return {"Retry-After": str(max(1, math.ceil(wait.total_seconds())))}
        case _:
            return {}


def instance_of(connection: HTTPConnection) -> str:
    """The path asked for. Never with its query, which may hold a key."""
    raw: bytes | None = connection.scope.get("raw_path")
    return raw.decode("ascii", "replace").partition("?")[0] if raw else quote(connection.scope["path"])


def handle_problems(app: FastAPI) -> None:
    """From now on every refusal and every crash in `app` is answered with a problem."""
    app.add_exception_handler(errors.OrderupError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(WebSocketRequestValidationError, _answer_invalid)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_exception_handler(Exception, _answer_crash)


# These are called with a Request, or with a WebSocket, which they answer themselves: what the framework's types
# cannot say of one function.
async def _answer_error(connection: Any, error: Exception) -> Any:
    note_failure(error, connection.scope)
    problem = problem_of(error, instance=instance_of(connection))
    return await _answer(connection, problem, headers_of(error))


def note_failure(error: Exception, scope: Scope) -> None:
    """In the log, if it is no fault of the caller's, who may be told less."""
    status = status_of(error)
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request failed", status=status.value, error=str(error), exc_info=error, **ids_of(scope))
    elif status > HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("request failed", status=status.value, error=str(error), **ids_of(scope))


async def _answer_http_exception(connection: Any, error: Exception) -> Any:
    """Of the framework's own: 404, 405, and what it could not read."""
    if not isinstance(error, HTTPException):  # pragma: no cover  registered for nothing else
        raise error
    if isinstance(error, BodyTooLarge):
        return await _answer_error(connection, error.error)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return _answer_wrong_method(connection)
    phrase = HTTPStatus(error.status_code).phrase
    detail = f"There is nothing at {instance_of(connection)}." if error.status_code == 404 else str(error.detail)
    problem = Problem(
        status=error.status_code, title=phrase, detail=detail[:LONGEST_DETAIL], instance=instance_of(connection)
    )
    show: ShowPage | None = getattr(connection.app.state, "show_nothing_there", None)
    if show and error.status_code == 404 and isinstance(connection, Request) and (page := show(connection, problem)):
        return page
    return await _answer(connection, problem, dict(error.headers or {}))


def _answer_wrong_method(connection: HTTPConnection) -> Response:
    """405 with every method that this path knows, whichever routes they belong to; OPTIONS is answered with them."""
    methods: Sequence[str] = connection.app.state.methods_at(connection.scope)
    allow = {"Allow": ", ".join(methods)}
    if connection.scope["method"] == "OPTIONS":
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=allow)
    status = HTTPStatus.METHOD_NOT_ALLOWED
    detail = f"{connection.scope['method']} is not possible here. Use {' or '.join(methods)}."
    problem = Problem(status=status, title=status.phrase, detail=detail, instance=instance_of(connection))
    return _respond(connection, problem, allow)


async def _answer_invalid(connection: Any, error: Exception) -> Any:
    if not isinstance(error, RequestValidationError | WebSocketRequestValidationError):  # pragma: no cover  as above
        raise error
    found = error.errors()
    if tells_details(connection):
        return details_response(
            HTTPStatus.UNPROCESSABLE_ENTITY, detail_of_invalid(found[:MOST_FIELDS]), PROBLEM_HEADERS
        )
    return await _answer(connection, problem_of_invalid(found, instance=instance_of(connection)), {})


def problem_of_invalid(found: Sequence[Any], *, instance: str = "") -> Problem:
    """Of what pydantic found wrong; each field it speaks of is named."""
    fields = tuple(_field_problem(one) for one in found[:MOST_FIELDS])
    more = f" and {len(found) - len(fields)} more" if len(found) > len(fields) else ""
    return Problem(
        type="urn:orderup:problem:invalid",
        status=HTTPStatus.UNPROCESSABLE_ENTITY,
        title="Invalid",
        detail=f"{'; '.join(f'{one.field}: {one.message}' for one in fields)[:LONGEST_DETAIL]}{more}",
        instance=instance,
        errors=fields,
    )


def _field_problem(error: Mapping[str, Any]) -> FieldProblem:
    """What was sent is not repeated: it may be long, or a secret."""
    message = WORDS.get(error["type"], str(error["msg"]).removeprefix("Value error, "))
    return FieldProblem(".".join(str(part) for part in error["loc"])[:LONGEST_FIELD], message[:LONGEST_DETAIL])


async def _answer_nobody(_connection: Any, _error: Exception) -> Any:
    """The caller went away before its body was here."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)


async def _answer_crash(connection: Any, error: Exception) -> Any:
    """The server logs the trace right after this line."""
    scope = connection.scope
    log.error("request crashed", method=scope.get("method"), path=instance_of(connection), **ids_of(scope))
    return _respond(connection, problem_of(error, instance=instance_of(connection)), headers_of(error))


def _respond(connection: HTTPConnection, problem: Problem, headers: Mapping[str, str]) -> Response:
    """In the shape that is usual at this path."""
    if not tells_details(connection):
        return problem_response(problem, headers=headers)
    return details_response(*detail_of(problem), {**PROBLEM_HEADERS, **headers})


async def _answer(connection: HTTPConnection, problem: Problem, headers: Mapping[str, str]) -> Response | None:
    if isinstance(connection, Request):
        return _respond(connection, problem, headers)
    if isinstance(connection, WebSocket):
        await refuse(connection, problem, headers=headers)
    return None


async def refuse(websocket: WebSocket, problem: Problem, *, headers: Mapping[str, str] | None = None) -> None:
    """With the problem itself before accept, with a close code and as much of its detail as fits afterwards."""
    if websocket.client_state is WebSocketState.DISCONNECTED:
        return
    if websocket.application_state is WebSocketState.CONNECTING:
        await websocket.send_denial_response(problem_response(problem, headers=headers))
        return
    reason = problem.detail.encode()[:LONGEST_REASON].decode(errors="ignore")
    await websocket.close(CLOSE_CODES.get(HTTPStatus(problem.status), 1008), reason)
