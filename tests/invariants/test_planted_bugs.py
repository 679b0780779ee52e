"""The checker is checked: bugs are planted into a run in which all was well, and each must be found by its invariant.

A bug is planted as it would show: in the rows that it would leave behind, or in what workers and clients would see.
"""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest

from orderup.model.ids import read_id
from tests.invariants.checker import SAYS, Violations, check, report
from tests.invariants.evidence import Evidence, read_database_at
from tests.invariants.records import (
    Accepted,
    Answered,
    AnyRecord,
    Asked,
    Decided,
    Effect,
    Observed,
    Received,
    Sampled,
    Started,
    read_records,
)
from tests.invariants.sample import KINDS, Sample, tell_sample

Records = list[AnyRecord]
SECRET = "open sesame & more"
EVENT = "insert into events (operation_id, n, at, type, shop, task, status, message, audience) values"


@dataclass(frozen=True, slots=True)
class Bug:
    """sql: with operations' ids by their names in the story, as in :diamond. records: alters what was written down."""

    invariant: int
    says: str
    sql: Sequence[str] = ()
    records: Callable[[Records, dict[str, str]], Records] | None = None
    must_have_ended: bool = False
    logs: dict[str, str] = field(default_factory=dict)


def add(*extra: Callable[[dict[str, str]], AnyRecord]) -> Callable[[Records, dict[str, str]], Records]:
    return lambda records, ids: [*records, *(make(ids) for make in extra)]


def change(
    kind: type[AnyRecord], number: int, alter: Callable[[AnyRecord], Sequence[AnyRecord]]
) -> Callable[[Records, dict[str, str]], Records]:
    """Put what `alter` makes of it in the place of the record of that kind with that number, counted from 0."""

    def plant(records: Records, _ids: dict[str, str]) -> Records:
        index = [index for index, record in enumerate(records) if isinstance(record, kind)][number]
        return [*records[:index], *alter(records[index]), *records[index + 1 :]]

    return plant


def swap_first_two(records: Records, _ids: dict[str, str]) -> Records:
    first, second = [index for index, record in enumerate(records) if isinstance(record, Received)][:2]
    swapped = list(records)
    swapped[first], swapped[second] = swapped[second], swapped[first]
    return swapped


def reword(record: AnyRecord) -> list[AnyRecord]:
    assert isinstance(record, Received)
    return [msgspec.structs.replace(record, event={**record.event, "message": "Nearly there"})]


def show_to_customer(records: Records, ids: dict[str, str]) -> Records:
    hidden = next(
        record
        for record in records
        if isinstance(record, Received)
        and record.follower == "staff"
        and record.event["type"] == "task.remembered"
        and record.event["operation_id"] == ids["diamond"]
    )
    later = [each for each in records if isinstance(each, Received) and each.event["seq"] > hidden.event["seq"]]
    return [
        *(each for each in records if each not in later),
        msgspec.structs.replace(hidden, follower="customer"),
        *later,
    ]


