"""`orderup demo pizza`, as a process: real servers, real sockets, small numbers."""

import asyncio
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from orderup.cli.demo import Watch
from orderup.cli.simulation.follow import Following
from orderup.cli.simulation.pizza import Fate, Order
from orderup.cli.simulation.summary import Summary
from tests.services.waiting import wait_until
from tests.serving import ORDERUP, Program

ORDERS, SPEED = 12, 100


def demo(folder: Path, *options: str, orders: int = ORDERS, speed: float = SPEED, **settings: str) -> Program:
    """Its temporary files go to `folder`, too."""
    command = [str(ORDERUP), "demo", "pizza", "--orders", str(orders), "--speed", str(speed), *options]
    (folder / "temporary").mkdir()
    environment = {"TMPDIR": str(folder / "temporary"), **settings}
    return Program("demo", command, log=folder / "demo.log", environment=environment).launch()


def figure(printed: str, pattern: str) -> int:
    found = re.search(pattern, printed)
    assert found is not None, printed
    return int(found[1])


def check_summary(program: Program) -> None:
    assert program.wait(seconds=100) == 0, program.last_lines()
    printed = program.printed()
    assert printed.endswith("Every order ended as it should.\n"), program.last_lines()
    [line] = re.findall(r"^  ended .*$", printed, re.MULTILINE)
    ended = {status: int(count) for count, status in re.findall(r"(\d+) (completed|declined|cancelled)", line)}
    assert sum(ended.values()) == ORDERS
    assert figure(printed, r"duplicates\s+(\d+)") == 0
    tasks = figure(printed, r"tasks\s+(\d+) completed")
    assert tasks >= 4 * ended.get("completed", 0)
    assert tasks == sum(int(count) for count in re.findall(r"kitchen-\d (\d+)", printed))


def test_a_day_on_sqlite_ends_well_and_leaves_nothing(tmp_path: Path) -> None:
    with demo(tmp_path, SECRET_KEY="the-key-of-another-server-altogether") as program:
        check_summary(program)
    assert list((tmp_path / "temporary").iterdir()) == []
    # not on a terminal: plain lines
    assert re.search(rf"^ *\d+\.\d s  {ORDERS} of {ORDERS} ended: ", program.printed(), re.MULTILINE)
    assert "\x1b" not in program.printed()


def databases(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {
            row[0] for row in connection.execute("select datname from pg_database where datname like 'orderup_demo_%'")
        }


def tables(url: str) -> list[tuple[str]]:
    with psycopg.connect(url) as connection:
        return connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()


def test_a_day_on_postgresql_ends_well_and_touches_no_other_database(tmp_path: Path, postgres_database: str) -> None:
    before = databases(postgres_database)
    with demo(tmp_path, "--database", postgres_database) as program:
        check_summary(program)
    assert tables(postgres_database) == []
    assert databases(postgres_database) - before == set()


@pytest.fixture
def long_demo(tmp_path: Path) -> Iterator[Program]:
    """One that would go on for minutes, in the middle of it."""
    with demo(tmp_path, orders=500, speed=10) as program:
        wait_until(lambda: "making_dough" in program.printed(), what="it is under way")
        yield program


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(long_demo: Program, tmp_path: Path, name: signal.Signals) -> None:
    long_demo.send(name)
    assert long_demo.wait() == 130
    assert long_demo.printed().endswith("Stopped; what it had stored is gone.\n"), long_demo.last_lines()
    assert "Traceback" not in long_demo.printed()
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(
    ("database", "message"),
    [
        ("sqlite:///orders.db", "--database takes postgresql://"),
        ("postgresql://nobody@127.0.0.1:1/none", "No database for the demo can be made there"),
    ],
)
def test_a_database_that_it_cannot_make_is_told_in_a_sentence(tmp_path: Path, database: str, message: str) -> None:
    with demo(tmp_path, "--database", database) as program:
        assert program.wait() == 2
        assert program.printed().startswith(f"orderup: {message}")


def order(fate: Fate, *, status: str, told: str, problem: str = "", repeats: int = 0) -> Order:
    following = Following(repeats=repeats)
    return Order(1, fate, "", None, status=status, told=told, following=following, problem=problem)


@pytest.mark.parametrize(("fate", "status"), [(fate, fate.value) for fate in Fate])
def test_an_order_ended_well_if_its_customer_read_and_was_told_what_he_should(fate: Fate, status: str) -> None:
    assert order(fate, status=status, told=status).ended_well


@pytest.mark.parametrize(
    "order",
    [
        order(Fate.EATS, status="failed", told="failed"),
        order(Fate.EATS, status="delivering", told="completed"),
        order(Fate.EATS, status="baking", told=""),
        order(Fate.REGRETS, status="completed", told="completed"),
        order(Fate.EATS, status="completed", told="completed", problem="GET: 500"),
        order(Fate.EATS, status="completed", told="completed", repeats=1),
    ],
)
def test_any_other_order_did_not_end_well(order: Order) -> None:
    assert not order.ended_well


def summary(*, repeats: int = 0, wrong: list[str] | None = None) -> Summary:
    return Summary(1, 1.0, Counter(completed=1), [0.5], [1.0], Counter(cook=4), 0, repeats, wrong or [])


def test_a_summary_is_good_only_if_nothing_is_wrong_and_nothing_came_twice() -> None:
    assert summary().is_good
    assert not summary(repeats=1).is_good
    spoiled = summary(wrong=[f"order {number}: burnt" for number in range(12)])
    assert not spoiled.is_good
    assert spoiled.text().endswith("order 9: burnt\n  and 2 more")


async def test_a_day_on_which_nothing_moves_any_more_ends_all_the_same() -> None:
    watch = Watch(patience_seconds=0.01)
    never = asyncio.create_task(asyncio.Event().wait())
    await watch.until_done_or_stuck(never)
    with pytest.raises(asyncio.CancelledError):
        await never
