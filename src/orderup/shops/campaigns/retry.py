"""Trying again what failed of a campaign, by hand: one branch of it, or all of them."""

from functools import partial

from orderup.engine.engine import Engine
from orderup.engine.forget import refuse_if_forgotten
from orderup.engine.steer import rerun_task, retry_operation
from orderup.errors import Conflict
from orderup.model import steer
from orderup.model.operation import Draft, Operation, OperationStatus
from orderup.model.task import TaskStatus
from orderup.shops.campaigns.plan import SUBMIT, shop


async def retry_one(engine: Engine, operation_id: int, position: int) -> None:
    """What is not known to be missing at the platform is looked for there, and not submitted. Raises NotFound, and
    Conflict if it has not failed."""
    await rerun_task(engine, operation_id, position, shop=shop.name)


async def retry_failed(engine: Engine, operation: Operation) -> None:
    """All of them. Of what may be there the platform is asked again, and nothing is sent. Raises Conflict if there are
    none."""
    if operation.status is OperationStatus.ERRORED:
        await retry_operation(engine, operation.id, shop=shop.name)
        return
    check = partial(refuse_if_forgotten, operation_id=operation.id)
    await engine.desk.decide(operation.id, partial(_rerun_failed, now=engine.now()), shop=shop.name, also=check)


def _rerun_failed(draft: Draft, *, now: int) -> None:
    failed = [task for task in draft.tasks() if task.status is TaskStatus.ERRORED]
    if not failed:
        raise Conflict("Nothing of this campaign has failed. Nothing was changed.")
    for task in failed:
        once = task.kind == SUBMIT
        steer.rerun(draft, task.position, now=now, once=once, memo=task.memo if once else None)