BUGS = [
    Bug(
        1,
        "an order is answered before its transaction commits",
        [f"delete from {table} where operation_id = :approved" for table in ("tasks", "events", "rfas")]
        + ["delete from operations where id = :approved"],
    ),
    Bug(
        1, "a result is answered without being stored", ["update tasks set result = null where operation_id = :diamond"]
    ),
    Bug(
        1,
        "an approval is answered without being stored",
        ["update rfas set status = 'pending', decided_at = null where operation_id = :approved"],
    ),
    Bug(
        1,
        "a cancel is answered without being stored",
        records=add(lambda ids: Decided(id=ids["running"], decision="cancelled", status=200)),
    ),
    Bug(1, "an executor's lease is forgotten, its tasks are not", ["delete from workers"]),
    Bug(1, "tasks are miscounted", ["update operations set moving = moving - 1 where id = :running"]),
    Bug(
        1,
        "a dependant is not released",
        ["update tasks set status = 'completed', token = null where operation_id = :running and position = 0"],
    ),
    Bug(
        1,
        "a wait has no end",
        ["update tasks set status = 'waiting', due_at = null where operation_id = :running and position = 0"],
    ),
    Bug(1, "nobody is asked for the approval", ["delete from rfas where operation_id = :pending"]),
    Bug(1, "an order never ends", must_have_ended=True),
    Bug(
        2,
        "the key is not stored with the order",
        records=add(lambda ids: Accepted(id=ids["declined"], key="approved")),
    ),
    Bug(2, "a request sent again after a lost answer places a second order", records=change(Asked, 0, lambda _: [])),
    Bug(2, "an effect is repeated under its key", records=change(Effect, 0, lambda record: [record, record])),
    Bug(
        2,
        "results of two claims of one task are accepted",
        records=change(
            Answered,
            0,
            lambda record: [record, msgspec.structs.replace(record, token="another", worker="Dee")],
        ),
    ),
    Bug(
        3,
        "a task is released by the first of those it comes after",
        [
            "update tasks set status = 'running', token = 'x' where operation_id = :running and position = 1",
            "update operations set version = 3, moving = 2 where id = :running",
            f"{EVENT} (:running, 3, 1, 'task.started', 'bakery', 1, 'running', '', 1)",
        ],
    ),
    Bug(
        3,
        "a task starts before its operation is approved",
        [
            "update tasks set status = 'running', token = 'x' where operation_id = :pending and position = 0",
            "update operations set version = 2, moving = 1 where id = :pending",
            f"{EVENT} (:pending, 2, 1, 'task.started', 'bakery', 0, 'running', '', 1)",
        ],
    ),
    Bug(
        3,
        "a worker is not given the results before its task",
        records=change(Started, -3, lambda record: [msgspec.structs.replace(record, inputs={})]),
    ),
    Bug(
        3,
        "a worker is given other results than were stored",
        ["update tasks set result = '{\"of\": \"nothing\"}' where operation_id = :diamond and name = 'left'"],
    ),
    Bug(
        3, "what stands before a task is miscounted", ["update tasks set blocked_by = 5 where operation_id = :pending"]
    ),
    Bug(
        4,
        "a late result overwrites a cancel",
        [
            "update tasks set status = 'completed' where operation_id = :cancelled and position = 0",
            "update operations set version = version + 1 where id = :cancelled",
            f"{EVENT} (:cancelled, 5, 1, 'task.completed', 'bakery', 0, 'completed', '', 1)",
        ],
    ),
    Bug(
        4,
        "a final state is changed without a word",
        ["update operations set status = 'running', finished_at = null where id = :approved"],
    ),
    Bug(
        4,
        "an operation that was completed is seen running again",
        records=add(lambda ids: Observed(id=ids["approved"], status="running", by="Cy")),
    ),
    Bug(
        4,
        "a completed task is started again",
        [
            f"{EVENT} (:diamond, 20, 1, 'task.started', 'bakery', 0, 'running', '', 1)",
            "update operations set version = 20 where id = :diamond",
        ],
    ),
    Bug(5, "an event is lost", ["delete from events where operation_id = :diamond and n = 7"]),
    Bug(
        5,
        "two processes write the same number",
        [
            "drop index events_of_operation",
            f"{EVENT} (:diamond, 7, 1, 'task.remembered', 'bakery', 1, 'running', '', 2)",
        ],
    ),
    Bug(5, "a change does not raise the version", ["update operations set version = version - 1 where id = :again"]),
    Bug(
        5,
        "the log has another order than the numbers",
        [
            "update events set seq = 1000 where operation_id = :again and n = 2",
        ],
    ),
    Bug(5, "an operation is deleted without its events", ["delete from operations where id = :declined"]),
    Bug(
        6,
        "a claim does not look whether somebody holds the task",
        [
            f"{EVENT} (:running, 3, 1, 'task.started', 'bakery', 0, 'running', '', 1)",
            "update operations set version = 3 where id = :running",
            "update tasks set token = 'another', attempt = 2 where operation_id = :running and position = 0",
        ],
    ),
    Bug(
        6,
        "the token of a stale holder is not compared",
        records=change(Answered, 0, lambda record: [msgspec.structs.replace(record, attempt=7)]),
    ),
    Bug(
        6,
        "one claim is given to two workers",
        records=change(Started, 0, lambda record: [record, msgspec.structs.replace(record, worker="Dee")]),
    ),
    Bug(
        6,
        "one attempt is given out twice",
        records=change(Started, 0, lambda record: [record, msgspec.structs.replace(record, token="another")]),
    ),
    Bug(6, "an attempt is not counted", ["update tasks set attempt = 0 where operation_id = :approved"]),
    Bug(
        7,
        "a region escapes the limit of its queue",
        ["update tasks set queue = 'bakery/box@north' where kind = 'bake'"],
    ),
    Bug(
        7,
        "more run at once than the queue allows",
        ["update tasks set queue = 'bakery/box' where kind <> 'box'", "update events set at = seq * 100000000"],
    ),
    Bug(
        7,
        "a permit is not given back",
        ["insert into permits values ('bakery/box', 9, :diamond, 3, 1)"],
    ),
    Bug(8, "a follower misses an event", records=change(Received, 1, lambda _: [])),
    Bug(8, "a follower misses the last event", records=change(Received, 7, lambda _: [])),
    Bug(8, "a follower gets an event twice", records=change(Received, 0, lambda record: [record, record])),
    Bug(8, "a follower gets events in another order", records=swap_first_two),
    Bug(8, "a follower reads something else", records=change(Received, 0, reword)),
    Bug(8, "a customer is shown what is not for customers", records=show_to_customer),
    Bug(
        9,
        "a second decision is accepted",
        records=add(lambda ids: Decided(id=ids["approved"], decision="declined", by="Cy", status=200)),
    ),
    Bug(
        9,
        "a second decision is stored",
        [
            f"{EVENT} (:declined, 3, 1, 'rfa.approved', 'bakery', null, 'approved', '', 0)",
            "update operations set version = 3 where id = :declined",
        ],
    ),
    Bug(
        9,
        "a customer approves",
        records=change(Decided, 0, lambda record: [msgspec.structs.replace(record, role="customer")]),
    ),
    Bug(9, "somebody unknown approves", ["update rfas set decided_by = 'Eve' where operation_id = :approved"]),
    Bug(
        9,
        "an approval is stored without a word",
        ["update rfas set status = 'approved', decided_at = 1, decided_by = 'Ann' where operation_id = :pending"],
    ),
    Bug(
        10,
        "two clocks fire for the same due time",
        ["update operations set source = (select max(source) from operations) where id = :approved"],
    ),
    Bug(10, "a due time that was fired for stays the next one", ["update schedules set next_due_at = last_due_at"]),
    Bug(
        11,
        "memory grows beyond its cap",
        records=add(lambda _: Sampled(of="server", measure="rss_bytes", value=201e6, cap=200e6)),
    ),
    Bug(12, "a secret stands in an event", [f"update events set message = 'Use {SECRET}' where seq = 5"]),
    Bug(
        12,
        "a secret stands in a shop's row",
        ["create table cakes (link text)", f"insert into cakes values ('/x/{SECRET}')"],
    ),
    Bug(12, "a secret stands in a log", logs={"server.log": "GET /pizzas?key=open%20sesame%20%26%20more"}),
]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return asyncio.run(tell_sample(tmp_path_factory.mktemp("clean")))


