"""How routes are written: `Router` in place of FastAPI's own, `RequestModel` for what they read.

A route of a `Router` checks its caller before it reads the body, takes JSON only as `limits.read_json` does, answers
HEAD as it answers GET, and lets nobody who changes something wait for ever to hear of it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import Enum
from re import Pattern
from typing import Annotated, Any, ClassVar, TypeVar, get_args

from fastapi import APIRouter, FastAPI, params
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel, ConfigDict, Strict, model_validator
from starlette._utils import get_route_path  # what the router itself matches, without a mount's prefix
from starlette.convertors import Convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orderup.errors import Misconfigured, Unavailable
from orderup.settings import Settings
from orderup.web.auth import Access, OpenAccess, access_of
from orderup.web.limits import check_json_type, read_json

HEAD_KEY = "orderup.head"
ROUTE_KEY = "orderup.route"
DEADLINE_KEY = "orderup.deadline"
WEBSOCKET = "WEBSOCKET"
# How long a request that changes something waits to hear that it was written. Nobody knows while a connection that was
# lost in mid-commit cannot be made again.
ANSWER_SECONDS = 10.0
CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
Handle = Callable[[Request], Coroutine[Any, Any, Response]]
T = TypeVar("T")

# For fields of a RequestModel that JSON can only write as text: Lax[datetime], Lax[UUID], Lax[SomeEnum].
Lax = Annotated[T, Strict(strict=False)]


def _kinds_in(annotation: Any) -> Iterator[Any]:
    """Such as `int`, among others, in `Annotated[int, …] | None`."""
    yield annotation
    for part in get_args(annotation):
        yield from _kinds_in(part)


class RequestModel(BaseModel):
    """A body: an unknown field, or "5" where 5 is meant, is an error that names the field."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    _whole_numbers: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __pydantic_init_subclass__(cls, **_options: Any) -> None:
        def is_whole(annotation: Any) -> bool:
            kinds = list(_kinds_in(annotation))
            return int in kinds and float not in kinds

        cls._whole_numbers = frozenset(name for name, field in cls.model_fields.items() if is_whole(field.annotation))

    @model_validator(mode="before")
    @classmethod
    def _take_whole_numbers(cls, body: Any) -> Any:
        """JSON has one kind of number: 5.0 is 5."""
        if not isinstance(body, dict) or not cls._whole_numbers:
            return body
        return {
            name: int(value) if type(value) is float and value.is_integer() and name in cls._whole_numbers else value
            for name, value in body.items()
        }


def never_by_head(endpoint: Endpoint) -> Endpoint:
    """Marks a GET that changes something: HEAD is answered 405."""
    vars(endpoint)["never_by_head"] = True
    return endpoint


def takes_head(endpoint: object) -> bool:
    return not getattr(endpoint, "never_by_head", False)


def takes_its_time(endpoint: Endpoint) -> Endpoint:
    """Marks a route that waits for something else than the database, or does much at once: it has no deadline.

    One that waits for a while, before or after it writes, says by `waiting` when that is.
    """
    vars(endpoint)["takes_its_time"] = True
    return endpoint


def takes_files(largest: Callable[[Settings], int]) -> Callable[[Endpoint], Endpoint]:
    """Marks a route that reads bodies of up to so many bytes itself, piece by piece (upload.py)."""

    def mark(endpoint: Endpoint) -> Endpoint:
        vars(takes_its_time(endpoint))["largest_body"] = largest
        return endpoint

    return mark


@contextmanager
def waiting(request: Request) -> Iterator[None]:
    """While something else than the database is waited for, the time in which the route has to answer stands still."""
    deadline: asyncio.Timeout | None = request.scope.get(DEADLINE_KEY)
    when = None if deadline is None else deadline.when()
    if deadline is None or when is None:
        yield
        return
    began = asyncio.get_running_loop().time()
    deadline.reschedule(None)
    try:
        yield
    finally:
        deadline.reschedule(when + asyncio.get_running_loop().time() - began)


def _has_deadline(methods: set[str], endpoint: object) -> bool:
    return bool(methods & CHANGES) and not getattr(endpoint, "takes_its_time", False)


@asynccontextmanager
async def in_time(scope: Scope) -> AsyncIterator[None]:
    """What is done in it has so long to be written. Raises Unavailable."""
    scope[DEADLINE_KEY] = deadline = asyncio.timeout(ANSWER_SECONDS)
    try:
        async with deadline:
            yield
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise Unavailable(
            "The database does not say whether this was written: it may or may not have been. "
            "Look before you send it again, or send it again with the same Idempotency-Key."
        ) from error


def _in_time(handle: Handle) -> Handle:
    async def answer(request: Request) -> Response:
        await request.body()  # a slow sender has a deadline of its own
        async with in_time(request.scope):
            return await handle(request)

    return answer


class _JsonRequest(Request):
    decoded: object

    async def json(self) -> object:
        return self.decoded


class GuardedRoute(APIRoute):
    """Raises Misconfigured where it is written if it does not say who may use it."""

    def get_route_handler(self) -> Handle:
        access = access_of(self.dependant, route=f"{'/'.join(sorted(self.methods or ()))} {self.path}")
        body_field = self.body_field
        reads_json = body_field is not None and not isinstance(body_field.field_info, params.Form)
        handle = super().get_route_handler()
        if _has_deadline(self.methods or set(), self.endpoint):
            handle = _in_time(handle)

        async def guarded(request: Request) -> Response:
            if HEAD_KEY in request.scope and not takes_head(self.endpoint):
                raise HTTPException(status_code=405)
            await access(request)
            return await handle(await _with_json(request) if reads_json else request)

        return guarded


