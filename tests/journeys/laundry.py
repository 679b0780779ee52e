"""A shop for tests, whose work is done in the server's own process: `orderup serve tests.journeys.laundry:shop`.

Whoever orders says how long each handler takes. Each notes that it began (LAUNDRY_LEDGER), which may happen more than
once; the last one is a step and writes a row, which must be there once.
"""

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any

from fastapi import Request
from pydantic import Field
from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, insert
from starlette.responses import Response

from orderup import Context, Plan, PlannedTask, Shop
from orderup.db.database import WriteConnection
from orderup.model.ids import read_id, show_id
from orderup.web import AsAnyone, Json, RequestModel, Router, add_order_routes, place
from tests.invariants.records import Ledger, Started

PATH = "loads"
tables = MetaData()
# Nothing in the table keeps a load from being noted twice: that is what is looked for.
tickets = Table(
    "laundry_tickets",
    tables,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("operation_id", BigInteger, nullable=False),
    Column("weight", Integer, nullable=False),
)
front = Router(tags=["laundry"])
shop = Shop("laundry", front=front, tables=tables)
ledger = Ledger(Path(os.environ.get("LAUNDRY_LEDGER", os.devnull)))


class Load(RequestModel):
    seconds: Annotated[float, Field(ge=0, le=60)] = 0


@front.post(f"/{PATH}", status_code=202, summary="Have something washed")
async def order(request: Request, caller: AsAnyone, body: Load) -> Response:
    params = {"seconds": body.seconds}
    plan = Plan(
        [
            PlannedTask("whites", kind="wash", params=params),
            PlannedTask("colours", kind="wash", params=params),
            PlannedTask("iron", params=params, after=["whites", "colours"]),
            PlannedTask("note", after=["iron"]),
        ]
    )
    placed = await place(request, caller, "laundry", plan, body=body.model_dump(), path=PATH)
    return Json({"id": show_id(placed.operation.id)}, status_code=202, headers=placed.headers)


@shop.handler(says="Washing")
async def wash(context: Context) -> dict[str, Any]:
    return await work(context, weight=2)


@shop.handler(says="Ironing")
async def iron(context: Context) -> dict[str, Any]:
    return await work(context, weight=sum(each["weight"] for each in context.inputs.values()))


async def work(context: Context, *, weight: int) -> dict[str, Any]:
    here = f"{os.getpid()} {context.task_id} {context.attempt}"
    inputs = dict(context.inputs)
    ledger.write(
        Started(worker=str(os.getpid()), task=context.task_id, attempt=context.attempt, token=here, inputs=inputs)
    )
    await asyncio.sleep(context.params["seconds"])
    return {"weight": weight}


@shop.step(says="Done")
def note(connection: WriteConnection, context: Context) -> dict[str, Any]:
    weight = context.inputs["iron"]["weight"]
    values = {"operation_id": read_id(context.operation_id), "weight": weight}
    connection.execute(insert(tickets).values(values))
    return {"weight": weight}


add_order_routes(front, "laundry", path=PATH)
