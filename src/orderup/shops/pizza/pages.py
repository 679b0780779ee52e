"""The pizzeria's pages for customers: its menu with the order form, and the tracker of an order."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any
from uuid import uuid4

from fastapi import Request
from pydantic import Field, ValidationError
from starlette.responses import Response

from orderup.model.operation import Operation
from orderup.shops.pizza.expected import expected_delivery, read_pace, reason_for_more
from orderup.shops.pizza.front import PATH, PizzaBody, Wanted, check_cancel, front, place_pizza
from orderup.shops.pizza.plan import TIERS, shop
from orderup.shops.pizza.tables import read_order
from orderup.web import OPEN, AsAnyone, engine_of
from orderup.web.idempotency import KEY_PATTERN, LONGEST_KEY
from orderup.web.pages.route import Form, PageRouter, see_other
from orderup.web.pages.session import read_form
from orderup.web.pages.site import site_of
from orderup.web.pages.tracker import Tracker, add_order_pages
from orderup.web.problems import problem_of_invalid

TEMPLATES = "orderup.shops.pizza"
FIELDS = ("tier", "name", "customer", "delivery_address")
EMPTY: Mapping[str, str] = {**dict.fromkeys(FIELDS, ""), "tier": "basic"}
pages = PageRouter()


class PizzaForm(Wanted, Form):
    """key: of the page it was filled in on; sent twice, it is ordered once."""

    key: Annotated[str, Field(min_length=1, max_length=LONGEST_KEY, pattern=KEY_PATTERN)] = Field(
        default_factory=lambda: uuid4().hex
    )


def _menu(
    request: Request, *, key: str, values: Mapping[str, str], code: int = 200, wrong: Mapping[str, str] | None = None
) -> Response:
    wrong = wrong or {}
    return site_of(request).page(
        request,
        "pizza/menu.html",
        code=code,
        address=_menu_address(request),
        tiers=TIERS,
        key=key,
        values=values,
        wrong={**dict.fromkeys(FIELDS, ""), **wrong},
        problem="Something is missing: nothing was ordered yet." if wrong else "",
    )


def _menu_address(request: Request) -> str:
    return f"{request.app.state.shop_prefixes[shop.name]}/"


@pages.get("/", dependencies=[OPEN])
async def show_menu(request: Request) -> Response:
    return _menu(request, key=uuid4().hex, values=EMPTY)


@pages.form("/", PizzaForm)
async def order(request: Request, caller: AsAnyone) -> Response:
    fields = await read_form(request)
    try:
        form = PizzaForm.model_validate(fields)
    except ValidationError as error:
        said = {one.field: one.message for one in problem_of_invalid(error.errors()).errors}
        wrong = {name: text if fields.get(name, "").strip() else "Please fill this in." for name, text in said.items()}
        # a key that is no key would be refused for good
        key = uuid4().hex if "key" in wrong else fields.get("key") or uuid4().hex
        return _menu(request, key=key, values={**EMPTY, **fields}, code=422, wrong=wrong)
    body = PizzaBody(**form.model_dump(exclude={"key"}))
    placed = await place_pizza(request, caller, body, key=form.key)
    address = placed.links["self"].replace(f"/{PATH}/", "/track/")
    return see_other(address)


async def describe(request: Request, operation: Operation, tracker: Tracker) -> Tracker:
    engine = engine_of(request)
    row: Mapping[str, Any] = await engine.database.read(lambda connection: read_order(connection, operation.id))
    expected = moved = None
    if not operation.status.is_final:
        now = engine.now()
        pace = await engine.database.read(lambda connection: read_pace(connection, operation, now=now))
        expected = expected_delivery(operation, pace, now=now)
        moved = reason_for_more(operation, pace, now=now) if expected else None
    return replace(
        tracker,
        title=f"{row['name'] or 'Your pizza'} ({row['tier']})",
        expected=expected,
        moved=tracker.moved or moved,
        again=_menu_address(request),
    )


front.include_router(pages)
add_order_pages(front, shop.name, path=PATH, title=shop.title, describe=describe, check_cancel=check_cancel)