async def _with_json(request: Request) -> Request:
    reader = _JsonRequest(request.scope, request.receive)
    body = await reader.body()
    if body:
        check_json_type(request.headers.get("content-type"))
        reader.decoded = read_json(body)
    return reader


def operation_id_of(route: Any) -> str:
    """Such as `post_pizza_pizzas_id_cancel`."""
    words = route.path_format.replace("{", "").replace("}", "").replace(".", "_").strip("/").replace("/", "_")
    return f"{min(route.methods).lower()}_{words or 'root'}"


class Router(APIRouter):
    """For a shop's front and back: `router = Router(tags=["pizza"])`, then `@router.get(…)` and so on as usual.

    details_below: a path at and below which errors are not problems, but in FastAPI's own shape (details.py); looked
    at in the shop's outermost router.
    """

    def __init__(
        self,
        *,
        prefix: str = "",
        tags: list[str | Enum] | None = None,
        dependencies: Sequence[params.Depends] | None = None,
        details_below: str | None = None,
    ) -> None:
        self.details_below = details_below
        super().__init__(
            prefix=prefix,
            tags=tags,
            dependencies=dependencies,
            route_class=GuardedRoute,
            redirect_slashes=False,
            generate_unique_id_function=operation_id_of,
        )


class HeadAsGet:
    """HEAD is GET without the body; a stream ends with its headers, as if its reader had gone."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        is_answered = False

        async def receive_until_answered() -> Message:
            return {"type": "http.disconnect"} if is_answered else await receive()

        async def send_head(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                is_answered = True

        as_get = {**scope, "method": "GET", HEAD_KEY: True}
        try:
            await self.app(as_get, receive_until_answered, send_head)
        finally:
            # Which route it was, and about what, is asked for further out.
            scope[ROUTE_KEY] = as_get.get(ROUTE_KEY)
            scope.update({name: as_get.get(name) for name in ("endpoint", "path_params")})


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """One line of the table of all routes.

    methods: without HEAD and OPTIONS; of a socket, WEBSOCKET. app: answers once the route is found; None for what only
    the framework can answer.
    """

    path: str
    methods: frozenset[str]
    access: Access
    endpoint: object
    pattern: Pattern[str]
    route: BaseRoute
    convertors: Mapping[str, Convertor[Any]]
    app: ASGIApp | None = None


class RouteTable:
    """Every route of an app, with its prefix, in the order in which they are tried."""

    def __init__(self, app: FastAPI) -> None:
        self.entries = list(_entries(app.routes))
        self._check_doubles()

    def methods_at(self, scope: Scope) -> list[str]:
        """Every method that this path knows."""
        path = get_route_path(scope)
        found = [entry for entry in self.entries if WEBSOCKET not in entry.methods and entry.pattern.match(path)]
        methods = {method for entry in found for method in entry.methods}
        if any("GET" in entry.methods and takes_head(entry.endpoint) for entry in found):
            methods.add("HEAD")
        return sorted(methods | {"OPTIONS"})

    def largest_at(self, scope: Scope, settings: Settings) -> int | None:
        """How many bytes the route takes that a request is for, if it takes files."""
        path = get_route_path(scope)
        for entry in self.entries:
            largest: Callable[[Settings], int] | None = getattr(entry.endpoint, "largest_body", None)
            if largest is not None and scope["method"] in entry.methods and entry.pattern.match(path):
                return largest(settings)
        return None

    def template_of(self, scope: Scope) -> str:
        """The route's path with its parameters' names, once it has been found; else ''."""
        found: str | None = scope.get(ROUTE_KEY)
        return found if found is not None else self._templates.get(id(scope.get("endpoint")), "")

    def _check_doubles(self) -> None:
        seen: dict[tuple[str, str], RouteEntry] = {}
        for entry in self.entries:
            for method in entry.methods:
                if (method, entry.path) in seen:
                    raise Misconfigured(f"{method} {entry.path} is declared twice. Rename one of the two.")
                seen[method, entry.path] = entry
        self._templates = {id(entry.endpoint): entry.path for entry in self.entries}


def _entries(routes: Sequence[BaseRoute]) -> Iterator[RouteEntry]:
    for context in iter_route_contexts(routes):
        route = context.original_route
        if isinstance(route, Mount) and isinstance(route.app, StaticFiles):
            path, methods = f"{context.path}/{{path}}", frozenset({"GET"})
            yield RouteEntry(path, methods, OpenAccess(), route.app, route.path_regex, route, {})
            continue
        methods = frozenset(context.methods or {WEBSOCKET}) - {"HEAD"}
        name = f"{'/'.join(sorted(methods))} {context.path}"
        dependant = getattr(context, "dependant", None)
        if dependant is None:
            raise Misconfigured(f"{name} is no route that can say who may use it. Write it with a Router.")
        if WEBSOCKET not in methods and not isinstance(route, GuardedRoute):
            raise Misconfigured(f"{name} belongs to a plain APIRouter. Use orderup.web.routes.Router.")
        yield RouteEntry(
            str(context.path_format),
            methods,
            access_of(dependant, route=name),
            context.endpoint,
            context.path_regex,
            route,
            context.param_convertors,
            None if WEBSOCKET in methods else context.app,
        )
