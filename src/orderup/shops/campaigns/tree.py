"""A campaign as a tree of what the platform was given, and how each stands. Pure: read off its operation."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from orderup.model.ids import show_task_id
from orderup.model.operation import Operation
from orderup.model.task import Task, TaskStatus
from orderup.shops.campaigns.plan import AD, AD_GROUP, CAMPAIGN
from orderup.shops.campaigns.submission import ABSENT, AT, FOUND, REJECTED

_decode = msgspec.json.Decoder().decode


class Standing(StrEnum):
    """How something stands: not yet, because what it belongs to does not stand; next in line; about to be submitted,
    submitted, standing; rejected by the platform; not said to stand, although the platform was asked long enough;
    refused, or given up, before it was submitted; perhaps submitted, which a person has to find out; cancelled."""

    WAITING = "waiting"
    QUEUED = "queued"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    SUCCESS = "success"
    REJECTED = "rejected"
    UNANSWERED = "unanswered"
    FAILED = "failed"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"


# What a person can do something about.
NEEDS_SOMEBODY = frozenset({Standing.REJECTED, Standing.UNANSWERED, Standing.FAILED, Standing.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Node:
    """Something that the platform is given. sort: campaign, ad_group or ad. id, name: its owner's. task_id: of the task
    that submits it, follow_id: that follows it. platform_id: the platform's, once it has one."""

    sort: str
    id: str
    name: str
    fields: Mapping[str, Any]
    status: Standing
    platform_id: str | None
    error: str | None
    task_id: str
    follow_id: str
    children: list["Node"] = field(default_factory=list)

    def walk(self) -> Iterator["Node"]:
        yield self
        for child in self.children:
            yield from child.walk()

    def count(self) -> Counter[Standing]:
        """How many stand how."""
        return Counter(node.status for node in self.walk())


def tree_of(operation: Operation) -> Node:
    """Of an operation whose plan is `plan_campaign`'s: its tasks come in pairs, each thing after what it belongs to."""
    nodes = [_node(operation, first, second) for first, second in _pairs(operation)]
    root = group = nodes[0]
    for node in nodes[1:]:
        if node.sort == AD_GROUP:
            group = node
            root.children.append(node)
        else:
            group.children.append(node)
    return root


def _pairs(operation: Operation) -> Iterator[tuple[Task, Task]]:
    tasks = operation.tasks
    return zip(tasks[::2], tasks[1::2], strict=True)


def _node(operation: Operation, submitting: Task, following: Task) -> Node:
    params = _decode(submitting.params) or {"sort": AD, "fields": {}}  # forgotten ones are null
    sort, fields = params["sort"], params["fields"]
    result = _decode(submitting.result) if submitting.result else None
    return Node(
        sort=sort,
        id=fields.get(f"{sort}_id", ""),
        name=fields.get(f"{sort}_name", fields.get("ad_type", "")),
        fields=fields,
        status=_standing(submitting, following),
        platform_id=result["id"] if result else None,
        error=submitting.error if submitting.status is not TaskStatus.COMPLETED else following.error,
        task_id=show_task_id(operation.id, submitting.position),
        follow_id=show_task_id(operation.id, following.position),
    )


def _standing(submitting: Task, following: Task) -> Standing:
    if submitting.status is TaskStatus.COMPLETED:
        if following.status is TaskStatus.ERRORED:
            is_rejected = (following.error or "").startswith(REJECTED)
            return Standing.REJECTED if is_rejected else Standing.UNANSWERED
        return _FOLLOWED.get(following.status, Standing.SUBMITTED)
    if submitting.status is TaskStatus.ERRORED:
        return Standing.UNKNOWN if may_be_there(submitting) else Standing.FAILED
    return _SUBMITTING.get(submitting.status, Standing.QUEUED)


_SUBMITTING = {
    TaskStatus.BLOCKED: Standing.WAITING,
    TaskStatus.RUNNING: Standing.SUBMITTING,
    TaskStatus.CANCELLED: Standing.CANCELLED,
}
_FOLLOWED = {
    TaskStatus.COMPLETED: Standing.SUCCESS,
    TaskStatus.CANCELLED: Standing.CANCELLED,
}


def may_be_there(submitting: Task) -> bool:
    """Whether the platform may have what this task was to submit, although nobody said so."""
    memo = _decode(submitting.memo) if submitting.memo else {}
    return FOUND in memo or (AT in memo and ABSENT not in memo)


def is_campaign(operation: Operation) -> bool:
    """Whether it is a campaign's operation; the shop has others."""
    return bool(operation.tasks) and operation.tasks[0].name == CAMPAIGN
