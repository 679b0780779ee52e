"""How points and spans of time are written."""

import re

import pytest

from orderup.web.pages.words import show_moment, show_span

MINUTE_US = 60_000_000


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (59_999_999, "about 00:00 UTC"),
        (MINUTE_US, "00:00 to 00:01 UTC"),
        (3 * MINUTE_US, "00:00 to 00:03 UTC"),
    ],
)
def test_a_span_is_as_exact_as_the_clock(last: int, words: str) -> None:
    assert re.sub(r"<[^>]*>", "", show_span((0, last))) == words


def test_a_point_in_time_names_its_zone() -> None:
    """Whose browser runs no scripts reads it as it is."""
    assert re.sub(r"<[^>]*>", "", show_moment(MINUTE_US)) == "00:01 UTC"
    assert re.sub(r"<[^>]*>", "", show_moment(MINUTE_US, seconds=True)) == "00:01:00 UTC"
