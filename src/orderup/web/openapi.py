"""The OpenAPI of an app: FastAPI's, with who may use what, the headers that some routes take, and the problems that
every route may answer.

`x-roles` of an operation lists the roles that may use it; "anyone" needs no role, "key" has the order's key, "metrics"
has METRICS_TOKEN. WebSockets, which OpenAPI does not know, stand beside the paths under `x-websockets`.
"""

from collections.abc import Iterator
from typing import Any

from orderup.web.auth import METRICS_SCHEME, ORDER_KEY_SCHEME, TOKEN_SCHEME, Access, AnyoneAccess
from orderup.web.idempotency import HEADER, KEY_PATTERN, LONGEST_KEY, is_keyed
from orderup.web.live import LARGEST_SEQ
from orderup.web.problems import MEDIA_TYPE
from orderup.web.routes import WEBSOCKET, RouteEntry, RouteTable

PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "What went wrong (RFC 9457).",
    "type": "object",
    "required": ["status", "title", "detail"],
    "properties": {
        "type": {"type": "string", "description": "urn:orderup:problem:…; left out, the status says it all."},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "title": {"type": "string"},
        "detail": {"type": "string", "description": "What happened, to which thing, and what to do now."},
        "instance": {"type": "string", "description": "The path asked for."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {
                    "field": {"type": "string", "examples": ["body.tasks.0.name"]},
                    "message": {"type": "string"},
                },
            },
        },
    },
}
PROBLEM_CONTENT: dict[str, Any] = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
# FastAPI adds a shape of its own for 422 where it finds no default.
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {"description": "A problem", "content": PROBLEM_CONTENT}
}
SECURITY_SCHEMES: dict[str, Any] = {
    TOKEN_SCHEME: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "From `orderup token ROLE NAME`; workers may send WORKER_TOKEN.",
    },
    ORDER_KEY_SCHEME: {
        "type": "apiKey",
        "in": "query",
        "name": "key",
        "description": "The key in the links that placing an order returned. It opens that order only.",
    },
    METRICS_SCHEME: {"type": "http", "scheme": "bearer", "description": "METRICS_TOKEN"},
}


KEY_PARAMETER: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "A text of your own, such as a UUID, under which this request is carried out once. Sent again by "
    "the same caller, it does nothing and is answered with how things stand now; with another request it is 422.",
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": KEY_PATTERN},
}
REPLAYED_HEADER: dict[str, Any] = {
    "Idempotency-Replayed": {
        "description": "Present if the same request was carried out before, and this one did nothing.",
        "schema": {"type": "string", "enum": ["true"]},
    }
}


LAST_EVENT_PARAMETER: dict[str, Any] = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "The last `seq` you have, as a browser sends it when it comes again. The greater of this and "
    "`after` counts.",
    "schema": {"type": "integer", "minimum": 0, "maximum": LARGEST_SEQ},
}


def describe_headers(schema: dict[str, Any], table: RouteTable) -> None:
    """Add `Idempotency-Key` and `Last-Event-ID` to the routes that take them, in place."""
    for entry, operation in _operations(schema, table):
        if "text/event-stream" in operation["responses"].get("200", {}).get("content", {}):
            operation.setdefault("parameters", []).append(LAST_EVENT_PARAMETER)
        if not is_keyed(entry.endpoint):
            continue
        operation.setdefault("parameters", []).append(KEY_PARAMETER)
        for status, response in operation["responses"].items():
            if status.startswith("2"):
                response["headers"] = REPLAYED_HEADER


def describe_access(schema: dict[str, Any], table: RouteTable, *, asks_for_tokens: bool) -> None:
    """Add to `schema`, in place. asks_for_tokens: False without SECRET_KEY, where every local caller has every role."""
    components = schema.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = PROBLEM_SCHEMA
    components["securitySchemes"] = SECURITY_SCHEMES
    for entry, operation in _operations(schema, table):
        operation["x-roles"] = entry.access.documented_roles
        operation["security"] = _security_of(entry.access) if asks_for_tokens else []
    schema["x-websockets"] = {
        entry.path: {"x-roles": entry.access.documented_roles} for entry in table.entries if WEBSOCKET in entry.methods
    }


def _operations(schema: dict[str, Any], table: RouteTable) -> Iterator[tuple[RouteEntry, dict[str, Any]]]:
    for entry in table.entries:
        for method in entry.methods:
            operation = schema["paths"].get(entry.path, {}).get(method.lower())
            if operation is not None:
                yield entry, operation


def _security_of(access: Access) -> list[dict[str, list[str]]]:
    if isinstance(access, AnyoneAccess):
        return [{}, {TOKEN_SCHEME: []}]
    return [{scheme: []} for scheme in access.schemes]