def evidence_of(sample: Sample) -> Evidence:
    return Evidence(
        read_database_at(f"sqlite:///{sample.database}"),
        read_records([sample.records]),
        kinds={f"bakery/{name}": kind for name, kind in KINDS.items()},
        staff=frozenset({"Ann"}),
        secrets=[SECRET],
        logs={"server.log": "serving"},
    )


def plant(bug: Bug, clean: Sample, folder: Path) -> Sample:
    database = folder / "orderup.db"
    ids = {name: read_id(id) for name, id in clean.operations.items()}
    with closing(sqlite3.connect(clean.database)) as original, closing(sqlite3.connect(database)) as connection:
        original.backup(connection)
        connection.execute("pragma ignore_check_constraints = on")
        for statement in bug.sql:
            assert connection.execute(statement, ids).rowcount, f"{bug.says}: nothing was planted by {statement}"
        connection.commit()
    return replace(clean, database=database)


def check_planted(bug: Bug, clean: Sample, folder: Path) -> Violations:
    evidence = evidence_of(plant(bug, clean, folder))
    if bug.records is not None:
        evidence.records = bug.records(list(evidence.records), clean.operations)
    evidence.must_have_ended, evidence.logs = bug.must_have_ended, bug.logs
    return check(evidence)


def test_a_run_in_which_all_is_well_counts_no_violation(clean: Sample) -> None:
    found = check(evidence_of(clean))
    assert not any(found.values()), report(found)


@pytest.mark.parametrize("bug", BUGS, ids=[f"I{bug.invariant}: {bug.says}" for bug in BUGS])
def test_a_planted_bug_is_found_by_its_invariant(bug: Bug, clean: Sample, tmp_path: Path) -> None:
    found = check_planted(bug, clean, tmp_path)
    assert found[bug.invariant], f"{bug.says}: not found\n{report(found)}"


def test_there_is_a_planted_bug_for_each_of_the_twelve() -> None:
    assert {bug.invariant for bug in BUGS} == set(SAYS) == set(range(1, 13))


def run_as_program(sample: Sample, *options: str) -> tuple[int, str]:
    url = f"sqlite:///{sample.database}"
    command = [
        sys.executable,
        "-m",
        "tests.invariants",
        url,
        "--client-log",
        str(sample.records),
        "--staff",
        "Ann",
        *options,
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_as_a_program_it_prints_twelve_zeros(clean: Sample) -> None:
    code, printed = run_as_program(clean)
    counts = [line.split()[:2] for line in printed.splitlines()]
    assert (code, counts) == (0, [[f"I{number}", "0"] for number in range(1, 13)])


def test_as_a_program_it_ends_with_1_and_says_what_it_found(clean: Sample) -> None:
    code, printed = run_as_program(clean, "--ended")
    assert code == 1
    assert f"operation {clean.operations['pending']} has not ended: it is pending" in printed


def test_the_last_line_of_a_killed_worker_may_be_torn_and_no_other(tmp_path: Path) -> None:
    whole = b'{"what":"asked","key":"k"}\n'
    (tmp_path / "torn").write_bytes(whole + b'{"what":"ask')
    (tmp_path / "broken").write_bytes(b'{"what":"ask\n' + whole)
    assert read_records([tmp_path / "torn"]) == [Asked(key="k")]
    with pytest.raises(ValueError, match="broken, line 1"):
        read_records([tmp_path / "broken"])
