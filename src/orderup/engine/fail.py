"""A failed attempt: tried again as the task's retry policy says, or errored."""

from datetime import timedelta

import structlog

from orderup.db.database import WriteConnection
from orderup.engine.engine import Engine
from orderup.engine.limit import note_paused_queues, rest_until
from orderup.model import work
from orderup.model.ids import show_id, show_task_id
from orderup.model.operation import Draft
from orderup.model.task import Task, TaskStatus, queue_of
from orderup.model.times import as_micros

log = structlog.get_logger(__name__)
# As long as any task may wait.
LONGEST_REST = timedelta(days=366)


async def fail_task(
    engine: Engine,
    operation_id: int,
    position: int,
    *,
    token: str,
    error: str,
    final: bool = False,
    retry_after: timedelta | None = None,
    pauses_queue: bool = False,
    was_sent: bool = True,
    answer: str | None = None,
    shop: str | None = None,
) -> None:
    """`retry_after`: not earlier than that; with `pauses_queue` the whole queue rests so long, and what shares its
    allowance, and no attempt has failed: however many come at once, a third party that lets in a few at a time has them
    all in the end. `was_sent` False: nothing went out, and a rate limit gets its permit back. Raises StaleToken."""
    if retry_after is not None:
        retry_after = min(max(retry_after, timedelta(0)), LONGEST_REST)
    now, is_rest = engine.now(), bool(pauses_queue and retry_after)
    resting: list[str] = []

    def decide(draft: Draft) -> Task | None:
        nonlocal resting
        was_told = work.was_answered(draft, position, answer)
        work.fail(
            draft,
            position,
            token=token,
            error=error,
            now=now,
            random=engine.random,
            final=final,
            retry_after_us=as_micros(retry_after) if retry_after else None,
            is_rest=is_rest,
            answer=answer,
            was_used=was_sent,
        )
        task = draft.task(position)
        resting = engine.resting_together(queue_of(task.queue))
        return None if was_told else task

    if not (pauses_queue and retry_after):
        _tell_of(operation_id, await engine.desk.decide(operation_id, decide, shop=shop))
        return

    def pause(connection: WriteConnection) -> None:
        for queue in resting:
            rest_until(connection, queue, now + as_micros(retry_after))

    _tell_of(operation_id, await engine.desk.decide(operation_id, decide, shop=shop, also=pause), is_rest=not final)
    await note_paused_queues(engine)


def _tell_of(operation_id: int, task: Task | None, *, is_rest: bool = False) -> None:
    """Once it is stored, in the words that staff reads, too. None: it was told when the same write came first."""
    if task is None:
        return
    log.info(
        "a third party asks for a rest" if is_rest else "an attempt failed",
        kind=task.kind,
        error=task.error,
        final=task.status is TaskStatus.ERRORED,
        attempt=task.attempt,
        operation_id=show_id(operation_id),
        task_id=show_task_id(operation_id, task.position),
    )
