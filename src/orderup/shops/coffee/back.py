"""The coffee bar's routes for baristas: start the next coffee, say that one is finished.

Finishing is about the coffee, not about who brewed it: one whose lease ran out, or that another barista has since
started again, is ready all the same.
"""

import asyncio
from functools import lru_cache, partial
from typing import Any

from fastapi import Request
from pydantic import BaseModel
from starlette.datastructures import QueryParams
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orderup.db.database import Claimed
from orderup.engine.claim import ClaimDesk
from orderup.engine.hand_back import hand_back_all
from orderup.engine.lease import Seen
from orderup.errors import Conflict, Invalid
from orderup.model import work
from orderup.model.ids import read_id, show_id
from orderup.model.operation import Draft
from orderup.shops.coffee.plan import QUEUE, shop
from orderup.web import AsWorker, Caller, Router, engine_of
from orderup.web.direct import Direct, directly, send_json
from orderup.web.routes import never_by_head
from orderup.web.wire import is_gone

back = Router(tags=["coffee"])
LONGEST_WAIT_SECONDS, LONGEST_NAME = 60.0, 100
NOBODY_NAMED = "barista"


class StartedCoffee(BaseModel):
    """attempt: counted from 1; more means that somebody began it before. lease_seconds: until it goes to another."""

    order_id: str
    status: str
    attempt: int
    lease_seconds: float


class FinishedCoffee(BaseModel):
    """status: ready; or what became of the order before."""

    order_id: str
    status: str


async def start_next(scope: Scope, receive: Receive, send: Send, caller: Caller) -> None:
    request = Request(scope, receive)
    barista, wait = _read_start(scope["query_string"], caller.subject)
    engine = engine_of(request)
    request.app.state.worker_book.note(barista, Seen("remote", shop.name, None))
    claimed = [] if _is_prefetch(request) else list(await _claim(request, barista, wait))
    if claimed and is_gone(scope):
        await hand_back_all(engine, claimed)
        return
    if not claimed:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        return
    await send_json(send, _show(claimed[0], now=engine.now()))


@lru_cache(maxsize=1_000)
def _read_start(text: bytes, caller: str | None) -> tuple[str, float]:
    """Name and seconds, of a query that a barista sends again and again. Raises Invalid."""
    query = QueryParams(text)
    barista = query.get("barista", "").strip() or caller or NOBODY_NAMED
    if len(barista) > LONGEST_NAME or not barista.isprintable():
        raise Invalid(f"A name has at most {LONGEST_NAME} characters, all of them printable.", field="query.barista")
    try:
        wait = float(query.get("wait", "0"))
    except ValueError:
        wait = -1.0
    if not 0 <= wait <= LONGEST_WAIT_SECONDS:
        raise Invalid(f"Wait for 0 to {LONGEST_WAIT_SECONDS:g} seconds.", field="query.wait")
    return barista, wait


def _is_prefetch(request: Request) -> bool:
    """A browser that looks ahead starts no coffee."""
    return "prefetch" in request.headers.get("sec-purpose", request.headers.get("purpose", ""))


async def _claim(request: Request, barista: str, wait: float) -> Any:
    desk: ClaimDesk = request.app.state.claim_desk
    claim = partial(desk.claim, [QUEUE], worker=barista, most=1)
    claimed = await claim(wait_seconds=0)
    if claimed or not wait:
        return claimed
    claiming = asyncio.create_task(claim(wait_seconds=wait), name=f"coffee: {barista} waits")
    leaving = asyncio.create_task(_until_gone(request), name=f"coffee: {barista} leaves")
    try:
        await asyncio.wait({claiming, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not claiming.done():
            claiming.cancel()
    return claiming.result() if claiming.done() and not claiming.cancelled() else []


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


def _show(claimed: Claimed, *, now: int) -> dict[str, Any]:
    lease = (claimed.task.lease_until or now) - now
    return {
        "order_id": show_id(claimed.operation_id),
        "status": "started",
        "attempt": claimed.task.attempt,
        "lease_seconds": round(lease / 1e6, 3),
    }


async def finish_one(scope: Scope, receive: Receive, send: Send, _caller: Caller) -> None:
    request = Request(scope, receive)
    engine, id = engine_of(request), request.query_params.get("order_id")
    if id is None:
        raise Invalid("Say which order: /finish/?order_id=ID.", field="query.order_id")
    operation_id = read_id(id, what="order")

    def finish(draft: Draft) -> str:
        task = draft.task(0)
        if not draft.status.is_final:
            work.complete_late(draft, 0, result=None, now=engine.now())
        elif not task.attempt:
            raise Conflict(f"Order {id} was never started: it left the line.")
        return "ready" if draft.status == "completed" else draft.status.value

    status = await engine.desk.decide(operation_id, finish, shop=shop.name)
    await send_json(send, {"order_id": show_id(operation_id), "status": status})


WAIT = {"name": "wait", "in": "query", "schema": {"type": "number", "minimum": 0, "maximum": LONGEST_WAIT_SECONDS}}
BARISTA = {"name": "barista", "in": "query", "schema": {"type": "string", "maxLength": LONGEST_NAME}}
ORDER_ID = {"name": "order_id", "in": "query", "required": True, "schema": {"type": "string"}}


@back.get(
    "/start/",
    response_model=StartedCoffee,
    responses={204: {"description": "Nobody waits"}},
    openapi_extra={"parameters": [BARISTA, WAIT]},
    summary="Start the next coffee; waits for one to be ordered",
)
@never_by_head
@directly(start_next)
async def start(_request: Request, caller: AsWorker) -> Response:
    return Direct(start_next, caller)


@back.post(
    "/finish/",
    response_model=FinishedCoffee,
    openapi_extra={"parameters": [ORDER_ID]},
    summary="A coffee is ready",
)
@directly(finish_one)
async def finish(_request: Request, caller: AsWorker) -> Response:
    return Direct(finish_one, caller)
