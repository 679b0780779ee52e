"""The bakery's pages for customers: its window, a recipe with the order form, and the tracker of an order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, TypeVar
from uuid import uuid4

from fastapi import Request
from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema
from starlette.responses import Response

from orderup.model.operation import Operation
from orderup.shops.bakery.amounts import Line, needed
from orderup.shops.bakery.cakes import Cake, list_cakes, read_cake
from orderup.shops.bakery.front import EMAIL, MOST_CAKES, MOST_EATERS, PATH, Email, Name, front, order_at, order_cake
from orderup.shops.bakery.lines import LONGEST_TEXT, WrongLines, read_lines
from orderup.shops.bakery.orders import Wanted, check_cancel
from orderup.shops.bakery.plan import shop
from orderup.web import OPEN, AsAnyone, engine_of
from orderup.web.idempotency import KEY_PATTERN, LONGEST_KEY
from orderup.web.pages.route import Form, PageRouter, see_other
from orderup.web.pages.session import read_form
from orderup.web.pages.site import site_of
from orderup.web.pages.texts import _
from orderup.web.pages.tracker import Tracker, add_order_pages
from orderup.web.problems import problem_of_invalid

TEMPLATES = "orderup.shops.bakery"
EMPTY: Mapping[str, str] = {"customer": "", "email": "", "persons": "1", "quantity": "1", "extras": ""}
BY_HIMSELF = "cancelled by the customer"
FormT = TypeVar("FormT", bound=Form)
# By field, what is wrong with what was written there.
Faults = Mapping[str, Sequence[str]]
pages = PageRouter()

Eaters = Annotated[int, Field(ge=1, le=MOST_EATERS)]


class Measures(Form):
    """persons: eaters of each cake. extras: a line an ingredient, once for all cakes. key: of the page it was filled
    in on; sent twice, it is ordered once."""

    persons: Eaters
    quantity: Annotated[int, Field(ge=1, le=MOST_CAKES)] = 1
    extras: Annotated[str, Field(max_length=LONGEST_TEXT)] = ""
    key: Annotated[str, Field(min_length=1, max_length=LONGEST_KEY, pattern=KEY_PATTERN)] = Field(
        default_factory=lambda: uuid4().hex
    )


class Unfinished(Measures):
    """To work out the quantities nobody needs to say who he is."""

    customer: str = ""
    email: str = ""


class OrderForm(Measures):
    customer: Name
    email: Annotated[
        Email | None,
        BeforeValidator(lambda text: text.strip() or None),
        WithJsonSchema({"type": "string", "pattern": rf"^[ ]*({EMAIL.strip('^$')})?[ ]*$"}),
    ] = None


@dataclass(frozen=True, slots=True)
class Worked:
    """What an order takes. None: nobody can tell yet."""

    persons: int
    quantity: int
    lines: Sequence[Line]

    @property
    def eaters(self) -> int:
        return self.persons * self.quantity


def address_of(request: Request, path: str = "/") -> str:
    """Of a page of the shop's, in the app that is asked."""
    return f"{request.app.state.shop_prefixes[shop.name]}{path}"


@pages.get("/", dependencies=[OPEN])
async def show_window(request: Request) -> Response:
    found = await engine_of(request).database.read(list_cakes)
    return site_of(request).page(request, "bakery/window.html", cakes=found, root=address_of(request))


@pages.get("/order/{cake}", dependencies=[OPEN])
async def show_recipe(request: Request, cake: str) -> Response:
    return await _show_form(request, cake, fields=EMPTY, faults={})


@pages.form("/order/{cake}/quantities", Unfinished, shows_page=True, dependencies=[OPEN])
async def work_out(request: Request, cake: str) -> Response:
    written = await read_form(request)
    _form, faults = judge(Unfinished, written)
    return await _show_form(request, cake, fields=written, faults=faults)


