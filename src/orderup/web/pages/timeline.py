"""How an operation went, drawn: a bar a task, each attempt a piece of it. Idle time is folded.

Told by its events alone, so that the picture is what the log says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.sax.saxutils import escape, quoteattr

from markupsafe import Markup

from orderup.model.event import Event
from orderup.model.operation import Operation
from orderup.web.pages.words import show_seconds

WIDTH, LABELS, ROW, TOP = 900, 170, 30, 26
# Idle time longer than this share of the busy time is drawn as a fold.
FOLD_SHARE, FOLD_WIDTH = 0.25, 56
ENDS: Mapping[str, str] = {
    "task.completed": "done",
    "task.retrying": "failed",
    "task.errored": "failed",
    "task.lost": "failed",
    "task.cancelled": "failed",
    "task.waiting": "done",
    "task.handed_back": "done",
}
WORDS: Mapping[str, str] = {"run": "being done", "done": "done", "failed": "failed", "wait": "waited"}


@dataclass(frozen=True, slots=True)
class Piece:
    """kind: run (it is still being done), done, failed or wait. lane: which bar. Times are microseconds."""

    lane: int
    kind: str
    begin: int
    end: int


def pieces_of(operation: Operation, events: Sequence[Event], *, now: int) -> list[Piece]:
    """Lane 0 is the approval, if there was one to wait for; then the tasks, in their order."""
    until = operation.finished_at or now
    shift = 1 if operation.rfa is not None else 0
    pieces = []
    if operation.rfa is not None:
        pieces.append(Piece(0, "wait", operation.rfa.asked_at, operation.rfa.decided_at or until))
    begun: dict[int, int] = {}
    waits: dict[int, int] = {}
    for event in events:
        if event.task is None:
            continue
        if event.type == "task.started":
            if (since := waits.pop(event.task, None)) is not None:
                pieces.append(Piece(event.task + shift, "wait", since, event.at))
            begun[event.task] = event.at
        elif event.type in ENDS and (since := begun.pop(event.task, None)) is not None:
            pieces.append(Piece(event.task + shift, ENDS[event.type], since, event.at))
            if event.type in ("task.retrying", "task.waiting", "task.lost", "task.handed_back"):
                waits[event.task] = event.at
    pieces += [Piece(task + shift, "run", since, until) for task, since in begun.items()]
    pieces += [Piece(task + shift, "wait", since, until) for task, since in waits.items()]
    return pieces


class Scale:
    """From a moment to a place on the drawing, over folds of idle time."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        marks = sorted({moment for piece in pieces for moment in (piece.begin, piece.end)})
        spans = list(pairwise(marks))
        idle = [not any(p.kind != "wait" and p.begin <= begin and end <= p.end for p in pieces) for begin, end in spans]
        busy = sum(end - begin for (begin, end), is_idle in zip(spans, idle, strict=True) if not is_idle)
        folded = [
            is_idle and busy > 0 and end - begin > FOLD_SHARE * busy
            for (begin, end), is_idle in zip(spans, idle, strict=True)
        ]
        shown = sum(end - begin for (begin, end), is_folded in zip(spans, folded, strict=True) if not is_folded) or 1
        room = WIDTH - LABELS - 20 - FOLD_WIDTH * sum(folded)
        self.folds: list[tuple[float, int]] = []
        self._places: dict[int, float] = {}
        place = float(LABELS)
        for (begin, end), is_folded in zip(spans, folded, strict=True):
            self._places[begin] = place
            if is_folded:
                self.folds.append((place, end - begin))
            place += FOLD_WIDTH if is_folded else max(room, 100) * (end - begin) / shown
        if marks:
            self._places[marks[-1]] = place

    def place(self, moment: int) -> float:
        return self._places[moment]


def draw(operation: Operation, events: Sequence[Event], *, now: int) -> Markup:
    """An SVG; the page has the same facts as a table."""
    pieces = pieces_of(operation, events, now=now)
    scale = Scale(pieces)
    names = [*(["approval"] if operation.rfa is not None else []), *(task.name for task in operation.tasks)]
    height = TOP + ROW * len(names)
    label = "Timeline; the table below says the same"
    parts = [f'<svg class="timeline" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">']
    for lane, name in enumerate(names):
        y = TOP + lane * ROW
        parts.append(f'<text x="0" y="{y + 16}">{escape(name[:24])}</text>')
        parts.append(f'<line class="lane" x1="{LABELS}" x2="{WIDTH}" y1="{y + 24}" y2="{y + 24}"/>')
    for place, length in scale.folds:
        words = escape(f"{show_seconds(length / 1e6)} idle")
        parts.append(f'<text class="soft" x="{place + FOLD_WIDTH / 2:.1f}" y="14" text-anchor="middle">{words}</text>')
    for piece in pieces:
        x, end = scale.place(piece.begin), scale.place(piece.end)
        seconds = show_seconds((piece.end - piece.begin) / 1e6)
        title = f"{names[piece.lane]}: {WORDS[piece.kind]}, {seconds}"
        parts.append(
            f'<rect class={quoteattr(piece.kind)} x="{x:.1f}" y="{TOP + piece.lane * ROW + 3}" '
            f'width="{max(end - x, 2):.1f}" height="16" rx="3"><title>{escape(title)}</title></rect>'
        )
    return Markup("".join([*parts, "</svg>"]))  # noqa: S704  every text in it was escaped
