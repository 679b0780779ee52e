"""Deciding an RFA. The first decision stands; a second one is told who made it."""

from orderup.db.database import Key
from orderup.engine.engine import Engine
from orderup.model import approval


async def approve_rfa(
    engine: Engine,
    operation_id: int,
    *,
    by: str,
    notes: str | None = None,
    shop: str | None = None,
    key: Key | None = None,
) -> None:
    """Release the operation's first tasks. Raises NotFound, AlreadyDecided."""
    await engine.desk.decide(
        operation_id, lambda draft: approval.approve(draft, by=by, notes=notes, now=engine.now()), shop=shop, key=key
    )


async def decline_rfa(
    engine: Engine,
    operation_id: int,
    *,
    by: str,
    notes: str | None = None,
    shop: str | None = None,
    key: Key | None = None,
) -> None:
    """Cancel the operation; the customer reads `notes`. Raises NotFound, AlreadyDecided."""
    await engine.desk.decide(
        operation_id, lambda draft: approval.decline(draft, by=by, notes=notes, now=engine.now()), shop=shop, key=key
    )


async def expire_rfa(engine: Engine, operation_id: int) -> None:
    """Nobody answered in time. Raises AlreadyDecided if somebody did after all."""
    await engine.desk.decide(operation_id, lambda draft: approval.expire(draft, now=engine.now()))
