"""What comes due by itself: waits that end, deadlines that pass, RFAs that nobody answered."""

import asyncio
from collections.abc import Awaitable, Iterable
from functools import partial

from sqlalchemy import func, select, update

from orderup.db.database import ReadConnection, WriteConnection
from orderup.db.tables import rfas, tasks
from orderup.engine.decide import expire_rfa
from orderup.engine.engine import Engine
from orderup.errors import AlreadyDecided, NotFound
from orderup.model import work
from orderup.model.task import queue_of

MOST_AT_ONCE = 500


async def end_waits(engine: Engine) -> int:
    """Tasks whose wait is over become claimable; how many.

    That is no change of their operation: `waiting` says only that it is not yet time. So no version is raised.
    """
    now = engine.now()
    if not await engine.database.read(lambda connection: _is_anything_due(connection, now)):
        return 0

    def write(connection: WriteConnection) -> list[tuple[int, str]]:
        some = (
            select(tasks.c.operation_id, tasks.c.position)
            .where(tasks.c.due_at <= now, tasks.c.status == "waiting", tasks.c.ready_at <= now)
            .limit(MOST_AT_ONCE)
        )
        ended = []
        for operation_id, position in connection.rows(some):
            queue = connection.execute(
                update(tasks)
                .where(
                    tasks.c.operation_id == operation_id,
                    tasks.c.position == position,
                    tasks.c.status == "waiting",
                    tasks.c.ready_at <= now,
                )
                .values(status="pending", due_at=tasks.c.deadline_at)
                .returning(tasks.c.queue)
            ).scalar()
            if queue is not None:
                ended.append((operation_id, queue))
        return ended

    ended = await engine.database.write(write)
    if engine.lines is not None:
        engine.lines.look_again(operation_id for operation_id, queue in ended if queue_of(queue) in engine.lines.kinds)
    engine.bell.ring([queue for _, queue in ended])
    return len(ended)


def _is_anything_due(connection: ReadConnection, now: int) -> bool:
    return connection.execute(select(tasks.c.due_at).where(tasks.c.due_at <= now).limit(1)).first() is not None


async def pass_deadlines(engine: Engine) -> int:
    """End tasks that were not done within their time; how many."""
    now = engine.now()

    def overdue(connection: ReadConnection) -> list[tuple[int, int]]:
        by_clock = select(tasks.c.operation_id, tasks.c.position).where(
            tasks.c.due_at <= now, tasks.c.deadline_at <= now
        )
        claimed = select(tasks.c.operation_id, tasks.c.position).where(
            tasks.c.lease_until.is_not(None), tasks.c.deadline_at <= now
        )
        rows = [*connection.rows(by_clock.limit(MOST_AT_ONCE)), *connection.rows(claimed.limit(MOST_AT_ONCE))]
        return [(row[0], row[1]) for row in rows]

    found = await engine.database.read(overdue)
    await _at_once(
        engine.desk.decide(operation_id, partial(work.run_out, position=position, now=now))
        for operation_id, position in found
    )
    return len(found)


async def expire_rfas(engine: Engine) -> int:
    """End RFAs that nobody answered in time; how many."""
    now = engine.now()

    def overdue(connection: ReadConnection) -> list[int]:
        statement = select(rfas.c.operation_id).where(rfas.c.status == "pending", rfas.c.expires_at <= now)
        return list(connection.execute(statement.order_by(rfas.c.expires_at).limit(MOST_AT_ONCE)).scalars())

    found = await engine.database.read(overdue)
    await _at_once(expire_rfa(engine, operation_id) for operation_id in found)
    return len(found)


async def _at_once(changes: Iterable[Awaitable[None]]) -> None:
    """Changes of many operations, so that they share commits. Where somebody was faster, or retention, all is well."""
    for outcome in await asyncio.gather(*changes, return_exceptions=True):
        if isinstance(outcome, BaseException) and not isinstance(outcome, AlreadyDecided | NotFound):
            raise outcome


async def next_due(engine: Engine) -> int | None:
    """When the next wait or deadline comes due."""
    return await engine.database.read(
        lambda connection: connection.execute(
            select(func.min(tasks.c.due_at)).where(tasks.c.due_at.is_not(None))
        ).scalar()
    )
