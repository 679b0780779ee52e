"""A handler that asks to be called again later, and one that notes how far it has come."""

from orderup.engine.engine import Engine
from orderup.model import work
from orderup.model.operation import Draft


async def let_task_wait(
    engine: Engine,
    operation_id: int,
    position: int,
    *,
    token: str,
    seconds: float,
    memo: str | None,
    answer: str | None = None,
    shop: str | None = None,
    was_sent: bool = True,
) -> None:
    """The task waits as a row, and is then claimed anew. `memo` is JSON, None keeps the last. `was_sent` False: nothing
    went out, and a rate limit gets its permit back. Raises StaleToken."""

    def decide(draft: Draft) -> None:
        now = engine.now()
        work.wait(draft, position, token=token, seconds=seconds, memo=memo, now=now, answer=answer, was_used=was_sent)

    await engine.desk.decide(operation_id, decide, shop=shop)


async def remember(
    engine: Engine, operation_id: int, position: int, *, token: str, memo: str, shop: str | None = None
) -> None:
    """Commit a memo in mid-handler, before and after something that must not be done twice. Raises StaleToken."""
    await engine.desk.decide(
        operation_id, lambda draft: work.remember(draft, position, token=token, memo=memo, now=engine.now()), shop=shop
    )
