"""Approvals: what waits for a yes, and the yes or no."""

from typing import Annotated

from fastapi import Request
from pydantic import Field
from starlette.responses import Response

from orderup.db.read import list_rfas
from orderup.engine.decide import approve_rfa, decline_rfa
from orderup.engine.desk import Replayed
from orderup.engine.engine import Engine
from orderup.errors import NotFound
from orderup.model.ids import read_id
from orderup.model.rfa import RfaStatus
from orderup.web.app import Json
from orderup.web.auth import AsStaff
from orderup.web.idempotency import REPLAYED, idempotency_key, takes_key
from orderup.web.orders import engine_of, load
from orderup.web.paging import Limit, PairCursorFilter, ShopFilter, read_cursor, shop_of, show_cursor
from orderup.web.routes import RequestModel, Router
from orderup.web.tokens import Caller
from orderup.web.views import RfaList, RfaView, view_rfa

LONGEST_NOTES = 2_000
router = Router(prefix="/api/rfas", tags=["approvals"])


class DecisionBody(RequestModel):
    """notes: of a declined request, the customer reads them."""

    notes: Annotated[str, Field(max_length=LONGEST_NOTES)] | None = None


@router.get("", response_model=RfaList, summary="Requests for approval, the oldest deadline first")
async def get_rfas(
    request: Request,
    caller: AsStaff,
    status: RfaStatus = RfaStatus.PENDING,
    shop: ShopFilter = None,
    cursor: PairCursorFilter = None,
    limit: Limit = 50,
) -> Response:
    engine = engine_of(request)
    shops = shop_of(engine, caller, shop)
    after = read_cursor(cursor)
    found = await engine.database.read(
        lambda connection: list_rfas(connection, status=status, shops=shops, after=after, most=limit + 1)
    )
    rows = found[:limit]
    more = show_cursor(rows[-1][2].expires_at, rows[-1][0]) if len(found) > limit else None
    return Json({"rfas": [view_rfa(*row) for row in rows], "cursor": more})


async def _rfa(engine: Engine, caller: Caller, id: str) -> Response:
    operation = await load(engine, read_id(id, what="RFA"), what="RFA")
    if operation.rfa is None or not caller.may_enter(operation.shop):
        raise NotFound("RFA", id)
    return Json(view_rfa(operation.id, operation.shop, operation.rfa))


@router.get("/{id}", response_model=RfaView, summary="One request for approval")
async def get_rfa(request: Request, caller: AsStaff, id: str) -> Response:
    return await _rfa(engine_of(request), caller, id)


@router.post("/{id}/approve", response_model=RfaView, summary="Say yes: the work begins")
@takes_key
async def approve(request: Request, caller: AsStaff, id: str, body: DecisionBody | None = None) -> Response:
    return await _decide(request, caller, id, body, is_approved=True)


@router.post("/{id}/decline", response_model=RfaView, summary="Say no: the customer reads the notes")
@takes_key
async def decline(request: Request, caller: AsStaff, id: str, body: DecisionBody | None = None) -> Response:
    return await _decide(request, caller, id, body, is_approved=False)


async def _decide(
    request: Request, caller: Caller, id: str, body: DecisionBody | None, *, is_approved: bool
) -> Response:
    engine, verb = engine_of(request), approve_rfa if is_approved else decline_rfa
    notes = body.notes if body else None
    key = idempotency_key(request, caller, {"notes": notes}, now=engine.now())
    by = caller.subject or "staff"
    try:
        await verb(engine, read_id(id, what="RFA"), by=by, notes=notes or None, shop=caller.shop, key=key)
    except Replayed:
        answer = await _rfa(engine, caller, id)
        answer.headers.update(REPLAYED)
        return answer
    return await _rfa(engine, caller, id)
