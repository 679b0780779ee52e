"""Ids made from names."""

import re

import pytest
from hypothesis import given, strategies as st

from orderup.errors import Invalid
from orderup.model.slug import LONGEST, slug


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("Chocolate Cake", "chocolate_cake"),
        ("Mr. Cakelover", "mr_cakelover"),
        ("  Crème  brûlée!  ", "creme_brulee"),
        ("Straße 7", "strasse_7"),
        ("Наполеон", "napoleon"),
        ("ﬁg & ﬂour", "fig_flour"),
        ("a\r\nBcc: b@c", "a_bcc_b_c"),
        ("../../etc", "etc"),
        ("x" * 300, "x" * LONGEST),
    ],
)
def test_a_name_makes_an_id(name: str, made: str) -> None:
    assert slug(name) == made


@pytest.mark.parametrize("name", ["חלה", "チョコレートケーキ", "巧克力蛋糕", "كعكة", "केक", "🎂"])
def test_any_script_makes_one(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", slug(name))


@pytest.mark.parametrize("name", ["", "   ", "!?…", "\u202e\u200b"])
def test_what_cannot_be_spelled_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="spelled"):
        slug(name)


@given(st.text(max_size=200))
def test_whatever_it_is_it_is_an_id_or_refused(name: str) -> None:
    try:
        made = slug(name)
    except Invalid:
        return
    assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", made)
    assert slug(made) == made
    assert len(made) <= LONGEST
