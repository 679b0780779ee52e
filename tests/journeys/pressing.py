"""A shop for tests, with limits and a schedule: `orderup serve tests.journeys.pressing:shop`, as often as one likes."""

import asyncio
import os
from datetime import timedelta
from pathlib import Path

from fastapi import Request
from starlette.responses import Response

from orderup import Context, Plan, PlannedTask, Shop
from orderup.web import AsAnyone, RequestModel, Router, add_order_routes, place
from tests.invariants.records import Ledger, Started

PATH = "shirts"
front = Router(tags=["pressing"])
shop = Shop("pressing", front=front)
ledger = Ledger(Path(os.environ.get("LAUNDRY_LEDGER", os.devnull)))


class Shirt(RequestModel):
    """Nothing to say of it."""


@front.post(f"/{PATH}", status_code=202, summary="Have a shirt pressed")
async def order(request: Request, caller: AsAnyone, body: Shirt) -> Response:
    placed = await place(request, caller, "pressing", Plan([PlannedTask("press")]), body=body.model_dump(), path=PATH)
    return placed.answer()


@shop.handler(says="Pressing", rate="25/second", concurrency=3)
async def press(context: Context) -> None:
    place = f"{os.getpid()} {context.task_id} {context.attempt}"
    ledger.write(Started(worker=str(os.getpid()), task=context.task_id, attempt=context.attempt, token=place))
    await asyncio.sleep(0.03)


@shop.handler()
async def sweep(_context: Context) -> None:
    """No sooner said than done."""


@shop.schedule("lint", every=timedelta(seconds=1))
def lint() -> Plan:
    return Plan([PlannedTask("sweep")])


add_order_routes(front, "pressing", path=PATH)
