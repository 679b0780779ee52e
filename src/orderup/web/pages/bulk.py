"""One verb for all operations that a filter finds, in two steps: a page that says how many they are, then the doing,
and a page that says what came of each.

What is done is bounded: at most MOST_AT_ONCE at a time, the newest first, and only those that were there when they were
counted. Each is a change of its own; one that is refused stops no other.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from fastapi import Request
from starlette.responses import Response

from orderup.db.read import list_operations
from orderup.engine import steer
from orderup.engine.engine import Engine
from orderup.errors import Refused, Unavailable
from orderup.model.ids import read_id, show_id
from orderup.model.operation import Operation, OperationStatus
from orderup.web.auth import AsStaff
from orderup.web.orders import engine_of
from orderup.web.pages.route import Form, PageRouter, form_of
from orderup.web.pages.site import site_of
from orderup.web.paging import shop_of
from orderup.web.routes import takes_its_time
from orderup.web.tokens import Caller

MOST_AT_ONCE = 1_000
# Side by side: so many share a commit.
TOGETHER = 100
LARGEST_ID = (1 << 63) - 1
Verb = Literal["pause", "resume", "retry", "cancel"]
router = PageRouter()


def verbs_of(status: OperationStatus) -> list[Verb]:
    """What can be done with an operation as it stands."""
    match status:
        case OperationStatus.PENDING:
            return ["cancel"]
        case OperationStatus.RUNNING:
            return ["pause", "cancel"]
        case OperationStatus.PAUSED:
            return ["resume", "cancel"]
        case OperationStatus.ERRORED:
            return ["retry"]
        case _:
            return []


def wanted_statuses(status: str) -> list[OperationStatus]:
    """Of a filter: one, or all."""
    return [OperationStatus(status)] if status in list(OperationStatus) else list(OperationStatus)


def verbs_for(status: str) -> list[Verb]:
    """What can be done with some of those that a filter may find."""
    return sorted({verb for each in wanted_statuses(status) for verb in verbs_of(each)}, key=list(VERBS).index)


async def do_verb(engine: Engine, operation_id: int, verb: Verb, *, caller: Caller) -> None:
    """Raises NotFound, Conflict, Unavailable."""
    reason = {"reason": f"cancelled by {caller.subject or 'staff'}"} if verb == "cancel" else {}
    await VERBS[verb](engine, operation_id, shop=caller.shop, **reason)


VERBS: Mapping[Verb, Callable[..., Awaitable[None]]] = {
    "pause": steer.pause_operation,
    "resume": steer.resume_operation,
    "retry": steer.retry_operation,
    "cancel": steer.cancel_operation,
}


class Filter(Form):
    """newest: the newest operation that was counted; left out, they are to be counted."""

    shop: str = ""
    status: str = ""
    newest: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """refused: why; None: it was done."""

    id: str
    refused: str | None


async def _bulk(request: Request, caller: Caller, verb: Verb) -> Response:
    form = await form_of(request, Filter)
    shop, status, newest = form.shop, form.status, form.newest
    statuses = [each for each in wanted_statuses(status) if verb in verbs_of(each)]
    until = read_id(newest) if newest else None
    found = await _find(engine_of(request), caller, shop=shop, statuses=statuses, until=until)
    counted: dict[str, Any] = {
        "verb": verb,
        "shop": shop,
        "status": status,
        "statuses": [each.value for each in statuses],
        "most": MOST_AT_ONCE,
        "has_more": len(found) > MOST_AT_ONCE,
    }
    chosen = found[:MOST_AT_ONCE]
    if until is None:
        newest = show_id(chosen[0].id) if chosen else ""
        return site_of(request).page(request, "bulk.html", operations=chosen, newest=newest, **counted)
    outcomes = await _do_all(engine_of(request), caller, verb, [each.id for each in chosen])
    # a page that tells what happened is not kept true: later events have no part in it
    return site_of(request).page(
        request,
        "bulk_report.html",
        done=[each for each in outcomes if each.refused is None],
        refused=[each for each in outcomes if each.refused is not None],
        untried=len(chosen) - len(outcomes),
        newest=show_id(chosen[len(outcomes) - 1].id - 1) if outcomes else newest,
        **counted,
    )


async def _find(
    engine: Engine, caller: Caller, *, shop: str, statuses: Sequence[OperationStatus], until: int | None
) -> list[Operation]:
    """One more than are done at once, so that it can be said whether there are more."""
    shops, before = shop_of(engine, caller, shop or None), None if until is None else min(until + 1, LARGEST_ID)
    return await engine.database.read(
        lambda connection: list_operations(
            connection, shops=shops, statuses=statuses, before=before, most=MOST_AT_ONCE + 1
        )
    )


async def _do_all(engine: Engine, caller: Caller, verb: Verb, ids: Sequence[int]) -> list[Outcome]:
    """In their order. Where the database goes away in the middle, the rest is left alone."""
    outcomes: list[Outcome] = []
    is_away = False

    async def try_one(id: int) -> Outcome:
        nonlocal is_away
        try:
            await do_verb(engine, id, verb, caller=caller)
        except Refused as error:
            return Outcome(show_id(id), str(error))
        except Unavailable as error:
            is_away = True
            return Outcome(show_id(id), str(error))
        return Outcome(show_id(id), None)

    for first in range(0, len(ids), TOGETHER):
        some = ids[first : first + TOGETHER]
        async with asyncio.TaskGroup() as group:
            tried = [group.create_task(try_one(id), name=f"{verb} {show_id(id)}") for id in some]
        outcomes += [each.result() for each in tried]
        if is_away:
            break
    return outcomes


def _add_route(verb: Verb) -> None:
    @takes_its_time
    async def bulk(request: Request, caller: AsStaff) -> Response:
        return await _bulk(request, caller, verb)

    bulk.__name__ = f"{verb}_all"
    router.form(f"/operations/all/{verb}", Filter, shows_page=True, summary=f"{verb.capitalize()} all that match")(bulk)


for _verb in VERBS:
    _add_route(_verb)
