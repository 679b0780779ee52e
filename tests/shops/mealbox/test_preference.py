"""What a caller may wish for, as RFC 7240 writes it."""

import pytest

from orderup.shops.mealbox.preference import LONGEST_WAIT_SECONDS, Preference, read_preference

ASYNC = Preference(0, {"Preference-Applied": "respond-async"})


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([], Preference(2)),
        (["wait=10"], Preference(10, {"Preference-Applied": "wait=10"})),
        (["wait=0"], Preference(0, {"Preference-Applied": "wait=0"})),
        (['Wait="7"'], Preference(7, {"Preference-Applied": "wait=7"})),
        (["wait = 7 ; foo=bar"], Preference(7, {"Preference-Applied": "wait=7"})),
        (["respond-async"], ASYNC),
        (["return=minimal, respond-async"], ASYNC),
        (["respond-async, wait=5"], Preference(5, {"Preference-Applied": "wait=5"})),
        (["respond-async", "wait=5"], Preference(5, {"Preference-Applied": "wait=5"})),
        (["wait=1, wait=9"], Preference(1, {"Preference-Applied": "wait=1"})),
        (["wait=999999999999"], Preference(LONGEST_WAIT_SECONDS, {"Preference-Applied": "wait=60"})),
    ],
)
def test_a_wish_that_is_understood_is_granted_and_said_so(headers: list[str], found: Preference) -> None:
    assert read_preference(headers, default=2) == found


@pytest.mark.parametrize(
    "header", ["", ",", "wait", "wait=", "wait=soon", "wait=-1", "wait=1.5", "wait=\u0661", "=5", "\x00"]
)
def test_a_wish_that_is_not_understood_is_none(header: str) -> None:
    assert read_preference([header], default=2) == Preference(2)
