"""The API of remote workers over HTTP; what its routes do, and when they refuse, is in `work_verbs.py`."""

import asyncio
from functools import partial
from typing import Annotated, Any
from uuid import uuid4

from fastapi import Request
from pydantic import Field
from starlette.responses import Response

from orderup.engine.hand_back import hand_back_all
from orderup.web import work_verbs as verbs
from orderup.web.app import Json
from orderup.web.auth import AsWorker
from orderup.web.orders import engine_of
from orderup.web.routes import Router, takes_its_time
from orderup.web.views import ClaimedList, view_claimed
from orderup.web.work_verbs import (
    BeatView,
    ClaimBody,
    CompleteBody,
    FailBody,
    MemoBody,
    StatusView,
    TokenBody,
    WaitBody,
)

router = Router(prefix="/api/work", tags=["work"])
LONGEST_WAIT_SECONDS = 60.0


class PollBody(ClaimBody):
    """wait: seconds to wait for a task to come."""

    wait: Annotated[float, Field(ge=0, le=LONGEST_WAIT_SECONDS)] = 0


@router.post("/claim", response_model=ClaimedList, summary="Take tasks; waits for some to come")
@takes_its_time
async def claim(request: Request, caller: AsWorker, body: PollBody) -> Response:
    engine = engine_of(request)
    name, is_wanted = None if body.request is None else str(body.request), asyncio.Event()
    async with verbs.claim_desk_of(request).turn(f"{body.worker} {name or uuid4()}", is_wanted=is_wanted):
        claimed = await verbs.claim_until(
            request,
            caller,
            body,
            most=body.max,
            request=name,
            wait_seconds=body.wait if body.max else 0,
            until=[partial(_until_gone, request), is_wanted.wait] if body.wait else [],
        )
        if claimed and (is_wanted.is_set() or await request.is_disconnected()):
            await hand_back_all(engine, claimed)
    return Json({"tasks": [view_claimed(each, now=engine.now()) for each in claimed]})


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


@router.post("/{id}/heartbeat", response_model=BeatView, summary="Still at it: extend the lease")
async def heartbeat(request: Request, caller: AsWorker, id: str, body: TokenBody) -> dict[str, Any]:
    return await verbs.do_heartbeat(request, caller, id, body)


@router.post("/{id}/complete", response_model=StatusView, summary="Done, with this result")
async def complete(request: Request, caller: AsWorker, id: str, body: CompleteBody) -> dict[str, Any]:
    return await verbs.do_complete(request, caller, id, body)


@router.post("/{id}/fail", response_model=StatusView, summary="This attempt failed")
async def fail(request: Request, caller: AsWorker, id: str, body: FailBody) -> dict[str, Any]:
    return await verbs.do_fail(request, caller, id, body)


@router.post("/{id}/wait", response_model=StatusView, summary="Not yet: claim it again in so many seconds")
async def wait(request: Request, caller: AsWorker, id: str, body: WaitBody) -> dict[str, Any]:
    return await verbs.do_wait(request, caller, id, body)


@router.post("/{id}/remember", response_model=StatusView, summary="Note how far it has come; the claim goes on")
async def remember(request: Request, caller: AsWorker, id: str, body: MemoBody) -> dict[str, Any]:
    return await verbs.do_remember(request, caller, id, body)


@router.post(
    "/{id}/hand-back", response_model=StatusView, summary="Give it back undone; somebody else may take it at once"
)
async def hand_back(request: Request, caller: AsWorker, id: str, body: TokenBody) -> dict[str, Any]:
    return await verbs.do_hand_back(request, caller, id, body)
