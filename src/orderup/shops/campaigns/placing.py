"""Placing the campaigns of an import, one after the other, in the order of the file.

A campaign's parts are deleted in the very transaction that places it. So whoever places an import goes on where the
last one was killed, several may do it at once, and no campaign is placed twice.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import and_, delete, select, update

from orderup import Context, Plan, PlannedTask, Wait
from orderup.db.database import ReadConnection, WriteConnection
from orderup.errors import Conflict
from orderup.model.ids import OperationId, read_id, show_id
from orderup.shops.campaigns.campaign import Campaign
from orderup.shops.campaigns.campaigns import write_row
from orderup.shops.campaigns.import_reading import merge_parts, read_parts
from orderup.shops.campaigns.imports import ImportState
from orderup.shops.campaigns.plan import PATIENT, STUBBORN, plan_campaign, shop
from orderup.shops.campaigns.tables import import_campaigns, import_parts, imports

# So many ads are placed in one go: more would hold up others' writes.
ADS_AT_ONCE, PLACED_AT_ONCE = 1_000, 64
# An attempt ends after so long and the next goes on: whoever stops a server does not wait for a million campaigns.
SECONDS_AT_A_TIME = 20.0
LONGEST_ATTEMPT = timedelta(minutes=10)

Also = Callable[[WriteConnection, int], None]
Read = Callable[[Callable[[ReadConnection], Any]], Awaitable[Any]]
# Places a campaign, with what is to be written besides. Raises Conflict if there is one of this id.
Place = Callable[[Campaign, Also], Awaitable[object]]


class Placer:
    """Places what an import has left, in the order of the file. `after`: the line of the last campaign it has tried."""

    def __init__(self, id: int, read: Read, place: Place, *, after: int = 0) -> None:
        self.id, self.read, self.place, self.after = id, read, place, after

    async def place_some(self) -> int | None:
        """How many campaigns were looked at; None: there are no more."""
        some: list[tuple[str, int, int]] = await self.read(partial(_to_place, self.id, self.after))
        if not some:
            return None
        ids = [campaign_id for campaign_id, _, _ in some]
        parts = await self.read(partial(read_parts, self.id, ids))
        merged = await asyncio.to_thread(lambda: [merge_parts(parts[each]).campaign for each in ids if each in parts])
        placing = [self._place(campaign) for campaign in merged if campaign is not None]
        for outcome in await asyncio.gather(*placing, return_exceptions=True):
            if outcome is not None:
                raise outcome
        self.after = some[-1][1]
        return len(some)

    async def _place(self, campaign: Campaign) -> None:
        try:
            await self.place(campaign, partial(self._note_placed, campaign.campaign_id))
        except Conflict:
            return  # it is here by now, or the import was discarded

    def _note_placed(self, campaign_id: str, connection: WriteConnection, _operation_id: int) -> None:
        """Raises Conflict if somebody else has placed it of this import, or nobody is to."""
        table = import_campaigns
        here = (table.c.import_id == self.id) & (table.c.campaign_id == campaign_id)
        noted = connection.execute(update(table).where(here, table.c.outcome.is_(None)).values(outcome="placed"))
        if noted.rowcount != 1:
            raise Conflict(f"Campaign {campaign_id} of this import is not waiting any more.")
        parts = import_parts
        connection.execute(delete(parts).where(parts.c.import_id == self.id, parts.c.campaign_id == campaign_id))


def _to_place(id: int, after: int, connection: ReadConnection) -> list[tuple[str, int, int]]:
    """The next campaigns, with their first lines and ads: one at least, and not many ads."""
    table = import_campaigns
    here = and_(table.c.import_id == id, table.c.outcome.is_(None), table.c.line > after)
    columns = (table.c.campaign_id, table.c.line, table.c.ads)
    found: list[tuple[str, int, int]] = []
    ads = 0
    statement = select(*columns).where(here).order_by(table.c.line).limit(PLACED_AT_ONCE)
    for campaign_id, line, count in connection.rows(statement):
        ads += count
        if found and ads > ADS_AT_ONCE:
            break
        found.append((campaign_id, line, count))
    return found


def finish(connection: WriteConnection, id: int, *, now: int) -> None:
    """Every campaign was tried: those that were not placed are here already."""
    table = import_campaigns
    here = (table.c.import_id == id) & table.c.outcome.is_(None)
    connection.execute(update(table).where(here).values(outcome="here"))
    connection.execute(delete(import_parts).where(import_parts.c.import_id == id))
    done = {"state": ImportState.DONE, "touched_at": now}
    connection.execute(update(imports).where(imports.c.id == id, imports.c.state == ImportState.PLACING).values(done))


def plan_import(id: int) -> Plan:
    """One task, which goes on for as long as there are campaigns to place."""
    return Plan(
        [PlannedTask("place_campaigns", {"import": show_id(id)})],
        words={"operation.completed": "The campaigns of the file are here"},
    )


@shop.handler(says="Placing the campaigns of a file", timeout=LONGEST_ATTEMPT, within=PATIENT, retry=STUBBORN)
async def place_campaigns(context: Context) -> Wait | None:
    id = read_id(context.params["import"], what="import")
    placer = Placer(id, context.read, partial(_place_by, context, id), after=(context.memo or {"after": 0})["after"])
    enough = time.monotonic() + SECONDS_AT_A_TIME
    while await placer.place_some() is not None:
        if time.monotonic() > enough:
            return Wait(0, memo={"after": placer.after})
    now = round(context.resources.now() * 1e6)
    await context.write(lambda connection: finish(connection, id, now=now))
    return None


async def _place_by(context: Context, id: int, campaign: Campaign, also: Also) -> None:
    def write(connection: WriteConnection, operation_id: int) -> None:
        write_row(connection, OperationId(operation_id), campaign)
        also(connection, operation_id)

    await context.place(plan_campaign(campaign), key=f"{show_id(id)} {campaign.campaign_id}", also=write)
