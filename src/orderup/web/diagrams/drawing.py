"""What a diagram shows: the way of an order, by its plan or as it is stored, and the states of a task.

A drawing is data, panels of boxes and arrows; mermaid.py and svg.py turn it into text.
"""

import textwrap
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum

import msgspec

from orderup.engine.engine import shared_allowances
from orderup.errors import Invalid
from orderup.model.ids import OperationId, show_id
from orderup.model.kind import Kind
from orderup.model.operation import Operation
from orderup.model.placing import place
from orderup.model.plan import Plan
from orderup.model.retry import Retry
from orderup.model.rfa import Rfa, RfaStatus
from orderup.model.task import Task, TaskStatus, queue_of
from orderup.model.times import MICROSECOND, show_time
from orderup.shop import Shop

MOST_TASKS = 200
LONGEST_LINE = 60


class Shape(StrEnum):
    BOX = "box"
    QUESTION = "question"
    END = "end"


class Box(msgspec.Struct, frozen=True):
    """title: one line. lines: below it, smaller. tone: the word of a state, which gives the colour; "": none."""

    id: str
    title: str
    lines: Sequence[str] = ()
    shape: Shape = Shape.BOX
    tone: str = ""


class Arrow(msgspec.Struct, frozen=True):
    source: str
    target: str
    label: str = ""


class Panel(msgspec.Struct, frozen=True):
    """`boxes` in an order in which arrows lead on; one that leads back closes a circle."""

    title: str
    boxes: Sequence[Box]
    arrows: Sequence[Arrow]


class Drawing(msgspec.Struct, frozen=True):
    title: str
    panels: Sequence[Panel]


def draw_plan(shop: Shop, plan: Plan, *, rfa_within: timedelta, lease: timedelta) -> Drawing:
    """How such orders are carried out. rfa_within, lease: where the plan and the shop say nothing of their own.

    Raises Invalid for more than MOST_TASKS tasks.
    """
    draft = place(plan, id=OperationId(0), shop=shop.name, kinds=shop.kinds, now=0, rfa_within=rfa_within, lease=lease)
    operation = draft.result()
    _check_size(operation)
    boxes = [_planned_task(shop, task) for task in operation.tasks]
    question = None
    if operation.rfa is not None:
        within = (operation.rfa.expires_at - operation.rfa.asked_at) * MICROSECOND
        lines = [*_wrapped(operation.rfa.question), f"expires after {show_span(within)} without an answer"]
        question = Box("rfa", "RFA: staff approves?", lines, Shape.QUESTION, "pending")
    title = "The plan: what comes after what"
    return Drawing(
        f"{shop.title}: how an order is carried out", [_order_panel(title, operation, boxes, question), _states()]
    )


def draw_operation(shop: Shop, operation: Operation) -> Drawing:
    """How one order stands. Raises Invalid for more than MOST_TASKS tasks."""
    _check_size(operation)
    boxes = [_stored_task(task) for task in operation.tasks]
    question = None if operation.rfa is None else _stored_rfa(operation.rfa)
    reason = f": {_short(operation.reason)}" if operation.reason else ""
    panel = _order_panel(f"It is {operation.status}{reason}", operation, boxes, question)
    return Drawing(f"{shop.title}: order {show_id(operation.id)}", [panel])


def _check_size(operation: Operation) -> None:
    if len(operation.tasks) > MOST_TASKS:
        raise Invalid(f"It has {len(operation.tasks):,} tasks; a picture of more than {MOST_TASKS} shows nothing.")


def _order_panel(title: str, operation: Operation, tasks: Sequence[Box], question: Box | None) -> Panel:
    """From the request to the end, by the operation's graph."""
    placed = Box("placed", "An order is placed", ["all in one transaction, with event 1"], Shape.END)
    end = Box("completed", "completed", [_words(operation, "operation.completed", "Done")], Shape.END, "completed")
    boxes, arrows, gate = [placed], [], placed
    if question is not None:
        boxes.append(question)
        arrows.append(Arrow("placed", "rfa"))
        gate = question
    for task, box in zip(operation.tasks, tasks, strict=True):
        boxes.append(box)
        if not task.after:
            arrows.append(Arrow(gate.id, box.id, "approved" if question else ""))
        arrows += [Arrow(tasks[earlier].id, box.id) for earlier in task.after]
        if not task.next:
            arrows.append(Arrow(box.id, end.id))
    if question is not None:
        boxes.append(Box("cancelled", "cancelled", ["the customer is told why"], Shape.END, "cancelled"))
        arrows.append(Arrow("rfa", "cancelled", "declined, expired"))
    return Panel(title, [*boxes, end], arrows)


def _words(operation: Operation, event: str, usual: str) -> str:
    return (operation.words or {}).get(event, usual)


