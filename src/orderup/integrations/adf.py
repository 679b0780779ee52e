"""Atlassian Document Format: Jira's rich text, built as a tree, so that what people wrote needs no escaping.

Source: the JSON schema of version 1, developer.atlassian.com/cloud/jira/platform/apis/document/structure.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from orderup.model.one_line import one_line

Node = dict[str, Any]
# What Jira takes in a description.
LONGEST = 32_767
# In the place of nothing: a text without characters makes the whole document invalid.
NOTHING = "-"


def text(words: str, *, link: str | None = None, strong: bool = False) -> list[Node]:
    """Words inside a paragraph, over several lines if they have several. `link`: an absolute address."""
    marks: list[Node] = [{"type": "strong"}] if strong else []
    if link is not None:
        marks.append({"type": "link", "attrs": {"href": link}})
    lines = [_spaced(line) for line in words.splitlines()]
    if not any(line.strip() for line in lines):
        lines = [NOTHING]
    return list(_lines(lines, marks))


def paragraph(*parts: str | list[Node]) -> Node:
    """Of words, and of what `text` gave."""
    content = [node for part in parts for node in (text(part) if isinstance(part, str) else part)]
    return {"type": "paragraph", "content": content or text(NOTHING)}


def table(head: Sequence[str], rows: Sequence[Sequence[str | list[Node]]]) -> Node:
    """A cell: words, or what `text` gave."""
    cells = [_row("tableHeader", head), *(_row("tableCell", row) for row in rows)]
    attributes = {"isNumberColumnEnabled": False, "layout": "default"}
    return {"type": "table", "attrs": attributes, "content": cells}


def listing(lines: Sequence[str]) -> Node:
    """Lines as they are, in letters of one width: several times more of them find room than rows of a table."""
    words = "\n".join(one_line(line) for line in lines)
    return {"type": "codeBlock", "attrs": {}, "content": [{"type": "text", "text": words or NOTHING}]}


def document(*blocks: Node) -> Node:
    return {"version": 1, "type": "doc", "content": list(blocks)}


def is_too_long(built: Node) -> bool:
    """Whether Jira may say no to it. It does not say which characters it counts: with all of the tree's we are safe."""
    return len(msgspec.json.encode(built).decode()) > LONGEST


def _spaced(line: str) -> str:
    """With the space that parts it from what stands before and after it."""
    before, after = line[:1].isspace(), line[-1:].isspace()
    inside = one_line(line)
    return f"{' ' * before}{inside}{' ' * after}" if inside else ""


def _lines(lines: Sequence[str], marks: list[Node]) -> Iterator[Node]:
    marked = {"marks": marks} if marks else {}
    for number, line in enumerate(lines):
        if number:
            yield {"type": "hardBreak"}
        if line:
            yield {"type": "text", "text": line, **marked}


def _row(kind: str, cells: Sequence[str | list[Node]]) -> Node:
    return {
        "type": "tableRow",
        "content": [{"type": kind, "attrs": {}, "content": [paragraph(cell)]} for cell in cells],
    }
