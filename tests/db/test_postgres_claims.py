"""Claims on PostgreSQL: what others hold locked, and a server's clock that somebody sets."""

import asyncio

import psycopg

from orderup.db.postgres import PostgresDatabase
from orderup.model.plan import Plan, PlannedTask
from tests.db.test_claims import ask_for, claim_all
from tests.engine.kitchen import DOUGH, Kitchen, Time


async def test_a_claimer_that_passed_over_a_locked_operation_is_told_to_come_back(cupboard: PostgresDatabase) -> None:
    kitchen = Kitchen(cupboard, Time())
    locked, free = await kitchen.place(DOUGH), await kitchen.place(DOUGH)
    with psycopg.connect(cupboard.url) as other:
        other.execute("select from operations where id = %s for update", [locked.id])
        claims = await cupboard.claim(ask_for("dough", most=5))
        assert [each.operation_id for each in claims.claimed] == [free.id]
        assert claims.next_permit_in is not None
    assert [each.operation_id for each in await claim_all(cupboard, ask_for("dough"))] == [locked.id]


async def test_a_clock_set_back_costs_a_window_and_no_more(cupboard: PostgresDatabase) -> None:
    kitchen = Kitchen(cupboard, Time())
    await asyncio.gather(*(kitchen.place(Plan([PlannedTask("phone")])) for _ in range(8)))
    assert len((await cupboard.claim(ask_for("phone", most=5))).claimed) == 5
    with psycopg.connect(cupboard.url) as other:
        other.execute("update permits set taken_at = taken_at + 86400 * 1000000::bigint")
    assert list((await cupboard.claim(ask_for("phone", most=5))).claimed) == []
    async with asyncio.timeout(20):
        assert len(await claim_all(cupboard, ask_for("phone", most=5))) == 3
