"""The pizzeria's routes for staff: what is asked for, which they must know to answer its RFA."""

from fastapi import Request
from starlette.responses import Response

from orderup.shops.pizza.front import PizzaView, view_pizza
from orderup.web import AsStaff, Json, Router, find_order

back = Router(tags=["pizza"])


@back.get("/pizzas/{id}", response_model=PizzaView, summary="An order, as its customer sees it")
async def get_pizza(request: Request, caller: AsStaff, id: str) -> Response:
    return Json(await view_pizza(request, await find_order(request, caller, "pizza", id)))
