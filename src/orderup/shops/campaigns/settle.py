"""What a person has found out: whether the platform has what was perhaps submitted to it."""

from functools import partial

from orderup.db.database import Key
from orderup.engine.engine import Engine
from orderup.engine.forget import refuse_if_forgotten
from orderup.errors import Conflict
from orderup.model import steer
from orderup.model.operation import Draft
from orderup.model.placing import encode
from orderup.model.task import TaskStatus
from orderup.shops.campaigns.plan import SUBMIT, shop
from orderup.shops.campaigns.submission import FOUND
from orderup.shops.campaigns.tree import may_be_there


async def settle(
    engine: Engine, operation_id: int, position: int, *, platform_id: str | None, key: Key | None = None
) -> None:
    """Go on with a task whose submission is unknown. `platform_id`: as which the platform has it; None: it has none of
    it, and it is submitted. Raises NotFound, and Conflict if its outcome is not unknown."""
    memo = encode({} if platform_id is None else {FOUND: platform_id})

    def decide(draft: Draft) -> None:
        task = draft.task(position)
        if task.kind != SUBMIT or task.status is not TaskStatus.ERRORED or not may_be_there(task):
            raise Conflict(f"Task {task.name} is {task.status}, and there is no doubt about its submission.")
        steer.rerun(draft, position, now=engine.now(), once=True, memo=memo)

    check = partial(refuse_if_forgotten, operation_id=operation_id)
    await engine.desk.decide(operation_id, decide, shop=shop.name, key=key, also=check)
