"""From a shop's plan to an operation that has just been placed."""

from collections.abc import Mapping
from datetime import timedelta

import msgspec

from orderup.errors import InvalidPlan
from orderup.model.ids import OperationId
from orderup.model.kind import Kind
from orderup.model.operation import Draft, Operation, OperationStatus
from orderup.model.plan import Plan, PlannedTask
from orderup.model.rfa import Rfa, RfaStatus
from orderup.model.task import Task, TaskStatus, queue_name
from orderup.model.times import as_micros
from orderup.model.work import release

USUAL_LEASE = timedelta(seconds=30)
_encoder = msgspec.json.Encoder()


def encode(value: object) -> str:
    """JSON as the database keeps it. Raises TypeError for what JSON cannot hold."""
    try:
        return _encoder.encode(value).decode()
    except (ValueError, RecursionError) as error:  # half of a character; something that holds itself
        raise TypeError(str(error)) from error


def place(
    plan: Plan,
    *,
    id: OperationId,
    shop: str,
    kinds: Mapping[str, Kind],
    now: int,
    rfa_within: timedelta,
    lease: timedelta = USUAL_LEASE,
    source: str = "request",
    owner: str | None = None,
    key_hash: str | None = None,
    key_salt: str | None = None,
    client: str | None = None,
    held_by: str | None = None,
) -> Draft:
    """A draft whose base has no events yet: event 1 is told, and without an approval the first tasks are released.

    lease: of kinds that say nothing of their own.
    """
    tasks = tuple(
        [
            _task(planned, kinds, shop=shop, position=position, after=after, next=next, lease=lease)
            for position, (planned, (after, next)) in enumerate(zip(plan.tasks, plan.links, strict=True))
        ]
    )
    base = Operation(
        id=id,
        shop=shop,
        status=OperationStatus.PENDING,
        version=0,
        open=len(tasks),
        moving=0,
        placed_at=now,
        tasks=tasks,
        source=source,
        owner=owner,
        key_hash=key_hash,
        key_salt=key_salt,
        client=client,
        held_by=held_by,
        words=dict(plan.words) or None,
        rfa=_rfa(plan, now=now, within=rfa_within),
    )
    draft = Draft(base)
    if base.rfa is None:
        draft.status = OperationStatus.RUNNING
        for task in tasks:
            if not task.blocked_by:
                release(draft, task.position, now=now)
    draft.tell("operation.placed", at=now)
    return draft


def _rfa(plan: Plan, *, now: int, within: timedelta) -> Rfa | None:
    if plan.approval is None:
        return None
    expires_at = now + as_micros(plan.approval.within or within)
    return Rfa(RfaStatus.PENDING, plan.approval.question, now, expires_at)


def _task(
    planned: PlannedTask,
    kinds: Mapping[str, Kind],
    *,
    shop: str,
    position: int,
    after: tuple[int, ...],
    next: tuple[int, ...],
    lease: timedelta,
) -> Task:
    name = planned.kind or planned.name
    kind = kinds.get(name)
    if kind is None:
        known = ", ".join(sorted(kinds)) or "none"
        raise InvalidPlan(
            f"Task {planned.name} is of the kind {name}, which shop {shop} does not have. It has: {known}."
        )
    return Task(
        position=position,
        name=planned.name,
        kind=name,
        queue=queue_name(shop, name, planned.region),
        status=TaskStatus.BLOCKED,
        after=after,
        next=next,
        priority=planned.priority,
        params=_params(planned),
        says=kind.says if planned.says is None else planned.says,
        retry=planned.retry or kind.retry,
        within_us=as_micros(planned.within or kind.within),
        lease_us=as_micros(kind.lease or lease),
        blocked_by=len(after),
    )


def _params(planned: PlannedTask) -> str:
    try:
        return encode(planned.params) if planned.params else "{}"
    except TypeError as error:
        raise InvalidPlan(f"The params of task {planned.name} cannot be stored as JSON: {error}") from error
