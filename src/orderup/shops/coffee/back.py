"""The coffee bar's routes for baristas: start the next coffee, say that one is finished.

Finishing is about the coffee, not about who brewed it: one whose lease ran out, or that another barista has since
started again, is ready all the same.
"""

import asyncio
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from pydantic import BaseModel
from starlette.datastructures import QueryParams
from starlette.responses import Response

from orderup.db.database import Claimed
from orderup.engine.claim import ClaimDesk
from orderup.engine.hand_back import hand_back_all
from orderup.engine.lease import Seen
from orderup.errors import Conflict, Invalid
from orderup.model import work
from orderup.model.ids import read_id, show_id
from orderup.model.operation import Draft
from orderup.shops.coffee.plan import QUEUE, shop
from orderup.web import AsWorker, Router
from orderup.web.direct import Call, Direct, Reply, directly
from orderup.web.routes import never_by_head
from orderup.web.wire import is_gone, told_when_gone

back = Router(tags=["coffee"])
LONGEST_WAIT_SECONDS, LONGEST_NAME = 60.0, 100
NOBODY_NAMED = "barista"
QUEUES = (QUEUE,)
ONE_ID = re.compile(rb"order_id=[0-9a-z]+")


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


async def start_next(call: Call) -> Reply | None:
    if not call.is_plain:
        await call.request.body()  # nobody needs it; but as long as it is not read nobody notices that he leaves
    barista, wait = _read_start(call.scope["query_string"], call.caller.subject)
    desk: ClaimDesk = call.state.claim_desk
    call.state.worker_book.note(barista, Seen("remote", shop.name, None))
    claimed = [] if _is_prefetch(call) else await _claim(call, desk, barista, wait)
    if not claimed:
        return Reply(status=204)
    if is_gone(call.scope):
        await hand_back_all(desk.engine, claimed)
        return None
    return Reply(_show(claimed[0], now=desk.engine.now()))


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


def _is_prefetch(call: Call) -> bool:
    """A browser that looks ahead starts no coffee."""
    if call.is_plain:
        return False
    headers = call.request.headers
    return "prefetch" in headers.get("sec-purpose", headers.get("purpose", ""))


async def _claim(call: Call, desk: ClaimDesk, barista: str, wait: float) -> Sequence[Claimed]:
    claimed = await desk.claim(QUEUES, worker=barista, most=1, wait_seconds=0)
    if claimed or not wait:
        return claimed
    waiting = desk.claim(QUEUES, worker=barista, most=1, wait_seconds=wait)
    claiming = asyncio.create_task(waiting, name=f"coffee: {barista} waits")
    with told_when_gone(call.scope, call.receive, claiming.cancel):
        try:
            await asyncio.wait({claiming})
        finally:
            claiming.cancel()
    return [] if claiming.cancelled() else claiming.result()


def _show(claimed: Claimed, *, now: int) -> dict[str, Any]:
    lease = (claimed.task.lease_until or now) - now
    return {
        "order_id": show_id(claimed.operation_id),
        "status": "started",
        "attempt": claimed.task.attempt,
        "lease_seconds": round(lease / 1e6, 3),
    }


async def finish_one(call: Call) -> Reply:
    engine, id = call.state.engine, _read_finish(call.scope["query_string"])
    operation_id = read_id(id, what="order")

    def finish(draft: Draft) -> str:
        task = draft.task(0)
        if not draft.status.is_final:
            work.complete_late(draft, 0, result=None, now=engine.now())
        elif not task.attempt:
            raise Conflict(f"Order {id} was never started: it left the line.")
        return "ready" if draft.status == "completed" else draft.status.value

    status = await engine.desk.decide(operation_id, finish, shop=shop.name)
    return Reply({"order_id": show_id(operation_id), "status": status})


def _read_finish(text: bytes) -> str:
    """The order's id. Raises Invalid."""
    if ONE_ID.fullmatch(text):  # as nearly all send it
        return text[len(b"order_id=") :].decode()
    id = QueryParams(text).get("order_id")
    if id is None:
        raise Invalid("Say which order: /finish/?order_id=ID.", field="query.order_id")
    return id


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
async def start(caller: AsWorker) -> Response:
    return Direct(start_next, caller)


@back.post(
    "/finish/",
    response_model=FinishedCoffee,
    openapi_extra={"parameters": [ORDER_ID]},
    summary="A coffee is ready",
)
@directly(finish_one)
async def finish(caller: AsWorker) -> Response:
    return Direct(finish_one, caller)
