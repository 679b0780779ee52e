"""What every third party with an API of its own has here: calls, one switch for all of them, a page, a ledger.

    class Letters(Service):
        name, title, template = "letters", "Letters", "letters.html"

        def calls(self) -> list[Call]:
            return [Call("post_letter", "POST", "/v1/letters", self._post)]

        def _post(self, asked: Asked) -> Said:
            self.posted.append(asked.json())
            return Said({"id": len(self.posted)}, status=201)

        def failure(self, answer: Answer) -> Said:
            return Said({"error": f"switched to {answer.status}"}, status=answer.status)

        def shown(self) -> dict[str, Any]:
            return {"posted": self.posted}

Below its name are the calls, at `/` the page, at `/behaviour` the switch, at `/requests` what arrived.
"""

from abc import abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from pydantic import Field, ValidationError
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from orderup.sandbox.behaviour import Answer, Body
from orderup.sandbox.border import Refused, body_of, form_of, json_of
from orderup.sandbox.ledger import Ledger, Outcome
from orderup.sandbox.pages import render
from orderup.sandbox.play import Play
from orderup.sandbox.wire import leaves_within

LARGEST_REQUEST = 1 << 20
# What is dripped is an honest answer.
BAD_BODIES = frozenset(Body) - {Body.HONEST, Body.DRIP}


class Switch(Answer):
    """How calls are answered now. `route`: which call, by its name; None: all. `times`: so many, then honestly again;
    None: for ever. `takes_effect`: the call does its work first, and only then is it delayed and answered badly."""

    route: str | None = None
    times: int | None = Field(default=None, ge=1, le=1_000_000)
    takes_effect: bool = False

    @property
    def is_bad(self) -> bool:
        """The honest answer is not given; unless it takes effect, nothing is done either."""
        return self.status >= HTTPStatus.MULTIPLE_CHOICES or self.body in BAD_BODIES

    @property
    def is_honest(self) -> bool:
        return not self.is_bad and self.body is Body.HONEST and not self.delay_seconds


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. `parts`: of the path, by name. `query`: the last of each name. `headers`: by names in lower case.
    `url`: where this third party is, such as http://127.0.0.1:8002/jira."""

    parts: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    url: str

    def json(self) -> Any:
        """Raises ValueError."""
        return from_json(self.body)

    def form(self) -> dict[str, str]:
        """Raises ValueError."""
        return dict(parse_qsl(self.body.decode(), strict_parsing=bool(self.body)))


@dataclass(frozen=True, slots=True)
class Said:
    """An honest answer. `json` None: it has no body."""

    json: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """`name`: as which the switch knows it. `work`: what it does, in one go; it raises nothing."""

    name: str
    method: str
    path: str
    work: Callable[[Asked], Said]


@dataclass(frozen=True, slots=True)
class Form:
    """Something that a person can do on the page. `work`: by the parts of the path and what was filled in; raises
    Refused."""

    path: str
    work: Callable[[Mapping[str, str], Mapping[str, str]], Awaitable[None] | None]


