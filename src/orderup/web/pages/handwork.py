"""What a station says of a task: what it is in plain words, whose it is, and what became of it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, cast

from markupsafe import Markup

from orderup.db.busy import MOST_COUNTED
from orderup.db.station import StationTask
from orderup.model.ids import show_id, show_task_id
from orderup.model.operation import OperationStatus
from orderup.model.task import Task, TaskStatus
from orderup.model.times import as_micros
from orderup.web.pages.words import show_count, show_moment

# So long somebody may wait for a task to be begun; or half of the time it has, if that is less.
LATE_AFTER_US = as_micros(timedelta(minutes=10))
LONGEST_NUMBER = 4
UNITS: Mapping[str, str] = {
    "g": "g",
    "kg": "kg",
    "ml": "ml",
    "l": "l",
    "celsius": "°C",
    "seconds": "s",
    "minutes": "min",
    "hours": "h",
    "percent": "%",
}
State = Literal["pending", "running", "cancelled", "errored", "lost", "completed"]


@dataclass(frozen=True, slots=True)
class Card:
    """One task as a person sees it. number: the end of its order's id, to be called out. details: what to make it of,
    as names and values. before: what came of the tasks before it. late_at: from when on it is late. token: of the
    claim, if it is his. words: what has become of it and what to do now, if it is his no more. is_open: it is still to
    be done, by whomever."""

    id: str
    operation: str
    number: str
    title: str
    region: str | None
    state: State
    details: Sequence[tuple[str, str]] = field(default_factory=tuple)
    before: Sequence[tuple[str, str]] = field(default_factory=tuple)
    ready_at: int | None = None
    late_at: int | None = None
    lease_until: int | None = None
    finished_at: int | None = None
    token: str = ""
    on_hold: bool = False
    is_open: bool = False
    note: str = ""
    words: str = ""

    def age_in_words(self, now: int) -> str:
        return "late" if self.late_at is not None and self.late_at < now else "on time"


def count_in_words(waiting: int) -> str:
    if waiting == 0:
        return "nothing waits"
    count = show_count(waiting, is_at_least=waiting == MOST_COUNTED)
    return f"{count} wait{'s' if waiting == 1 else ''}"


def in_words(name: str) -> str:
    """Of a kind of task or a field: `make_dough` is "Make dough"."""
    return name.replace("_", " ").strip().capitalize()


def card_of(
    found: StationTask, state: State, *, words: str = "", inputs: Sequence[tuple[str, str | None]] = ()
) -> Card:
    """`inputs`: names and results (JSON) of the tasks before it. Of one that gave nothing there is nothing to say."""
    task = found.task
    results = [(name, json.loads(result)) for name, result in inputs if result]
    return Card(
        id=show_task_id(*found.place),
        operation=show_id(found.operation_id),
        number=show_id(found.operation_id)[-LONGEST_NUMBER:],
        title="" if task.name == task.kind else in_words(task.name),
        region=task.region,
        state=state,
        details=list(details_of(json.loads(task.params))),
        before=[(in_words(name), value_in_words(result)) for name, result in results if result is not None],
        ready_at=task.ready_at,
        late_at=late_at(task),
        lease_until=task.lease_until,
        finished_at=task.finished_at,
        token=task.token or "",
        on_hold=found.operation_status is OperationStatus.PAUSED,
        is_open=not task.status.is_final,
        note=_note_of(task),
        words=words,
    )


def late_at(task: Task) -> int | None:
    if task.ready_at is None:
        return None
    return task.ready_at + min(LATE_AFTER_US, task.within_us // 2)


def details_of(params: Any) -> Iterator[tuple[str, str]]:
    """Names and values in plain words: `{"flour_g": 250}` is "Flour", "250 g"."""
    if not isinstance(params, dict):
        if params is not None:
            yield "What", value_in_words(params)
        return
    for name, value in params.items():
        what, _, unit = name.rpartition("_")
        if what and unit in UNITS and isinstance(value, int | float):
            yield in_words(what), f"{value_in_words(value)} {UNITS[unit]}"
        else:
            yield in_words(name), value_in_words(value)


def value_in_words(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(f"{name}: {words}" for name, words in details_of(value)) or "none"
        case list():
            return ", ".join(map(value_in_words, value)) or "none"
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def _note_of(task: Task) -> str:
    """What was written down when it was done."""
    result = json.loads(task.result) if task.result else None
    note = result.get("note") if isinstance(result, dict) else None
    return note if isinstance(note, str) else ""


def state_of(found: StationTask, *, worker: str, is_done: bool) -> State | None:
    """What has become of a task that this worker took. None: he did it, and it is being done anew."""
    task = found.task
    if task.worker == worker and task.status in (TaskStatus.RUNNING, TaskStatus.COMPLETED, TaskStatus.ERRORED):
        return cast("State", task.status.value)
    if is_done:
        return None
    return "cancelled" if task.status is TaskStatus.CANCELLED else "lost"


def words_of(state: State, found: StationTask, *, lost_at: int | None) -> str:
    """What has become of a claim that has ended without its worker's doing, and what he is to do."""
    task = found.task
    match state:
        case "cancelled":
            why = f": {found.reason}" if found.reason else ""
            return f"Cancelled{why}. Stop here, nobody waits for it any more."
        case "errored":
            return (
                f"Too late: {task.error or 'its time was over'}. Stop here and tell staff, who can have it tried again."
            )
        case "lost":
            if lost_at is None:
                return f"You have handed it back; {_now_of(task)}"
            return Markup("Taken back: your lease ended {}; {}").format(show_moment(lost_at), _now_of(task))
        case "completed":
            return "You have done it already."
        case _:
            return ""


def _now_of(task: Task) -> str:
    match task.status:
        case TaskStatus.COMPLETED:
            return "somebody else has done it."
        case TaskStatus.RUNNING:
            return f"{task.worker} is making it now."
        case _:
            return "somebody else may be making it. Ask before you go on."
