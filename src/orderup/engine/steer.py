"""Steering an operation by hand: cancel, pause, resume, retry; and one task of it: rerun, cancel.

Each is a change of state and works at once. Whoever holds a task is told with his next heartbeat or write.
"""

from functools import partial

from orderup.db.database import Key
from orderup.engine.engine import Engine
from orderup.engine.forget import refuse_if_forgotten
from orderup.model import steer
from orderup.model.operation import Draft


async def cancel_operation(
    engine: Engine, operation_id: int, *, reason: str, shop: str | None = None, key: Key | None = None
) -> None:
    """Raises NotFound, and Conflict if it has ended."""
    await engine.desk.decide(
        operation_id, lambda draft: steer.cancel(draft, reason=reason, now=engine.now()), shop=shop, key=key
    )


async def pause_operation(
    engine: Engine, operation_id: int, *, shop: str | None = None, key: Key | None = None
) -> None:
    """No task of it is claimed any more; those running may finish. Raises NotFound, Conflict."""
    await engine.desk.decide(operation_id, lambda draft: steer.pause(draft, now=engine.now()), shop=shop, key=key)


async def resume_operation(
    engine: Engine, operation_id: int, *, shop: str | None = None, key: Key | None = None
) -> None:
    """Raises NotFound, Conflict."""
    await engine.desk.decide(operation_id, lambda draft: steer.resume(draft, now=engine.now()), shop=shop, key=key)


async def retry_operation(
    engine: Engine, operation_id: int, *, shop: str | None = None, key: Key | None = None
) -> None:
    """Try an errored operation again from the tasks that failed. Raises NotFound, and Conflict if it is not errored or
    was forgotten."""
    await engine.desk.decide(
        operation_id,
        lambda draft: steer.retry(draft, now=engine.now()),
        shop=shop,
        key=key,
        also=partial(refuse_if_forgotten, operation_id=operation_id),
    )


async def rerun_task(
    engine: Engine, operation_id: int, position: int, *, shop: str | None = None, key: Key | None = None
) -> None:
    """Raises NotFound, and Conflict once a dependant has started or the operation was forgotten."""

    def decide(draft: Draft) -> None:
        task = draft.task(position)
        kind = engine.kinds.get(draft.base.shop, {}).get(task.kind)
        once = kind is not None and kind.once
        steer.rerun(draft, position, now=engine.now(), once=once, memo=task.memo if once else None)

    await engine.desk.decide(
        operation_id,
        decide,
        shop=shop,
        key=key,
        also=partial(refuse_if_forgotten, operation_id=operation_id),
    )


async def cancel_task(
    engine: Engine, operation_id: int, position: int, *, shop: str | None = None, key: Key | None = None
) -> None:
    """Cancel a task and all that depends on it. Raises NotFound, Conflict."""
    await engine.desk.decide(
        operation_id, lambda draft: steer.cancel_task(draft, position, now=engine.now()), shop=shop, key=key
    )
