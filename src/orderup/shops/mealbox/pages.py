"""The meal boxes' pages: the order form and the tracker for customers, the services for staff."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated
from uuid import uuid4

from fastapi import Request
from pydantic import Field, ValidationError
from starlette.responses import Response

from orderup.errors import Invalid
from orderup.model.operation import Operation, OperationStatus
from orderup.shops.mealbox.back import back
from orderup.shops.mealbox.front import PATH, Asked, OrderBody, front, order_box
from orderup.shops.mealbox.keeper import Counter
from orderup.shops.mealbox.plan import shop
from orderup.shops.mealbox.status import plain_reason
from orderup.shops.mealbox.upstreams import Upstreams
from orderup.web import OPEN, AsAnyone, keeper_of
from orderup.web.idempotency import KEY_PATTERN, LONGEST_KEY
from orderup.web.pages.route import Form, PageRouter, see_other
from orderup.web.pages.services import Service, add_services_page
from orderup.web.pages.session import read_form
from orderup.web.pages.site import site_of
from orderup.web.pages.tracker import Tracker, add_order_pages
from orderup.web.problems import problem_of_invalid

TEMPLATES = "orderup.shops.mealbox"
FIELDS = ("user_id", "product_code")
# A page comes at once; the tracker is live.
PAGE_WAIT_SECONDS = 1.0
pages = PageRouter()


class BoxForm(Asked, Form):
    """key: of the page it was filled in on; sent twice, it is ordered once."""

    key: Annotated[str, Field(min_length=1, max_length=LONGEST_KEY, pattern=KEY_PATTERN)] = Field(
        default_factory=lambda: uuid4().hex
    )


def _address(request: Request) -> str:
    return f"{request.app.state.shop_prefixes[shop.name]}/"


def _menu(request: Request, *, key: str, values: Mapping[str, str], wrong: Mapping[str, str] | None = None) -> Response:
    return site_of(request).page(
        request,
        "mealbox/menu.html",
        code=422 if wrong else 200,
        address=_address(request),
        key=key,
        values={**dict.fromkeys(FIELDS, ""), **values},
        wrong={**dict.fromkeys(FIELDS, ""), **(wrong or {})},
        problem="Nothing was ordered yet." if wrong else "",
    )


@pages.get("/", dependencies=[OPEN])
async def show_menu(request: Request) -> Response:
    return _menu(request, key=uuid4().hex, values={})


@pages.form("/", BoxForm)
async def order(request: Request, caller: AsAnyone) -> Response:
    fields = await read_form(request)
    try:
        form = BoxForm.model_validate(fields)
        body = OrderBody(user_id=form.user_id, product_code=form.product_code)
        placed, _ = await order_box(request, caller, body, seconds=PAGE_WAIT_SECONDS, key=form.key)
    except ValidationError as error:
        said = {one.field: one.message for one in problem_of_invalid(error.errors()).errors}
        wrong = {name: text if fields.get(name, "").strip() else "Please fill this in." for name, text in said.items()}
        return _menu(request, key=uuid4().hex, values=fields, wrong=wrong)
    except Invalid as error:
        field = (error.field or "").removeprefix("body.")
        if field not in FIELDS:
            raise
        return _menu(request, key=uuid4().hex, values=fields, wrong={field: str(error)})
    return see_other(placed.links["self"].replace(f"/{PATH}/", "/track/"))


async def describe(request: Request, operation: Operation, tracker: Tracker) -> Tracker:
    counter: Counter = keeper_of(request, shop.name)
    row = await counter.row(operation.id)
    title = "Your meal box" if row is None else row["product_name"] or row["product_code"]
    again = _address(request)
    if operation.status is OperationStatus.ERRORED:
        return replace(tracker, title=title, again=again, note=plain_reason(operation.reason))
    return replace(tracker, title=title, again=again)


def services_of(upstreams: Upstreams) -> Sequence[Service]:
    return upstreams.users, upstreams.products


front.include_router(pages)
add_order_pages(front, shop.name, path=PATH, title=shop.title, describe=describe)
add_services_page(back, shop.name, title="Services that meal boxes need", services=services_of)
