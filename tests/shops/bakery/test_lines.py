"""Ingredients as people write them, a line each."""

from decimal import Decimal

import pytest
from hypothesis import given, strategies as st

from orderup.model.one_line import one_line
from orderup.shops.bakery.amounts import Amount, read_amount
from orderup.shops.bakery.lines import LONGEST_NAME, MOST_LINES, WrongLines, read_lines, write_lines


def grams(text: str) -> Amount:
    return Amount(Decimal(text), "g")


def pieces(count: int) -> Amount:
    return Amount(Decimal(count), "pcs")


@pytest.mark.parametrize(
    ("line", "name", "amount"),
    [
        ("chocolate 33.5 g", "chocolate", grams("33.5")),
        ("chocolate 33 g", "chocolate", grams("33")),
        ("eggs 1 pcs", "eggs", pieces(1)),
        ("peanuts 10", "peanuts", pieces(10)),
        ("butter 12.5", "butter", grams("12.5")),
        ("butter 12.0", "butter", grams("12")),
        ("flour type 550 8.5g", "flour type 550", grams("8.5")),
        ("  dark   chocolate\t70 g ", "dark chocolate", grams("70")),
        ("ζάχαρη 5 g", "ζάχαρη", grams("5")),
        ("تمر 60 g", "تمر", grams("60")),
        ("🥚 2 pcs", "🥚", pieces(2)),
        ('"<b>salt</b>" 0.5 g', '"<b>salt</b>"', grams("0.5")),
        ("su\u202egar 5 g", "sugar", grams("5")),
    ],
)
def test_a_line_is_a_name_and_an_amount(line: str, name: str, amount: Amount) -> None:
    assert read_lines(line) == {name: amount}


def test_lines_keep_their_order_and_empty_ones_count_for_nothing() -> None:
    read = read_lines("\neggs 1 pcs\r\n \nbutter 2.5 g\n")
    assert list(read) == ["eggs", "butter"]


def test_no_line_is_no_ingredient_unless_there_has_to_be_one() -> None:
    assert read_lines(" \n\n") == {}
    with pytest.raises(WrongLines, match="at least one ingredient"):
        read_lines(" \n\n", least=1)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("peanuts", "there is no amount"),
        ("10", "there is no amount"),
        ("flour 1 kg", "the unit is g or pcs, not kg"),
        ("chocolate 70%", "the unit is g or pcs, not %"),
        ("flour 33,5 g", "33,5 is no amount"),
        ("flour 1,000 g", "1,000 is no amount"),
        ("flour 1.2.3 g", "1.2.3 is no amount"),
        ("eggs 1.5 pcs", "pieces are counted in whole numbers"),
        ("eggs 0 pcs", "must be more than 0"),
        ("flour 10000001 g", "10,000,000 at most"),
        (f"flour {'9' * 41} g", "10,000,000 at most"),
        (f"{'x' * (LONGEST_NAME + 1)} 5 g", f"more than {LONGEST_NAME} characters"),
    ],
)
def test_what_is_wrong_is_told_with_the_number_of_its_line(line: str, said: str) -> None:
    with pytest.raises(WrongLines) as told:
        read_lines(f"eggs 2 pcs\n\n{line}")
    [fault] = told.value.faults
    assert fault.startswith("Line 3: ")
    assert said in fault


def test_every_wrong_line_is_told_of_and_a_name_that_comes_again_is_one() -> None:
    with pytest.raises(WrongLines) as told:
        read_lines("eggs 2 pcs\nbutter\neggs 3 pcs")
    assert [fault.partition(":")[0] for fault in told.value.faults] == ["Line 2", "Line 3"]
    assert "eggs stands in an earlier line already" in told.value.faults[1]


def test_there_may_be_so_many_lines_and_no_more() -> None:
    lines = [f"spice {number} 1 pcs" for number in range(MOST_LINES + 1)]
    assert len(read_lines("\n".join(lines[:-1]))) == MOST_LINES
    with pytest.raises(WrongLines, match=f"at most {MOST_LINES}"):
        read_lines("\n".join(lines))


names = st.text(max_size=LONGEST_NAME).map(one_line).filter(lambda name: 0 < len(name) <= LONGEST_NAME)
amounts = st.one_of(
    st.integers(1, 10_000_000),
    st.decimals("0.000001", 10_000_000, places=6).map(float).filter(lambda number: number >= 0.000001),
).map(read_amount)


@given(st.dictionaries(names, amounts, max_size=20))
def test_what_is_written_is_read_as_the_same(recipe: dict[str, Amount]) -> None:
    assert read_lines(write_lines(recipe)) == recipe


@given(st.text())
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    try:
        read = read_lines(text)
    except WrongLines:
        return
    assert all(one_line(name) == name for name in read)
