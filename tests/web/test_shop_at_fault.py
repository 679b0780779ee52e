"""A shop whose plan cannot be placed: its customers can do nothing about it, and whoever runs it reads why."""

import io
import json
from pathlib import Path

import httpx2
import pytest
from fastapi import Request
from starlette.responses import Response

from orderup.cli.assembly import House
from orderup.model.plan import Plan, PlannedTask
from orderup.settings import LogFormat, Settings
from orderup.shop import Shop
from orderup.web import AsAnyone, Json, Router, place
from orderup.web.logs import configure_logs
from orderup.web.pages.route import PageRouter
from orderup.web.problems import CRASHED
from orderup.web.tokens import Role
from tests.web.house import client_of, open_test_house, settings_for, token_of, workshop

WHY = "Task fry is of the kind fry, which shop kitchen does not have"


def kitchen() -> Shop:
    """It bakes, but is asked to fry."""
    shop = Shop("kitchen")
    shop.remote("bake")
    shop.front = router = Router(tags=["kitchen"])
    pages = PageRouter()

    async def order(request: Request, caller: AsAnyone) -> Json:
        placed = await place(request, caller, shop.name, Plan([PlannedTask("fry")]), body={}, path="meals")
        return placed.answer()

    async def order_on_page(request: Request, caller: AsAnyone) -> Response:
        return await order(request, caller)

    router.post("/meals", status_code=202)(order)
    pages.get("/order")(order_on_page)
    router.include_router(pages)
    return shop


async def ask(house: House, method: str, path: str) -> httpx2.Response:
    async with client_of(house.front, token=token_of(Role.CUSTOMER)) as client:
        return await client.request(method, path)


@pytest.mark.parametrize(("method", "path"), [("POST", "/kitchen/meals"), ("GET", "/kitchen/order")])
async def test_a_plan_that_cannot_be_placed_is_no_fault_of_the_customers_and_told_in_the_log(
    tmp_path: Path, stream: io.StringIO, method: str, path: str
) -> None:
    async with open_test_house(settings_for(tmp_path), shops=[kitchen(), workshop()]) as house:
        configure_logs(Settings(log_format=LogFormat.JSON), stream=stream)
        answer = await ask(house, method, path)
    assert answer.status_code == 500
    assert CRASHED in answer.text
    assert "fry" not in answer.text
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    [told] = [line for line in lines if line["level"] == "error"]
    assert told["error"].startswith(WHY)
