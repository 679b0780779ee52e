"""What a task is, in plain words."""

from datetime import timedelta
from typing import Any

import pytest

from orderup.db.busy import MOST_COUNTED
from orderup.db.station import StationTask
from orderup.model.ids import OperationId
from orderup.model.kind import Kind
from orderup.model.placing import place
from orderup.model.plan import Plan, PlannedTask
from orderup.web.pages.handwork import card_of, count_in_words, details_of, in_words


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"flour_g": 250, "water_ml": 150.0}, [("Flour", "250 g"), ("Water", "150 ml")]),
        ({"temperature_celsius": 250, "minutes": 9}, [("Temperature", "250 °C"), ("Minutes", "9")]),
        ({"toppings": ["tomato", "ham"]}, [("Toppings", "tomato, ham")]),
        ({"wishes": {"cut_in": 8, "no_nuts": True}}, [("Wishes", "Cut in: 8, No nuts: yes")]),
        ({"weight_g": "much"}, [("Weight g", "much")]),
        ({"wishes": {}, "extras": [], "for": None}, [("Wishes", "none"), ("Extras", "none"), ("For", "none")]),
        ({"boxes": [{"size_l": 2}, {"size_l": 3}]}, [("Boxes", "Size: 2 l, Size: 3 l")]),
        ("a cake", [("What", "a cake")]),
        (None, []),
        ({}, []),
    ],
)
def test_params_are_read_as_names_and_values_with_their_units(params: Any, said: list[tuple[str, str]]) -> None:
    assert list(details_of(params)) == said


def test_of_what_came_before_and_gave_nothing_nothing_is_said() -> None:
    base = place(
        Plan([PlannedTask("paint")]),
        id=OperationId(1),
        shop="workshop",
        kinds={"paint": Kind("paint")},
        now=0,
        rfa_within=timedelta(hours=1),
    ).base
    found = StationTask(base.id, base.shop, base.status, None, base.tasks[0])
    inputs = [("note_price", "null"), ("saw", '{"note":"Still wet."}'), ("sand", None)]
    assert card_of(found, "running", inputs=inputs).before == [("Saw", "Note: Still wet.")]


def test_a_kinds_name_is_read_as_words() -> None:
    assert in_words("make_dough") == "Make dough"


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "nothing waits"), (1, "1 waits"), (1_200, "1,200 wait"), (MOST_COUNTED, "10,000 or more wait")],
)
def test_how_many_wait_is_said_as_far_as_it_was_counted(count: int, said: str) -> None:
    assert count_in_words(count) == said
