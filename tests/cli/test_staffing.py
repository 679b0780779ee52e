"""`orderup staffing`: what it foretells agrees with closed formulas where there are some, and it says what is wrong."""

import math
import re
import tracemalloc
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from orderup.cli.simulation.arrivals import Arrivals
from orderup.cli.simulation.coffee import in_seconds
from orderup.cli.simulation.queueing import (
    Day,
    Group,
    draw_day,
    draw_days,
    foretell,
    least_baristas,
    neighbours,
    play,
)
from orderup.cli.simulation.span import Span, read_span
from orderup.errors import Misconfigured
from tests.cli.running import assert_refused, run
from tests.cli.terminal import at_terminal

CONSTANT = Span(45, 45)


def constant(customers: int, *, over: float = 0.0) -> Day:
    return draw_day(Group(customers, CONSTANT, over, Arrivals.EVEN), Random(1))


@pytest.mark.parametrize(("customers", "baristas"), [(1, 1), (7, 1), (10, 10), (11, 10), (200, 10), (199, 7), (3, 9)])
def test_a_group_that_comes_at_once_is_served_in_rounds(customers: int, baristas: int) -> None:
    waiting = play(constant(customers), baristas)
    rounds = math.ceil(customers / baristas)
    assert waiting.longest == 45 * rounds
    assert waiting.p50 == 45 * math.ceil(math.ceil(customers / 2) / baristas)
    assert waiting.p95 == 45 * math.ceil(math.ceil(0.95 * customers) / baristas)
    assert waiting.busy == pytest.approx(customers / (baristas * rounds))


def test_customers_who_come_one_by_one_wait_for_nobody_while_there_are_baristas_enough() -> None:
    # one every 10 s, each served for 45 s: five baristas are enough
    waiting = play(constant(60, over=600), 5)
    assert waiting.p50 == waiting.longest == pytest.approx(45)


def test_with_too_few_baristas_the_line_grows_by_what_they_do_not_manage() -> None:
    # every 10 s somebody comes, every 45 s somebody is served: the last one waits for all before him
    waiting = play(constant(60, over=600), 1)
    assert waiting.longest == pytest.approx(60 * 45 - 59 * 10)


def test_one_line_is_served_by_whoever_is_free_first() -> None:
    # the second barista serves the third customer at 10 s, and the fourth at 20 s, while the first one brews for 100 s
    waiting = play(Day(comes=[0, 0, 0, 0], brews=[100, 10, 10, 10]), 2)
    assert (waiting.p50, waiting.longest) == (20, 100)


def test_a_single_barista_at_half_load_keeps_customers_as_long_as_the_textbook_says() -> None:
    # M/D/1: with a service time of 10 s half of those who come find nobody before them, so p50 is just above 10 s
    group = Group(4_000, Span(10, 10), over_seconds=80_000)
    for waiting in (play(day, 1) for day in draw_days(group, runs=3, seed=5)):
        assert waiting.busy == pytest.approx(0.5, rel=0.1)
        assert 10 <= waiting.p50 < 11
        assert 20 < waiting.p95 < 40


def test_one_more_barista_never_makes_anybody_wait_longer() -> None:
    days = draw_days(Group(83, Span(30, 60), over_seconds=300), runs=3, seed=2)
    for day in days:
        for fewer_baristas, more_baristas in pairwise(play(day, number) for number in range(1, 40)):
            assert more_baristas.p50 <= fewer_baristas.p50
            assert more_baristas.p95 <= fewer_baristas.p95
            assert more_baristas.longest <= fewer_baristas.longest


def test_days_are_the_same_each_time_they_are_played() -> None:
    group = Group(40, Span(30, 60), over_seconds=300)
    days = draw_days(group, runs=3, seed=11)
    drawn = [draw_day(group, Random(seed)) for seed in (11, 12, 13)]
    assert [*days] == [*days] == drawn
    assert (len(days), days[2], [*days[1:]]) == (3, drawn[2], drawn[1:])


def test_many_days_take_no_more_memory_than_one() -> None:
    def most_bytes(runs: int) -> int:
        tracemalloc.start()
        foretell(draw_days(Group(200, Span(30, 60)), runs=runs, seed=1), 2)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    most_bytes(1)  # what is made once for all
    assert most_bytes(40) < 2 * most_bytes(1)


@pytest.mark.parametrize("wanted", [60.0, 100.0, 300.0, 1_000.0, 8_000.0])
def test_the_least_number_of_baristas_suffices_and_one_fewer_does_not(wanted: float) -> None:
    days = draw_days(Group(100, Span(30, 60)), runs=3, seed=7)
    least = least_baristas(days, wanted_p95=wanted)
    assert least is not None
    assert foretell(days, least).p95 <= wanted
    assert least == 1 or foretell(days, least - 1).p95 > wanted


def test_no_number_of_baristas_brews_faster() -> None:
    assert least_baristas([constant(50)], wanted_p95=44.9) is None
    assert least_baristas([constant(50)], wanted_p95=45) == 48  # 95 of 100 of them in one round


