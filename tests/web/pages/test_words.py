"""How points and spans of time are written."""

import re

import pytest

from orderup.web.pages.words import show_span

MINUTE_US = 60_000_000


@pytest.mark.parametrize(
    ("last", "words"), [(59_999_999, "about 00:00"), (MINUTE_US, "00:00 to 00:01"), (3 * MINUTE_US, "00:00 to 00:03")]
)
def test_a_span_is_as_exact_as_the_clock(last: int, words: str) -> None:
    assert re.sub(r"<[^>]*>", "", show_span((0, last))) == words
