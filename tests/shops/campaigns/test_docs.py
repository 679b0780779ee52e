"""docs/shops/campaigns.md says what the campaign desk does."""

import re

from fastapi.routing import iter_route_contexts

from orderup.settings import Settings, variable_of
from orderup.shops.campaigns import shop
from orderup.shops.campaigns.polling import OUTCOMES
from orderup.shops.campaigns.tasks import ClientStatus
from tests.serving import ROOT

TEXT = (ROOT / "docs" / "shops" / "campaigns.md").read_text()


def rows_of(heading: str) -> list[list[str]]:
    """Of the first table below a heading."""
    table = re.search(r"(?:^\|.*\n)+", TEXT.partition(f" {heading}\n")[2], re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]


def test_every_route_of_tasks_is_listed() -> None:
    listed = {tuple(re.findall(r"`([A-Z]+) (/[a-z/{}]+)", row[0])[0]) for row in rows_of("Tasks")}
    assert listed == {
        (method, context.path)
        for context in iter_route_contexts(shop.front.routes)
        for method in context.methods or ()
        if str(context.path).startswith("/api/") and not str(context.path).endswith("/")
    }


def test_every_status_is_named() -> None:
    told = TEXT.partition("- **Statuses** are ")[2].partition(".")[0]
    assert re.findall(r"`([^`]+)`", told) == list(ClientStatus)


def test_every_outcome_of_an_entry_is_listed() -> None:
    said = [row[1] for row in rows_of("What the platform says about them")]
    assert {name for text in said for name in re.findall(r"^`(\w+)`", text)} == set(OUTCOMES)


def test_the_defaults_that_are_told_are_those_of_the_settings() -> None:
    told = re.findall(r"`([A-Z_]+)` \((\d[\d.,]*)\)", TEXT)
    assert ("DSP_POLL_SECONDS", "10") in told
    defaults = {variable_of(name): field.default for name, field in Settings.model_fields.items()}
    for name, value in told:
        assert float(value.replace(",", "")) == defaults[name]
