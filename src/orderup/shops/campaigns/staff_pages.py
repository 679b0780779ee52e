"""The campaign desk's pages for staff: campaigns and how far they are, one of them as a tree, and customers' tasks."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from msgspec.structs import replace
from pydantic import BeforeValidator, Field
from starlette.responses import Response

from orderup.db.busy import AllowanceState
from orderup.db.database import ReadConnection, Shared
from orderup.errors import NotFound
from orderup.model.ids import read_task_id, show_id
from orderup.model.operation import Operation, OperationStatus
from orderup.shops.campaigns.campaigns import CampaignRow, list_campaigns
from orderup.shops.campaigns.import_pages import pages as import_pages
from orderup.shops.campaigns.import_preview import in_words
from orderup.shops.campaigns.pages import address_of, page
from orderup.shops.campaigns.plan import LOOKS, PLATFORM, shop
from orderup.shops.campaigns.progress import Left, count_standing, read_left, things_of
from orderup.shops.campaigns.retry import retry_failed, retry_one
from orderup.shops.campaigns.services import Services
from orderup.shops.campaigns.settle import settle
from orderup.shops.campaigns.tasks_page import pages as task_pages
from orderup.shops.campaigns.tree import NEEDS_SOMEBODY, Node, Standing, is_campaign, tree_of
from orderup.web import AsStaff, Router, engine_of, find_order
from orderup.web.orders import settings_of
from orderup.web.overview import read_allowances
from orderup.web.pages.bulk import Verb, do_verb, verbs_of
from orderup.web.pages.queues import show_allowance
from orderup.web.pages.route import Form, PageRouter, form_of, see_other
from orderup.web.pages.services import Service, add_services_page
from orderup.web.paging import CursorFilter, read_cursor, show_cursor

A_PAGE, GROUPS_A_PAGE, ADS_A_PAGE, FAULTS_A_PAGE = 25, 50, 200, 20
# Of a campaign that has no more, all ads are on the page; of a larger one those of the group that somebody opens.
MOST_ADS_AT_ONCE = 200
MOST_ADS_OPEN = 20
# A campaign of more is not looked at anew at each event: that takes half a second of a processor.
MANY_THINGS = 2_000
STATUSES = ("running", "paused", "errored", "completed", "cancelled", "all")
SORTS = {"campaign": "Campaign", "ad_group": "Ad group", "ad": "Ad"}
Shown = Literal["running", "paused", "errored", "completed", "cancelled", "all"]
Number = Annotated[int, Query(ge=1, le=10_000)]
back = Router(tags=["campaigns"])
pages = PageRouter()


# Campaigns


@dataclass(frozen=True, slots=True)
class Line:
    """A campaign in the list. standing, things: how many of how many things stand."""

    row: CampaignRow
    standing: int
    things: int


@pages.get("/campaigns")
async def show_campaigns(
    request: Request, caller: AsStaff, status: Shown = "all", cursor: CursorFilter = None
) -> Response:
    [before] = read_cursor(cursor) or (None,)
    engine, statuses = engine_of(request), [] if status == "all" else [status]

    def read(connection: ReadConnection) -> tuple[list[CampaignRow], Mapping[int, int], Left]:
        rows = list_campaigns(connection, statuses=statuses, before=before, most=A_PAGE + 1)
        return rows, count_standing(connection, rows[:A_PAGE]), read_left(connection, now=engine.now())

    found, standing, left = await engine.database.read(read)
    allowances = await read_allowances(engine, caller)
    whole, asking = _paces({each.name.partition("/")[2]: each for each in allowances if _is_ours(each)})
    return page(
        request,
        "campaigns/campaigns.html",
        here="campaigns",
        lines=[Line(row, standing[row.operation_id], things_of(row)) for row in found[:A_PAGE]],
        statuses=STATUSES,
        status=status,
        cursor=show_cursor(found[A_PAGE - 1].operation_id) if len(found) > A_PAGE else None,
        left=left,
        takes=in_words(timedelta(minutes=left.submissions / settings_of(request).dsp_requests_a_minute)),
        allowance=show_allowance(whole),
        asking=show_allowance(asking),
    )


def _is_ours(state: AllowanceState) -> bool:
    return state.name.startswith(f"{shop.name}/")


def _paces(states: dict[str, AllowanceState]) -> tuple[AllowanceState, AllowanceState]:
    """What the platform allows altogether, and the part of those that ask how something stands."""
    platform, looks = states.pop(PLATFORM.name), states.pop(LOOKS.name)
    [asking] = states.values()
    return _together(platform, looks), _together(asking, looks)


def _together(one: AllowanceState, other: AllowanceState) -> AllowanceState:
    rate = replace(one.shared.rate, count=one.shared.rate.count + other.shared.rate.count)
    shared = Shared(rate, one.shared.queues | other.shared.queues)
    return replace(one, shared=shared, used=one.used + other.used, calls=one.calls + other.calls)


# One campaign


@dataclass(frozen=True, slots=True)
class Part:
    """A page of a list, counted from 1: what is on it, and how many pages there are."""

    items: Sequence[Any]
    number: int
    count: int
    first: int

    @classmethod
    def of(cls, items: Sequence[Any], number: int, size: int) -> "Part":
        """The last one, if there are not so many."""
        count = max(1, -(-len(items) // size))
        number = min(number, count)
        first = (number - 1) * size
        return cls(items[first : first + size], number, count, first)


@dataclass(frozen=True, slots=True)
class Group:
    """number: its place in the campaign, from 1. counts: how many of it and its ads stand how. ads: those that are
    shown; None: none are, until somebody opens it."""

    number: int
    node: Node
    counts: Counter[Standing]
    ads: Part | None


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that needs somebody. within: what it belongs to, in words."""

    node: Node
    sort: str
    within: str

    @property
    def may_be_there(self) -> bool:
        return self.node.status is Standing.UNKNOWN

    @property
    def retried(self) -> str:
        """The task that is done again by hand."""
        was_submitted = self.node.status in {Standing.REJECTED, Standing.UNANSWERED}
        return self.node.follow_id if was_submitted else self.node.task_id


