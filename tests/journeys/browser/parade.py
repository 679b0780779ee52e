"""A shop for tests, whose one order is many tasks: `orderup serve tests.journeys.browser.parade:shop`."""

from typing import Annotated

from fastapi import Request
from pydantic import Field
from starlette.responses import Response

from orderup import Context, Plan, PlannedTask, Shop
from orderup.web import AsAnyone, RequestModel, Router, add_order_routes, place

PATH = "parades"
front = Router(tags=["parade"])
shop = Shop("parade", front=front)


class Parade(RequestModel):
    marchers: Annotated[int, Field(ge=1, le=500)]


@front.post(f"/{PATH}", status_code=202, summary="Have a parade")
async def order(request: Request, caller: AsAnyone, body: Parade) -> Response:
    plan = Plan([PlannedTask(f"marcher-{number}", kind="march") for number in range(body.marchers)])
    placed = await place(request, caller, "parade", plan, body=body.model_dump(), path=PATH)
    return placed.answer()


@shop.handler(says="Marching")
async def march(_context: Context) -> None:
    """Past everybody."""


add_order_routes(front, "parade", path=PATH)
