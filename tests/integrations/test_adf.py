"""Documents for Jira, held against the published schema of the format."""

import json
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given, strategies as st
from jsonschema_rs import Draft4Validator

from orderup.integrations.adf import LONGEST, Node, document, is_too_long, listing, paragraph, table, text
from orderup.sandbox.documents import is_document

SCHEMA = Draft4Validator(json.loads((files("adf_bridge") / "data" / "adf-schema.json").read_text()))
AWKWARD = 'O\'Brien "Bob" <script>alert(1)</script> {"type":"rule"} \\ \u202egnirts\u202c 🍰\x00\x1b[31m\r\nBcc: all'


def problems(built: Node) -> list[str]:
    return [error.message for error in SCHEMA.iter_errors(built)]


def of_cells(built: Node) -> list[list[Any]]:
    return [[cell["content"][0]["content"] for cell in row["content"]] for row in built["content"]]


def test_a_day_of_orders_is_as_the_format_has_it() -> None:
    built = document(
        paragraph("Ingredients of ", text("order 21", link="https://shop.example/orders/21"), ", and more:"),
        table(["Ingredient", "Amount"], [["flour", "500 g"], ["milk", text("1 l", strong=True)]]),
    )
    assert problems(built) == []
    assert is_document(built)
    assert built["version"] == 1
    assert [node["text"] for node in built["content"][0]["content"]] == ["Ingredients of ", "order 21", ", and more:"]
    assert built["content"][0]["content"][1]["marks"] == [
        {"type": "link", "attrs": {"href": "https://shop.example/orders/21"}}
    ]
    kinds = [[cell["type"] for cell in row["content"]] for row in built["content"][1]["content"]]
    assert kinds == [["tableHeader"] * 2, ["tableCell"] * 2, ["tableCell"] * 2]


@pytest.mark.parametrize("empty", ["", "  ", "\n\n", "\x00", "\u202e"])
def test_what_is_empty_is_a_hyphen_for_an_empty_text_makes_the_whole_invalid(empty: str) -> None:
    dash = [{"type": "text", "text": "-"}]
    assert text(empty) == dash
    assert paragraph(empty)["content"] == dash
    assert of_cells(table([empty], [[empty]])) == [[dash], [dash]]
    assert paragraph()["content"] == dash
    assert problems(document(paragraph([{"type": "text", "text": ""}]))) != []


def test_lines_stay_lines() -> None:
    assert text("a\nb\r\n\r\nc") == [
        {"type": "text", "text": "a"},
        {"type": "hardBreak"},
        {"type": "text", "text": "b"},
        {"type": "hardBreak"},
        {"type": "hardBreak"},
        {"type": "text", "text": "c"},
    ]


def test_what_people_wrote_is_text_and_nothing_else() -> None:
    built = document(paragraph(AWKWARD), table([AWKWARD], [[AWKWARD]]))
    assert problems(built) == []
    assert {node["type"] for node in built["content"][0]["content"]} == {"text", "hardBreak"}
    first = built["content"][0]["content"][0]
    assert first == {
        "type": "text",
        "text": 'O\'Brien "Bob" <script>alert(1)</script> {"type":"rule"} \\ gnirts 🍰[31m',
    }


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2)), st.text(), st.text())
def test_whatever_people_write_the_document_is_as_the_format_has_it(
    rows: list[list[str]], head: str, words: str
) -> None:
    built = document(paragraph(words, text(head, link="https://shop.example/")), table([head, words], rows))
    assert problems(built) == []
    assert is_document(built)
    json.dumps(built).encode()


def test_what_is_too_many_for_a_table_is_listed_line_by_line() -> None:
    built = document(listing(["500 g  flour", AWKWARD, ""]), listing([]))
    assert problems(built) == []
    assert is_document(built)
    [listed] = built["content"][0]["content"]
    assert listed["text"].startswith("500 g flour\nO'Brien")
    assert "marks" not in listed


def test_what_is_too_long_is_known_before_jira_says_so() -> None:
    assert not is_too_long(document(paragraph("x" * 30_000)))
    assert is_too_long(document(paragraph("x" * LONGEST)))


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"type": "doc", "content": []},
        {"version": 2, "type": "doc", "content": []},
        document({"type": "paragraph", "content": [{"type": "text", "text": ""}]}),
        document({"type": "paragraph", "content": [{"type": "text"}]}),
        document({"type": "paragraph", "content": [{"type": "words", "text": "x"}]}),
        document({"type": "paragraph", "content": [{"type": "paragraph", "content": []}]}),
        document({"type": "paragraph", "content": [{"type": "text", "text": "x", "marks": [{"type": "link"}]}]}),
        document({"type": "text", "text": "x"}),
        document({"type": "codeBlock", "content": [{"type": "text", "text": "x", "marks": [{"type": "strong"}]}]}),
        document({"type": "codeBlock", "content": [{"type": "hardBreak"}]}),
        document({"type": "table", "content": []}),
        document(
            {"type": "table", "content": [{"type": "tableRow", "content": [{"type": "tableCell", "content": []}]}]}
        ),
    ],
)
def test_the_stand_in_refuses_what_the_format_refuses(wrong: Node) -> None:
    assert problems(wrong) != []
    assert not is_document(wrong)
