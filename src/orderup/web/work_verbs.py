"""What workers ask of the back, whichever way they ask: `work.py` answers requests, `work_socket.py` a WebSocket.

A claim is a lease under an opaque token; every write names it. A write sent again with the same token and body is
answered again and changes nothing; one whose claim has ended raises StaleToken and changes nothing. A caller who is
gone before his claim is answered leaves nothing behind: it is handed back at once.
"""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

import msgspec
from pydantic import BaseModel, Field
from starlette.requests import HTTPConnection

from orderup.db.database import Claimed
from orderup.engine.claim import ClaimDesk, queues_for
from orderup.engine.complete import complete_task
from orderup.engine.engine import Engine
from orderup.engine.fail import fail_task
from orderup.engine.hand_back import hand_back_all, hand_back_task
from orderup.engine.lease import Seen, WorkerBook, heartbeat
from orderup.engine.wait import let_task_wait, remember
from orderup.errors import Forbidden, Invalid
from orderup.model.ids import read_task_id
from orderup.model.operation import OperationStatus
from orderup.model.placing import encode
from orderup.model.task import LONGEST_REGION, REGION_LETTERS
from orderup.web.orders import engine_of
from orderup.web.routes import Lax, RequestModel
from orderup.web.tokens import Caller

LONGEST_TASK_WAIT_SECONDS = 366 * 86_400.0
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[\w.:@/-]+$")]
Region = Annotated[str, Field(min_length=1, max_length=LONGEST_REGION, pattern=f"^{REGION_LETTERS}+$")]
Token = Annotated[str, Field(min_length=1, max_length=100)]


class ClaimBody(RequestModel):
    """tasks: the kinds that this worker does. max: how many at once; 0 claims nothing new, and gets only what the same
    `request` was given before. request: the same one, sent again within a lease, gets the same tasks."""

    worker: Name
    shop: Name
    tasks: Annotated[list[Name], Field(min_length=1, max_length=100)]
    region: Region | None = None
    max: Annotated[int, Field(ge=0, le=100)] = 1
    request: Lax[UUID] | None = None


class TokenBody(RequestModel):
    token: Token


class CompleteBody(RequestModel):
    token: Token
    result: Any = None


class FailBody(RequestModel):
    """final: trying again will not help. retry_after: seconds; not earlier than that. pause_queue: no task of the queue
    is claimed until then, for it is not this task that is wrong."""

    token: Token
    error: Annotated[str, Field(min_length=1, max_length=10_000)]
    final: bool = False
    retry_after: Annotated[float, Field(ge=0, le=LONGEST_TASK_WAIT_SECONDS)] | None = None
    pause_queue: bool = False


class WaitBody(RequestModel):
    token: Token
    seconds: Annotated[float, Field(ge=0, le=LONGEST_TASK_WAIT_SECONDS)]
    memo: Any = None


class MemoBody(RequestModel):
    token: Token
    memo: Any


class BeatView(BaseModel):
    """lease_seconds: how long the claim lives from now on. operation_status: `paused` means only that nothing follows
    this task for now."""

    lease_seconds: float
    operation_status: OperationStatus


class StatusView(BaseModel):
    """What the task is now; of a failed attempt, `failed`."""

    status: str


def queues_of(engine: Engine, caller: Caller, body: ClaimBody) -> list[str]:
    """The queues this caller may claim from and asked for. Raises Forbidden, Invalid."""
    if not caller.may_enter(body.shop):
        raise Forbidden(f"This token is for {caller.shop} only.")
    region = _region_of(caller, body)
    if caller.region is not None and region != caller.region:
        raise Forbidden(f"This token is for the region {caller.region} only.")
    kinds = engine.kinds.get(body.shop)
    if kinds is None:
        raise Invalid(f"There is no shop {body.shop} here. There is: {', '.join(engine.kinds)}.", field="body.shop")
    theirs = [name for name, kind in kinds.items() if not kind.has_handler]
    for index, name in enumerate(body.tasks):
        if name not in theirs:
            what = f"has a handler of its own for {name}" if name in kinds else f"has no kind of task {name}"
            known = f"Workers do: {', '.join(theirs)}." if theirs else "It has no work for workers."
            raise Invalid(f"Shop {body.shop} {what}. {known}", field=f"body.tasks.{index}")
    return queues_for(body.shop, list(dict.fromkeys(body.tasks)), region)


