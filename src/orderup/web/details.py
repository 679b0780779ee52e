"""Errors in FastAPI's own shape, `{"detail": …}`, for routes whose clients know them so from before.

A router says below which of its paths that is so (`details_below`). What is refused before a route is looked for (too
large, from elsewhere) is a problem there, too, which also has a `detail`.
"""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from starlette._utils import get_route_path  # what the router itself matches
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Scope

# A text; or, of a request that is not as it should be, what is wrong with it, place by place.
DETAILS_SCHEMA: dict[str, Any] = {
    "title": "Details",
    "type": "object",
    "required": ["detail"],
    "properties": {
        "detail": {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["type", "loc", "msg"],
                        "properties": {
                            "type": {"type": "string"},
                            "loc": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
                            "msg": {"type": "string"},
                        },
                    },
                },
            ]
        }
    },
}
DETAILS_RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "What went wrong",
        "content": {
            "application/json": {"schema": DETAILS_SCHEMA},
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}},
        },
    }
}


def details_finder(paths: Sequence[str]) -> Callable[[Scope], bool]:
    """Tells whether a path is one of these, or below one."""
    below = tuple(f"{path}/" for path in paths)
    return lambda scope: bool(below) and f"{get_route_path(scope)}/".startswith(below)


def tells_details(connection: HTTPConnection) -> bool:
    finder: Callable[[Scope], bool] | None = getattr(connection.app.state, "tells_details", None)
    return finder is not None and finder(connection.scope)


def details_response(status: int, detail: str | Sequence[Mapping[str, Any]], headers: Mapping[str, str]) -> Response:
    return Response(
        msgspec.json.encode({"detail": detail}),
        status_code=status,
        media_type="application/json",
        headers=dict(headers),
    )


def detail_of(problem: Any) -> tuple[int, str | list[dict[str, Any]]]:
    """Status and detail of a problem of ours. What cannot be read as JSON is 422, as FastAPI has it."""
    if problem.type == "about:blank":
        return problem.status, problem.title  # the status says it all
    if not problem.errors:
        return problem.status, problem.detail
    is_malformed = problem.status == HTTPStatus.BAD_REQUEST
    found = [
        {
            "type": "json_invalid" if is_malformed else "value_error",
            "loc": each.field.split("."),
            "msg": f"JSON decode error: {each.message}" if is_malformed else each.message,
        }
        for each in problem.errors
    ]
    return HTTPStatus.UNPROCESSABLE_ENTITY if is_malformed else problem.status, found


def detail_of_invalid(found: Sequence[Any]) -> list[dict[str, Any]]:
    """Of what pydantic found wrong. What was sent is not repeated: it may be long, or a secret."""
    return [{name: each[name] for name in ("type", "loc", "msg")} for each in found]
