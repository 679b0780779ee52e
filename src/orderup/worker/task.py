"""What a worker function is given."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

import structlog

from orderup.model.operation import OperationStatus
from orderup.worker.link import Claim

Remember = Callable[[Any], Awaitable[None]]


class Task:
    """One claimed task. It offers what a handler's context does (`orderup.shop.TaskContext`), but for `http` and
    `heartbeat`, so that one function may be either.

    id, task_id: of the task; operation_id: of its order. kind: which function does it; name: what its plan calls it.
    params: of its plan. inputs: results of the tasks it depends on, by name. memo: what it remembered last, None at
    first. attempt: counted from 1. log: carries the ids. operation_status: as of the last heartbeat; `paused` means
    only that nothing follows this task for now.
    """

    def __init__(self, claim: Claim, *, remember: Remember) -> None:
        self.id = self.task_id = claim.id
        self.operation_id = claim.operation_id
        self.name, self.kind = claim.name, claim.kind
        self.params: Any = claim.params
        self.inputs: Mapping[str, Any] = claim.inputs
        self.memo: Any = claim.memo
        self.attempt = claim.attempt
        self.operation_status = OperationStatus.RUNNING
        ids = {"operation_id": claim.operation_id, "task_id": claim.id}
        self.log: Any = structlog.get_logger("orderup.worker").bind(**ids, kind=claim.kind)
        self._remember = remember
        self._lease_seconds = claim.lease_seconds
        left = math.inf if claim.deadline_seconds is None else claim.deadline_seconds
        self._ends_at = asyncio.get_running_loop().time() + left

    @property
    def lease(self) -> timedelta:
        """How long the claim would live without its heartbeats."""
        return timedelta(seconds=self._lease_seconds)

    @property
    def deadline(self) -> float:
        """Seconds left until the task errors, done or not; infinite if it may take for ever."""
        return max(0.0, self._ends_at - asyncio.get_running_loop().time())

    async def remember(self, memo: Any) -> None:
        """Have the server keep a memo now, before and after something that must not be done twice. Whoever takes this
        task over finds it as `memo`.

        Returns when it is kept, however long the server is away. Raises TypeError for what JSON cannot hold, a Refused
        for what the server does not take, ClaimEnded if the task is not ours any more.
        """
        await self._remember(memo)
        self.memo = memo
