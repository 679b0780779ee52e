from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import event

from orderup.db.connect import open_database
from orderup.db.database import ReadConnection
from orderup.engine.engine import Engine
from orderup.engine.place import place_order
from orderup.model import approval, work
from orderup.model.ids import OperationId
from orderup.model.operation import Draft, Operation, OperationStatus
from orderup.model.placing import place
from orderup.model.quantile import quantile
from orderup.model.task import TaskStatus
from orderup.shops.pizza import shop
from orderup.shops.pizza.expected import Pace, expected_delivery, read_pace, reason_for_more
from orderup.shops.pizza.plan import example

NOW = 1_700_000_000_000_000
MINUTE = 60_000_000
# basic: 4 minutes of dough, 2 of toppings, 9 in the oven, 6 on the way
PLANNED_MINUTES = 21
NO_HISTORY = Pace([], {}, 1)
EVEN = {"approval": 60.0, "make_dough": 100.0, "add_toppings": 100.0, "bake_pizza": 100.0, "deliver_pizza": 100.0}


def placed() -> Operation:
    draft = place(example(), id=OperationId(1), shop="pizza", kinds=shop.kinds, now=NOW, rfa_within=timedelta(hours=24))
    return draft.result()


def approved() -> Operation:
    draft = Draft(placed())
    approval.approve(draft, by="clerk", notes=None, now=NOW)
    return draft.result()


def baking() -> Operation:
    draft = Draft(approved())
    for position in range(2):
        work.start(draft, position, worker="cook", token="t", now=NOW)
        work.complete(draft, position, token="t", result=None, now=NOW)
    work.start(draft, 2, worker="cook", token="t", now=NOW)
    return draft.result()


def seconds_until(operation: Operation, pace: Pace, *, now: int = NOW) -> tuple[float, float]:
    expected = expected_delivery(operation, pace, now=now)
    assert expected is not None
    return (expected[0] - now) / 1e6, (expected[1] - now) / 1e6


def test_before_any_history_the_plans_minutes_count() -> None:
    median, most = seconds_until(approved(), NO_HISTORY)
    assert (median, most) == (PLANNED_MINUTES * 60, PLANNED_MINUTES * 60 * 1.5)


def test_what_steps_really_took_counts_once_there_is_a_history() -> None:
    took = [{step: seconds * factor for step, seconds in EVEN.items()} for factor in range(1, 11)]
    assert seconds_until(approved(), Pace(took, {}, 1)) == (4 * 100 * 5, 4 * 100 * 9)


def test_the_approval_is_one_of_the_steps() -> None:
    assert seconds_until(placed(), Pace([EVEN], {}, 1)) == (460, 460)


def test_what_is_done_does_not_count_and_what_has_begun_counts_for_the_rest_of_it() -> None:
    pace = Pace([EVEN], {}, 1)
    assert seconds_until(baking(), pace) == (200, 200)
    assert seconds_until(baking(), pace, now=NOW + MINUTE) == (140, 140)
    assert seconds_until(baking(), pace, now=NOW + 10 * MINUTE) == (100, 100)


def test_a_failed_attempt_begins_again_when_its_wait_is_over() -> None:
    operation = baking()
    waiting = replace(operation.tasks[2], status=TaskStatus.WAITING, ready_at=NOW + MINUTE)
    operation = replace(operation, tasks=(*operation.tasks[:2], waiting, operation.tasks[3]))
    assert seconds_until(operation, Pace([EVEN], {}, 1)) == (260, 260)


def test_those_who_wait_before_it_are_shared_out_among_the_workers() -> None:
    pace = Pace([EVEN], {"make_dough": 4, "bake_pizza": 2}, 3)
    assert seconds_until(approved(), pace) == (600, 600)


def test_nobody_at_work_is_taken_for_one_who_will_come() -> None:
    assert seconds_until(approved(), Pace([EVEN], {"make_dough": 4}, 0)) == (800, 800)


def test_a_history_that_lacks_a_step_is_filled_up_from_the_plan() -> None:
    took = {step: seconds for step, seconds in EVEN.items() if step != "bake_pizza"}
    assert seconds_until(approved(), Pace([took], {}, 1)) == (300 + 9 * 60, 300 + 9 * 60)


@pytest.mark.parametrize(
    ("operation", "pace", "minutes", "reason"),
    [
        (placed(), Pace([EVEN], {}, 1), 0.9, None),
        (placed(), Pace([EVEN], {}, 1), 1.1, "the approval takes longer than usual"),
        (approved(), Pace([EVEN], {}, 2), 30, None),
        (baking(), Pace([EVEN], {}, 1), 1.6, None),
        (baking(), Pace([EVEN], {}, 1), 1.7, "baking pizza takes longer than usual"),
        (baking(), NO_HISTORY, 13, None),
        (baking(), NO_HISTORY, 14, "baking pizza takes longer than usual"),
        (approved(), Pace([EVEN], {"make_dough": 1}, 2), 0, None),
        (approved(), Pace([EVEN], {"make_dough": 1}, 1), 0, "1 order is before yours"),
        (approved(), Pace([EVEN], {"make_dough": 2, "deliver_pizza": 1200}, 3), 0, "1,200 orders are before yours"),
        (approved(), Pace([EVEN], {}, 0), 0, "nobody in your region is at work at the moment"),
    ],
)
def test_a_customer_is_told_why_it_takes_longer(
    operation: Operation, pace: Pace, minutes: float, reason: str | None
) -> None:
    assert reason_for_more(operation, pace, now=NOW + round(minutes * MINUTE)) == reason


@pytest.mark.parametrize(
    "status",
    [OperationStatus.PAUSED, OperationStatus.COMPLETED, OperationStatus.ERRORED, OperationStatus.CANCELLED],
)
def test_on_hold_and_at_the_end_nobody_can_tell(status: OperationStatus) -> None:
    assert expected_delivery(replace(approved(), status=status), NO_HISTORY, now=NOW) is None


def test_a_quantile_is_one_of_the_values() -> None:
    assert [quantile([1.0, 2.0, 3.0, 4.0], share) for share in (0.0, 0.25, 0.5, 0.9, 1.0)] == [1, 1, 2, 4, 4]
    assert quantile([7.0], 0.5) == 7


async def test_no_table_that_grows_with_history_is_read_through() -> None:
    database = open_database("sqlite://", shops=[shop])
    await database.open()
    try:
        engine = Engine(database, {"pizza": shop.kinds})
        operation = await place_order(engine, "pizza", example())
        read = await database.read(lambda connection: how_it_is_read(connection, operation))
    finally:
        await database.close()
    grown = ("operations", "tasks", "rfas", "events")
    assert any("USING" in step and "operations" in step for step in read)
    assert [step for step in read if step.startswith(tuple(f"SCAN {table}" for table in grown))] == []


def how_it_is_read(connection: ReadConnection, operation: Operation) -> list[str]:
    """SQLite's plans of all statements that the expected time takes, a step each."""
    statements: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        statements.append((statement, parameters))

    event.listen(connection.connection, "before_cursor_execute", note)
    read_pace(connection, operation, now=NOW)
    event.remove(connection.connection, "before_cursor_execute", note)
    assert len(statements) == 3 + len(operation.tasks) + 1
    plans = [connection.connection.exec_driver_sql(f"explain query plan {text}", given) for text, given in statements]
    return [row[3] for plan in plans for row in plan]
