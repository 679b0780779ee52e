"""The coffee bar's pages: one button that orders, and a tracker that says how many are before the customer.

Nobody holds a connection for an order of a page. It stays as long as somebody looks at it: each view of its tracker
keeps it for COFFEE_KEEP_SECONDS, and while the page is connected live (WebSocket or server-sent events) it stays by
that, also in a tab that lies behind others, whose timers a browser slows down. Where neither connection works, the page
is asked for every few seconds, which is a view each time; so it is without JavaScript, by a refresh.

What others do moves a customer in the line, and no event of his own order tells of it: his page is looked at again
every few seconds besides, less often as long as many are before him.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Annotated
from uuid import uuid4

from fastapi import Request
from pydantic import Field
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response

from orderup.db.read import find_key
from orderup.engine.desk import Replayed
from orderup.errors import Conflict, OrderupError, TooMany, Unavailable
from orderup.model.ids import OperationId, show_id
from orderup.model.operation import Draft, Operation, OperationStatus
from orderup.model.task import TaskStatus
from orderup.shops.coffee.back import back
from orderup.shops.coffee.bar import Bar
from orderup.shops.coffee.front import front
from orderup.shops.coffee.order import owner_of, place_coffee
from orderup.shops.coffee.plan import BREW, QUEUE, WORDS, shop
from orderup.web import OPEN, AsAnyone, Caller, add_order_routes, engine_of, keeper_of
from orderup.web.fair_use import LONGEST_TIMEOUT_SECONDS, Ignored
from orderup.web.idempotency import KEY_PATTERN, LONGEST_KEY, client_of, idempotency_key
from orderup.web.logs import note_about
from orderup.web.order_keys import new_order_key
from orderup.web.orders import links_of, load
from orderup.web.pages.route import Form, PageRouter, form_of, see_other
from orderup.web.pages.site import site_of
from orderup.web.pages.station import AsHand
from orderup.web.pages.tracker import Tracker, add_order_pages

TEMPLATES = "orderup.shops.coffee"
PATH = "orders"
# How often a page is looked at: by each of so many before him a second later.
LOOK_SECONDS, RARELY_SECONDS, MANY = 5, 30, 10
# So many of those before a customer are drawn.
MOST_DRAWN = 12
BEING_BREWED = "Your coffee is being brewed: it cannot be cancelled any more."
READY = "Ready: come and get your coffee"
ON_HOLD = "The bar is on hold for a moment"
pages, staff_pages = PageRouter(), PageRouter()


class CoffeeForm(Form):
    """key: of the page whose button was pressed; sent twice, it is ordered once."""

    key: Annotated[str, Field(min_length=1, max_length=LONGEST_KEY, pattern=KEY_PATTERN)] = Field(
        default_factory=lambda: uuid4().hex
    )


def bar_of(connection: HTTPConnection) -> Bar:
    bar: Bar = keeper_of(connection, shop.name)
    return bar


def _bar_address(request: Request) -> str:
    return f"{request.app.state.shop_prefixes[shop.name]}/"


@pages.get("/", dependencies=[OPEN])
async def show_bar(request: Request) -> Response:
    return site_of(request).page(
        request,
        "coffee/bar.html",
        address=_bar_address(request),
        key=uuid4().hex,
        waiting=bar_of(request).standing.waiting,
        is_on_hold=is_on_hold(request),
    )


def is_on_hold(request: Request) -> bool:
    """Whether staff lets nobody brew just now."""
    return QUEUE in engine_of(request).paused_queues


@pages.form("/", CoffeeForm, summary="Order an americano")
async def order(request: Request, caller: AsAnyone) -> Response:
    form = await form_of(request, CoffeeForm)
    try:
        operation = await _order_once(request, caller, form.key)
    except Ignored:
        # a page is always answered
        wait = timedelta(seconds=LONGEST_TIMEOUT_SECONDS)
        raise TooMany(
            f"You were asked to wait, again and again. Come back in {LONGEST_TIMEOUT_SECONDS / 60:.0f} minutes.",
            retry_after=wait,
        ) from None
    note_about(request.scope, show_id(operation.id))
    return see_other(links_of(request, operation, path=PATH)["self"].replace(f"/{PATH}/", "/track/"))


async def _order_once(request: Request, caller: Caller, text: str) -> Operation:
    """The order of this key, placed now or before. Raises TooMany, Ignored, Unavailable."""
    engine, bar, client = engine_of(request), bar_of(request), client_of(request.scope, caller)
    key = idempotency_key(request, caller, None, now=engine.now(), key=text)
    assert key is not None
    earlier = await engine.database.read(lambda connection: find_key(connection, key.key))
    if earlier is not None:
        bar.fair_use.admit_again(client)
        return await load(engine, earlier.operation_id, what="order")
    if bar.is_draining:
        raise Unavailable("The bar is just changing shifts. Try again in a moment.")
    bar.fair_use.admit(client)
    id, seconds = OperationId(engine.new_id(engine.now())), bar.settings.coffee_keep_seconds
    bar.expect(id, client, seconds=seconds)
    secret = bar.settings.secret_key
    opener = None if secret is None else new_order_key(secret)
    try:
        operation = await place_coffee(bar, id, client=client, owner=owner_of(caller), key=key, opener=opener)
    except Replayed as replayed:
        bar.forget(id)
        return await load(engine, replayed.operation_id, what="order")
    except Unavailable:
        raise  # it may have been placed: then it leaves, or he sends the form again
    except OrderupError:
        bar.forget(id)
        raise
    bar.hold(operation, seconds=seconds)
    return operation


# The tracker


@dataclass(frozen=True, slots=True)
class CoffeeTracker(Tracker):
    """before: how many are served before him. drawn: as many of them as are drawn."""

    before: int | None = None

    @property
    def drawn(self) -> int:
        return min(self.before or 0, MOST_DRAWN)

    @property
    def look_seconds(self) -> int:
        return min(LOOK_SECONDS + (self.before or 0) // MANY, RARELY_SECONDS)


async def describe(request: Request, operation: Operation, tracker: Tracker) -> Tracker:
    bar, before = bar_of(request), None
    if not operation.status.is_final:
        await bar.take_over(operation)
        bar.hold(operation, seconds=bar.settings.coffee_keep_seconds)
        before = bar.standing.before(operation.id)
    told = {field.name: getattr(tracker, field.name) for field in fields(tracker)}
    told["title"], told["again"] = "Your americano", _bar_address(request)
    told["headline"] = _headline(operation, before) or tracker.headline
    if before is not None and is_on_hold(request):
        told["headline"] += f". {ON_HOLD}"
    return CoffeeTracker(**told, before=before)


def _headline(operation: Operation, before: int | None) -> str | None:
    """None: as every order's tracker says it."""
    if operation.status is OperationStatus.COMPLETED:
        return READY
    [brew] = operation.tasks
    if operation.status is not OperationStatus.RUNNING or brew.status is not TaskStatus.PENDING:
        return None
    if brew.attempt:
        return WORDS["task.lost"]
    return place_in_words(before)


def place_in_words(before: int | None) -> str:
    match before:
        case None:
            return WORDS["operation.placed"]
        case 0:
            return "You are next"
        case 1:
            return "1 is before you"
        case _:
            return f"{before:,} are before you"


def check_cancel(draft: Draft) -> None:
    """Raises Conflict once it was started."""
    if draft.task(0).attempt:
        raise Conflict(BEING_BREWED)


@asynccontextmanager
async def attend(connection: HTTPConnection, operation: Operation) -> AsyncIterator[None]:
    async with bar_of(connection).attend(operation):
        yield


# Baristas


@staff_pages.get("/barista", response_class=RedirectResponse, status_code=303)
async def show_station(_request: Request, _caller: AsHand) -> Response:
    """An address that a barista remembers."""
    return see_other(f"/station/{shop.name}/{BREW}")


add_order_routes(front, shop.name, path=PATH, check_cancel=check_cancel, attend=attend)
front.include_router(pages)
add_order_pages(
    front,
    shop.name,
    path=PATH,
    title=shop.title,
    describe=describe,
    check_cancel=check_cancel,
    template="coffee/tracker.html",
)
back.include_router(staff_pages)