@pages.form("/order/{cake}", OrderForm)
async def order(request: Request, caller: AsAnyone, cake: str) -> Response:
    written = await read_form(request)
    form, faults = judge(OrderForm, written)
    if form is None or faults:
        return await _show_form(request, cake, fields=written, faults=faults, problem=_("Nothing was ordered yet."))
    extra = read_lines(form.extras)
    wanted = Wanted(cake, form.customer, form.persons, form.quantity, form.email, extra)
    await engine_of(request).database.read(lambda connection: read_cake(connection, cake))
    placed = await order_cake(request, caller, wanted, body=form.model_dump(exclude={"key"}), key=form.key)
    return see_other(placed.links["self"].replace(f"/{PATH}/", "/track/"))


def judge(kind: type[FormT], written: Mapping[str, str]) -> tuple[FormT | None, Faults]:
    """The form, if it is one, and what is wrong with it, its lines of extras too."""
    form: FormT | None = None
    faults: dict[str, Sequence[str]] = {}
    try:
        form = kind.model_validate(written)
    except ValidationError as error:
        for one in problem_of_invalid(error.errors()).errors:
            faults[one.field] = [_in_words(one.field, one.message, text=written.get(one.field, ""))]
    if "extras" not in faults:
        try:
            read_lines(written.get("extras", ""))
        except WrongLines as error:
            faults["extras"] = error.faults
    return form, faults


def _in_words(field: str, message: str, *, text: str) -> str:
    if not text.strip():
        return _("Please fill this in.")
    match field:
        case "persons":
            return _("Write a whole number from 1 to {most}.").format(most=f"{MOST_EATERS:,}")
        case "quantity":
            return _("Write a whole number from 1 to {most}.").format(most=f"{MOST_CAKES:,}")
        case "email":
            return _("This is no address that mail can be sent to. Leave it empty if you have none.")
        case _:
            return message


async def _show_form(
    request: Request, id: str, *, fields: Mapping[str, str], faults: Faults, problem: str = ""
) -> Response:
    """With what was written, and what comes of it as far as it can be told."""
    cake = await engine_of(request).database.read(lambda connection: read_cake(connection, id))
    # a key that is no key would be refused for good
    key = uuid4().hex if "key" in faults else fields.get("key") or uuid4().hex
    return site_of(request).page(
        request,
        "bakery/order.html",
        code=422 if faults else 200,
        cake=cake,
        root=address_of(request),
        key=key,
        values={**EMPTY, **fields},
        wrong={**dict.fromkeys(EMPTY, ()), **faults},
        worked=_worked(cake, fields, faults),
        problem=problem,
    )


def _worked(cake: Cake, written: Mapping[str, str], faults: Faults) -> Worked | None:
    if not faults.keys().isdisjoint(("persons", "quantity", "extras")):
        return None
    known = {name: written[name] for name in ("persons", "quantity", "extras") if name in written}
    form = Measures.model_validate(known)
    eaters = form.persons * form.quantity
    lines = needed(cake.recipe, eaters=eaters, extras=read_lines(form.extras).items())
    return Worked(form.persons, form.quantity, lines)


# The tracker


@dataclass(frozen=True, slots=True)
class BakeryTracker(Tracker):
    """number: by which people call the order."""

    number: int = 0
    worked: Worked | None = None


async def describe(request: Request, operation: Operation, tracker: Tracker) -> Tracker:
    found = await order_at(request, operation)
    told = {field.name: getattr(tracker, field.name) for field in fields(tracker)}
    told["title"] = f"{found.quantity:,} × {found.cake.name}" if found.quantity > 1 else found.cake.name
    told["again"] = address_of(request)
    if found.status == "cancelled" and found.reason != BY_HIMSELF:
        told["note"] = found.reason
    worked = Worked(found.persons, found.quantity, found.ingredients)
    return BakeryTracker(**told, number=found.number, worked=worked)


front.include_router(pages)
add_order_pages(
    front,
    shop.name,
    path=PATH,
    title=shop.title,
    describe=describe,
    check_cancel=check_cancel,
    template="bakery/tracker.html",
)
