"""A plan: what a shop returns for an order. Tasks, and what each depends on: pure data, checked when it is built."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from orderup.errors import InvalidPlan
from orderup.model.event import EVENT_TYPES
from orderup.model.retry import Retry
from orderup.model.task import LONGEST_REGION, is_region

LONGEST_NAME = 100
HIGHEST_PRIORITY = 1_000_000
NO_TIME = timedelta(0)


class PlannedTask(msgspec.Struct, frozen=True):
    """One unit of work of a plan.

    name: unique in its plan. kind: which handler or worker does it, and whose queue it waits in (default: its name).
    params: what the handler gets, anything JSON can hold. after: names of the tasks that must be completed before.
    region: where it must be done (None: anywhere). priority: the smaller number goes first.
    says: what a customer reads when it starts. retry, within: None takes what the shop says of the kind; `within` is
    the total time from being ready to being done, after which the task is errored.
    """

    name: str
    params: Mapping[str, Any] = msgspec.field(default_factory=dict)
    after: Sequence[str] = ()
    kind: str | None = None
    region: str | None = None
    priority: int = 0
    says: str | None = None
    retry: Retry | None = None
    within: timedelta | None = None

    def __post_init__(self) -> None:
        if isinstance(self.after, str):
            raise InvalidPlan(f'Task {self.name}: after="{self.after}" is one string; write after=["{self.after}"].')
        if self.region is not None and not is_region(self.region):
            raise InvalidPlan(
                f"Task {self.name}: a region has 1 to {LONGEST_REGION} ASCII letters, digits or any of _ . : @ / -, "
                f"not {self.region[:LONGEST_REGION]!r}."
            )
        if abs(self.priority) > HIGHEST_PRIORITY:
            raise InvalidPlan(
                f"Task {self.name}: priority={self.priority}; it is from {-HIGHEST_PRIORITY} to {HIGHEST_PRIORITY}."
            )
        if self.within is not None and self.within <= NO_TIME:
            raise InvalidPlan(f"Task {self.name}: within={self.within} leaves no time to do it.")


class Approval(msgspec.Struct, frozen=True):
    """Asks staff before the first task is released. `question`: one plain sentence. `within`: None takes the setting
    RFA_EXPIRY_HOURS; an RFA nobody answers in that time expires and its operation is cancelled."""

    question: str
    within: timedelta | None = None

    def __post_init__(self) -> None:
        if self.within is not None and self.within <= NO_TIME:
            raise InvalidPlan(f"Approval: within={self.within} leaves no time to answer.")


class Plan(msgspec.Struct, frozen=True, dict=True):
    """The tasks of one order as a graph without cycles.

    words: what a customer reads at an event of the operation, by event type, such as
    `{"operation.completed": "Delivered"}`. Raises InvalidPlan on a cycle, an unknown dependency, a name used twice,
    words for an event that there is not.
    """

    tasks: Sequence[PlannedTask]
    approval: Approval | None = None
    words: Mapping[str, str] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.tasks:
            raise InvalidPlan("A plan needs at least one task.")
        # plans are made for each order: one without words pays nothing for this
        if self.words and (unknown := self.words.keys() - EVENT_TYPES.keys()):
            raise InvalidPlan(f"There is no event {', '.join(sorted(unknown))}. There are: {', '.join(EVENT_TYPES)}.")
        dependencies = self._find_dependencies()
        dependants = _turned_round(dependencies)
        _check_no_cycle(self.tasks, dependencies, dependants)
        # found out once; no field, so that it is in no comparison and no JSON
        msgspec.structs.force_setattr(self, "_links", list(zip(dependencies, dependants, strict=True)))

    @property
    def links(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """For each task, by position, the positions of the tasks it comes after, and of those that come after it."""
        links: list[tuple[tuple[int, ...], tuple[int, ...]]] = self.__dict__["_links"]
        return links

    def _find_dependencies(self) -> list[tuple[int, ...]]:
        positions: dict[str, int] = {}
        for position, task in enumerate(self.tasks):
            if not task.name or len(task.name) > LONGEST_NAME:
                raise InvalidPlan(f"Task {task.name[:LONGEST_NAME]!r}: a name has 1 to {LONGEST_NAME} characters.")
            if positions.setdefault(task.name, position) != position:
                raise InvalidPlan(f"Two tasks of this plan are named {task.name}. Names must differ.")
        return [tuple(dict.fromkeys(_position(positions, task, name) for name in task.after)) for task in self.tasks]

    @classmethod
    def chain(
        cls,
        *tasks: PlannedTask,
        approval: Approval | None = None,
        words: Mapping[str, str] | None = None,
    ) -> "Plan":
        """A plan whose tasks are done one after the other, each after the one before it."""
        linked = [
            msgspec.structs.replace(task, after=[*task.after, tasks[position - 1].name]) if position else task
            for position, task in enumerate(tasks)
        ]
        return cls(linked, approval=approval, words=words or {})


def _position(positions: dict[str, int], task: PlannedTask, name: str) -> int:
    if name not in positions:
        raise InvalidPlan(f"Task {task.name} comes after {name}, which is not in the plan.")
    return positions[name]


def _turned_round(dependencies: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    dependants: list[list[int]] = [[] for _ in dependencies]
    for position, after in enumerate(dependencies):
        for earlier in after:
            dependants[earlier].append(position)
    return [tuple(later) for later in dependants]


def _check_no_cycle(
    tasks: Sequence[PlannedTask], dependencies: Sequence[tuple[int, ...]], dependants: Sequence[tuple[int, ...]]
) -> None:
    """Kahn's algorithm: take away what depends on nothing; what stays is on a cycle or behind one."""
    waiting_for = [len(after) for after in dependencies]
    free = [position for position, count in enumerate(waiting_for) if not count]
    for position in free:
        for later in dependants[position]:
            waiting_for[later] -= 1
            if not waiting_for[later]:
                free.append(later)
    if len(free) < len(tasks):
        stuck = ", ".join(task.name for task, count in zip(tasks, waiting_for, strict=True) if count)
        raise InvalidPlan(f"These tasks wait for each other in a circle: {stuck[:500]}.")
