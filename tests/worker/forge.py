"""A shop for tests: whoever orders says which kinds of work are done, one after the other. All of it by workers.

orderup serve tests.worker.forge:shop
"""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import Request
from pydantic import Field
from starlette.responses import Response

from orderup.model.ids import show_id
from orderup.model.plan import Plan, PlannedTask
from orderup.model.retry import Retry
from orderup.shop import Shop
from orderup.web.app import Json
from orderup.web.auth import AsAnyone
from orderup.web.orders import place
from orderup.web.routes import RequestModel, Router

front = Router(tags=["forge"])
shop = Shop("forge", front=front)
for kind in ("hammer", "polish"):
    shop.remote(kind, retry=Retry(attempts=3, first=timedelta(0), longest=timedelta(0)))
shop.remote("temper", lease=timedelta(minutes=10))


class ForgeOrder(RequestModel):
    """within_seconds: of each of its tasks."""

    kinds: list[str] = Field(default_factory=lambda: ["hammer"])
    region: str | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    within_seconds: Annotated[float, Field(gt=0)] = 3600


@front.post("/orders", status_code=202)
async def order(request: Request, caller: AsAnyone, body: ForgeOrder) -> Response:
    within = timedelta(seconds=body.within_seconds)
    plan = Plan.chain(
        *(PlannedTask(kind, params=body.params, region=body.region, within=within) for kind in body.kinds)
    )
    placed = await place(request, caller, "forge", plan, body=body.model_dump(), path="orders")
    return Json({"id": show_id(placed.operation.id)}, status_code=202, headers=placed.headers)
