"""The routes of campaigns, for staff."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import BaseModel, ConfigDict, StringConstraints
from pydantic.config import JsonDict
from starlette.responses import Response

from orderup.db.database import WriteConnection
from orderup.engine.desk import Replayed
from orderup.errors import Invalid, NotFound
from orderup.integrations.dsp import LONGEST_ID
from orderup.model.ids import read_task_id, show_id
from orderup.model.operation import Draft, Operation, OperationStatus
from orderup.model.times import show_time
from orderup.shops.campaigns.campaign import Campaign, parse_campaign
from orderup.shops.campaigns.campaigns import CampaignRow, list_campaigns, write_row
from orderup.shops.campaigns.plan import plan_campaign, shop
from orderup.shops.campaigns.settle import settle
from orderup.shops.campaigns.tree import Node, Standing, is_campaign, tree_of
from orderup.web import AsStaff, Json, RequestModel, Router, add_order_routes, engine_of, find_order, place, takes_key
from orderup.web.idempotency import REPLAYED, idempotency_key
from orderup.web.orders import load
from orderup.web.paging import CursorFilter, Limit, read_cursor, show_cursor

PATH = "campaigns"
CAMPAIGN: JsonDict = {
    "campaign_id": "spring-26",
    "campaign_name": "Spring",
    "campaign_budget": 5000,
    "start_date": "2026-03-01",
    "end_date": "2026-04-15",
    "objective": "sales",
    "ad_groups": [
        {
            "ad_group_id": "young",
            "ad_group_name": "Young people",
            "bid": 0.35,
            "targeting_ages": "18-25",
            "targeting_interests": "music",
            "targeting_geo": "FR",
            "ads": [
                {
                    "ad_id": "banner-1",
                    "ad_type": "banner",
                    "creative_url": "https://cdn.example.com/1.png",
                    "click_url": "https://example.com/spring",
                    "status": "active",
                }
            ],
        }
    ],
}
Amount = str | int | float
# A platform's id, as people copy it: what they cannot see would be asked after for days.
VISIBLE = r"^[^\s\p{C}]+$"
desk = Router(tags=["campaigns"])


class AdBody(RequestModel):
    ad_id: str | int
    ad_type: str
    creative_url: str
    click_url: str
    status: str


class AdGroupBody(RequestModel):
    ad_group_id: str | int
    ad_group_name: str
    bid: Amount
    targeting_ages: str = ""
    targeting_interests: str = ""
    targeting_geo: str = ""
    ads: list[AdBody]


class CampaignBody(RequestModel):
    """Fields are named as the columns of a CSV are. Ids are yours; a campaign's is its alone."""

    model_config = ConfigDict(json_schema_extra={"examples": [CAMPAIGN]})

    campaign_id: str | int
    campaign_name: str
    campaign_budget: Amount
    start_date: str
    end_date: str
    objective: str
    ad_groups: list[AdGroupBody]


class SettleBody(RequestModel):
    """platform_id: as which the platform has it; null: it has none of it, and it is to be submitted."""

    platform_id: Annotated[str, StringConstraints(strip_whitespace=True, pattern=VISIBLE, max_length=LONGEST_ID)] | None


class NodeView(BaseModel):
    """A campaign, an ad group or an ad. id, name: yours. platform_id: the platform's, once it has one. error: why it
    does not stand. task_id: of the task that submits it, follow_id: that asks after it."""

    id: str
    name: str
    status: Standing
    platform_id: str | None
    error: str | None
    task_id: str
    follow_id: str
    ad_groups: list["NodeView"] | None = None
    ads: list["NodeView"] | None = None


class CampaignView(BaseModel):
    """status: of its operation. counts: of how many things it is said how they stand."""

    id: str
    status: OperationStatus
    placed_at: str
    finished_at: str | None
    reason: str | None
    counts: dict[Standing, int]
    campaign: NodeView


class CampaignLine(BaseModel):
    id: str
    campaign_id: str
    campaign_name: str
    ad_groups: int
    ads: int
    status: OperationStatus
    placed_at: str
    finished_at: str | None
    reason: str | None


class CampaignList(BaseModel):
    campaigns: list[CampaignLine]
    cursor: str | None


