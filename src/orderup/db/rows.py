"""Between the model's structs and rows: which columns, in which order, for the statements that are compiled once.

Members of an enum go into rows as the plain text or number they are: for anything else sqlite3 goes looking for an
adapter at each value, which takes longer than to store it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import astuple

from orderup.model.event import Event
from orderup.model.ids import OperationId
from orderup.model.operation import Operation, OperationStatus
from orderup.model.retry import Retry
from orderup.model.rfa import Rfa, RfaStatus
from orderup.model.task import Task, TaskStatus
from orderup.model.times import MICROSECOND, as_micros

OPERATION_COLUMNS = (
    "id",
    "shop",
    "status",
    "version",
    "open",
    "moving",
    "placed_at",
    "started_at",
    "finished_at",
    "reason",
    "source",
    "owner",
    "key_hash",
    "key_salt",
    "words",
    "client",
    "held_by",
)
# what a change may alter, besides the version
OPERATION_CHANGES = ("status", "open", "moving", "started_at", "finished_at", "reason")

# what a plan says of a task and nothing alters, then what a change may alter
TASK_PLAN = (
    "name",
    "kind",
    "queue",
    "after",
    "next",
    "priority",
    "params",
    "says",
    "retry",
    "within_us",
    "lease_us",
)
TASK_CHANGES = (
    "status",
    "blocked_by",
    "attempt",
    "failures",
    "losses",
    "token",
    "worker",
    "lease_until",
    "ready_at",
    "deadline_at",
    "due_at",
    "started_at",
    "finished_at",
    "result",
    "error",
    "memo",
    "answered",
    "request",
)
TASK_COLUMNS = ("operation_id", "position", *TASK_PLAN, *TASK_CHANGES)
RFA_COLUMNS = (
    "operation_id",
    "shop",
    "status",
    "question",
    "asked_at",
    "expires_at",
    "decided_at",
    "decided_by",
    "notes",
)
RFA_CHANGES = ("status", "decided_at", "decided_by", "notes")
EVENT_COLUMNS = (
    "operation_id",
    "n",
    "at",
    "type",
    "shop",
    "task",
    "task_name",
    "status",
    "message",
    "audience",
)

# After these, structs have their fields in the order of the columns.
_FIRST_CHANGE = Task.__struct_fields__.index(TASK_CHANGES[1])
_decode_words = msgspec.json.Decoder(dict[str, str]).decode


def operation_row(operation: Operation) -> tuple[Any, ...]:
    words = msgspec.json.encode(operation.words).decode() if operation.words else None
    return (
        operation.id,
        operation.shop,
        str(operation.status),
        operation.version,
        operation.open,
        operation.moving,
        operation.placed_at,
        operation.started_at,
        operation.finished_at,
        operation.reason,
        operation.source,
        operation.owner,
        operation.key_hash,
        operation.key_salt,
        words,
        operation.client,
        operation.held_by,
    )


def operation_changes(operation: Operation) -> tuple[Any, ...]:
    return (
        str(operation.status),
        operation.open,
        operation.moving,
        operation.started_at,
        operation.finished_at,
        operation.reason,
    )


def task_plan(task: Task) -> tuple[Any, ...]:
    return (
        task.name,
        task.kind,
        task.queue,
        _join(task.after),
        _join(task.next),
        task.priority,
        task.params,
        task.says,
        _show_retry(task.retry),
        task.within_us,
        task.lease_us,
    )


def task_changes(task: Task) -> tuple[Any, ...]:
    return (str(task.status), *astuple(task)[_FIRST_CHANGE:])


def task_row(operation_id: int, task: Task) -> tuple[Any, ...]:
    return (operation_id, task.position, *task_plan(task), *task_changes(task))


def rfa_row(operation: Operation, rfa: Rfa) -> tuple[Any, ...]:
    return (
        operation.id,
        operation.shop,
        str(rfa.status),
        rfa.question,
        rfa.asked_at,
        rfa.expires_at,
        *rfa_changes(rfa)[1:],
    )


def rfa_changes(rfa: Rfa) -> tuple[Any, ...]:
    return (str(rfa.status), rfa.decided_at, rfa.decided_by, rfa.notes)


def event_row(event: Event) -> tuple[Any, ...]:
    return astuple(event)[:-1]


def read_event(row: Sequence[Any]) -> Event:
    """`row`: seq, then EVENT_COLUMNS."""
    seq, *fact = row
    return Event(*[*fact, seq])


def read_task(row: Sequence[Any]) -> Task:
    """`row`: TASK_COLUMNS."""
    (_, position, name, kind, queue, after, later, priority, params, says, retry, within_us, lease_us, *rest) = row
    status, *changes = rest
    plan = (priority, params, says, _read_retry(retry), within_us, lease_us)
    return Task(position, name, kind, queue, TaskStatus(status), _split(after), _split(later), *plan, *changes)


def read_rfa(row: Sequence[Any]) -> Rfa:
    """`row`: RFA_COLUMNS."""
    return Rfa(RfaStatus(row[2]), *row[3:])


def read_operation(row: Sequence[Any], tasks: Iterable[Task], rfa: Rfa | None) -> Operation:
    """`row`: OPERATION_COLUMNS. `tasks` in the order of their positions."""
    id, shop, status, version, open, moving, placed_at, started_at, finished_at, *rest, words, client, held_by = row
    counts = (version, open, moving, placed_at)
    told = _decode_words(words) if words else None
    later = [tuple(tasks), started_at, finished_at, *rest, told, client, held_by, rfa]
    return Operation(OperationId(id), shop, OperationStatus(status), *counts, *later)


def assemble(
    operations: Iterable[Sequence[Any]], tasks: Iterable[Sequence[Any]], rfas: Iterable[Sequence[Any]]
) -> Mapping[int, Operation]:
    """Operations by id, from their rows and those of their tasks and RFAs, in any order."""
    by_operation: dict[int, list[Task]] = {}
    for row in tasks:
        by_operation.setdefault(row[0], []).append(read_task(row))
    asked = {row[0]: read_rfa(row) for row in rfas}
    for listed in by_operation.values():
        listed.sort(key=lambda task: task.position)
    return {row[0]: read_operation(row, by_operation.get(row[0], ()), asked.get(row[0])) for row in operations}


def _join(positions: Sequence[int]) -> str:
    return ",".join(map(str, positions)) if positions else ""


def _split(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(","))) if text else ()


_shown_retries: dict[Retry, str] = {}
_read_retries: dict[str, Retry] = {}


def _show_retry(retry: Retry) -> str:
    """A shop has a handful of policies; each is worked out once."""
    shown = _shown_retries.get(retry)
    if shown is None:
        shown = f"{retry.attempts},{as_micros(retry.first)},{as_micros(retry.longest)}"
        if len(_shown_retries) < 1_000:
            _shown_retries[retry] = shown
    return shown


def _read_retry(text: str) -> Retry:
    retry = _read_retries.get(text)
    if retry is None:
        attempts, first, longest = map(int, text.split(","))
        retry = Retry(attempts, first * MICROSECOND, longest * MICROSECOND)
        if len(_read_retries) < 1_000:
            _read_retries[text] = retry
    return retry
