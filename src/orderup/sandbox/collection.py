"""What a third party has of one kind and is asked for by id, GET PATH/ID. Each has a switch: PATH/ID/behaviour."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from orderup.sandbox.behaviour import Answer, Behaviour
from orderup.sandbox.border import Refused, form_of, json_of, media_type_of
from orderup.sandbox.ledger import Ledger
from orderup.sandbox.play import Play

MOST_THINGS = 1_000
LONGEST_ID = 100
JSON = "application/json"


class Thing(Behaviour):
    """Something with an id, and how requests for it are answered."""

    @abstractmethod
    def honest(self, id: str) -> dict[str, Any]:
        """What a successful answer says of it."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What people call it."""


T = TypeVar("T", bound=Thing)


@dataclass(slots=True)
class Entry(Generic[T]):
    """A thing as it is switched now; `asked`: how often since then."""

    thing: T
    asked: int = 0


class Collection(Generic[T]):
    """`name`: in paths, "products". `noun`: of one. `usual`: what is there until something is switched."""

    def __init__(
        self, name: str, noun: str, kind: type[T], usual: Mapping[str, T], *, ledger: Ledger, scale: float
    ) -> None:
        self.name, self.noun, self.kind, self.usual = name, noun, kind, usual
        self.ledger, self.scale = ledger, scale
        self.entries = {id: Entry(thing) for id, thing in usual.items()}

    def routes(self) -> list[Route]:
        path = f"/{self.name}/{{id}}"
        return [
            Route(path, self._read, methods=["GET"]),
            Route(f"{path}/behaviour", self._show, methods=["GET"]),
            Route(f"{path}/behaviour", self._put, methods=["PUT"]),
            Route(f"{path}/behaviour", self._delete, methods=["DELETE"]),
            Route(f"{path}/behaviour", self._post, methods=["POST"]),
        ]

    # the switches, for tests; the routes below use the same

    def switch(self, id: str, /, **given: Any) -> T:
        """Answer for this thing as given, by the names in JSON; what is left out is as in an honest answer at once. An
        id that is not there is added, and needs all that is to be said of it. Raises Refused."""
        if len(id) > LONGEST_ID:
            raise Refused(422, f"The id of a {self.noun} has at most {LONGEST_ID} characters.")
        found = self.entries.get(id)
        if found is None and len(self.entries) >= MOST_THINGS:
            raise Refused(409, f"There are {MOST_THINGS} {self.name}. Delete some that you have added.")
        known = {} if found is None else found.thing.model_dump(by_alias=True, exclude=set(Behaviour.model_fields))
        try:
            thing = self.kind.model_validate(known | given)
        except ValidationError as error:
            what = f"There is no {self.noun} {id} yet, and it cannot be added so." if found is None else "Not switched."
            raise Refused.of(error, what) from error
        self.entries[id] = Entry(thing)
        return thing

    def restore(self, id: str) -> None:
        """As it was in the beginning: what was added is gone. Raises Refused if there is none."""
        self._entry(id)
        if id in self.usual:
            self.entries[id] = Entry(self.usual[id])
        else:
            del self.entries[id]

    def _entry(self, id: str) -> Entry[T]:
        if id not in self.entries:
            raise Refused(404, f"There is no {self.noun} {id}.")
        return self.entries[id]

    # the third party's own route

    async def _read(self, request: Request) -> Response:
        id = request.path_params["id"]
        answer, said = self._answer_to(id, media_type=media_type_of(request))
        arrival = self.ledger.note(request.method, f"/{self.name}/{id}", body=answer.body)
        return Play(answer, said, arrival=arrival, ledger=self.ledger, scale=self.scale)

    def _answer_to(self, id: str, *, media_type: str) -> tuple[Answer, dict[str, Any]]:
        """How to answer, and what to say if it is said honestly."""
        if media_type != JSON:
            return Answer(status=415), {"error": f"Say Content-Type: {JSON}."}
        entry = self.entries.get(id)
        if entry is None:
            return Answer(status=404), {"error": f"There is no {self.noun} {id}."}
        entry.asked += 1
        answer = entry.thing.answer_to(entry.asked)
        if answer.status >= HTTPStatus.BAD_REQUEST:
            return answer, {"error": f"The sandbox is switched to answer {answer.status}."}
        return answer, entry.thing.honest(id)

    # the routes of the switches

    async def _show(self, request: Request) -> Response:
        return _shown(self._entry(request.path_params["id"]).thing)

    async def _put(self, request: Request) -> Response:
        return _shown(self.switch(request.path_params["id"], **await json_of(request)))

    async def _delete(self, request: Request) -> Response:
        self.restore(request.path_params["id"])
        return Response(status_code=204)

    async def _post(self, request: Request) -> Response:
        """From the page, whose forms know no other method."""
        id, form = request.path_params["id"], await form_of(request)
        self._entry(id)
        if "restore" in form:
            self.restore(id)
        else:
            self.switch(id, **_behaviour_of(form))
        return RedirectResponse(f"/#{self.name}", status_code=303)


def _shown(thing: Thing) -> Response:
    return JSONResponse(thing.model_dump(mode="json", by_alias=True))


def _behaviour_of(form: Mapping[str, str]) -> dict[str, Any]:
    """The fields of the alternate are there always, and count if `alternate` is ticked."""
    given: dict[str, Any] = {name: value for name, value in form.items() if not name.startswith("alternate")}
    if "alternate" in form:
        parts = (name.partition(".") for name in form)
        given["alternate"] = {field: form[f"{of}.{field}"] for of, _, field in parts if of == "alternate" and field}
    return given