class PlacedView(BaseModel):
    id: str
    status: OperationStatus
    links: dict[str, str]


@desk.post("/campaigns", status_code=202, response_model=PlacedView, summary="Submit a campaign")
@takes_key
async def post_campaign(request: Request, caller: AsStaff, body: CampaignBody) -> Response:
    given = body.model_dump(mode="json")
    campaign = campaign_in(given)

    def write(connection: WriteConnection, operation_id: Any) -> None:
        write_row(connection, operation_id, campaign)

    placed = await place(request, caller, shop.name, plan_campaign(campaign), body=given, path=PATH, also=write)
    return placed.answer()


def campaign_in(body: object) -> Campaign:
    """Raises Invalid, whose `field` is written as in every body: `body.ad_groups.2.bid`."""
    try:
        return parse_campaign(body)
    except Invalid as error:
        place = re.sub(r"\[(\d+)\]", r".\1", error.field or "")
        raise Invalid(str(error), field=f"body.{place}" if place else "body") from error


@desk.get("/campaigns", response_model=CampaignList, summary="Campaigns, the newest first")
async def get_campaigns(
    request: Request,
    _caller: AsStaff,
    status: Literal["running", "paused", "completed", "errored", "cancelled"] | None = None,
    cursor: CursorFilter = None,
    limit: Limit = 50,
) -> Response:
    [before] = read_cursor(cursor) or (None,)
    statuses = [] if status is None else [status]
    found = await engine_of(request).database.read(
        lambda connection: list_campaigns(connection, statuses=statuses, before=before, most=limit + 1)
    )
    more = show_cursor(found[limit - 1].operation_id) if len(found) > limit else None
    return Json({"campaigns": [_line(row) for row in found[:limit]], "cursor": more})


def _line(row: CampaignRow) -> dict[str, Any]:
    return {
        "id": show_id(row.operation_id),
        "campaign_id": row.id,
        "campaign_name": row.name,
        "ad_groups": row.groups,
        "ads": row.ads,
        "status": row.status,
        "placed_at": show_time(row.placed_at),
        "finished_at": show_time(row.finished_at),
        "reason": row.reason,
    }


@desk.post(
    "/campaigns/{id}/tasks/{task_id}/settle",
    response_model=CampaignView,
    summary="Say whether the platform has what was perhaps submitted",
)
@takes_key
async def post_settle(request: Request, caller: AsStaff, id: str, task_id: str, body: SettleBody) -> Response:
    operation = await find_order(request, caller, shop.name, id)
    operation_id, position = read_task_id(task_id)
    if operation_id != operation.id:
        raise NotFound("task", task_id)
    engine = engine_of(request)
    key = idempotency_key(request, caller, body.model_dump(), now=engine.now())
    headers: Mapping[str, str] = {}
    try:
        await settle(engine, operation.id, position, platform_id=body.platform_id, key=key)
    except Replayed:
        headers = REPLAYED
    return Json(await view_campaign(request, await load(engine, operation.id)), headers=dict(headers))


async def view_campaign(_request: Request, operation: Operation) -> dict[str, Any]:
    if not is_campaign(operation):
        raise NotFound("campaign", show_id(operation.id))
    tree = tree_of(operation)
    return {
        "id": show_id(operation.id),
        "status": operation.status,
        "placed_at": show_time(operation.placed_at),
        "finished_at": show_time(operation.finished_at),
        "reason": operation.reason,
        "counts": dict(tree.count()),
        "campaign": _view(tree),
    }


def _view(node: Node) -> dict[str, Any]:
    below = {"campaign": "ad_groups", "ad_group": "ads"}.get(node.sort)
    return {
        "id": node.id,
        "name": node.name,
        "status": node.status,
        "platform_id": node.platform_id,
        "error": node.error,
        "task_id": node.task_id,
        "follow_id": node.follow_id,
        **({below: [_view(child) for child in node.children]} if below else {}),
    }


def check_cancel(draft: Draft) -> None:
    """What else the shop has under way is not cancelled as a campaign."""
    if not is_campaign(draft.base):
        raise NotFound("campaign", show_id(draft.base.id))


add_order_routes(desk, shop.name, path=PATH, view=view_campaign, model=CampaignView, check_cancel=check_cancel)
