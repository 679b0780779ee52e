"""How an operation went, drawn: a bar a task, each attempt a piece of it. Idle time is folded.

Told by its events alone, so that the picture is what the log says.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.sax.saxutils import escape, quoteattr

from markupsafe import Markup

from orderup.model.event import Event
from orderup.model.operation import Operation
from orderup.web.pages.words import show_seconds

WIDTH, LABELS, ROW, TOP, BOTTOM = 900, 230, 30, 26, 22
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
WORDS: Mapping[str, str] = {"run": "being done", "done": "done", "failed": "failed or lost", "wait": "waits"}
LONGEST_NAME = 22
# Told apart by these too, not by colour alone.
PATTERNS = (
    '<defs><pattern id="failed" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect class="failed" width="6" height="6"/><rect class="gap" width="2" height="6"/></pattern>'
    '<pattern id="run" width="8" height="8" patternUnits="userSpaceOnUse">'
    '<rect class="run" width="8" height="8"/><circle class="gap" cx="4" cy="4" r="1.5"/></pattern></defs>'
)
FILLS: Mapping[str, str] = {"failed": ' fill="url(#failed)"', "run": ' fill="url(#run)"'}


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
        idle = list(_idle([piece for piece in pieces if piece.kind != "wait"], spans))
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


def _idle(busy: Sequence[Piece], spans: Sequence[tuple[int, int]]) -> Iterator[bool]:
    """Of each span, whether nothing is done meanwhile. One walk over all: there may be thousands of either."""
    changes = Counter(piece.begin for piece in busy)
    changes.subtract(piece.end for piece in busy)
    under_way = 0
    for begin, _ in spans:
        under_way += changes[begin]
        yield under_way == 0


def draw(operation: Operation, events: Sequence[Event], *, now: int) -> Markup:
    """An SVG with its legend; the page has the same facts as a table."""
    pieces = pieces_of(operation, events, now=now)
    scale = Scale(pieces)
    names = [*(["approval"] if operation.rfa is not None else []), *(task.name for task in operation.tasks)]
    bottom = TOP + ROW * len(names)
    label = "Timeline; the table below says the same"
    parts = [
        f'<svg class="timeline" viewBox="0 0 {WIDTH} {bottom + BOTTOM}" role="img" aria-label="{label}">{PATTERNS}',
        *_lanes(names, pieces),
        *_axis(pieces, y=bottom + 14),
    ]
    for place, length in scale.folds:
        words = escape(f"{show_seconds(length / 1e6)} idle")
        parts.append(f'<text class="soft" x="{place + FOLD_WIDTH / 2:.1f}" y="14" text-anchor="middle">{words}</text>')
    for piece in pieces:
        x, end = scale.place(piece.begin), scale.place(piece.end)
        seconds = show_seconds((piece.end - piece.begin) / 1e6)
        title = f"{names[piece.lane]}: {WORDS[piece.kind]}, {seconds}"
        parts.append(
            f'<rect class={quoteattr(_class_of(piece.kind))}{FILLS.get(piece.kind, "")} x="{x:.1f}" '
            f'y="{TOP + piece.lane * ROW + 3}" '
            f'width="{max(end - x, 2):.1f}" height="16" rx="3"><title>{escape(title)}</title></rect>'
        )
    return Markup("".join([*parts, "</svg>", *_legend(pieces)]))  # noqa: S704  every text in it was escaped


def _class_of(kind: str) -> str:
    return f"{kind} patterned" if kind in FILLS else kind


def _lanes(names: Sequence[str], pieces: Sequence[Piece]) -> Iterator[str]:
    """Each with its name, and how long was worked on it, or waited for the approval."""
    by_lane = defaultdict[int, list[Piece]](list)
    for piece in pieces:
        by_lane[piece.lane].append(piece)
    for lane, name in enumerate(names):
        y = TOP + lane * ROW
        own = by_lane[lane]
        spent = [piece for piece in own if piece.kind != "wait"] or own
        yield f'<text x="0" y="{y + 16}">{escape(_short(name))}</text>'
        if spent:
            words = show_seconds(sum(piece.end - piece.begin for piece in spent) / 1e6)
            yield f'<text class="soft" x="{LABELS - 14}" y="{y + 16}" text-anchor="end">{words}</text>'
        yield f'<line class="lane" x1="{LABELS}" x2="{WIDTH}" y1="{y + 24}" y2="{y + 24}"/>'


def _axis(pieces: Sequence[Piece], *, y: int) -> Iterator[str]:
    if not pieces:
        return
    took = max(piece.end for piece in pieces) - min(piece.begin for piece in pieces)
    yield f'<text class="soft" x="{LABELS}" y="{y}">0 s</text>'
    yield f'<text class="soft" x="{WIDTH - 20}" y="{y}" text-anchor="end">{show_seconds(took / 1e6)}</text>'


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _legend(pieces: Sequence[Piece]) -> Iterator[str]:
    """Of the kinds of pieces that there are."""
    kinds = {piece.kind for piece in pieces}
    yield '<p class="legend">'
    for kind in (kind for kind in WORDS if kind in kinds):
        swatch = f'<rect class="{_class_of(kind)}"{FILLS.get(kind, "")} x="1" y="1" width="18" height="10" rx="2"/>'
        drawn = f'<svg class="timeline swatch" viewBox="0 0 20 12" aria-hidden="true">{swatch}</svg>'
        yield f"<span>{drawn}{WORDS[kind]}</span>"
    yield "</p>"
