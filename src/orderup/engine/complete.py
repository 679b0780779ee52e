"""Completing a task: its result is stored, its dependants are released, in one transaction."""

from collections.abc import Awaitable, Callable
from typing import Any

from orderup.db.database import Change, GateClosed, WriteConnection, change_of
from orderup.engine.engine import Engine
from orderup.errors import NotFound, Unavailable
from orderup.model import work
from orderup.model.ids import show_id
from orderup.model.operation import Draft
from orderup.model.placing import encode

MOST_TRIES = 20


class _ChangedMeanwhile(Exception):
    """Somebody changed the operation while the step ran."""


def complete_task(
    engine: Engine,
    operation_id: int,
    position: int,
    *,
    token: str,
    result: str | None,
    answer: str | None = None,
    shop: str | None = None,
) -> Awaitable[None]:
    """`result` is JSON. `answer`: fingerprint of this write; sent again it changes nothing. Raises StaleToken."""

    def decide(draft: Draft) -> None:
        work.complete(draft, position, token=token, result=result, now=engine.now(), answer=answer)

    return engine.desk.decide(operation_id, decide, shop=shop)


async def complete_by_step(
    engine: Engine, operation_id: int, position: int, *, token: str, step: Callable[[WriteConnection], Any]
) -> None:
    """Run a step, a function that only touches the database, inside the transaction that completes its task with what
    it returns. It may run more than once; only one run is committed. Raises StaleToken and what the step raises."""

    def run(connection: WriteConnection) -> tuple[Draft, Change]:
        operation = connection.load(operation_id)
        if operation is None:
            raise NotFound("operation", show_id(operation_id))
        draft = Draft(operation)
        work.check_token(draft, position, token)
        result = encode(step(connection))
        work.complete(draft, position, token=token, result=result, now=engine.now())
        change = change_of(draft, limited=engine.is_limited)
        if isinstance(connection.change(change), GateClosed):
            raise _ChangedMeanwhile  # what the step has written is undone, too
        return draft, change

    for _ in range(MOST_TRIES):
        try:
            known = engine.desk.known(operation_id)
            draft, change = await engine.database.write(run, about=operation_id, known=known)
        except _ChangedMeanwhile:
            continue
        finally:
            engine.desk.forget(operation_id)
        engine.bell.ring([draft.task(released).queue for released in draft.released])
        engine.desk.announce_permits(change)
        return
    raise Unavailable("The operation is being changed by too many at once.")