def test_neighbours_are_some_fewer_and_some_more_and_never_nobody() -> None:
    days = [constant(10)]
    assert list(neighbours(days, 10)) == [8, 9, 10, 11, 12]
    assert list(neighbours(days, 1)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "span"), [("30-60", Span(30, 60)), ("45", Span(45, 45)), (" 0.5 – 2 ", Span(0.5, 2)), ("0-1", Span(0, 1))]
)
def test_how_long_brewing_takes_is_read(text: str, span: Span) -> None:
    assert read_span(text, option="--brew") == span


@pytest.mark.parametrize("text", ["", "fast", "30-", "-30", "30-60-90", "nan", "inf", "1e3", "0", "0-0", "1-99999999"])
def test_brewing_times_that_make_no_sense_are_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(Misconfigured, match=r"^--brew .*: write "):
        read_span(text, option="--brew")


def figures(printed: str) -> dict[int, list[int]]:
    """Of the table: p50, p95 and max by the number of baristas."""
    rows = re.findall(r"^ *(\d+) +(\d+) s +(\d+) s +(\d+) s +\d+ %", printed, re.MULTILINE)
    return {int(baristas): list(map(int, seconds)) for baristas, *seconds in rows}


def test_the_command_prints_a_table_of_neighbouring_numbers() -> None:
    result = run("staffing", "coffee", "--customers", 200, "--baristas", 10, "--brew", 45, "--runs", 1)
    assert result.exit_code == 0, result.output
    assert list(figures(result.stdout)) == [8, 9, 10, 11, 12]
    assert figures(result.stdout)[10] == [450, 855, 900]
    assert "With 10 baristas, 95 of 100 customers have their coffee within 855 s." in result.stdout


def test_short_times_are_shown_with_digits_enough() -> None:
    result = run("staffing", "coffee", "--customers", 20, "--baristas", 10, "--brew", 0.0015, "--runs", 1)
    assert re.search(r"^ +10  0\.0015 s   0\.003 s   0\.003 s +100 %  ◀$", result.stdout, re.MULTILINE), result.stdout
    assert "within 0.003 s." in result.stdout
    header, *rows = result.stdout.splitlines()[2:8]
    assert {len(row.rstrip(" ◀")) for row in rows} == {len(header)}  # each under its heading


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0012345, "0.0012 s"),
        (0.5, "0.5 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (12.3, "12 s"),
        (9e8, "900000000 s"),
    ],
)
def test_seconds_are_shown_as_precisely_as_they_tell_something(seconds: float, text: str) -> None:
    assert in_seconds(seconds) == text


def test_on_a_terminal_it_shows_how_far_it_is(tmp_path: Path) -> None:
    with at_terminal(tmp_path, "staffing", "coffee", "--customers", 2_000, "--runs", 1_000, "--seed", 1) as terminal:
        assert re.search(r"\rWith 8 baristas: day \d+ of 1000", terminal.until(" of 1000"))
        terminal.press_ctrl_c()
        assert terminal.exit_code() != 0


def test_elsewhere_and_when_it_is_quick_it_prints_the_result_alone(tmp_path: Path) -> None:
    assert run("staffing", "coffee", "--customers", 5, "--runs", 1).stderr == ""
    with at_terminal(tmp_path, "staffing", "coffee", "--customers", 5, "--runs", 1) as terminal:
        assert terminal.exit_code() == 0
    assert terminal.shown.startswith("5 customers at once")
    assert "\r" not in terminal.shown


def test_the_command_finds_the_least_number_of_baristas() -> None:
    result = run("staffing", "coffee", "--customers", 200, "--brew", 45, "--wanted-p95", 600, "--runs", 1)
    assert "15 baristas at least" in result.stdout
    found = figures(result.stdout)
    assert found[15][1] <= 600 < found[14][1]


def test_a_seed_draws_the_same_lots_again() -> None:
    given = ("staffing", "coffee", "--over", 20, "--runs", 2, "--customers", 300, "--seed")
    first, again, other = (run(*given, seed).stdout for seed in (3, 3, 4))
    assert first == again
    assert figures(first) != figures(other)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["coffee", "--brew", "60-30"], "--brew 60-30: write the shorter time first, --brew 30-60."),
        (["coffee", "--brew", "quick"], "write seconds, such as 30-60"),
        (["coffee", "--wanted-p95", "50"], "Ask for 60 or more."),
        (["coffee", "--wanted-p95", "-1"], "write seconds, more than 0"),
        (["coffee", "--wanted-p95", "nan"], "write seconds, more than 0"),
        (["coffee", "--wanted-p95", "inf"], "--wanted-p95 inf: write seconds, more than 0 and at most 1,000,000,000,"),
        (["coffee", "--over", "nan"], "--over nan: write a number from 0 to 1,440."),
        (["coffee", "--over", "inf"], "--over inf: write a number from 0 to 1,440."),
        (["coffee", "--over", "-1"], "--over -1: write a number from 0 to 1,440."),
        (["pizza"], "Try: orderup staffing coffee"),
        (["tea"], "There is no shop tea."),
    ],
)
def test_nonsense_is_answered_with_what_to_write(options: list[str], words: str) -> None:
    assert_refused(run("staffing", *options, "--runs", 2), words)


@pytest.mark.parametrize("option", ["--customers", "--baristas", "--runs"])
def test_nobody_at_all_is_no_number(option: str) -> None:
    result = run("staffing", "coffee", option, 0)
    assert result.exit_code == 2
    assert "should be greater than or equal to 1" in result.stderr
