"""Retention: finished operations are deleted when their time is over, in small transactions.

Only those of shops that this process has: whatever an absent shop keeps of its orders, names and addresses perhaps,
could never be deleted once the operations that lead there are gone. A process that has the shop prunes them.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlalchemy import delete, func, select, update

from orderup.db.database import ReadConnection, WriteConnection
from orderup.db.tables import deliveries, events, facts, keys, operations, permits, revoked_tokens, rfas, tasks
from orderup.engine.engine import Engine
from orderup.errors import Unavailable
from orderup.model.times import as_micros

# In one transaction: operations, and events of them, which a single operation may exceed.
MOST_AT_ONCE = 200
MOST_EVENTS_AT_ONCE = 20_000
MOST_KEYS_AT_ONCE = 2_000
# Deletes a shop's own rows of operations that are being pruned.
ShopPrune = Callable[[WriteConnection, Sequence[int]], None]
NO_ROWS: Mapping[str, ShopPrune] = MappingProxyType({})


async def prune(engine: Engine, *, shops: Mapping[str, ShopPrune] = NO_ROWS, before: int | None = None) -> int:
    """Delete operations that finished before a moment (default: now less the retention time), and keys whose time is
    over; how many operations."""
    horizon = engine.now() - as_micros(engine.limits.retention) if before is None else before
    await forget_keys(engine)
    return await prune_operations(engine, shops=shops, before=horizon)


async def prune_operations(engine: Engine, *, shops: Mapping[str, ShopPrune] = NO_ROWS, before: int) -> int:
    """Delete operations that finished before a moment, with all that belongs to them; how many. `shops`: what deletes
    the rows of those shops of the engine that have any. One that raises keeps its own operations, and is raised once
    all have had their turn."""
    pruned, failed = 0, None
    for shop in sorted(engine.kinds):
        try:
            pruned += await _prune_shop(engine, shop, before, shops.get(shop))
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001  a shop's own code: the others' turns come all the same
            failed = failed or error
    if failed is not None:
        raise failed
    return pruned


async def _prune_shop(engine: Engine, shop: str, before: int, prune_rows: ShopPrune | None) -> int:
    pruned = 0
    while count := await engine.database.write(lambda connection: _prune_some(connection, shop, before, prune_rows)):
        pruned += count
    return pruned


async def left_alone(engine: Engine, *, before: int) -> list[str]:
    """Shops that this process does not have, and whose operations would have been pruned."""

    def look(connection: ReadConnection) -> list[str]:
        return [shop for shop in _shops_that_finished(connection, before) if shop not in engine.kinds]

    return await engine.database.read(look)


async def forget_keys(engine: Engine) -> int:
    """Delete idempotency keys and due times whose time is over, and what revoked tokens that have expired since; how
    many keys."""
    now = engine.now()
    kept = now - as_micros(engine.limits.keys_kept)
    forgotten = 0
    while count := await engine.database.write(lambda connection: _forget_some_keys(connection, kept)):
        forgotten += count
    await engine.database.write(
        lambda connection: connection.execute(delete(revoked_tokens).where(revoked_tokens.c.expires_at < now))
    )
    return forgotten


def _prune_some(connection: WriteConnection, shop: str, horizon: int, prune_rows: ShopPrune | None) -> int:
    ids = _some_finished(connection, shop, horizon)
    if not ids:
        return 0
    # of a sum: for the column itself PostgreSQL walks down the whole log, whose oldest events these are
    highest = connection.execute(select(func.max(events.c.seq + 0)).where(events.c.operation_id.in_(ids))).scalar() or 0
    if prune_rows is not None:
        prune_rows(connection, ids)
    for table, column in _of_operations():
        connection.execute(delete(table).where(column.in_(ids)))
    if not connection.insert_or_ignore(facts, {"name": "pruned_seq", "value": highest}):
        connection.execute(
            update(facts).where(facts.c.name == "pruned_seq", facts.c.value < highest).values(value=highest)
        )
    return len(ids)


def _some_finished(connection: WriteConnection, shop: str, horizon: int) -> list[int]:
    """The next to go. They are locked: one that somebody retries in this moment stays."""
    finished = operations.c.finished_at
    statement = (
        select(operations.c.id, operations.c.version)
        .where(operations.c.shop == shop, finished.is_not(None), finished < horizon)
        .order_by(finished)
        .limit(MOST_AT_ONCE)
    )
    ids: list[int] = []
    told = 0
    for id, events_told in connection.rows(statement.with_for_update(skip_locked=True)):
        told += events_told
        if ids and told > MOST_EVENTS_AT_ONCE:
            break
        ids.append(id)
    return ids


def _shops_that_finished(connection: ReadConnection, horizon: int) -> list[str]:
    """Shops with operations that finished before a moment. From one shop to the next in the index: `distinct` would
    read all of it."""
    finished = operations.c.finished_at
    found = []
    shop = ""
    while rows := connection.rows(
        select(operations.c.shop, finished)
        .where(finished.is_not(None), operations.c.shop > shop)
        .order_by(operations.c.shop, finished)
        .limit(1)
    ):
        shop, first = rows[0]
        if first < horizon:
            found.append(shop)
    return found


def _of_operations() -> list[tuple[Any, Any]]:
    of = [(table, table.c.operation_id) for table in (deliveries, events, tasks, rfas, permits)]
    return [*of, (operations, operations.c.id)]


def _forget_some_keys(connection: WriteConnection, kept: int) -> int:
    some = select(keys.c.key).where(keys.c.made_at < kept).order_by(keys.c.made_at).limit(MOST_KEYS_AT_ONCE)
    return connection.execute(delete(keys).where(keys.c.key.in_(some))).rowcount
