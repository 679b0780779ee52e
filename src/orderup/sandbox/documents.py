"""Whether a description is a document as Jira takes it, and which words it has.

As strict as the published schema of the Atlassian Document Format is about what it knows; of the kinds of nodes only
those that a description of ours may need.
"""

from collections.abc import Iterator
from typing import Any

LONGEST = 32_767
INLINE = frozenset({"text", "hardBreak"})
# What may stand inside what; "block": where a cell or a document has room for any of these.
BLOCKS = frozenset({"paragraph", "heading", "bulletList", "orderedList", "codeBlock", "table", "rule"})
INSIDE: dict[str, frozenset[str]] = {
    "doc": BLOCKS,
    "paragraph": INLINE,
    "heading": INLINE,
    "codeBlock": frozenset({"text"}),
    "bulletList": frozenset({"listItem"}),
    "orderedList": frozenset({"listItem"}),
    "listItem": frozenset({"paragraph", "bulletList", "orderedList"}),
    "table": frozenset({"tableRow"}),
    "tableRow": frozenset({"tableHeader", "tableCell"}),
    "tableHeader": BLOCKS - {"table"},
    "tableCell": BLOCKS - {"table"},
}
# A paragraph may be empty, and a document too; these may not.
NEEDS_CONTENT = frozenset({"bulletList", "orderedList", "listItem", "table", "tableRow", "tableHeader", "tableCell"})
MEMBERS = frozenset({"type", "content", "attrs", "marks", "text", "version"})
MARKS = frozenset({"strong", "em", "code", "link", "underline", "strike"})
DEEPEST = 20


def is_document(given: Any) -> bool:
    if not isinstance(given, dict) or set(given) != {"version", "type", "content"}:
        return False
    return given["version"] == 1 and given["type"] == "doc" and _is_node(given, depth=0)


def words_of(node: Any) -> Iterator[str]:
    """Each text, in their order."""
    if isinstance(node, dict):
        if node.get("type") == "text":
            yield str(node.get("text", ""))
        for each in node.get("content", ()):
            yield from words_of(each)


def is_too_long(node: Any) -> bool:
    return sum(map(len, words_of(node))) > LONGEST


def _is_node(node: Any, *, depth: int) -> bool:
    if not isinstance(node, dict) or not set(node) <= MEMBERS or depth > DEEPEST:
        return False
    kind = node.get("type")
    if kind == "text":
        return _is_text(node)
    if kind in {"hardBreak", "rule"}:
        return "content" not in node and "text" not in node
    if kind not in INSIDE or "text" in node or "marks" in node:
        return False
    content = node.get("content", [])
    if not isinstance(content, list) or (not content and kind in NEEDS_CONTENT):
        return False
    return all(
        isinstance(each, dict)
        and each.get("type") in INSIDE[kind]
        and not (kind == "codeBlock" and "marks" in each)
        and _is_node(each, depth=depth + 1)
        for each in content
    )


def _is_text(node: dict[str, Any]) -> bool:
    """Not empty: the commonest mistake."""
    text, marks = node.get("text"), node.get("marks", [])
    if not isinstance(text, str) or not text or not set(node) <= {"type", "text", "marks"}:
        return False
    return isinstance(marks, list) and all(_is_mark(mark) for mark in marks)


def _is_mark(mark: Any) -> bool:
    if not isinstance(mark, dict) or mark.get("type") not in MARKS:
        return False
    if mark["type"] != "link":
        return set(mark) == {"type"}
    attributes = mark.get("attrs")
    href = attributes.get("href") if isinstance(attributes, dict) else None
    return isinstance(href, str) and href.startswith(("https://", "http://", "mailto:"))
