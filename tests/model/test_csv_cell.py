import pytest

from orderup.model.csv_cell import csv_cell


@pytest.mark.parametrize("text", ["=1+1", "+1", "-2", "@sum(a1)", "\t=1", "\r=1", '=cmd|"/c calc"!a1'])
def test_what_a_spreadsheet_would_carry_out_is_text(text: str) -> None:
    assert csv_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "a=1", "12", "'=1", "Été", " =1"])
def test_what_is_no_formula_stays_as_it_is(text: str) -> None:
    assert csv_cell(text) == text
