"""docs/shops/pizza.md says what the pizzeria does."""

import re
from pathlib import Path

from orderup.model.placing import USUAL_LEASE
from orderup.settings import Settings
from orderup.shops.pizza import shop
from orderup.shops.pizza.plan import WORDS, example
from orderup.shops.pizza.status import STATUS_WORDS
from orderup.web.diagrams.drawing import draw_plan
from orderup.web.diagrams.mermaid import as_mermaid
from orderup.web.diagrams.svg import as_svg

PAGE = Path(__file__).resolve().parents[3] / "docs" / "shops" / "pizza.md"
DRAWING = draw_plan(shop, example(), rfa_within=Settings().rfa_expiry, lease=USUAL_LEASE)


def rows(heading: str) -> list[list[str]]:
    """Of the first table below a heading."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]


def test_every_status_is_listed_with_the_state_that_it_stands_for() -> None:
    listed = rows("Status")
    assert [status for status, _ in listed] == [f"`{status}`" for status in STATUS_WORDS.values()]
    assert [state for state, (_, when) in zip(STATUS_WORDS, listed, strict=True) if f"`{state}`" not in when] == []


def test_every_event_is_listed_with_the_customers_words() -> None:
    listed = {type.strip("`"): words for type, words in rows("What the customer reads")}
    said = {**WORDS, "rfa.declined": f"{WORDS['rfa.declined']}: and the note"}
    steps = ", ".join(kind.says for kind in shop.kinds.values())
    assert listed == {**said, "task.started": steps}


def test_the_diagram_is_what_the_plan_is_now() -> None:
    [mermaid] = re.findall(r"^```mermaid\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert mermaid == as_mermaid(DRAWING), "orderup diagram pizza draws another one; put it into docs/shops/pizza.md"


def test_the_picture_is_what_the_plan_is_now() -> None:
    drawn = PAGE.with_name("pizza.svg").read_text()
    assert drawn == as_svg(DRAWING), "draw it anew: orderup diagram pizza --svg docs/shops/pizza.svg"
