"""The meal boxes' routes for staff: the orders as their customers see them, and how it goes with the services."""

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

from orderup.shops.mealbox.front import MealboxOrder, view_order
from orderup.shops.mealbox.plan import shop
from orderup.shops.mealbox.upstreams import Upstreams
from orderup.web import AsStaff, Json, Router, find_order
from orderup.web.orders import resources_of

back = Router(tags=["mealbox"])


class UpstreamView(BaseModel):
    """state: of its breaker, closed, open (it is left alone) or half open. last_error: of the last call that failed."""

    name: str
    url: str
    state: str
    in_flight: int
    last_error: str | None


class UpstreamList(BaseModel):
    upstreams: list[UpstreamView]


@back.get("/orders/{id}", response_model=MealboxOrder, summary="An order, as its customer sees it")
async def get_order(request: Request, caller: AsStaff, id: str) -> Response:
    return Json(await view_order(request, await find_order(request, caller, shop.name, id)))


@back.get("/upstreams", response_model=UpstreamList, summary="How it goes with the services that orders need")
async def get_upstreams(request: Request, _caller: AsStaff) -> Response:
    upstreams: Upstreams = resources_of(request, shop.name)
    told = [
        {
            "name": each.name,
            "url": each.base_url,
            "state": each.breaker.state,
            "in_flight": each.in_flight,
            "last_error": each.last_error,
        }
        for each in (upstreams.users, upstreams.products)
    ]
    return Json({"upstreams": told})
