"""Placing an order: one transaction stores the operation, its plan, its RFA if it wants one, its key, and event 1."""

import hashlib
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial

from orderup.db.database import Also, Key, WriteConnection
from orderup.engine.engine import Engine
from orderup.errors import IdTaken, InvalidPlan, NotFound, Unavailable
from orderup.model.ids import OperationId
from orderup.model.kind import Kind
from orderup.model.operation import Operation
from orderup.model.placing import place
from orderup.model.plan import Plan

# Ids are drawn by lot; two in a row that are taken are a fault, not bad luck.
MOST_TRIES = 5


def scoped_key(*scope: str, key: str) -> str:
    """A key as the table of keys holds it: digest of its scope (shop, route, whose it is) and of itself."""
    text = "\x1f".join([*scope, key])
    return hashlib.sha256(text.encode()).hexdigest()


async def place_order(
    engine: Engine,
    shop: str,
    plan: Plan,
    *,
    key: Key | None = None,
    also: Callable[[WriteConnection, OperationId], None] | None = None,
    source: str = "request",
    owner: str | None = None,
    key_hash: str | None = None,
    key_salt: str | None = None,
    client: str | None = None,
    held_by: str | None = None,
    operation_id: OperationId | None = None,
) -> Operation:
    """Store a new operation and set it going. `also` writes the shop's own rows in the same transaction. `client`:
    whose it is, where clients take turns. `held_by`: the process that holds its customer's connection.

    Raises InvalidPlan; Replayed if `key` placed one before by the same request, KeyMisused if by another one; IdTaken
    if there is an operation of that `operation_id`.
    """
    kinds = engine.kinds.get(shop)
    if kinds is None:
        raise NotFound("shop", shop)
    _check_regions(plan, kinds)
    for _ in range(MOST_TRIES):
        id = operation_id or engine.new_id(engine.now())
        draft = place(
            plan,
            id=id,
            shop=shop,
            kinds=kinds,
            now=engine.now(),
            rfa_within=engine.limits.rfa_within,
            lease=engine.limits.lease,
            source=source,
            owner=owner,
            key_hash=key_hash,
            key_salt=key_salt,
            client=client,
            held_by=held_by,
        )
        rows: Also | None = None if also is None else partial(_rows_of, also, id)
        try:
            return await engine.desk.place(draft, key=key, also=rows)
        except IdTaken:
            if operation_id is not None:
                raise
    raise Unavailable("No free id was found for this order.")


def check_plan(plan: Plan, *, shop: str, kinds: Mapping[str, Kind]) -> None:
    """Raises InvalidPlan, as to place it would."""
    _check_regions(plan, kinds)
    place(plan, id=OperationId(1), shop=shop, kinds=kinds, now=0, rfa_within=timedelta(hours=1))


def _check_regions(plan: Plan, kinds: Mapping[str, Kind]) -> None:
    """Executors are in no region: a task of theirs that had one would wait until its time is over."""
    for task in plan.tasks:
        if task.region is not None and (kind := kinds.get(task.kind or task.name)) is not None and kind.has_handler:
            raise InvalidPlan(
                f"Task {task.name} is to be done in the region {task.region}, but its kind {kind.name} has a handler, "
                f"which runs in any process that serves the shop. Leave the region out, or declare the kind with "
                f'shop.remote("{kind.name}") and have a worker of that region do it.'
            )


def _rows_of(
    also: Callable[[WriteConnection, OperationId], None], id: OperationId, connection: WriteConnection
) -> None:
    also(connection, id)
