"""Deliveries: how it goes with each target, what waits, what was given up; send again."""

from dataclasses import dataclass

from fastapi import Request
from starlette.responses import Response

from orderup.db.deliveries import MOST_COUNTED, TargetState
from orderup.model.delivery import Delivery, DeliveryState, show_delivery_id
from orderup.web.auth import AsStaff
from orderup.web.deliveries import (
    DeliveryCursor,
    OperationFilter,
    TargetFilter,
    read_deliveries,
    send_failed_again,
    send_one_again,
)
from orderup.web.orders import engine_of
from orderup.web.pages.route import Form, PageRouter, form_of, see_other
from orderup.web.pages.site import site_of
from orderup.web.pages.words import show_count

A_PAGE = 50
router = PageRouter()


@dataclass(frozen=True, slots=True)
class Card:
    """A target and how it goes with it. state: for its badge."""

    target: TargetState
    state: str
    pending: str
    failed: str

    @property
    def has_failed(self) -> bool:
        return self.target.failed > 0


@dataclass(frozen=True, slots=True)
class Row:
    id: str
    delivery: Delivery
    button: str
    is_waiting: bool


@router.get("/deliveries")
async def show_deliveries(
    request: Request,
    caller: AsStaff,
    target: TargetFilter = None,
    state: str = "",
    operation: OperationFilter = None,
    cursor: DeliveryCursor = None,
) -> Response:
    wanted = DeliveryState(state) if state in list(DeliveryState) else None
    found, targets, more = await read_deliveries(
        engine_of(request), caller, target=target, state=wanted, operation=operation, cursor=cursor, most=A_PAGE
    )
    return site_of(request).page(
        request,
        "deliveries.html",
        cards=[_card(each) for each in targets],
        sees_targets=caller.shop is None,
        unpublished=_unpublished(request),
        rows=[_row(each) for each in found],
        states=[each.value for each in DeliveryState],
        target=target or "",
        state=state,
        operation=operation or "",
        cursor=more,
    )


def _unpublished(request: Request) -> list[str]:
    """Titles of shops whose messages stay here for want of a broker."""
    if request.app.state.settings.rabbitmq_url is not None:
        return []
    return [shop.title for shop in site_of(request).shops if shop.publications]


def _card(target: TargetState) -> Card:
    return Card(target, state_of(target), *(_counted(count) for count in (target.pending, target.failed)))


def _counted(count: int) -> str:
    return show_count(count, is_at_least=count == MOST_COUNTED)


def state_of(target: TargetState) -> str:
    """How it goes with a target, in a word or two."""
    if not target.is_held:
        return "nobody sends"
    if target.is_failing:
        return "failing"
    return "working" if target.delivered_at is not None else "nothing sent yet"


def _row(delivery: Delivery) -> Row:
    is_pending = delivery.state is DeliveryState.PENDING
    return Row(
        show_delivery_id(delivery.seq, delivery.target),
        delivery,
        button="Send now" if is_pending else "Send again",
        is_waiting=is_pending and delivery.next_try_at is None,
    )


@router.form("/deliveries/{id}", summary="Send a delivery now, again if need be")
async def redeliver_one(request: Request, caller: AsStaff, id: str) -> Response:
    await form_of(request, Form)
    await send_one_again(engine_of(request), caller, id)
    return see_other("/deliveries")


@router.form("/targets/{target}", summary="Send again all that a target gave up")
async def redeliver_failed(request: Request, caller: AsStaff, target: str) -> Response:
    await form_of(request, Form)
    await send_failed_again(engine_of(request), caller, target)
    return see_other("/deliveries")
