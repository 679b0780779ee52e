"""The bakery's pages for staff: orders and what each led to, recipes, and the issues that order ingredients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import Request
from pydantic import Field, ValidationError, WithJsonSchema
from starlette.responses import Response

from orderup.db.database import ReadConnection
from orderup.db.read import last_events
from orderup.engine.follow_up import followed_by
from orderup.errors import Conflict, NotFound
from orderup.model import steer
from orderup.model.event import Audience
from orderup.model.ids import OperationId, read_id, show_id
from orderup.model.operation import Draft, Operation
from orderup.shops.bakery.amounts import needed
from orderup.shops.bakery.cakes import delete_cake, list_cakes, read_cake
from orderup.shops.bakery.front import MOST_EATERS, Name, flag_ready, order_at, write_recipe
from orderup.shops.bakery.lines import LONGEST_TEXT, WrongLines, read_lines, write_lines
from orderup.shops.bakery.orders import (
    STATUSES,
    BakeryOrder,
    OrderStatus,
    check_cancel,
    list_orders,
)
from orderup.shops.bakery.pages import Eaters, Faults, Worked, address_of
from orderup.shops.bakery.plan import shop
from orderup.shops.bakery.services import Services
from orderup.shops.bakery.sheets import count_waiting, latest_issues, read_issue
from orderup.shops.bakery.telling import SLACK
from orderup.web import AsStaff, Caller, Router, engine_of, find_order
from orderup.web.orders import resources_of
from orderup.web.pages.route import Form, PageRouter, form_of, see_other
from orderup.web.pages.services import Service, add_services_page
from orderup.web.pages.session import read_form
from orderup.web.pages.site import site_of
from orderup.web.pages.texts import _
from orderup.web.paging import CursorFilter, read_cursor, show_cursor
from orderup.web.problems import problem_of_invalid
from orderup.web.tokens import Role

A_PAGE, ISSUES_A_PAGE = 50, 10
MOST_EVENTS = 50
ALL = "all"
# What staff may look at on the board; the first unless it is said otherwise.
Shown = Literal["ordered", "ready", "cancelled", "failed", "all"]
back = Router(tags=["bakery"])
pages = PageRouter()


@dataclass(frozen=True, slots=True)
class Message:
    """By which its customer was told. id: of the message there. link: None where there is nothing to look at."""

    way: str
    id: str
    link: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """An order, and what it led to: links, or None. may_bake, may_cancel: what can be done with it now."""

    order: BakeryOrder
    issue: str | None
    message: Message | None
    document: str | None
    may_bake: bool
    may_cancel: bool


def page(request: Request, template: str, *, here: str, code: int = 200, **context: Any) -> Response:
    """here: which of the bakery's pages for staff it belongs to."""
    caller: Caller = request.scope["orderup.caller"]
    shown = {"root": address_of(request), "here": here, "is_admin": caller.has(Role.ADMIN), **context}
    return site_of(request).page(request, template, code=code, **shown)


def services_of(request: Request) -> Services:
    services: Services = resources_of(request, shop.name)
    return services


# Orders


@pages.get("/board")
async def show_board(
    request: Request, _caller: AsStaff, status: Shown = "ordered", cursor: CursorFilter = None
) -> Response:
    """Those that are open by age, the oldest first; others the newest first."""
    wanted: OrderStatus | None = None if status == "all" else status
    [beyond] = read_cursor(cursor) or (None,)
    found = await engine_of(request).database.read(
        lambda connection: list_orders(
            connection, status=wanted, beyond=beyond, most=A_PAGE + 1, oldest_first=wanted == "ordered"
        )
    )
    return page(
        request,
        "bakery/board.html",
        here="board",
        rows=[_row(request, order) for order in found[:A_PAGE]],
        statuses=[*STATUSES, ALL],
        status=status,
        cursor=show_cursor(found[A_PAGE - 1].operation_id) if len(found) > A_PAGE else None,
    )


def _row(request: Request, order: BakeryOrder) -> Row:
    services = services_of(request)
    return Row(
        order,
        issue=None if order.issue is None else services.jira.browse(order.issue),
        message=None if order.told is None else _message(services, order.told),
        document=None if order.document is None else services.drive.link(order.document),
        may_bake=order.status == "ordered",
        may_cancel=order.status == "ordered",
    )


def _message(services: Services, told: str) -> Message:
    """As `telling` notes it."""
    way, _space, rest = told.partition(" ")
    if way != SLACK:
        return Message(_("Mail"), rest, None)
    channel, _space, ts = rest.partition(" ")
    return Message("Slack", f"{channel} {ts}", services.slack.link(channel))


@pages.get("/order/{number}")
async def show_order(request: Request, caller: AsStaff, number: str) -> Response:
    operation = await find_order(request, caller, shop.name, number)
    found = await order_at(request, operation)
    followed = await engine_of(request).database.read(lambda connection: _followed(connection, operation.id))
    return page(
        request,
        "bakery/one_order.html",
        here="board",
        row=_row(request, found),
        worked=Worked(found.persons, found.quantity, found.ingredients),
        operation=operation,
        followed=followed,
    )


def _followed(connection: ReadConnection, operation_id: OperationId) -> Sequence[int]:
    """Operations that followed upon what happened to this one, in order."""
    history = last_events(connection, operation_id, audience=Audience.INTERNAL, most=MOST_EVENTS)
    found = (followed_by(connection, event) for event in history if event.type in shop.follow_ups)
    return [id for id in found if id is not None]


class Decision(Form):
    """then: where to go on; on the board, among those of which status."""

    verb: Literal["ready", "cancel"]
    then: Literal["board", "order"] = "order"
    status: Shown = "ordered"