def _planned_task(shop: Shop, task: Task) -> Box:
    kind = shop.kinds[task.kind]
    lines = [
        f"queue {task.queue}",
        _who(shop, kind, task),
        f"{_show_retry(task.retry)}, within {show_span(task.within_us * MICROSECOND)}",
        f"lease {show_span(task.lease_us * MICROSECOND)}: a lost worker costs no more",
    ]
    if kind.rate is not None:
        lines.append(f"at most {kind.rate.count} in {show_span(kind.rate.period)}")
    if kind.concurrency is not None:
        lines.append(f"at most {kind.concurrency} at once")
    for name, shared in shared_allowances({queue_of(task.queue): kind}).items():
        lines.append(f"shares {name}: at most {shared.rate.count} in {show_span(shared.rate.period)}")
    if task.says:
        lines.append(f"the customer reads: {task.says}")
    return Box(_box_id(task), task.name, [_short(line) for line in lines])


def _who(shop: Shop, kind: Kind, task: Task) -> str:
    if kind.is_remote:
        return f"a remote worker in {task.region}" if task.region else "a remote worker or a person"
    return "a step, inside its transaction" if kind.name in shop.steps else "a handler, run by an executor"


def _show_retry(retry: Retry) -> str:
    if retry.attempts == 1:
        return "one attempt"
    return f"{retry.attempts} attempts, {show_span(retry.first)} to {show_span(retry.longest)} apart"


def _stored_task(task: Task) -> Box:
    lines = [f"{task.status}, attempt {task.attempt}" if task.attempt else str(task.status), f"queue {task.queue}"]
    if task.worker:
        lines.append(f"worker {task.worker}")
    if task.started_at:
        lines.append(f"started {show_time(task.started_at)}")
    if task.finished_at:
        lines.append(f"finished {show_time(task.finished_at)}")
    elif task.status is TaskStatus.WAITING:
        lines.append(f"waits until {show_time(task.ready_at)}")
    if task.error:
        lines.append(f"last error: {task.error}")
    return Box(_box_id(task), task.name, [_short(line) for line in lines], tone=task.status)


def _stored_rfa(rfa: Rfa) -> Box:
    lines = _wrapped(rfa.question)
    if rfa.decided_at:
        by = f" by {rfa.decided_by}" if rfa.decided_by else ""
        lines.append(_short(f"{rfa.status}{by} {show_time(rfa.decided_at)}"))
    else:
        lines.append(f"expires {show_time(rfa.expires_at)}")
    tone = "completed" if rfa.status is RfaStatus.APPROVED else rfa.status
    return Box("rfa", f"RFA: {rfa.status}", lines, Shape.QUESTION, tone)


def _box_id(task: Task) -> str:
    return f"task{task.position}"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_LINE else f"{text[: LONGEST_LINE - 1]}…"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, LONGEST_LINE, max_lines=3, placeholder=" …")


def _states() -> Panel:
    """The arrows that a task takes most; docs/states.md has them all."""
    meaning = {
        TaskStatus.BLOCKED: "what it comes after is not completed",
        TaskStatus.PENDING: "in its queue",
        TaskStatus.RUNNING: "claimed: a lease, a token",
        TaskStatus.WAITING: "holds a row, no worker",
        TaskStatus.COMPLETED: "its result is stored",
        TaskStatus.ERRORED: "left by a person’s retry or rerun",
        TaskStatus.CANCELLED: "late results are refused",
        TaskStatus.PAUSED: "its operation is on hold",
    }
    shapes = {status: Shape.END if status.is_final else Shape.BOX for status in TaskStatus}
    order = (
        TaskStatus.BLOCKED,
        TaskStatus.PAUSED,
        TaskStatus.PENDING,
        TaskStatus.RUNNING,
        TaskStatus.WAITING,
        TaskStatus.COMPLETED,
        TaskStatus.ERRORED,
        TaskStatus.CANCELLED,
    )
    boxes = [Box(status, status, [meaning[status]], shapes[status], status) for status in order]
    arrows = [
        Arrow("blocked", "pending", "released"),
        Arrow("paused", "pending", "resume"),
        Arrow("pending", "paused", "pause"),
        Arrow("pending", "running", "claim"),
        Arrow("running", "pending", "lease ran out"),
        Arrow("running", "waiting", "failed attempt, or wait"),
        Arrow("waiting", "pending", "the time has come"),
        Arrow("running", "completed", "complete"),
        Arrow("running", "errored", "no attempt left"),
        Arrow("running", "cancelled", "cancel"),
    ]
    return Panel("The states of each task", boxes, arrows)


def show_span(span: timedelta) -> str:
    """Such as 30 s, 5 min, 24 h, 7 days: the largest unit that leaves no fraction, where there is one."""
    seconds = span.total_seconds()
    for least, size, unit in ((2 * 86_400, 86_400, "days"), (3_600, 3_600, "h"), (60, 60, "min")):
        if seconds >= least and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
