"""Which task the running code belongs to: set by whoever carries it out, read where log lines are written; and whether
it is to stop."""

import asyncio
from contextvars import ContextVar

from orderup.model.ids import show_id, show_task_id

# An operation's id and a task's position.
at_work: ContextVar[tuple[int, int] | None] = ContextVar("at_work", default=None)


def ids_at_work() -> dict[str, str]:
    """What a log line says of it: nothing outside of a task."""
    place = at_work.get()
    if place is None:
        return {}
    return {"operation_id": show_id(place[0]), "task_id": show_task_id(*place)}


def is_being_cancelled() -> bool:
    """Whether it is this very asyncio task that somebody cancelled, not something that it waited for."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