@pages.form("/order/{number}", Decision)
async def decide(request: Request, caller: AsStaff, number: str) -> Response:
    form = await form_of(request, Decision)
    operation = await find_order(request, caller, shop.name, number)
    if form.verb == "ready":
        await flag_ready(request, caller, operation)
    else:
        await _cancel(request, caller, operation)
    if form.then == "board":
        return see_other(address_of(request, f"/board?{urlencode({'status': form.status})}"))
    return see_other(address_of(request, f"/order/{(await order_at(request, operation)).number}"))


async def _cancel(request: Request, caller: Caller, operation: Operation) -> None:
    """Raises Conflict once it is ready, or over."""
    engine, by = engine_of(request), caller.subject or "staff"

    def cancel(draft: Draft) -> None:
        check_cancel(draft)
        steer.cancel(draft, reason=f"cancelled by {by}", now=engine.now())

    await order_at(request, operation)  # and of no operation that is none of a customer's
    await engine.desk.decide(operation.id, cancel)


# Recipes


# A number of eaters as somebody wrote it: what is wrong with it is told beside it.
Written = Annotated[str, WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MOST_EATERS})]


class RecipeForm(Form):
    """ingredients: for one eater, a line each, such as "chocolate 33.5 g"."""

    name: Name
    ingredients: Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]


@pages.get("/recipes")
async def show_recipes(request: Request, _caller: AsStaff) -> Response:
    return await _show_recipes(request)


async def _show_recipes(
    request: Request,
    *,
    code: int = 200,
    written: Mapping[str, str] | None = None,
    faults: Faults | None = None,
    problem: str = "",
) -> Response:
    fields = {"name": "", "ingredients": ""}
    return page(
        request,
        "bakery/recipes.html",
        here="recipes",
        code=code,
        cakes=await engine_of(request).database.read(list_cakes),
        values={**fields, **(written or {})},
        wrong={**dict.fromkeys(fields, ()), **(faults or {})},
        problem=problem,
    )


@pages.form("/recipes", RecipeForm)
async def write_one(request: Request, _caller: AsStaff) -> Response:
    written = await read_form(request)
    faults: dict[str, Sequence[str]] = {}
    code = 422
    try:
        read_lines(written.get("ingredients", ""), least=1)
    except WrongLines as error:
        faults["ingredients"] = error.faults
    try:
        form = RecipeForm.model_validate(written)
        if not faults:
            await write_recipe(request, form.name, read_lines(form.ingredients))
    except ValidationError as error:
        faults = {one.field: [one.message] for one in problem_of_invalid(error.errors()).errors} | faults
    except Conflict as error:
        code, faults["name"] = 409, [str(error)]
    if faults:
        said = _("Nothing was written yet.")
        return await _show_recipes(request, code=code, written=written, faults=faults, problem=said)
    return see_other(address_of(request, "/recipes"))


@pages.get("/recipes/{cake}")
async def show_recipe(request: Request, _caller: AsStaff, cake: str, eaters: Written = "1") -> Response:
    found = await engine_of(request).database.read(lambda connection: read_cake(connection, cake))
    try:
        count, wrong = Scaled.model_validate({"eaters": eaters}).eaters, ""
    except ValidationError:
        count, wrong = 0, _("Write a whole number from 1 to 10,000.")
    return page(
        request,
        "bakery/recipe.html",
        here="recipes",
        code=422 if wrong else 200,
        cake=found,
        written=write_lines(found.recipe),
        eaters=eaters,
        wrong=wrong,
        worked=None if wrong else Worked(count, 1, needed(found.recipe, eaters=count, extras=())),
    )


class Scaled(Form):
    eaters: Eaters


@pages.form("/recipes/{cake}/delete", shows_page=False)
async def delete_one(request: Request, _caller: AsStaff, cake: str) -> Response:
    await form_of(request, Form)
    engine = engine_of(request)
    try:
        await engine.database.write(lambda connection: delete_cake(connection, cake, now=engine.now()))
    except Conflict as error:
        return await _show_recipes(request, code=409, problem=str(error))
    return see_other(address_of(request, "/recipes"))


# Issues


@pages.get("/issues")
async def show_issues(request: Request, _caller: AsStaff, cursor: CursorFilter = None) -> Response:
    [before] = read_cursor(cursor) or (None,)

    def read(connection: ReadConnection) -> tuple[Any, int]:
        return latest_issues(connection, before=before, most=ISSUES_A_PAGE + 1), count_waiting(connection)

    found, waiting = await engine_of(request).database.read(read)
    shown = found[:ISSUES_A_PAGE]
    browse = services_of(request).jira.browse
    return page(
        request,
        "bakery/issues.html",
        here="issues",
        issues=shown,
        links={each.key: browse(each.key) for each in shown if each.key},
        waiting=waiting,
        cursor=show_cursor(shown[-1].operation_id) if len(found) > ISSUES_A_PAGE else None,
    )


@pages.get("/issues/{id}")
async def show_issue(request: Request, _caller: AsStaff, id: str) -> Response:
    """By the operation that makes it."""
    try:
        found = await engine_of(request).database.read(lambda connection: read_issue(connection, read_id(id)))
    except NotFound as error:
        raise NotFound("issue", id[:100]) from error
    link = services_of(request).jira.browse(found.key) if found.key else None
    return page(
        request, "bakery/issue.html", here="issues", issue=found, link=link, operation=show_id(found.operation_id)
    )


def third_parties(services: Services) -> Sequence[Service]:
    drive = services.drive
    apis = (services.jira.upstream, services.slack.upstream, services.mailer, services.github.upstream)
    return *apis, drive.files.upstream, drive.documents.upstream, drive.files.account.upstream


back.include_router(pages)
add_services_page(back, shop.name, title="Services that the bakery works with", services=third_parties)
