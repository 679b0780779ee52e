"""A shop for tests that asks a third party, which allows so much: `orderup serve tests.hosts.asking:shop`.

ASKED_URL: where it asks.
"""

import os
from pathlib import Path

from fastapi import Request
from starlette.responses import Response

from orderup import Context, Plan, PlannedTask, Shop
from orderup.web import AsAnyone, RequestModel, Router, add_order_routes, place
from tests.invariants.records import Ledger, Started

PATH = "questions"
COUNT, SECONDS = 20, 2
front = Router(tags=["asking"])
shop = Shop("asking", front=front)
ledger = Ledger(Path(os.environ.get("LAUNDRY_LEDGER", os.devnull)))
THEM = shop.allowance("them", f"{COUNT}/{SECONDS} seconds")


class Question(RequestModel):
    """Nothing to say of it."""


@front.post(f"/{PATH}", status_code=202, summary="Have something asked")
async def order(request: Request, caller: AsAnyone, body: Question) -> Response:
    placed = await place(request, caller, "asking", Plan([PlannedTask("ask")]), body=body.model_dump(), path=PATH)
    return placed.answer()


@shop.handler(says="Asking", allowance=THEM)
async def ask(context: Context) -> None:
    place = f"{os.getpid()} {context.task_id} {context.attempt}"
    ledger.write(Started(worker=str(os.getpid()), task=context.task_id, attempt=context.attempt, token=place))
    (await context.http.get(os.environ["ASKED_URL"])).raise_for_status()


add_order_routes(front, "asking", path=PATH)
