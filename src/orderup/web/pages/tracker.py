"""One order on a page of its own, for whoever waits for it: the stages of its plan, each with its time."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from fastapi import Request
from starlette.responses import Response

from orderup.db.read import last_events
from orderup.engine.engine import Engine
from orderup.errors import Conflict
from orderup.model import steer
from orderup.model.event import EVENT_TYPES, Audience, Event
from orderup.model.ids import show_id
from orderup.model.operation import Draft, Operation, OperationStatus
from orderup.model.rfa import RfaStatus
from orderup.model.task import Task, TaskStatus
from orderup.web.auth import AsOrderCaller
from orderup.web.order_routes import CancelCheck, may_always_cancel
from orderup.web.orders import engine_of, find_order, links_of
from orderup.web.pages.route import Form, PageRouter, form_of, see_other
from orderup.web.pages.site import site_of
from orderup.web.routes import Router

MOST_EVENTS = 500
DONE, NOW, NEXT, STOPPED = "done", "now", "next", "stopped"


@dataclass(frozen=True, slots=True)
class Stage:
    """state: done, now, next or stopped. at: when it was done, or since when it is so."""

    name: str
    state: str
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Tracker:
    """headline: how it stands, in words. state: its tone. expected: from and to, in microseconds. moved: why it is not
    what it was. history: what the customer was told. again: where to order another one."""

    id: str
    shop: str
    title: str
    headline: str
    state: str
    stages: Sequence[Stage]
    live: str
    events: str
    cancel: str
    can_cancel: bool
    is_over: bool = False
    again: str | None = None
    note: str | None = None
    expected: tuple[int, int] | None = None
    moved: str | None = None
    history: Sequence[Event] = field(default_factory=tuple)


# Adds what the shop knows: a title, words of its own, when it can be expected.
Describe = Callable[[Request, Operation, Tracker], Awaitable[Tracker]]


async def describe_nothing(_request: Request, _operation: Operation, tracker: Tracker) -> Tracker:
    return tracker


def track(operation: Operation, *, shop: str, links: dict[str, str], page: str, history: Sequence[Event]) -> Tracker:
    """As much as every order has in common."""
    stages = list(_stages(operation))
    now = next((stage.name for stage in stages if stage.state == NOW), None)
    told = [event for event in history if event.message]
    return Tracker(
        id=show_id(operation.id),
        shop=shop,
        title=f"Your order at the {shop}",
        headline=_headline(operation, now, told),
        state=_tone(operation),
        stages=stages,
        live=links["live"],
        events=links["events"],
        cancel=page.replace("/track/", "/cancel/"),
        can_cancel=not operation.status.is_final,
        is_over=operation.status.is_final,
        note=operation.rfa.notes if operation.rfa and operation.rfa.status is RfaStatus.DECLINED else None,
        moved=_delay(told) if not operation.status.is_final else None,
        history=told,
    )


def _stages(operation: Operation) -> list[Stage]:
    stages = [Stage(_words(operation, "operation.placed"), DONE, operation.placed_at)]
    rfa = operation.rfa
    if rfa is not None:
        stages.append(_approval(operation, rfa.status, rfa.decided_at))
    stages += [_stage(task) for task in operation.tasks]
    if operation.status is OperationStatus.COMPLETED:
        stages.append(Stage(_words(operation, "operation.completed"), DONE, operation.finished_at))
    elif operation.status.is_final and all(stage.state != STOPPED for stage in stages):
        first = next((index for index, stage in enumerate(stages) if stage.state != DONE), len(stages))
        words = "Cancelled" if operation.status is OperationStatus.CANCELLED else "Stopped"
        stages.insert(first, Stage(words, STOPPED, operation.finished_at))
    if operation.status.is_final:
        return [stage for stage in stages if stage.state in (DONE, STOPPED)]
    return stages


def _approval(operation: Operation, status: RfaStatus, decided_at: int | None) -> Stage:
    if status is RfaStatus.PENDING:
        return Stage("Waiting for approval", NOW, operation.placed_at)
    if status is RfaStatus.APPROVED:
        return Stage(_words(operation, "rfa.approved"), DONE, decided_at)
    return Stage(status.capitalize(), STOPPED, decided_at)


def _words(operation: Operation, type: str) -> str:
    """Of an event that is a stage: the plan's own, as the event has them. A plan may keep an event from its customer
    by having no words for it; the stage is there all the same."""
    return (operation.words or {}).get(type) or EVENT_TYPES[type][1]


def _stage(task: Task) -> Stage:
    name = task.says or task.name.replace("_", " ").capitalize()
    if task.status is TaskStatus.COMPLETED:
        return Stage(name, DONE, task.finished_at)
    if task.status is TaskStatus.ERRORED:
        return Stage(name, STOPPED, task.finished_at)
    if task.status in (TaskStatus.RUNNING, TaskStatus.WAITING) or (task.attempt and task.status is TaskStatus.PENDING):
        return Stage(name, NOW, task.started_at)
    return Stage(name, NEXT)


def _headline(operation: Operation, now: str | None, told: Sequence[Event]) -> str:
    if operation.status in (OperationStatus.RUNNING, OperationStatus.PENDING):
        if now is not None:
            return now
        return "Approved: waiting for a free hand" if operation.rfa else "Waiting for a free hand"
    if operation.rfa is not None and operation.rfa.status is RfaStatus.DECLINED:
        return "Declined"  # the note stands below it
    return told[-1].message if told else operation.status.capitalize()


def _delay(told: Sequence[Event]) -> str | None:
    """Why it takes longer, if that is what the customer was told last but for what is being done."""
    return told[-1].message if told and told[-1].type in ("task.retrying", "task.lost") else None


def _tone(operation: Operation) -> str:
    if operation.rfa is not None and operation.rfa.status is not RfaStatus.APPROVED:
        return operation.rfa.status
    return operation.status


def add_order_pages(
    router: Router,
    shop: str,
    *,
    path: str,
    title: str,
    describe: Describe = describe_nothing,
    check_cancel: CancelCheck = may_always_cancel,
    template: str = "tracker.html",
) -> None:
    """`/track/{id}` and its cancel button, on the shop's front. `path`: of the shop's orders, such as `pizzas`; title:
    of the shop. describe: adds what the shop knows of it."""
    pages = PageRouter()

    @pages.get("/track/{id}")
    async def show_order(request: Request, caller: AsOrderCaller, id: str) -> Response:
        operation = await find_order(request, caller, shop, id)
        history = await history_of(engine_of(request), operation.id, audience=Audience.CUSTOMER)
        page = _address(request)
        tracker = track(
            operation, shop=title, links=links_of(request, operation, path=path), page=page, history=history
        )
        tracker = replace(tracker, can_cancel=_may_cancel(operation, check_cancel))
        return site_of(request).page(request, template, tracker=await describe(request, operation, tracker))

    @pages.form("/cancel/{id}")
    async def cancel_order(request: Request, caller: AsOrderCaller, id: str) -> Response:
        await form_of(request, Form)
        engine = engine_of(request)
        operation = await find_order(request, caller, shop, id)

        def cancel(draft: Draft) -> None:
            check_cancel(draft)
            steer.cancel(draft, reason="cancelled by the customer", now=engine.now())

        await engine.desk.decide(operation.id, cancel)
        return see_other(_address(request).replace("/cancel/", "/track/"))

    router.include_router(pages)


async def history_of(
    engine: Engine, operation_id: int, *, audience: Audience, most: int = MOST_EVENTS
) -> Sequence[Event]:
    """The last events of an operation that this audience may see."""
    return await engine.database.read(
        lambda connection: last_events(connection, operation_id, audience=audience, most=most)
    )


def _address(request: Request) -> str:
    """Path and query: the key stays in it."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _may_cancel(operation: Operation, check_cancel: CancelCheck) -> bool:
    if operation.status.is_final:
        return False
    try:
        check_cancel(Draft(operation))
    except Conflict:
        return False
    return True
