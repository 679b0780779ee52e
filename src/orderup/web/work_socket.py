"""`WS /api/work`: what the routes of `work.py` do, with tasks pushed as they come.

The worker sends `{"id", "verb", "task", "body"}` and is answered `{"id", "status", "body"}`: `id` is his own, `status`
and `body` are what the route of that verb would answer, `retry_after` (seconds) stands beside a 503. Answers come as
they are ready: who needs an order waits for the first before he sends the second.

`claim` is a wish that stands until the next one: whenever fewer than its `max` of the tasks pushed here are unfinished,
more are claimed and pushed as `{"n", "tasks"}`, numbered from 1. The worker says `received` with the last `n` he has.
When the socket goes, what was pushed but never received is handed back; the leases of all else run on, and the worker
goes on with his tokens, over another socket or by the routes. A worker who names a `request` and, coming back, the last
`n` he has as `after`, gets again what was claimed for him and never reached him, even if the server died in between; an
older socket that claims under the same name is closed first.

Every frame meets the checks a request would: its caller's token may have expired or been revoked since the last.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID, uuid5

import msgspec
import structlog
from pydantic import Field, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from orderup.db.database import Claimed
from orderup.engine.hand_back import hand_back_all
from orderup.errors import Conflict, Invalid, NotFound, OrderupError, Unavailable
from orderup.web import work_verbs as verbs
from orderup.web.auth import Access, requires
from orderup.web.limits import read_json
from orderup.web.logs import ids_in
from orderup.web.orders import engine_of
from orderup.web.problems import (
    MalformedRequest,
    Problem,
    headers_of,
    instance_of,
    problem_of,
    problem_of_invalid,
    refuse,
)
from orderup.web.routes import RequestModel, Router
from orderup.web.tokens import Caller, Role
from orderup.web.views import view_claimed
from orderup.web.work_verbs import ClaimBody, CompleteBody, FailBody, MemoBody, TokenBody, WaitBody

log = structlog.get_logger(__name__)
router = Router(tags=["work"])
MOST_IN_FLIGHT = 64
# A claim that waits asks anew after so long, by which the worker is known to be alive.
CLAIM_SECONDS = 20.0
LARGEST_N = (1 << 53) - 1
LONGEST_ID = 100
REPLACED = 4409
_worker_access = Access(Role.WORKER)
_encode = msgspec.json.Encoder().encode


class Frame(RequestModel):
    """`id` is read before, so that a refusal of the rest can carry it."""

    id: Any
    verb: Annotated[str, Field(max_length=100)]
    task: Annotated[str, Field(max_length=100)] | None = None
    body: dict[str, Any]


class WishBody(ClaimBody):
    """after: the last `n` received over an earlier socket, of the same request."""

    after: Annotated[int, Field(ge=0, le=LARGEST_N)] = 0


class ReceivedBody(RequestModel):
    n: Annotated[int, Field(ge=0, le=LARGEST_N)]


Verb = Callable[[WebSocket, Caller, str, Any], Awaitable[dict[str, Any]]]
# What is said of one task, whether the claim ends with it, and how.
VERBS: dict[str, tuple[type[RequestModel], bool, Verb]] = {
    "heartbeat": (TokenBody, False, verbs.do_heartbeat),
    "remember": (MemoBody, False, verbs.do_remember),
    "complete": (CompleteBody, True, verbs.do_complete),
    "fail": (FailBody, True, verbs.do_fail),
    "wait": (WaitBody, True, verbs.do_wait),
    "hand-back": (TokenBody, True, verbs.do_hand_back),
}


@router.websocket("/api/work", dependencies=[requires(Role.WORKER)])
async def work(websocket: WebSocket) -> None:
    await websocket.accept()
    await _Session(websocket).run()


@dataclass(slots=True)
class _Pushed:
    """A task that was pushed here and is not finished."""

    claimed: Claimed
    n: int
    is_received: bool = False


class _Replaced(Exception):
    """The worker has come back by another socket: that he has left this one was not noticed yet."""


class _Session:
    """One socket. `pushed` by token. `requests`: under whose names it claims, `is_wanted`: another wants to."""

    def __init__(self, websocket: WebSocket) -> None:
        self.websocket = websocket
        self.pushed: dict[str, _Pushed] = {}
        self.wish: WishBody | None = None
        self.n = 0
        self.changed, self.withdrawn = asyncio.Event(), asyncio.Event()
        self.requests: set[UUID] = set()
        self.turns, self.is_wanted = AsyncExitStack(), asyncio.Event()
        self.pushing = asyncio.Lock()
        self.in_flight = asyncio.Semaphore(MOST_IN_FLIGHT)

    async def run(self) -> None:
        async with self.turns:
            try:
                await self._push_and_answer()
            except* _Replaced:
                await self.websocket.close(REPLACED, "the same worker came by another socket")
            finally:
                await self._hand_back([each for each in self.pushed.values() if not each.is_received])

    async def _push_and_answer(self) -> None:
        async with asyncio.TaskGroup() as group:
            pushing = group.create_task(self._push(), name="work socket: push")
            leaving = group.create_task(self._leave(), name="work socket: leave")
            async for frame in self._frames():
                await self.in_flight.acquire()
                group.create_task(self._answer(frame), name="work socket: answer")
            pushing.cancel()
            leaving.cancel()

    async def _leave(self) -> None:
        await self.is_wanted.wait()
        raise _Replaced

    async def _frames(self) -> AsyncIterator[str | bytes]:
        while (message := await self.websocket.receive())["type"] != "websocket.disconnect":
            text: str | None = message.get("text")
            yield message["bytes"] if text is None else text

    async def _hand_back(self, some: list[_Pushed]) -> None:
        await hand_back_all(engine_of(self.websocket), [each.claimed for each in some])

    async def _send(self, message: dict[str, Any]) -> None:
        """To nobody, if the worker has gone: what he missed he asks again."""
        try:
            await self.websocket.send_text(_encode(message).decode())
        except (WebSocketDisconnect, RuntimeError) as error:
            log.debug("a worker went away before this reached him", error=str(error))

    # pushing

    async def _push(self) -> None:
        while True:
            while not self._has_room:
                self.changed.clear()
                await self.changed.wait()
            try:
                async with self.pushing:
                    await self._push_some()
            except Unavailable as error:
                await asyncio.sleep(error.retry_after.total_seconds())
            except OrderupError as error:
                # Nobody asked just now, so that this cannot be an answer.
                await refuse(self.websocket, problem_of(error, instance=instance_of(self.websocket)))
                return

    @property
    def _has_room(self) -> bool:
        return self.wish is not None and len(self.pushed) < self.wish.max

    async def _push_some(self) -> None:
        """What is claimed but not pushed is handed back. Raises Unavailable, and what refuses a token."""
        wish = self.wish  # asked for only now: while the lock was waited for, another may have taken its place
        if wish is None or not self._has_room or self.withdrawn.is_set():
            return
        caller = await _worker_access.admit(self.websocket)
        claimed = await verbs.claim_until(
            self.websocket,
            caller,
            wish,
            most=wish.max - len(self.pushed),
            request=None if wish.request is None else str(uuid5(wish.request, str(self.n + 1))),
            wait_seconds=CLAIM_SECONDS,
            until=[self.withdrawn.wait],
        )
        if not claimed:
            return
        self.n += 1
        self.pushed |= {each.task.token or "": _Pushed(each, self.n) for each in claimed}
        await _worker_access.admit(self.websocket)
        now = engine_of(self.websocket).now()
        await self._send({"n": self.n, "tasks": [view_claimed(each, now=now) for each in claimed]})

    # answering

    async def _answer(self, text: str | bytes) -> None:
        id: int | str | None = None
        sent: dict[str, Any] = {}
        path = instance_of(self.websocket)
        try:
            sent = _read_object(text)
            id = _read_id(sent)
            answer = {"status": HTTPStatus.OK, "body": await self._do(_read(Frame, sent))}
        except OrderupError as error:
            answer = _refusal(error, path=path)
        except Exception as error:  # the one home of crashes here, as the app's own is for requests
            log.exception("a frame crashed", path=path, **ids_in(str(sent.get("task"))))
            answer = _refusal(error, path=path)
        finally:
            self.in_flight.release()
        await self._send({"id": _id_in(text) if id is None else id, **answer})

    async def _do(self, frame: Frame) -> dict[str, Any]:
        caller = await _worker_access.admit(self.websocket)
        if frame.verb == "claim":
            return await self._claim(caller, _read(WishBody, frame.body, at="body"))
        if frame.verb == "received":
            return self._received(_read(ReceivedBody, frame.body, at="body"))
        if frame.verb not in VERBS:
            known = ", ".join(["claim", "received", *VERBS])
            raise Invalid(f"There is no verb {frame.verb!r}. There is: {known}.", field="verb")
        if frame.task is None:
            raise Invalid(f"{frame.verb} is said of a task: put its id into `task`.", field="task")
        return await self._do_to_task(caller, frame.verb, frame.task, frame.body)

    async def _claim(self, caller: Caller, wish: WishBody) -> dict[str, Any]:
        """After the answer nothing is pushed any more that the last wish, but not this one, asked for."""
        verbs.queues_of(engine_of(self.websocket), caller, wish)
        if wish.request is not None and wish.request not in self.requests:
            self.requests.add(wish.request)
            desk = verbs.claim_desk_of(self.websocket)
            name = f"{wish.worker} {wish.request}"
            await self.turns.enter_async_context(desk.turn(name, is_wanted=self.is_wanted))
        self.withdrawn.set()
        async with self.pushing:
            self.withdrawn.clear()
            self.wish = wish
            self.n = max(self.n, wish.after)
        self.changed.set()
        return {"max": wish.max}

    def _received(self, body: ReceivedBody) -> dict[str, Any]:
        for each in self.pushed.values():
            each.is_received = each.is_received or each.n <= body.n
        return {"n": body.n}

    async def _do_to_task(self, caller: Caller, verb: str, task: str, body: dict[str, Any]) -> dict[str, Any]:
        model, is_end, do = VERBS[verb]
        read = _read(model, body, at="body")
        token: str = getattr(read, "token", "")
        if token in self.pushed:
            self.pushed[token].is_received = True
        try:
            answer = await do(self.websocket, caller, task, read)
        except (Conflict, NotFound):
            self._finished(token)
            raise
        if is_end:
            self._finished(token)
        return answer

    def _finished(self, token: str) -> None:
        if self.pushed.pop(token, None) is not None:
            self.changed.set()


def _read_object(frame: str | bytes) -> dict[str, Any]:
    if isinstance(frame, bytes):
        raise MalformedRequest("Send JSON in text frames, not in binary ones.", field="body")
    sent = read_json(frame.encode())
    if not isinstance(sent, dict):
        raise Invalid('Send an object: {"id": …, "verb": …, "body": {…}}.', field="body")
    return sent


class _Named(msgspec.Struct):
    id: int | str | None = None


def _id_in(text: str | bytes) -> int | str | None:
    """Of a frame that was refused before its id was read, if it has one: its sender waits for an answer to it."""
    try:
        id = msgspec.json.decode(text, type=_Named).id
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return None if isinstance(id, str) and len(id) > LONGEST_ID else id


def _read_id(sent: dict[str, Any]) -> int | str:
    id = sent.get("id")
    if isinstance(id, bool) or not isinstance(id, int | str) or (isinstance(id, str) and len(id) > LONGEST_ID):
        raise Invalid(f"A frame has an id of your own, a number or at most {LONGEST_ID} characters.", field="id")
    return id


class _WrongFields(Invalid):
    """Carries what is wrong with each field."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.detail)


def _read(model: type[RequestModel], values: dict[str, Any], *, at: str | None = None) -> Any:
    """Raises _WrongFields that names the fields, those of a body as the route of its verb would."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        before = () if at is None else (at,)
        found = [{**one, "loc": (*before, *one["loc"])} for one in error.errors()]
        raise _WrongFields(problem_of_invalid(found)) from error


def _refusal(error: Exception, *, path: str) -> dict[str, Any]:
    problem = error.problem if isinstance(error, _WrongFields) else problem_of(error)
    after = headers_of(error).get("Retry-After")
    wait = {} if after is None else {"retry_after": int(after)}
    return {"status": problem.status, "body": msgspec.structs.replace(problem, instance=path), **wait}
