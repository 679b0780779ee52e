"""docs/guides/sandbox.md says what the sandbox does."""

import re
from dataclasses import fields
from pathlib import Path

from orderup.sandbox import Body, Outcome, Sandbox
from orderup.sandbox.behaviour import Answer, Behaviour
from orderup.sandbox.collection import MOST_THINGS, Thing
from orderup.sandbox.ledger import MOST_ARRIVALS
from orderup.sandbox.service import Switch

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "sandbox.md"


def tables(heading: str) -> list[list[list[str]]]:
    """The rows of each table below a heading, without their heads; `code` without its marks."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [
        [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
        for table in re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    ]


def statuses(thing: Thing) -> str:
    return ", ".join(str(each.status) for each in (thing, thing.alternate) if each is not None)


async def test_every_third_party_is_listed_with_what_it_has_in_the_beginning(sandbox: Sandbox) -> None:
    party = sandbox.mealbox
    [listed] = tables("What stands in for what")
    parties = [getattr(sandbox, field.name) for field in fields(sandbox) if field.name != "base_url"]
    assert {row[0] for row in listed} == {f"/{each.name}" for each in parties}
    [told] = tables(party.title)
    things = {id: entry.thing for collection in party.collections for id, entry in collection.entries.items()}
    assert told == [[id, thing.title, f"{thing.delay_seconds:g} s", statuses(thing)] for id, thing in things.items()]


def test_every_field_and_every_body_of_a_switch_is_listed() -> None:
    named, bodies = tables("Switches")
    assert [row[:2] for row in named] == [
        [name, "–" if field.default is None else str(field.default)] for name, field in Behaviour.model_fields.items()
    ]
    assert [row[0] for row in bodies] == list(Body)


def test_every_field_that_a_switch_for_all_calls_has_besides_is_listed() -> None:
    [named] = tables("One switch for all calls")
    besides = [each for each in Switch.model_fields.items() if each[0] not in Answer.model_fields]
    assert [row[:2] for row in named] == [
        [name, "–" if field.default is None else str(field.default)] for name, field in besides
    ]


def test_every_outcome_is_listed() -> None:
    [outcomes] = tables("What arrived")
    assert [row[0] for row in outcomes] == list(Outcome)


def test_the_bounds_are_those_of_the_code() -> None:
    text = PAGE.read_text()
    assert f"the last {MOST_ARRIVALS:,} requests" in text
    assert f"room for {MOST_THINGS:,} of each" in text
