"""`orderup demo coffee`, as a process: a real server, real sockets, a small crowd."""

import asyncio
import re
import signal
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from orderup.cli.demo import own_stage
from orderup.cli.simulation.coffee import CoffeeBar, Summary
from orderup.cli.simulation.people import Day
from orderup.cli.simulation.span import Span
from orderup.errors import Misconfigured
from orderup.settings import LogLevel, Settings
from orderup.shops.coffee import shop
from tests.cli.running import assert_refused, run
from tests.services.waiting import PATIENCE_SECONDS, wait_until
from tests.serving import ORDERUP, Program, sqlite_url

CUSTOMERS, BARISTAS = 30, 5


def demo(folder: Path, *options: object, speed: int = 600, **settings: str) -> Program:
    """Its temporary files go to `folder`, too."""
    counts = ["--customers", CUSTOMERS, "--baristas", BARISTAS, "--speed", speed]
    command = [str(ORDERUP), "demo", "coffee", *map(str, [*counts, *options])]
    (folder / "temporary").mkdir()
    environment = {"TMPDIR": str(folder / "temporary"), **settings}
    return Program("demo", command, log=folder / "demo.log", environment=environment).launch()


def test_everybody_is_served_once_whatever_is_set_for_another_server(tmp_path: Path) -> None:
    with demo(tmp_path, CLIENT_OPEN_ORDERS="1", SECRET_KEY="the-key-of-another-server-altogether") as program:
        assert program.wait(seconds=100) == 0, program.last_lines()
    printed = program.printed()
    assert printed.endswith("Every customer got one coffee.\n"), program.last_lines()
    assert f"{CUSTOMERS} of {CUSTOMERS} customers served" in printed
    assert re.search(r"waiting +p50 \d+ s, p95 \d+ s, max \d+ s, in seconds of life", printed)
    coffees = Counter({name: int(count) for name, count in re.findall(r"(barista-\d) (\d+)", printed)})
    assert (coffees.total(), len(coffees)) == (CUSTOMERS, BARISTAS)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_signal_ends_it_cleanly(tmp_path: Path) -> None:
    with demo(tmp_path, speed=1) as program:
        wait_until(lambda: "30 waiting" in program.printed(), what="all of them wait")
        program.send(signal.SIGINT)
        assert program.wait() == 130, program.last_lines()
    assert program.printed().endswith("Stopped; what it had stored is gone.\n"), program.last_lines()
    assert "Traceback" not in program.printed()


def test_times_that_make_no_sense_are_refused_in_a_sentence() -> None:
    assert_refused(run("demo", "coffee", "--brew", "60-30"), "write the shorter time first")


@pytest.mark.parametrize("speed", ["inf", "-inf", "nan", "1e300", "100001", "0", "-1"])
def test_a_speed_at_which_there_is_nothing_to_see_is_refused_in_a_sentence(speed: str) -> None:
    result = run("demo", "coffee", "--customers", 3, "--speed", speed)
    assert_refused(result, f"--speed {float(speed):g}: write a number from 0.01 to 100,000.")


def test_a_crowd_that_no_process_can_hold_is_refused() -> None:
    assert_refused(run("demo", "coffee", "--customers", "9999"), "At most 5,000 customers come at once, not 9,999.")
    with pytest.raises(Misconfigured):
        CoffeeBar(shop, Day(count=5_001, baristas=1, brew=Span(1, 1)))
    # who comes one by one may be one of many
    CoffeeBar(shop, Day(count=5_001, baristas=1, brew=Span(1, 1), rate=1.0))


async def test_a_barista_who_is_sent_home_hands_over_the_coffee_at_hand(tmp_path: Path) -> None:
    bar = CoffeeBar(shop, Day(count=1, baristas=1, brew=Span(3_600, 3_600)), random=Random(1))
    settings = Settings(database_url=sqlite_url(tmp_path), log_level=LogLevel.ERROR)
    async with own_stage(bar, settings, speed=1, seed=1) as stage, asyncio.timeout(PATIENCE_SECONDS):
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(bar.be_customers(stage, lambda: None))
            async with bar.at_work(stage, bar.roles, name="barista"):
                while not bar.at_hand:  # noqa: ASYNC110  nobody tells us
                    await asyncio.sleep(0.01)
            await waiting
        assert [visit.status for visit in bar.guests] == ["ready"]
        assert (await bar.sum_up(stage, seconds=1)).is_good


def summary(*, customers: int = 2, twice: int = 0, wrong: list[str] | None = None) -> Summary:
    return Summary(customers, 1.0, [30.0, 60.0], Counter({"barista-1": 2}), Counter(), twice, wrong or [])


def test_a_summary_is_good_only_if_everybody_was_served_and_nobody_twice() -> None:
    assert summary().is_good
    assert not summary(customers=3).is_good
    assert not summary(twice=1).is_good
    spoiled = summary(wrong=[f"customer {number}: 404" for number in range(12)])
    assert not spoiled.is_good
    assert spoiled.text().endswith("customer 9: 404\n  and 2 more")


def test_a_summary_of_short_times_shows_digits_enough() -> None:
    assert "p50 0.0012 s, p95 0.5 s, max 0.5 s" in Summary(2, 1.0, [0.00123, 0.5]).text()


def test_a_summary_without_anybody_served_can_be_read_all_the_same() -> None:
    assert "p50 –, p95 –, max –" in Summary(1, 0.0, wrong=["customer 1: still waits"]).text()
