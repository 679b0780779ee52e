"""docs/shops/mealbox.md says what the meal boxes do."""

import re
from pathlib import Path

from fastapi.routing import iter_route_contexts

from orderup.sandbox.mealbox import Mealbox
from orderup.settings import Settings, variable_of
from orderup.shops.mealbox import shop
from orderup.shops.mealbox.status import STATUS_WORDS
from tests.serving import ROOT
from tests.shops.mealbox.conftest import Kiosk

PAGE = ROOT / "docs" / "shops" / "mealbox.md"
TEXT = PAGE.read_text()
FILES = ROOT / "deploy" / "mealbox"


def rows(heading: str) -> list[list[str]]:
    """Of the first table below a heading."""
    section = TEXT.partition(f"\n## {heading}\n")[2]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]


def test_every_state_is_listed_with_the_word_that_customers_read() -> None:
    listed = {state: word.strip("`") for states, word in rows("States") for state in states.split(", ")}
    assert listed == {str(state): word for state, word in STATUS_WORDS.items()}


def test_every_route_that_is_listed_is_there() -> None:
    assert shop.front is not None
    assert shop.back is not None
    known = {"front": shop.front, "back": shop.back}
    for app, routes, _ in rows("Routes"):
        paths = {context.path for context in iter_route_contexts(known[app].routes)}
        for path in re.findall(r"(?:^|[` ])(/[a-z{}/]+)", routes):
            assert path in paths, path


def test_the_defaults_that_are_told_are_those_of_the_settings() -> None:
    told = re.findall(r"`([A-Z_]+)` \(([\d.]+)\)", TEXT)
    assert len(told) >= 4
    defaults = {variable_of(name): field.default for name, field in Settings.model_fields.items()}
    assert {name: float(value) for name, value in told} == {name: float(defaults[name]) for name, _ in told}


def test_the_six_cases_are_about_users_and_products_that_the_sandbox_knows() -> None:
    sandbox = Mealbox(scale=1)
    known = {id for collection in sandbox.collections for id in collection.usual}
    named = {id for who, _, _ in rows("What the six cases do") for id in re.findall(r"`([a-z0-9-]+)`", who)}
    assert named == known


async def test_every_figure_that_is_named_is_measured(one_kiosk: Kiosk) -> None:
    await one_kiosk.order()
    measured = (await one_kiosk.client.get(f"{one_kiosk.back}/metrics")).text
    named = re.findall(r"`(orderup_[a-z_]+)`", TEXT)
    assert len(named) >= 5
    assert [name for name in named if name not in measured] == []


def test_every_file_of_the_deployment_is_told_of() -> None:
    told = TEXT.partition("| in `deploy/mealbox/` | |")[2]
    assert [each.name for each in Path(FILES).iterdir() if each.name not in told] == []
