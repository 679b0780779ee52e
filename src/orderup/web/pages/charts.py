"""Charts of the first page, drawn here as SVG. Each says by pattern what it says by colour, and stands above a table of
the same numbers."""

from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

from markupsafe import Markup

from orderup.db.busy import QueueState
from orderup.db.today import Hour, Spread, Took
from orderup.model.times import as_datetime
from orderup.web.pages.words import show_seconds

# Narrow, so that letters are still letters on a phone.
WIDTH = 400
HEIGHT, TOP, FLOOR = 190, 22, 160
ROW, LANE = 40, 14
MOST_ROWS = 12
# Drawn from the floor up. Each is a class in the style sheet, and how the bar is filled besides.
OUTCOMES = ("completed", "errored", "cancelled", "open")
PATTERN = (
    '<defs><pattern id="stripes" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="3" height="5"/></pattern></defs>'
)


def outcomes_of(hour: Hour) -> dict[str, int]:
    """By outcome; what has none yet is open."""
    counts = dict.fromkeys(OUTCOMES, 0)
    for status, count in hour.counts.items():
        counts[status if status in counts else "open"] += count
    return counts


def draw_hours(hours: Sequence[Hour]) -> Markup:
    """A column an hour, a piece of it an outcome."""
    columns = [outcomes_of(hour) for hour in hours]
    tallest = max((sum(column.values()) for column in columns), default=0) or 1
    room = (WIDTH - 4) / max(1, len(hours))
    parts = [PATTERN, _text(0, 14, f"{tallest:,}", kind="soft"), _line(0, WIDTH, TOP), _line(0, WIDTH, FLOOR)]
    for index, (hour, column) in enumerate(zip(hours, columns, strict=True)):
        base = float(FLOOR)
        for outcome, count in column.items():
            if count:
                tall = max(2.0, (FLOOR - TOP) * count / tallest)
                base -= tall
                words = f"{as_datetime(hour.begin):%H:%M} UTC: {count:,} {outcome}"
                parts.append(_bar(2 + index * room + 1, base, room - 3, tall, kind=outcome, words=words))
    last = len(hours) - 1
    parts += [_text(2 + (last - ago) * room, FLOOR + 18, f"{ago} h ago") for ago in (18, 12, 6)]
    parts.append(_text(WIDTH - 2, FLOOR + 18, "now", anchor="end"))
    return _svg(HEIGHT, parts, label="Operations by the hour they were placed in")


def draw_took(took: Sequence[Took]) -> Markup:
    """Two bars a kind, waiting and making: as long as the median, with a line to what nine of ten did not exceed."""
    shown = took[:MOST_ROWS]
    longest = max((spread.most for each in shown for spread in (each.waited, each.made) if spread), default=0.0) or 1.0
    parts = []
    for index, each in enumerate(shown):
        y = index * (ROW + LANE)
        parts.append(_text(0, y + 14, f"{each.shop}: {each.kind}"))
        parts += _spread(each.waited, y + 20, longest, kind="waited", words="waited")
        parts += _spread(each.made, y + 20 + LANE, longest, kind="made", words="took")
    return _svg(len(shown) * (ROW + LANE), parts, label="Waiting and making times of the last completed orders")


def _spread(spread: Spread | None, y: float, longest: float, *, kind: str, words: str) -> list[str]:
    if spread is None:
        return []
    room = WIDTH - 130
    median, most = (max(2.0, room * seconds / longest) for seconds in (spread.median, spread.most))
    said = f"{show_seconds(spread.median)}, 90 %: {show_seconds(spread.most)}"
    middle = y + 5
    return [
        _bar(0, y, median, 10, kind=kind, words=f"{words} {said}"),
        f'<path class="reach" d="M{median:.1f} {middle}H{most:.1f}M{most:.1f} {y}V{y + 10}"/>',
        _text(most + 6, y + 10, said, kind="soft small"),
    ]


def draw_ages(queues: Sequence[QueueState], *, now: int) -> Markup:
    """A bar a queue, as long as the oldest task in it has waited."""
    shown = queues[:MOST_ROWS]
    ages = [age_of(queue, now=now) for queue in shown]
    longest = max(ages, default=0.0) or 1.0
    parts = []
    for index, (queue, age) in enumerate(zip(shown, ages, strict=True)):
        y, said = index * ROW, show_seconds(age)
        long = max(2.0, (WIDTH - 80) * age / longest)
        parts.append(_text(0, y + 14, queue.name))
        parts.append(_bar(0, y + 20, long, 12, kind="waited", words=f"{queue.name}: {said}"))
        parts.append(_text(long + 6, y + 31, said, kind="soft small"))
    return _svg(len(shown) * ROW, parts, label="How long the oldest task of each queue has waited")


def age_of(queue: QueueState, *, now: int) -> float:
    """Seconds."""
    return 0.0 if queue.oldest_ready_at is None else max(0.0, (now - queue.oldest_ready_at) / 1e6)


def _svg(height: float, parts: Iterable[str], *, label: str) -> Markup:
    head = (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}; the table says the same">'
    )
    return Markup("".join([head, *parts, "</svg>"]))  # noqa: S704  every text in it was escaped


def _text(x: float, y: float, words: str, *, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words[:48])}</text>'


def _line(x1: float, x2: float, y: float) -> str:
    return f'<line x1="{x1}" x2="{x2}" y1="{y}" y2="{y}"/>'


def _bar(x: float, y: float, wide: float, tall: float, *, kind: str, words: str) -> str:
    fill = ' fill="url(#stripes)"' if kind == "errored" else ""
    return (
        f'<rect class="bar-{kind}"{fill} x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}">'
        f"<title>{escape(words)}</title></rect>"
    )
