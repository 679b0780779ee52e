"""Handing a claim back undone: the task is claimable again at once, in its old place."""

from collections.abc import Sequence

import structlog

from orderup.db.database import Claimed
from orderup.engine.engine import Engine
from orderup.errors import NotFound, StaleToken, Unavailable
from orderup.model import work
from orderup.model.ids import show_id, show_task_id
from orderup.model.operation import Draft

log = structlog.get_logger(__name__)


async def hand_back_task(
    engine: Engine, operation_id: int, position: int, *, token: str, shop: str | None = None, was_used: bool = True
) -> None:
    """`was_used` False: the worker never got the claim; a rate limit gets its permit back. Raises StaleToken."""

    def decide(draft: Draft) -> None:
        work.hand_back(draft, position, token=token, now=engine.now(), was_used=was_used)

    await engine.desk.decide(operation_id, decide, shop=shop)


async def hand_back_all(engine: Engine, claimed: Sequence[Claimed]) -> None:
    """Claims whose worker never got them. One that has ended meanwhile needs no handing back; with the database away,
    its lease ends it."""
    for each in claimed:
        token = each.task.token or ""
        try:
            await hand_back_task(engine, each.operation_id, each.task.position, token=token, was_used=False)
        except (StaleToken, NotFound):
            continue
        except Unavailable as error:
            log.warning(
                "a claim that nobody got cannot be handed back; its lease runs out instead",
                operation_id=show_id(each.operation_id),
                task_id=show_task_id(each.operation_id, each.task.position),
                error=str(error),
            )
