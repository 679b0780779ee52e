"""One order being carried out: a graph of tasks, and how a change of it is drafted."""

from enum import StrEnum
from typing import Any

import msgspec
from msgspec.structs import replace

from orderup.errors import NotFound
from orderup.model.event import FOR_CUSTOMERS, FOR_STAFF, TOLD, Event
from orderup.model.ids import OperationId, show_task_id
from orderup.model.rfa import Rfa
from orderup.model.task import MOVING, Task, TaskStatus


class OperationStatus(StrEnum):
    PENDING = "pending"  # waits for approval
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    ERRORED = "errored"  # left only by a person's retry or rerun
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in _FINAL


# Looked up once: reaching a member through its class takes longer than all else that is asked of a status.
_FINAL = (OperationStatus.COMPLETED, OperationStatus.ERRORED, OperationStatus.CANCELLED)
_COMPLETED = TaskStatus.COMPLETED


class Operation(msgspec.Struct, frozen=True, gc=False):
    """version: the `n` of its last event, so that every change raises it. open: tasks not completed. moving: tasks to
    which something will still happen by itself. reason: why it was cancelled or errored. source: what placed it
    (`request`, `schedule:…`, `event:…`). owner: the subject of the token that placed it. key_hash, key_salt: of the
    key in its customer's links. words: the customer's words for its events. client: whose it is, where clients take
    turns. held_by: the process that held its customer's connection when it was placed, if one did. Times are
    microseconds since the epoch.
    """

    id: OperationId
    shop: str
    status: OperationStatus
    version: int
    open: int
    moving: int
    placed_at: int
    tasks: tuple[Task, ...]
    started_at: int | None = None
    finished_at: int | None = None
    reason: str | None = None
    source: str = "request"
    owner: str | None = None
    key_hash: str | None = None
    key_salt: str | None = None
    words: dict[str, str] | None = None
    client: str | None = None
    held_by: str | None = None
    rfa: Rfa | None = None


class Draft:
    """A change of one operation while it is worked out. The operation it began from, `base`, is never altered.

    The verbs of model/ take a draft, alter it, and append what happened to `events`. Several may follow each other in
    one draft; it is then stored as one change. `released` lists positions of tasks that became claimable,
    `refunded` those whose claim nobody used, so that it does not count against a rate limit.
    """

    __slots__ = ("base", "changed", "events", "fields", "moving", "open", "refunded", "released", "status", "version")

    def __init__(self, base: Operation) -> None:
        self.base = base
        self.status = base.status
        self.version = base.version
        self.open = base.open
        self.moving = base.moving
        self.fields: dict[str, Any] = {}
        self.changed: dict[int, Task] = {}
        self.events: list[Event] = []
        self.released: list[int] = []
        self.refunded: set[int] = set()

    @property
    def rfa(self) -> Rfa | None:
        rfa: Rfa | None = self.fields.get("rfa", self.base.rfa)
        return rfa

    def task(self, position: int) -> Task:
        """The task as this draft has it. Raises NotFound if there is no such task."""
        try:
            return self.changed.get(position) or self.base.tasks[position]
        except IndexError:
            raise NotFound("task", show_task_id(self.base.id, position)) from None

    def tasks(self) -> list[Task]:
        return [self.task(position) for position in range(len(self.base.tasks))]

    def set(self, **fields: Any) -> None:
        """Change other fields of the operation than those kept as attributes here."""
        self.fields.update(fields)

    def set_task(self, position: int, **changes: Any) -> Task:
        before = self.changed.get(position) or self.task(position)
        after = self.changed[position] = replace(before, **changes)
        was, now = before.status, after.status
        if now is not was:
            self.open += (was is _COMPLETED) - (now is _COMPLETED)
            self.moving += (now in MOVING) - (was in MOVING)
        return after

    def end(self, status: OperationStatus, *, now: int, reason: str | None = None) -> None:
        self.status = status
        self.set(finished_at=now, reason=reason)

    def tell(self, type: str, *, at: int, task: Task | None = None, status: str = "", message: str = "") -> None:
        """Append an event; the operation's version follows. `message` empty: the plan's words, else the usual ones."""
        base = self.base
        audience, usual = TOLD[type]
        if not message:
            message = base.words.get(type, usual) if base.words else usual
        if not message and audience == FOR_CUSTOMERS:
            audience = FOR_STAFF  # nothing a customer could read
        self.version += 1
        if task is None:
            place: tuple[int | None, str | None, str] = None, None, status or str(self.status)
        else:
            place = task.position, task.name, status or str(task.status)
        self.events.append(Event(base.id, self.version, at, type, base.shop, *place, message, audience))

    def result(self) -> Operation:
        """The operation as the draft leaves it."""
        tasks = self.base.tasks
        if self.changed:
            changed = list(tasks)
            for position, task in self.changed.items():
                changed[position] = task
            tasks = tuple(changed)
        return replace(
            self.base,
            status=self.status,
            version=self.version,
            open=self.open,
            moving=self.moving,
            tasks=tasks,
            **self.fields,
        )
