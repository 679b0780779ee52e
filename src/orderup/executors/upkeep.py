"""What keeps an executor's one lease alive, and what it holds true.

A commit whose answer was lost may have claimed tasks that this process does not know of: they would stay running under
a lease that is renewed for ever. So the executor looks now and then at what the database says it holds, and gives up
what it has not known twice in a row. What it carries out without holding it any more is ended.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from datetime import timedelta
from typing import Protocol

import structlog

from orderup.engine.engine import Engine
from orderup.engine.hand_back import hand_back_task
from orderup.engine.lease import beat_executor, held_by, sign_off
from orderup.errors import NotFound, StaleToken, Unavailable
from orderup.model.ids import show_id, show_task_id

log = structlog.get_logger(__name__)
BEATS_A_LEASE = 3


class Executor(Protocol):
    id: str

    def holds(self, token: str) -> bool: ...

    def begun(self) -> set[str]:
        """Tokens of what is being carried out."""
        ...

    def end(self, tokens: Iterable[str]) -> None:
        """These claims have ended: cancel what carries them out."""
        ...


async def keep_lease(engine: Engine, executor: Executor, *, kind: str, lease: timedelta) -> None:
    """Until cancelled. The first beat registers the executor."""
    unknown: set[str] = set()
    while True:
        try:
            await beat_executor(engine, executor.id, kind=kind, lease=lease)
            unknown = await _compare(engine, executor, unknown)
        except Unavailable as error:
            log.warning("the executor's lease cannot be renewed now", error=str(error))
            await asyncio.sleep(min(1.0, lease.total_seconds() / 10))
            continue
        await asyncio.sleep(lease.total_seconds() / BEATS_A_LEASE)


async def _compare(engine: Engine, executor: Executor, unknown: set[str]) -> set[str]:
    """What it does with what it holds; tokens that it holds without knowing them."""
    begun = executor.begun()  # before the look: what is begun after it is not missing there
    held = await engine.database.read(lambda connection: held_by(connection, executor.id))
    executor.end(begun - {token for _, _, token in held})
    strange = [each for each in held if not executor.holds(each[2])]
    for operation_id, position, token in strange:
        if token in unknown:
            log.warning(
                "a task was claimed without being begun; handed back",
                operation_id=show_id(operation_id),
                task_id=show_task_id(operation_id, position),
            )
            await _hand_back(engine, operation_id, position, token)
    return {token for _, _, token in strange}


async def _hand_back(engine: Engine, operation_id: int, position: int, token: str) -> None:
    """What was never begun, or was given up: if it is still held."""
    with contextlib.suppress(StaleToken, NotFound):
        await hand_back_task(engine, operation_id, position, token=token)


async def end_lease(engine: Engine, executor: Executor) -> None:
    """Nothing runs any more: what the database says it holds goes back, and nobody needs to wait for its lease."""
    try:
        held = await engine.database.read(lambda connection: held_by(connection, executor.id))
        await asyncio.gather(*(_hand_back(engine, *each) for each in held))
        await sign_off(engine, executor.id)
    except Unavailable as error:
        log.warning("the executor could not sign off; its lease runs out instead", error=str(error))