class Service:
    """`scale`: by how much every delay is divided. `asked`: how often each call came, by its name."""

    name: ClassVar[str]
    title: ClassVar[str]
    # Extends service.html.
    template: ClassVar[str]

    def __init__(self, *, scale: float) -> None:
        self.scale = scale
        self.ledger = Ledger()
        self.asked: Counter[str] = Counter()
        self.behaviour = Switch()

    # what each says of itself

    @abstractmethod
    def calls(self) -> Sequence[Call]:
        """In the order in which their paths are compared."""

    @abstractmethod
    def failure(self, answer: Answer) -> Said:
        """An error of this status, in this third party's own shape. 404: also of a path that nobody knows."""

    @abstractmethod
    def shown(self) -> Mapping[str, Any]:
        """What its template is given besides `party` and `calls`."""

    def admit(self, _asked: Asked) -> Said | None:
        """What somebody is told who may not call at all; None: he may."""
        return None

    def forms(self) -> Sequence[Form]:
        return ()

    def open(self) -> AbstractAsyncContextManager[Any]:
        """What has to run as long as the sandbox does."""
        return nullcontext()

    # the switch, for tests; the routes below use the same

    def switch(self, **given: Any) -> Switch:
        """Answer as given, by the names in JSON; what is left out is as in an honest answer at once. Raises Refused."""
        try:
            switch = Switch.model_validate(given)
        except ValidationError as error:
            raise Refused.of(error, "Not switched.") from error
        names = self.call_names
        if switch.route is not None and switch.route not in names:
            raise Refused(422, "Not switched.", {"route": f"is none of {', '.join(names)}"})
        self.behaviour = switch
        return switch

    def restore(self) -> None:
        self.behaviour = Switch()

    def take(self, route: str) -> Switch:
        """How this call is to be answered, which counts as one of the switch's times."""
        switch = self.behaviour
        if switch.route not in {None, route}:
            return Switch()
        if switch.times is not None:
            self.behaviour = switch.model_copy(update={"times": switch.times - 1}) if switch.times > 1 else Switch()
        return switch

    @property
    def call_names(self) -> list[str]:
        return list(dict.fromkeys(call.name for call in self.calls()))

    # routes

    def routes(self) -> list[Route]:
        return [
            Route("/", self._page, methods=["GET"]),
            Route("/requests", self._requests, methods=["GET"]),
            Route("/behaviour", self._show, methods=["GET"]),
            Route("/behaviour", self._put, methods=["PUT"]),
            Route("/behaviour", self._delete, methods=["DELETE"]),
            self._form_route(Form("/behaviour", self._switch_by_form)),
            *(self._form_route(form) for form in self.forms()),
            *(self._call_route(call) for call in self.calls()),
            Route("/{rest:path}", self._unknown, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        ]

    def _call_route(self, call: Call) -> Route:
        async def answer(request: Request) -> Response:
            return await self._answer(request, call)

        return Route(call.path, answer, methods=[call.method])

    async def _answer(self, request: Request, call: Call) -> Response:
        path = request.url.path.removeprefix(f"/{self.name}")
        switch = self.take(call.name)
        self.asked[call.name] += 1
        arrival = self.ledger.note(request.method, path, body=switch.body)
        asked = await self._read(request)
        said = self._work(call, asked) if switch.takes_effect else None
        if switch.delay_seconds and await leaves_within(request.receive, switch.delay_seconds / self.scale):
            self.ledger.end(arrival, Outcome.CALLER_LEFT)
            return Response()
        if said is None and not switch.is_bad:
            said = self._work(call, asked)
        played, told = self._played(switch, said)
        return Play(played, told.json, headers=told.headers, arrival=arrival, ledger=self.ledger, scale=self.scale)

    async def _read(self, request: Request) -> Asked:
        return Asked(
            parts=request.path_params,
            query=dict(request.query_params),
            headers=request.headers,
            body=await body_of(request, largest=LARGEST_REQUEST),
            url=f"{request.url.scheme}://{request.url.netloc}/{self.name}",
        )

    def _work(self, call: Call, asked: Asked) -> Said:
        said = self.admit(asked) or call.work(asked)
        self.ledger.tell()
        return said

    def _played(self, switch: Switch, said: Said | None) -> tuple[Answer, Said]:
        """How it is answered, at once: the delay has passed."""
        answer = Answer(status=switch.status, body=switch.body, retry_after_seconds=switch.retry_after_seconds)
        if switch.status >= HTTPStatus.MULTIPLE_CHOICES:
            return answer, self.failure(switch)
        told = Said({}) if said is None else said
        honest_status = told.status if switch.status == HTTPStatus.OK else switch.status
        return answer.model_copy(update={"status": honest_status}), told

    async def _unknown(self, request: Request) -> Response:
        return await self._answer(request, Call("(unknown)", request.method, "", lambda _asked: self._not_there()))

    def _not_there(self) -> Said:
        return self.failure(Answer(status=HTTPStatus.NOT_FOUND))

    async def _page(self, _request: Request) -> Response:
        return self._shown()

    def _shown(self, *, refused: Refused | None = None) -> Response:
        return render(self.template, refused=refused, party=self, calls=self.call_names, **self.shown())

    async def _requests(self, _request: Request) -> Response:
        return JSONResponse({"calls": dict(self.asked), **self.ledger.as_json()})

    async def _show(self, _request: Request) -> Response:
        return JSONResponse(self.behaviour.model_dump(mode="json"))

    async def _put(self, request: Request) -> Response:
        return JSONResponse(self.switch(**await json_of(request)).model_dump(mode="json"))

    async def _delete(self, _request: Request) -> Response:
        self.restore()
        return Response(status_code=204)

    def _switch_by_form(self, _parts: Mapping[str, str], form: Mapping[str, str]) -> None:
        if "restore" in form:
            self.restore()
        else:
            self.switch(**{name: value for name, value in form.items() if value})

    def _form_route(self, form: Form) -> Route:
        async def submit(request: Request) -> Response:
            try:
                done = form.work(request.path_params, await form_of(request))
                if done is not None:
                    await done
            except Refused as refused:
                return self._shown(refused=refused)
            return RedirectResponse(f"/{self.name}/", status_code=303)

        return Route(form.path, submit, methods=["POST"])
