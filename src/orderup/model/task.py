"""One unit of work, as it stands now."""

import re
from enum import StrEnum

import msgspec

from orderup.model.retry import Retry


class TaskStatus(StrEnum):
    BLOCKED = "blocked"  # what it comes after is not done, or its operation is not approved
    PENDING = "pending"  # may be claimed
    RUNNING = "running"  # claimed by a worker
    WAITING = "waiting"  # for a time: its handler asked for it, or an attempt failed
    PAUSED = "paused"  # its operation is paused
    COMPLETED = "completed"
    ERRORED = "errored"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in _FINAL


_FINAL = (TaskStatus.COMPLETED, TaskStatus.ERRORED, TaskStatus.CANCELLED)
# Something will still happen to such a task by itself, or when its operation is resumed.
MOVING = frozenset({TaskStatus.PENDING, TaskStatus.RUNNING, TaskStatus.WAITING, TaskStatus.PAUSED})


class Task(msgspec.Struct, frozen=True, gc=False):
    """Points in time (`_at`, `lease_until`) are microseconds since the epoch; JSON is kept as text.

    queue: where it waits, `shop/kind` or `shop/kind@region`. token: names the running attempt; every write of a worker
    must carry it. attempt counts claims, failures the failed attempts, losses the leases that ran out.
    ready_at: when it became, or will become, claimable. due_at: when the clock must look at it next.
    answered: fingerprint of the last write accepted from a worker, so that the same write sent again changes nothing.
    """

    position: int
    name: str
    kind: str
    queue: str
    status: TaskStatus
    after: tuple[int, ...] = ()
    next: tuple[int, ...] = ()
    priority: int = 0
    params: str = "{}"
    says: str | None = None
    retry: Retry = Retry()
    within_us: int = 86_400_000_000
    lease_us: int = 30_000_000
    blocked_by: int = 0
    attempt: int = 0
    failures: int = 0
    losses: int = 0
    token: str | None = None
    worker: str | None = None
    lease_until: int | None = None
    ready_at: int | None = None
    deadline_at: int | None = None
    due_at: int | None = None
    started_at: int | None = None
    finished_at: int | None = None
    result: str | None = None
    error: str | None = None
    memo: str | None = None
    answered: str | None = None
    request: str | None = None

    @property
    def region(self) -> str | None:
        return self.queue.partition("@")[2] or None


# What a region is called: it stands in names of queues and in addresses of pages. Not \w: to some who read the OpenAPI
# it is ASCII, to others all letters.
REGION_LETTERS, LONGEST_REGION = "[A-Za-z0-9_.:@/-]", 100
_REGION = re.compile(f"{REGION_LETTERS}{{1,{LONGEST_REGION}}}")


def is_region(text: str) -> bool:
    """Whether a region may be called so."""
    return _REGION.fullmatch(text) is not None


def queue_name(shop: str, kind: str, region: str | None = None) -> str:
    """Where tasks of one kind wait: `shop/kind`, with `@region` if it must be done there."""
    return f"{shop}/{kind}@{region}" if region else f"{shop}/{kind}"


def queue_of(queue: str) -> str:
    """The queue that owns the limits: without the region."""
    return queue.partition("@")[0]