@pages.get("/campaigns/{id}")
async def show_campaign(
    request: Request,
    caller: AsStaff,
    id: str,
    group: Annotated[int, Query(ge=0, le=10_000)] = 0,
    groups: Number = 1,
    ads: Number = 1,
    faults: Number = 1,
) -> Response:
    """group: the one whose ads are shown, where there are too many for all of them; groups, ads, faults: which page of
    them."""
    operation = await _campaign(request, caller, id)
    tree, counts, found = await asyncio.to_thread(_look_at, operation)  # of ten thousand ads others would wait for it
    shown = Part.of(list(enumerate(tree.children, 1)), groups, GROUPS_A_PAGE)
    ad_count = sum(len(each.children) for each in tree.children)
    return page(
        request,
        "campaigns/campaign.html",
        here="campaigns",
        operation=operation,
        tree=tree,
        counts=counts,
        things=counts.total(),
        is_large=counts.total() > MANY_THINGS,
        all_ads=ad_count <= MOST_ADS_AT_ONCE,
        groups=shown,
        shown=[
            _group(number, node, ads if number == group else 1, is_open=number == group or ad_count <= MOST_ADS_AT_ONCE)
            for number, node in shown.items
        ],
        opened=group,
        unfolded=ad_count <= MOST_ADS_OPEN,
        faults=Part.of(found, faults, FAULTS_A_PAGE),
        fault_count=len(found),
        verbs=_verbs(operation, counts),
    )


def _look_at(operation: Operation) -> tuple[Node, Counter[Standing], Sequence[Fault]]:
    tree = tree_of(operation)
    return tree, _in_order(tree.count()), _faults(tree)


async def _campaign(request: Request, caller: Any, id: str) -> Operation:
    operation = await find_order(request, caller, shop.name, id)
    if not is_campaign(operation):
        raise NotFound("campaign", id[:100])
    return operation


