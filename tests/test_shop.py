"""What a shop may be called, and what is refused before it serves anybody."""

import pytest

from orderup.errors import Misconfigured
from orderup.shop import Shop


@pytest.mark.parametrize(
    ("name", "words"),
    [("", "lower-case letters"), ("Tea", "lower-case letters"), ("té", "lower-case letters"), ("t" * 31, "than 30")],
)
def test_a_shop_has_a_short_name_of_plain_letters(name: str, words: str) -> None:
    with pytest.raises(Misconfigured, match=words):
        Shop(name)
    assert Shop("t" * 30).title == "T" + "t" * 29
