"""A drawing as Mermaid. Its language: https://mermaid.js.org/syntax/flowchart.html ."""

from collections.abc import Iterator, Sequence

from orderup.web.diagrams.drawing import Box, Drawing, Panel, Shape
from orderup.web.diagrams.tones import TONES

_BRACKETS = {Shape.BOX: ("[", "]"), Shape.QUESTION: ("{{", "}}"), Shape.END: ("([", "])")}


def as_mermaid(drawing: Drawing) -> str:
    """A flowchart, with a line end at its end. Ids are `p0_…`, by panel."""
    return "\n".join(_lines(drawing)) + "\n"


def _lines(drawing: Drawing) -> Iterator[str]:
    yield from ("---", f"title: {_yaml(drawing.title)}", "---", "flowchart TB")
    for number, panel in enumerate(drawing.panels):
        yield f'    subgraph p{number}["{_escape(panel.title)}"]'
        yield "        direction TB"
        yield from (f"        {line}" for line in _panel(panel, prefix=f"p{number}_"))
        yield "    end"
    used = {box.tone for panel in drawing.panels for box in panel.boxes if box.tone}
    for tone in sorted(used):
        colours = TONES[tone]
        yield f"    classDef {tone}_ fill:{colours.fill},stroke:{colours.line},color:#1c1917"


def _panel(panel: Panel, *, prefix: str) -> Iterator[str]:
    for box in panel.boxes:
        opening, closing = _BRACKETS[box.shape]
        tone = f":::{box.tone}_" if box.tone else ""
        yield f'{prefix}{box.id}{opening}"{_label(box)}"{closing}{tone}'
    for arrow in panel.arrows:
        label = f'|"{_escape(arrow.label)}"|' if arrow.label else ""
        yield f"{prefix}{arrow.source} -->{label} {prefix}{arrow.target}"


def _label(box: Box) -> str:
    lines: Sequence[str] = [f"<b>{_escape(box.title)}</b>", *map(_escape, box.lines)]
    return "<br/>".join(lines)


def _escape(text: str) -> str:
    """Mermaid's own entities, so that no text is taken for its syntax or for HTML."""
    signs = {"#": "#35;", "&": "#38;", '"': "#34;", "<": "#60;", ">": "#62;", "`": "#96;", "\\": "#92;"}
    return "".join(signs.get(sign, sign) for sign in text)


def _yaml(text: str) -> str:
    """In single quotes, where only they need care."""
    return "'" + text.replace("'", "''") + "'"