def _group(number: int, node: Node, ads: int, *, is_open: bool) -> Group:
    return Group(number, node, _in_order(node.count()), Part.of(node.children, ads, ADS_A_PAGE) if is_open else None)


def _in_order(counts: Counter[Standing]) -> Counter[Standing]:
    """From those that have not begun to those that have ended."""
    return Counter({each: counts[each] for each in Standing if counts[each]})


def _faults(tree: Node) -> Sequence[Fault]:
    """First those that nobody but a person can do anything about."""
    whole = [Fault(tree, SORTS[tree.sort], "")]
    for group in tree.children:
        whole.append(Fault(group, SORTS[group.sort], ""))
        whole += [Fault(ad, SORTS[ad.sort], f"of {group.name} ({group.id})") for ad in group.children]
    return sorted(
        (each for each in whole if each.node.status in NEEDS_SOMEBODY), key=lambda each: not each.may_be_there
    )


def _verbs(operation: Operation, counts: Counter[Standing]) -> list[Verb]:
    """Of what may be at the platform a person says what became of it: to retry that alone is not offered."""
    verbs = verbs_of(operation.status)
    has_failed = any(counts[each] for each in NEEDS_SOMEBODY - {Standing.UNKNOWN})
    if counts[Standing.UNKNOWN] and not has_failed:
        return [each for each in verbs if each != "retry"]
    if has_failed and operation.status in (OperationStatus.RUNNING, OperationStatus.PAUSED):
        return ["retry", *verbs]
    return verbs


class Steer(Form):
    verb: Verb


@pages.form("/campaigns/{id}", Steer)
async def steer(request: Request, caller: AsStaff, id: str) -> Response:
    operation, form, engine = await _campaign(request, caller, id), await form_of(request, Steer), engine_of(request)
    if form.verb == "retry":
        await retry_failed(engine, operation)
    else:
        await do_verb(engine, operation.id, form.verb, caller=caller)
    return _back_to(request, operation)


def _back_to(request: Request, operation: Operation) -> Response:
    return see_other(address_of(request, f"/campaigns/{show_id(operation.id)}"))


@pages.form("/campaigns/{id}/{task_id}/retry", Form)
async def retry(request: Request, caller: AsStaff, id: str, task_id: str) -> Response:
    await form_of(request, Form)
    operation, position = await _task(request, caller, id, task_id)
    await retry_one(engine_of(request), operation.id, position)
    return _back_to(request, operation)


async def _task(request: Request, caller: Any, id: str, task_id: str) -> tuple[Operation, int]:
    operation = await _campaign(request, caller, id)
    operation_id, position = read_task_id(task_id)
    if operation_id != operation.id:
        raise NotFound("task", task_id[:100])
    return operation, position


class Settle(Form):
    """platform_id: as which the platform has it; empty, and `is_there` no: it has none of it."""

    is_there: Literal["yes", "no"]
    platform_id: Annotated[str, BeforeValidator(str.strip), Field(max_length=200)] = ""


class Found(Settle):
    platform_id: Annotated[str, BeforeValidator(str.strip), Field(min_length=1, max_length=200)]


@pages.form("/campaigns/{id}/{task_id}/settle", Settle)
async def settle_one(request: Request, caller: AsStaff, id: str, task_id: str) -> Response:
    form = await form_of(request, Settle)
    if form.is_there == "yes":
        form = await form_of(request, Found)
    operation, position = await _task(request, caller, id, task_id)
    platform_id = form.platform_id if form.is_there == "yes" else None
    await settle(engine_of(request), operation.id, position, platform_id=platform_id)
    return _back_to(request, operation)


def third_parties(services: Services) -> Sequence[Service]:
    return (services.dsp.upstream,)


for each in (pages, import_pages, task_pages):
    back.include_router(each)
add_services_page(back, shop.name, title="Services that the campaign desk works with", services=third_parties)