def _region_of(caller: Caller, body: ClaimBody) -> str | None:
    return body.region if body.region is not None else caller.region


async def claim_until(
    connection: HTTPConnection,
    caller: Caller,
    body: ClaimBody,
    *,
    most: int,
    request: str | None,
    wait_seconds: float,
    until: Sequence[Callable[[], Coroutine[Any, Any, object]]] = (),
    lease: timedelta | None = None,
) -> list[Claimed]:
    """Wait for tasks, but no longer than the first of `until` takes. `lease`: as of `claim_now`. Raises Forbidden,
    Invalid, Unavailable."""
    engine = engine_of(connection)
    queues = queues_of(engine, caller, body)
    _note_worker(connection, caller, body)
    claiming = asyncio.create_task(
        claim_desk_of(connection).claim(
            queues, worker=body.worker, most=most, wait_seconds=wait_seconds, request=request, lease=lease
        ),
        name=f"claim of {body.worker}",
    )
    ends = [asyncio.create_task(end(), name=f"end of the claim of {body.worker}") for end in until]
    waiting: set[asyncio.Task[Any]] = {claiming, *ends}
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        return list(claiming.result()) if claiming.done() else []
    except asyncio.CancelledError:
        if claiming.done() and not claiming.cancelled() and claiming.exception() is None:
            await hand_back_all(engine, claiming.result())
        raise
    finally:
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)


def claim_desk_of(connection: HTTPConnection) -> ClaimDesk:
    desk: ClaimDesk = connection.app.state.claim_desk
    return desk


def _note_worker(connection: HTTPConnection, caller: Caller, body: ClaimBody) -> None:
    """It asked for work: it is alive."""
    book: WorkerBook = connection.app.state.worker_book
    book.note(body.worker, Seen("remote", body.shop, _region_of(caller, body)))


def _answer_of(verb: str, body: RequestModel) -> str:
    """Fingerprint of a write: the same write again is known by it."""
    digest = hashlib.sha256(msgspec.json.encode(body.model_dump(mode="json"), order="sorted")).hexdigest()
    return f"{verb}:{digest[:32]}"


async def do_heartbeat(connection: HTTPConnection, caller: Caller, id: str, body: TokenBody) -> dict[str, Any]:
    told = await heartbeat(engine_of(connection), *read_task_id(id), token=body.token, shop=caller.shop)
    book: WorkerBook = connection.app.state.worker_book
    book.note_beat(told.worker)
    return {"lease_seconds": told.lease_seconds, "operation_status": told.operation_status}


async def do_complete(connection: HTTPConnection, caller: Caller, id: str, body: CompleteBody) -> dict[str, Any]:
    result = None if body.result is None else encode(body.result)
    answer = _answer_of("complete", body)
    place = read_task_id(id)
    await complete_task(engine_of(connection), *place, token=body.token, result=result, answer=answer, shop=caller.shop)
    return {"status": "completed"}


async def do_fail(connection: HTTPConnection, caller: Caller, id: str, body: FailBody) -> dict[str, Any]:
    await fail_task(
        engine_of(connection),
        *read_task_id(id),
        token=body.token,
        error=body.error,
        final=body.final,
        retry_after=None if body.retry_after is None else timedelta(seconds=body.retry_after),
        pauses_queue=body.pause_queue,
        answer=_answer_of("fail", body),
        shop=caller.shop,
    )
    return {"status": "failed"}


async def do_wait(connection: HTTPConnection, caller: Caller, id: str, body: WaitBody) -> dict[str, Any]:
    memo = None if body.memo is None else encode(body.memo)
    await let_task_wait(
        engine_of(connection),
        *read_task_id(id),
        token=body.token,
        seconds=body.seconds,
        memo=memo,
        answer=_answer_of("wait", body),
        shop=caller.shop,
    )
    return {"status": "waiting"}


async def do_remember(connection: HTTPConnection, caller: Caller, id: str, body: MemoBody) -> dict[str, Any]:
    memo = encode(body.memo)
    await remember(engine_of(connection), *read_task_id(id), token=body.token, memo=memo, shop=caller.shop)
    return {"status": "running"}


async def do_hand_back(connection: HTTPConnection, caller: Caller, id: str, body: TokenBody) -> dict[str, Any]:
    await hand_back_task(engine_of(connection), *read_task_id(id), token=body.token, shop=caller.shop)
    return {"status": "pending"}
