"""A shop whose one kind of task does not end by itself, for servers that are asked to stop meanwhile."""

import asyncio

from orderup.model.plan import Plan, PlannedTask
from orderup.shop import Context, Shop

shop = Shop("slow")
PLAN = Plan([PlannedTask("think")])


@shop.handler()
async def think(context: Context) -> None:
    context.log.info("thinking", task=context.task_id)
    await asyncio.Event().wait()
