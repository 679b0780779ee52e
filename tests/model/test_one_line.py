"""What people wrote, as one line among others."""

import unicodedata

from hypothesis import given, strategies as st

from orderup.model.one_line import one_line


def test_it_cannot_begin_a_second_line() -> None:
    assert one_line("Cake\r\n- Order 22 [free]\u2028\x0b\x85more\t tabs") == "Cake - Order 22 [free] more tabs"


def test_it_cannot_turn_round_what_stands_beside_it() -> None:
    assert one_line("Cake \u202e]deifitrec[\u2066") == "Cake ]deifitrec["


def test_what_people_write_stays_as_it_is() -> None:
    for name in ['O\'Brien "Bob" <b>&', "👩\u200d🍳 Zoë", "שלום עולם", "\u0645\u06cc\u200c\u062e", "किरण", "e\u0301"]:
        assert one_line(name) == name


def test_of_nothing_comes_nothing() -> None:
    assert one_line(" \n\x00\u202e\ud800") == ""


@given(st.text())
def test_it_is_one_line_that_can_be_sent_anywhere_and_stays_as_it_is(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert line.encode().decode() == line
    assert not {"Cc", "Cs", "Co"} & {unicodedata.category(each) for each in line}
    assert one_line(line) == line
