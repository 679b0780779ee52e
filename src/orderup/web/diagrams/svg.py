"""A drawing as SVG, laid out here: boxes in rows from top to bottom, arrows between them.

The way of Sugiyama, Tagawa and Toda (1981), in three steps: each box gets the row after the lowest of those before it;
boxes within a row are ordered by where their neighbours stand, so that fewer arrows cross; then places are given out.
An arrow that passes a row gets a narrow place in it, so that it runs beside the boxes, not behind them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from xml.sax.saxutils import escape, quoteattr

import msgspec

from orderup.web.diagrams.drawing import Arrow, Box, Drawing, Panel, Shape
from orderup.web.diagrams.tones import PLAIN, TONES

MARGIN, GAP_ACROSS, GAP_DOWN = 24.0, 36.0, 58.0
PADDING, TITLE_HEIGHT, LINE_HEIGHT = 14.0, 20.0, 17.0
# How wide a letter of each size is at most, on average: a box is rather too wide than too narrow.
HEADING_LETTER, TITLE_LETTER, LINE_LETTER = 10.0, 8.6, 7.0
PASSING_WIDTH, NARROWEST, LABEL_GAP = 16.0, 120.0, 10.0
HEADING = 34.0
SWEEPS = 6

STYLE = """
svg { background: #ffffff; font-family: system-ui, "Liberation Sans", "DejaVu Sans", sans-serif; color: #1c1917 }
.heading { font-size: 17px; font-weight: 600; fill: currentColor }
.panel { font-size: 14px; font-weight: 600; fill: currentColor }
.title { font-size: 14px; font-weight: 600; fill: #1c1917 }
.line { font-size: 12px; fill: #1c1917 }
.label { font-size: 12px; fill: currentColor; paint-order: stroke; stroke: #ffffff; stroke-width: 4px }
.arrow { fill: none; stroke: #57534e; stroke-width: 1.4px }
.tip { fill: #57534e }
@media (prefers-color-scheme: dark) {
  svg { background: #1c1917; color: #f5f5f4 }
  .label { stroke: #1c1917 }
  .arrow { stroke: #a8a29e }
  .tip { fill: #a8a29e }
}
""".strip()
TIP = (
    '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path class="tip" d="M0 0L8 4L0 8z"/></marker>'
)


class Spot(msgspec.Struct):
    """A place in a row: a box, or an arrow that passes by. `x` is its middle, `y` its upper edge."""

    key: str
    width: float
    height: float
    x: float = 0.0
    y: float = 0.0


class Layout(msgspec.Struct):
    """routes: for each arrow its points, from its source to its target."""

    spots: dict[str, Spot]
    routes: list[list[tuple[float, float]]]
    width: float
    height: float


def as_svg(drawing: Drawing) -> str:
    """A whole document, readable in light and dark; the description says in words what is drawn."""
    layouts = [lay_out(panel) for panel in drawing.panels]
    width = max([layout.width for layout in layouts] + [_text_width(drawing.title, HEADING_LETTER)]) + 2 * MARGIN
    parts, top = [], MARGIN + HEADING
    for panel, layout in zip(drawing.panels, layouts, strict=True):
        left = (width - layout.width) / 2
        parts.append(f'<text class="panel" x="{MARGIN:g}" y="{top + 14:g}">{escape(panel.title)}</text>')
        top += HEADING
        parts.append(f'<g transform="translate({left:.1f} {top:.1f})">')
        parts += _arrows(panel, layout)
        parts += [line for box in panel.boxes for line in _box(box, layout.spots[box.id])]
        parts.append("</g>")
        top += layout.height + MARGIN
    return "\n".join(
        [
            _opening(width, top),
            f'<title id="title">{escape(drawing.title)}</title>',
            f'<desc id="description">{escape(_describe(drawing))}</desc>',
            f"<style>{STYLE}</style>",
            f"<defs>{TIP}</defs>",
            f'<text class="heading" x="{MARGIN:g}" y="{MARGIN + 12:g}">{escape(drawing.title)}</text>',
            *parts,
            "</svg>\n",
        ]
    )


def _opening(width: float, height: float) -> str:
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title description">'


def _describe(drawing: Drawing) -> str:
    titles = {box.id: box.title for panel in drawing.panels for box in panel.boxes}
    return " ".join(
        f"{titles[arrow.source]} leads to {titles[arrow.target]}{f' ({arrow.label})' if arrow.label else ''}."
        for panel in drawing.panels
        for arrow in panel.arrows
    )


# laying out


def lay_out(panel: Panel) -> Layout:
    rank = rows_of(panel)
    spots = {box.id: Spot(box.id, *_size(box)) for box in panel.boxes}
    for key, room in _room_for_labels(panel, rank).items():
        spots[key].width = max(spots[key].width, room)
    chains = [_chain(number, arrow, rank, spots) for number, arrow in enumerate(panel.arrows)]
    rows: list[list[Spot]] = [[] for _ in range(max(rank.values()) + 1)]
    for key, row in rank.items():
        rows[row].append(spots[key])
    neighbours = _neighbours(chains)
    _order(rows, neighbours)
    width = _place(rows, neighbours)
    routes = _route(panel, chains, rank, spots)
    last = rows[-1]
    return Layout(spots, routes, width, last[0].y + max(spot.height for spot in last))


def rows_of(panel: Panel) -> dict[str, int]:
    """The row of each box: one below the lowest box that leads to it. Arrows that lead back do not count."""
    order = {box.id: number for number, box in enumerate(panel.boxes)}
    rank = dict.fromkeys(order, 0)
    for box in panel.boxes:
        for arrow in panel.arrows:
            if arrow.source == box.id and order[arrow.target] > order[box.id]:
                rank[arrow.target] = max(rank[arrow.target], rank[box.id] + 1)
    return rank


def _size(box: Box) -> tuple[float, float]:
    text = max([_text_width(box.title, TITLE_LETTER), *(_text_width(line, LINE_LETTER) for line in box.lines)])
    slant = 2 * PADDING if box.shape is Shape.QUESTION else 0.0
    height = 2 * PADDING + TITLE_HEIGHT + LINE_HEIGHT * len(box.lines) - 6
    return max(NARROWEST, text + 2 * PADDING + slant), height


def _room_for_labels(panel: Panel, rank: Mapping[str, int]) -> dict[str, float]:
    """How wide each box must be for the labels of the arrows at one edge of it to stand side by side."""
    room: dict[tuple[str, bool], float] = {}
    for arrow in panel.arrows:
        goes_down = rank[arrow.source] < rank[arrow.target]
        for edge in ((arrow.source, goes_down), (arrow.target, not goes_down)):
            room[edge] = room.get(edge, 0.0) + _text_width(arrow.label, LINE_LETTER) + LABEL_GAP
    return {key: max(room.get((key, False), 0.0), room.get((key, True), 0.0)) for key, _ in room}


def _text_width(text: str, letter: float) -> float:
    return len(text) * letter


def _chain(number: int, arrow: Arrow, rank: dict[str, int], spots: dict[str, Spot]) -> list[str]:
    """The spots an arrow goes through from above to below, with new ones in the rows that it passes."""
    upper, lower = sorted((arrow.source, arrow.target), key=rank.__getitem__)
    chain = [upper]
    for row in range(rank[upper] + 1, rank[lower]):
        key = f"passing {number} {row}"
        rank[key] = row
        spots[key] = Spot(key, PASSING_WIDTH, 0.0)
        chain.append(key)
    return [*chain, lower]


def _neighbours(chains: Sequence[Sequence[str]]) -> dict[str, tuple[list[str], list[str]]]:
    """By spot: those it is tied to in the row above, and in the row below."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for chain in chains:
        for upper, lower in pairwise(chain):
            found.setdefault(upper, ([], []))[1].append(lower)
            found.setdefault(lower, ([], []))[0].append(upper)
    return found


def _order(rows: list[list[Spot]], neighbours: Mapping[str, tuple[list[str], list[str]]]) -> None:
    """Sort each row by the middle of its neighbours, downwards and upwards in turn."""
    position: dict[str, float] = {}

    def note(row: list[Spot]) -> None:
        position.update({spot.key: (number + 0.5) / len(row) for number, spot in enumerate(row)})

    for row in rows:
        note(row)
    for sweep in range(SWEEPS):
        side = sweep % 2
        for row in rows if side == 0 else reversed(rows):
            middle = {
                spot.key: _mean([position[key] for key in neighbours.get(spot.key, ([], []))[side]], position[spot.key])
                for spot in row
            }
            row.sort(key=lambda spot, middle=middle: middle[spot.key])  # type: ignore[misc]
            note(row)


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _place(rows: Sequence[Sequence[Spot]], neighbours: Mapping[str, tuple[list[str], list[str]]]) -> float:
    """Give every spot its `x` and `y`; the width of it all."""
    spots = {spot.key: spot for row in rows for spot in row}
    widths = [sum(spot.width for spot in row) + GAP_ACROSS * (len(row) - 1) for row in rows]
    y = 0.0
    for row, width in zip(rows, widths, strict=True):
        x = (max(widths) - width) / 2
        for spot in row:
            spot.x, spot.y = x + spot.width / 2, y
            x += spot.width + GAP_ACROSS
        y += max(spot.height for spot in row) + GAP_DOWN
    for sweep in range(SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            _straighten(row, spots, neighbours, side=sweep % 2)
    left = min(spot.x - spot.width / 2 for spot in spots.values())
    for spot in spots.values():
        spot.x -= left
    return max(spot.x + spot.width / 2 for spot in spots.values())


def _straighten(
    row: Sequence[Spot],
    spots: Mapping[str, Spot],
    neighbours: Mapping[str, tuple[list[str], list[str]]],
    *,
    side: int,
) -> None:
    """Move each spot of a row towards its neighbours' middle, as far as those beside it let it."""
    wanted = [_mean([spots[key].x for key in neighbours.get(spot.key, ([], []))[side]], spot.x) for spot in row]
    for number, spot in enumerate(row):
        least = -float("inf")
        if number:
            before = row[number - 1]
            least = before.x + (before.width + spot.width) / 2 + GAP_ACROSS
        spot.x = max(wanted[number], least)
    # what was pushed to the right goes back to the left together
    shift = _mean([want - spot.x for want, spot in zip(wanted, row, strict=True)], 0.0)
    for spot in row:
        spot.x += shift


def _route(
    panel: Panel, chains: Sequence[Sequence[str]], rank: Mapping[str, int], spots: Mapping[str, Spot]
) -> list[list[tuple[float, float]]]:
    """Points of every arrow. Where several touch one edge of a box they share it out, in the order of where they go."""
    lower_ports = _ports(chains, spots, end=0)
    upper_ports = _ports(chains, spots, end=-1)
    routes = []
    for number, (arrow, chain) in enumerate(zip(panel.arrows, chains, strict=True)):
        first, last = spots[chain[0]], spots[chain[-1]]
        points = [(lower_ports[number], first.y + first.height)]
        for key in chain[1:-1]:
            points.append((spots[key].x, spots[key].y))
            points.append((spots[key].x, spots[key].y + _row_height(rank[key], rank, spots)))
        points.append((upper_ports[number], last.y))
        routes.append(points if arrow.source == chain[0] else points[::-1])
    return routes


def _row_height(row: int, rank: Mapping[str, int], spots: Mapping[str, Spot]) -> float:
    return max(spots[key].height for key, its_row in rank.items() if its_row == row)


def _ports(chains: Sequence[Sequence[str]], spots: Mapping[str, Spot], *, end: int) -> dict[int, float]:
    """For each arrow, where it touches its upper box's lower edge (`end` 0), or its lower box's upper edge (-1)."""
    next_to = 1 if end == 0 else -2
    touching: dict[str, list[int]] = {}
    for number, chain in enumerate(chains):
        touching.setdefault(chain[end], []).append(number)
    ports = {}
    for key, numbers in touching.items():
        spot = spots[key]
        numbers.sort(key=lambda number: (spots[chains[number][next_to]].x, number))
        for place, number in enumerate(numbers):
            ports[number] = spot.x + spot.width * ((place + 1) / (len(numbers) + 1) - 0.5)
    return ports


# writing


def _arrows(panel: Panel, layout: Layout) -> Iterator[str]:
    """Labels come last: no arrow runs over one."""
    for route in layout.routes:
        yield f'<path class="arrow" marker-end="url(#tip)" d="{_path(route)}"/>'
    ends = Counter(end for arrow in panel.arrows for end in (arrow.source, arrow.target))
    for arrow, route in zip(panel.arrows, layout.routes, strict=True):
        if arrow.label:
            is_crowded_first = ends[arrow.source] >= ends[arrow.target]
            x, y = _near_start(route if is_crowded_first else route[::-1])
            yield f'<text class="label" text-anchor="middle" x="{x:.1f}" y="{y:.1f}">{escape(arrow.label)}</text>'


def _path(route: Sequence[tuple[float, float]]) -> str:
    """A curve that leaves and arrives upright."""
    (x, y), *rest = route
    path = f"M{x:.1f} {y:.1f}"
    for next_x, next_y in rest:
        middle = (y + next_y) / 2
        path += f"C{x:.1f} {middle:.1f} {next_x:.1f} {middle:.1f} {next_x:.1f} {next_y:.1f}"
        x, y = next_x, next_y
    return path


def _near_start(route: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """A third of the way along its first bend, on the curve that `_path` draws."""
    (x, y), (next_x, next_y) = route[0], route[1]
    t = 1 / 3
    across = x * ((1 - t) ** 3 + 3 * (1 - t) ** 2 * t) + next_x * (3 * (1 - t) * t**2 + t**3)
    return across, y + (next_y - y) * t + 4


def _box(box: Box, spot: Spot) -> Iterator[str]:
    tone = TONES.get(box.tone, PLAIN)
    left, top = spot.x - spot.width / 2, spot.y
    style = f'fill="{tone.fill}" stroke="{tone.line}" stroke-width="1.4"'
    yield f"<g data-box={quoteattr(box.id)}>"
    yield _outline(box.shape, left, top, spot.width, spot.height, style)
    y = top + PADDING + 12
    yield f'<text class="title" text-anchor="middle" x="{spot.x:.1f}" y="{y:.1f}">{escape(box.title)}</text>'
    for number, line in enumerate(box.lines, 1):
        below = y + 3 + LINE_HEIGHT * number
        yield f'<text class="line" text-anchor="middle" x="{spot.x:.1f}" y="{below:.1f}">{escape(line)}</text>'
    yield "</g>"


def _outline(shape: Shape, left: float, top: float, width: float, height: float, style: str) -> str:
    if shape is Shape.QUESTION:
        right, bottom, half = left + width, top + height, top + height / 2
        corners = [
            (left + PADDING, top),
            (right - PADDING, top),
            (right, half),
            (right - PADDING, bottom),
            (left + PADDING, bottom),
            (left, half),
        ]
        return f'<polygon points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in corners)}" {style}/>'
    radius = min(22.0, height / 2) if shape is Shape.END else 6.0
    return f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius:.1f}" {style}/>'
