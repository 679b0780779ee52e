"""Campaigns as they are kept: one operation each, and a row that says whose it is in its owner's words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select, true

from orderup.db.database import Key, ReadConnection, WriteConnection
from orderup.db.read import ids_with_row
from orderup.db.tables import operations
from orderup.engine.engine import Engine
from orderup.engine.place import place_order
from orderup.errors import Conflict
from orderup.model.ids import OperationId, show_id
from orderup.model.operation import Operation
from orderup.shops.campaigns.campaign import Campaign
from orderup.shops.campaigns.plan import plan_campaign, shop
from orderup.shops.campaigns.tables import campaigns


@dataclass(frozen=True, slots=True)
class CampaignRow:
    """A campaign in a list. status: of its operation."""

    operation_id: int
    id: str
    name: str
    groups: int
    ads: int
    status: str
    placed_at: int
    finished_at: int | None
    reason: str | None


_SHOWN = (
    campaigns.c.operation_id,
    campaigns.c.id,
    campaigns.c.name,
    campaigns.c.groups,
    campaigns.c.ads,
    operations.c.status,
    operations.c.placed_at,
    operations.c.finished_at,
    operations.c.reason,
)
_JOINED = campaigns.join(operations, operations.c.id == campaigns.c.operation_id)


async def add_campaign(
    engine: Engine,
    campaign: Campaign,
    *,
    source: str = "request",
    key: Key | None = None,
    also: Callable[[WriteConnection, OperationId], None] | None = None,
) -> Operation:
    """Place the operation that submits it. `also` writes more rows in the same transaction. Raises Conflict if there is
    a campaign of that id, and what `place_order` raises."""

    def write(connection: WriteConnection, operation_id: OperationId) -> None:
        write_row(connection, operation_id, campaign)
        if also is not None:
            also(connection, operation_id)

    return await place_order(engine, shop.name, plan_campaign(campaign), key=key, also=write, source=source)


def write_row(connection: WriteConnection, operation_id: OperationId, campaign: Campaign) -> None:
    """Raises Conflict if there is a campaign of that id."""
    row = {
        "operation_id": operation_id,
        "id": campaign.campaign_id,
        "name": campaign.campaign_name,
        "groups": len(campaign.ad_groups),
        "ads": campaign.ad_count,
    }
    if not connection.insert_or_ignore(campaigns, row):
        [there] = connection.rows(select(campaigns.c.operation_id).where(campaigns.c.id == campaign.campaign_id))
        raise Conflict(f"There is a campaign {campaign.campaign_id} already, {show_id(there[0])}.")


def read_campaign(connection: ReadConnection, operation_id: int) -> CampaignRow | None:
    rows = connection.rows(select(*_SHOWN).select_from(_JOINED).where(campaigns.c.operation_id == operation_id))
    return CampaignRow(*rows[0]) if rows else None


def list_campaigns(
    connection: ReadConnection, *, statuses: Sequence[str], before: int | None, most: int
) -> list[CampaignRow]:
    """The newest first. `statuses`: of operations; none: all."""
    if statuses:
        # those that match may be few among very many: looked for among operations
        ids = ids_with_row(connection, campaigns, shop=shop.name, statuses=statuses, beyond=before, most=most)
        return _rows(connection, campaigns.c.operation_id.in_(ids))
    return _rows(connection, true() if before is None else campaigns.c.operation_id < before, most=most)


def _rows(connection: ReadConnection, condition: Any, *, most: int | None = None) -> list[CampaignRow]:
    statement = select(*_SHOWN).select_from(_JOINED).where(condition)
    rows = connection.rows(statement.order_by(campaigns.c.operation_id.desc()).limit(most))
    return [CampaignRow(*row) for row in rows]


def facts_of_campaigns(connection: ReadConnection, operation_ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
    """What staff reads of them."""
    statement = select(*_SHOWN).select_from(_JOINED).where(campaigns.c.operation_id.in_(operation_ids))
    found = [CampaignRow(*row) for row in connection.rows(statement)]
    return {
        each.operation_id: {"Campaign": each.name, "Id": each.id, "Ad groups": each.groups, "Ads": each.ads}
        for each in found
    }


def prune_campaigns(connection: WriteConnection, operation_ids: Sequence[int]) -> None:
    connection.execute(delete(campaigns).where(campaigns.c.operation_id.in_(operation_ids)))
