"""Goes through what the log tells of an operation, event by event, and says where one does not fit those before it.

Written from the description of the states (docs/states.md), without the code that it judges. What the rows say must be
what the log comes to in the end: a change that nobody was told of shows here, too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from tests.invariants.evidence import AnyRow, OperationRows, positions

FINAL = ("completed", "errored", "cancelled")


class Is(StrEnum):
    """How far a task is, as the log alone can tell: idle is blocked, pending or paused."""

    IDLE = "idle"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    ERRORED = "errored"
    CANCELLED = "cancelled"


ROW_MAY_BE: dict[Is, tuple[str, ...]] = {
    Is.IDLE: ("blocked", "pending", "paused"),
    Is.RUNNING: ("running",),
    Is.WAITING: ("waiting", "pending", "paused"),
    Is.COMPLETED: ("completed",),
    Is.ERRORED: ("errored",),
    Is.CANCELLED: ("cancelled",),
}
# What only the holder of a claim can bring about, and how the task is afterwards.
HOLDERS: dict[str, Is] = {
    "task.waiting": Is.WAITING,
    "task.retrying": Is.WAITING,
    "task.lost": Is.IDLE,
    "task.handed_back": Is.IDLE,
    "task.remembered": Is.RUNNING,
    "task.completed": Is.COMPLETED,
}
# Of the operation: the states from which it may come, and the one that it leads to.
STEPS: dict[str, tuple[tuple[str, ...], str]] = {
    "operation.completed": (("running", "paused"), "completed"),
    "operation.errored": (("running", "paused"), "errored"),
    "operation.cancelled": (("pending", "running", "paused"), "cancelled"),
    "operation.paused": (("running",), "paused"),
    "operation.resumed": (("paused",), "running"),
    "operation.retried": (("errored",), "running"),
    "rfa.approved": (("pending",), "running"),
    "rfa.declined": (("pending",), "cancelled"),
    "rfa.expired": (("pending",), "cancelled"),
}


@dataclass(frozen=True, slots=True)
class Misfit:
    """An event, or a row, that cannot be. invariant: the number of the one that it breaks."""

    invariant: int
    text: str


def replay(operation: OperationRows) -> Iterator[Misfit]:
    """Every misfit of one operation."""
    story = _Story(operation)
    for event in operation.events:
        yield from story.tell(event)
    yield from story.compare()


class _Story:
    """Where the log has come to."""

    def __init__(self, operation: OperationRows) -> None:
        self.operation = operation
        self.status = "pending" if operation.rfa is not None else "running"
        self.tasks = [Is.IDLE] * len(operation.tasks)
        self.claims = [0] * len(operation.tasks)
        self.after = [positions(task.after) for task in operation.tasks]
        self.next = [positions(task.next) for task in operation.tasks]
        self.tellers: dict[str, Callable[[AnyRow], Iterator[Misfit]]] = {
            "task.started": self._start,
            "task.errored": self._err,
            "task.cancelled": self._cancel,
            "task.rerun": self._rerun,
        }

    def tell(self, event: AnyRow) -> Iterator[Misfit]:
        if self.status in ("completed", "cancelled"):
            yield self._misfit(4, event, f"after the operation was {self.status}")
        elif self.status == "errored" and event.type not in ("operation.retried", "task.rerun"):
            yield self._misfit(4, event, "after the operation was errored")
        if event.type == "operation.placed":
            if event.n != 1:
                yield self._misfit(4, event, "the operation was placed before")
        elif event.type in STEPS:
            yield from self._step(event)
        elif event.type in HOLDERS:
            yield from self._by_holder(event)
        else:
            yield from self.tellers[event.type](event)

    def _misfit(self, invariant: int, event: AnyRow, why: str) -> Misfit:
        task = "" if event.task is None else f" of task {event.task}"
        return Misfit(invariant, f"operation {self.operation.id}: event {event.n}, {event.type}{task}: {why}")

    def _step(self, event: AnyRow) -> Iterator[Misfit]:
        before, after = STEPS[event.type]
        if self.status not in before and self.status not in ("completed", "cancelled"):
            yield self._misfit(9 if event.type.startswith("rfa.") else 4, event, f"the operation was {self.status}")
        self.status = after
        if after == "cancelled":
            self.tasks = [each if each in FINAL else Is.CANCELLED for each in self.tasks]
        if event.type == "operation.retried":
            self.tasks = [Is.IDLE if each is Is.ERRORED else each for each in self.tasks]
        if event.type == "operation.completed" and any(each is not Is.COMPLETED for each in self.tasks):
            yield self._misfit(1, event, "there are tasks that are not completed")

    def _start(self, event: AnyRow) -> Iterator[Misfit]:
        if self.status in ("pending", "paused"):
            yield self._misfit(3, event, f"the operation was {self.status}")
        undone = [earlier for earlier in self.after[event.task] if self.tasks[earlier] is not Is.COMPLETED]
        if undone:
            yield self._misfit(3, event, f"it comes after {undone}, not completed then")
        now = self.tasks[event.task]
        if now is Is.RUNNING:
            yield self._misfit(6, event, "somebody else was at it")
        if now in FINAL:
            yield self._misfit(4, event, f"it was {now}")
        self.tasks[event.task] = Is.RUNNING
        self.claims[event.task] += 1

    def _by_holder(self, event: AnyRow) -> Iterator[Misfit]:
        now = self.tasks[event.task]
        if now in FINAL:
            yield self._misfit(4, event, f"it was {now}")
        elif now is not Is.RUNNING:
            yield self._misfit(6, event, "nobody held it")
        self.tasks[event.task] = HOLDERS[event.type]
        if event.type == "task.handed_back":
            self.claims[event.task] -= 1

    def _err(self, event: AnyRow) -> Iterator[Misfit]:
        if self.tasks[event.task] in FINAL:
            yield self._misfit(4, event, f"it was {self.tasks[event.task]}")
        self.tasks[event.task] = Is.ERRORED

    def _cancel(self, event: AnyRow) -> Iterator[Misfit]:
        if self.tasks[event.task] in FINAL:
            yield self._misfit(4, event, f"it was {self.tasks[event.task]}")
        self.tasks[event.task] = Is.CANCELLED

    def _rerun(self, event: AnyRow) -> Iterator[Misfit]:
        now = self.tasks[event.task]
        if now not in (Is.COMPLETED, Is.ERRORED):
            yield self._misfit(4, event, f"it was {now}")
        if any(self.claims[later] for later in self.next[event.task]):
            yield self._misfit(3, event, "a task that comes after it had started")
        self.tasks[event.task] = Is.IDLE
        if now is Is.COMPLETED:
            for later in self.next[event.task]:
                if self.tasks[later] is not Is.CANCELLED:
                    self.tasks[later] = Is.IDLE
        if self.status == "errored":
            self.status = "running"

    def compare(self) -> Iterator[Misfit]:
        """The rows with what the log came to."""
        row = self.operation.row
        if row.status != self.status:
            is_about_final = row.status in FINAL or self.status in FINAL
            text = f"operation {self.operation.id} is {row.status}, the log came to {self.status}"
            yield Misfit(4 if is_about_final else 5, text)
        for task, now, claims in zip(self.operation.tasks, self.tasks, self.claims, strict=True):
            name = self.operation.task_id(task.position)
            if task.status not in ROW_MAY_BE[now]:
                is_about_final = task.status in FINAL or now in FINAL
                yield Misfit(4 if is_about_final else 6, f"task {name} is {task.status}, the log came to {now}")
            if task.attempt != claims:
                yield Misfit(6, f"task {name} counts {task.attempt} attempts, the log {claims}")
