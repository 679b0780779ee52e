"""The shapes of what is answered: what the API's readers see of the engine's nouns.

The classes document and check; the functions build the answers. Ids are shown as text, times as ISO 8601 in UTC.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from pydantic import BaseModel

from orderup.db.database import Claimed
from orderup.model.event import Event
from orderup.model.ids import show_id, show_task_id
from orderup.model.operation import Operation, OperationStatus
from orderup.model.rfa import Rfa, RfaStatus
from orderup.model.task import Task, TaskStatus
from orderup.model.times import show_time

_decode = msgspec.json.Decoder().decode


def from_json(text: str | None) -> Any:
    return None if text is None else _decode(text)


class RfaView(BaseModel):
    id: str
    shop: str
    operation_id: str
    status: RfaStatus
    question: str
    asked_at: str
    expires_at: str
    decided_at: str | None
    decided_by: str | None
    notes: str | None


class TaskView(BaseModel):
    id: str
    operation_id: str
    name: str
    kind: str
    queue: str
    region: str | None
    status: TaskStatus
    after: list[str]
    priority: int
    attempt: int
    failures: int
    losses: int
    worker: str | None
    lease_until: str | None
    ready_at: str | None
    deadline_at: str | None
    started_at: str | None
    finished_at: str | None
    params: Any
    result: Any
    error: str | None
    memo: Any


class OperationSummary(BaseModel):
    id: str
    shop: str
    status: OperationStatus
    reason: str | None
    source: str
    n: int
    placed_at: str
    started_at: str | None
    finished_at: str | None


class OperationView(OperationSummary):
    """`n`: the number of its last event."""

    rfa: RfaView | None
    tasks: list[TaskView]


class OperationList(BaseModel):
    """`cursor` fetches the next page; null on the last one."""

    operations: list[OperationSummary]
    cursor: str | None


class RfaList(BaseModel):
    rfas: list[RfaView]
    cursor: str | None


class LiveEvent(BaseModel):
    seq: int
    n: int
    at: str
    type: str
    operation_id: str
    shop: str
    task: str | None
    status: str
    message: str


class ClaimedView(BaseModel):
    """lease_seconds: how long the claim lives without a heartbeat. deadline_seconds: how much time is left until the
    task errors, done or not."""

    id: str
    name: str
    kind: str
    operation_id: str
    params: Any
    inputs: dict[str, Any]
    memo: Any
    attempt: int
    token: str
    lease_seconds: float
    deadline_seconds: float | None


class ClaimedList(BaseModel):
    tasks: list[ClaimedView]


def view_rfa(operation_id: int, shop: str, rfa: Rfa) -> dict[str, Any]:
    return {
        "id": show_id(operation_id),
        "shop": shop,
        "operation_id": show_id(operation_id),
        "status": rfa.status,
        "question": rfa.question,
        "asked_at": show_time(rfa.asked_at),
        "expires_at": show_time(rfa.expires_at),
        "decided_at": show_time(rfa.decided_at),
        "decided_by": rfa.decided_by,
        "notes": rfa.notes,
    }


def view_task(operation: Operation, task: Task) -> dict[str, Any]:
    return {
        "id": show_task_id(operation.id, task.position),
        "operation_id": show_id(operation.id),
        "name": task.name,
        "kind": task.kind,
        "queue": task.queue,
        "region": task.region,
        "status": task.status,
        "after": [operation.tasks[earlier].name for earlier in task.after],
        "priority": task.priority,
        "attempt": task.attempt,
        "failures": task.failures,
        "losses": task.losses,
        "worker": task.worker,
        "lease_until": show_time(task.lease_until),
        "ready_at": show_time(task.ready_at),
        "deadline_at": show_time(task.deadline_at),
        "started_at": show_time(task.started_at),
        "finished_at": show_time(task.finished_at),
        "params": from_json(task.params),
        "result": from_json(task.result),
        "error": task.error,
        "memo": from_json(task.memo),
    }


def view_summary(operation: Operation) -> dict[str, Any]:
    return {
        "id": show_id(operation.id),
        "shop": operation.shop,
        "status": operation.status,
        "reason": operation.reason,
        "source": operation.source,
        "n": operation.version,
        "placed_at": show_time(operation.placed_at),
        "started_at": show_time(operation.started_at),
        "finished_at": show_time(operation.finished_at),
    }


def view_operation(operation: Operation) -> dict[str, Any]:
    rfa = operation.rfa
    return {
        **view_summary(operation),
        "rfa": None if rfa is None else view_rfa(operation.id, operation.shop, rfa),
        "tasks": [view_task(operation, task) for task in operation.tasks],
    }


def view_claimed(claimed: Claimed, *, now: int) -> dict[str, Any]:
    task = claimed.task
    return {
        "id": show_task_id(claimed.operation_id, task.position),
        "name": task.name,
        "kind": task.kind,
        "operation_id": show_id(claimed.operation_id),
        "params": from_json(task.params),
        "inputs": {name: from_json(result) for name, result in claimed.inputs.items()},
        "memo": from_json(task.memo),
        "attempt": task.attempt,
        "token": task.token,
        "lease_seconds": task.lease_us / 1e6,
        "deadline_seconds": None if task.deadline_at is None else max(0.0, (task.deadline_at - now) / 1e6),
    }


def view_event(event: Event) -> dict[str, Any]:
    """The one shape of a live message."""
    return {
        "seq": event.seq,
        "n": event.n,
        "at": show_time(event.at),
        "type": event.type,
        "operation_id": show_id(event.operation_id),
        "shop": event.shop,
        "task": event.task_name,
        "status": event.status,
        "message": event.message,
    }


def page(name: str, items: Sequence[Any], *, cursor: str | None) -> Mapping[str, Any]:
    return {name: items, "cursor": cursor}
