"""What the platform says about tasks, and what becomes of it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, insert, select

from orderup.engine.limit import pause_queue, resume_queue
from orderup.engine.steer import cancel_operation
from orderup.errors import UpstreamFailed
from orderup.model.ids import read_id, show_id
from orderup.model.operation import OperationStatus
from orderup.model.task import Task, TaskStatus
from orderup.sandbox import Sandbox
from orderup.sandbox.dsp import TASKS
from orderup.shops.campaigns import polling, shop
from orderup.shops.campaigns.polling import Report, read_answer
from orderup.shops.campaigns.tables import client_tasks
from orderup.shops.campaigns.tasks import LARGEST_ID, LONGEST_ERROR, ClientStatus
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import sqlite_url
from tests.shops.served import Served, serve_shop

ERROR = "Invalid IP range: 192.168.1.256"


def polled(*entries: Any) -> dict[int, tuple[str, str | None]]:
    """What is understood of an answer."""
    answer = read_answer(msgspec.json.encode(entries))
    return {id: (report.status, report.error) for id, report in answer.reports.items()}


# reading


def test_the_usual_answer_is_read() -> None:
    answer = read_answer(msgspec.json.encode(TASKS))
    assert answer.reports == {
        1: Report(ClientStatus.IN_PROGRESS, None),
        3: Report(ClientStatus.ERROR, ERROR),
        2: Report(ClientStatus.COMPLETED, None),
    }
    assert (+answer.counts, answer.example) == ({"entries": 3}, None)


@pytest.mark.parametrize(
    "id",
    ["1e3", " 1", "1 ", "+1", "-1", "01", "1.0", "", "\N{ARABIC-INDIC DIGIT ONE}", "one", 2**70, str(2**70), -1, 0],
)
def test_an_id_that_is_none_of_ours_cannot_be_read(id: Any) -> None:
    assert polled({"id": id, "status": "Completed"}) == {}


@pytest.mark.parametrize("id", [1.5, True, None, [1], {"id": 1}])
def test_an_id_that_is_neither_text_nor_number_cannot_be_read(id: Any) -> None:
    assert polled({"id": id, "status": "Completed"}) == {}


def test_an_id_may_be_a_number_and_as_large_as_ours() -> None:
    entries = [{"id": id, "status": "Completed"} for id in (7, "8", LARGEST_ID)]
    assert list(polled(*entries)) == [7, 8, LARGEST_ID]


@pytest.mark.parametrize(
    "entry",
    [
        None,
        1,
        "Completed",
        [],
        [[[{"id": "1"}]]],
        {},
        {"id": "1"},
        {"status": "Completed"},
        {"id": "1", "status": "Done"},
        {"id": "1", "status": "completed"},
        {"id": "1", "status": None},
        {"id": "1", "status": "Error", "error_message": 5},
        {"id": "1", "status": "Error", "error_message": {"text": "no"}},
    ],
)
def test_an_entry_that_cannot_be_read_is_left_out_and_the_rest_is_used(entry: Any) -> None:
    answer = read_answer(msgspec.json.encode([entry, {"id": "2", "status": "Completed", "more": [entry]}]))
    assert list(answer.reports) == [2]
    assert (answer.counts["entries"], answer.counts["unreadable"]) == (2, 1)
    assert answer.example is not None
    assert msgspec.json.decode(answer.example) == entry


@pytest.mark.parametrize(
    "entry", [b'{"id": "1", "status": "\\ud800"}', b'{"id": "1", "status": "\xff"}', b'{"id": 1e400}', b'"\\ud800"']
)
def test_half_a_character_or_too_large_a_number_spoils_one_entry_only(entry: bytes) -> None:
    answer = read_answer(b'[{"id": "2", "status": "Completed"}, ' + entry + b"]")
    assert (list(answer.reports), answer.counts["unreadable"]) == ([2], 1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{}",
        b'{"tasks": []}',
        b'{"text": "\\ud800"}',
        b'"text"',
        b"[",
        b'[{"id": "1"}',
        b"[1] [2]",
        b"<!doctype html>",
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_an_answer_that_is_no_list_is_a_failure(body: bytes) -> None:
    with pytest.raises(UpstreamFailed, match="no list of tasks"):
        read_answer(body)


def test_of_several_about_one_task_the_last_one_counts_unless_it_was_finished() -> None:
    says = [("1", "Not Started"), ("1", "In Progress"), ("2", "Error"), ("2", "In Progress"), (2, "Completed")]
    answer = read_answer(msgspec.json.encode([{"id": id, "status": status} for id, status in says]))
    assert {id: report.status for id, report in answer.reports.items()} == {1: "In Progress", 2: "Error"}
    assert (answer.counts["entries"], answer.counts["repeated"]) == (5, 3)


def test_an_error_is_cut_and_can_be_stored() -> None:
    long = {"id": "1", "status": "Error", "error_message": "x" * (LONGEST_ERROR + 1)}
    assert polled(long)[1][1] == "x" * LONGEST_ERROR
    assert polled({"id": "1", "status": "Error", "error_message": "a\0b"})[1][1] == "a\N{REPLACEMENT CHARACTER}b"
    assert polled({"id": "1", "status": "Completed", "error_message": ""})[1][1] is None


# taking over


async def write(desk: Served, **tasks: str) -> None:
    """Tasks by id, as `t1="Not Started"`."""
    for name, status in tasks.items():
        body = {"id": int(name.removeprefix("t")), "status": status}
        answer = await desk.client.post(f"{desk.front}/api/tasks", json=body)
        assert answer.status_code == 201, answer.text


async def listed(desk: Served) -> dict[int, tuple[str, str | None]]:
    answer = await desk.client.get(f"{desk.front}/api/tasks")
    return {task["id"]: (task["status"], task["validation_error"]) for task in answer.json()["tasks"]}


async def run_now(desk: Served) -> int:
    """The operation that asks, placed now unless it was its time just now."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:  # until the clock has made the schedule known
            answer = await desk.client.post(f"{desk.back}/api/schedules/campaigns/follow_tasks/run")
            if answer.status_code != 404:
                break
    schedules = (await desk.client.get(f"{desk.back}/api/schedules")).json()["schedules"]
    return next(read_id(each["last_operation_id"]) for each in schedules if each["name"] == "campaigns/follow_tasks")


async def until_task(desk: Served, fact: Callable[[Task], object]) -> Task:
    """The task that asks, once it is so."""
    operation_id = await run_now(desk)
    operation = await desk.until_stands(operation_id, lambda each: bool(fact(each.tasks[0])))
    return operation.tasks[0]


def memo_of(task: Task) -> dict[str, Any]:
    memo: dict[str, Any] = msgspec.json.decode(task.memo or "{}")
    return memo


@asynccontextmanager
async def between_polls(desk: Served) -> AsyncIterator[int]:
    """Nobody asks the platform meanwhile. How often it was asked before: by the schedule, whose time it may just be."""
    queue = f"campaigns/{polling.POLL}"
    await pause_queue(desk.house.engine, queue, by="ann")
    task = await until_task(desk, lambda each: each.status is not TaskStatus.RUNNING)
    yield memo_of(task).get("polls", 0)
    await resume_queue(desk.house.engine, queue)


async def until_polled(desk: Served, times: int = 1) -> Mapping[str, int]:
    """What came of the last poll, once there were so many."""
    task = await until_task(desk, lambda each: memo_of(each).get("polls", 0) >= times)
    last: dict[str, int] = memo_of(task)["last"]
    return last


def serve(database_url: str, *, says: Any = TASKS, **settings: Any) -> Any:
    """A desk that asks every second, and the platform says this."""

    def prepare(sandbox: Sandbox) -> None:
        sandbox.dsp.allow(1_000_000)
        sandbox.dsp.tasks = says

    return serve_shop(shop, database_url, dsp_poll_seconds=1, prepare=prepare, **settings)


async def test_open_tasks_take_over_what_the_platform_says(database_url: str) -> None:
    async with serve(database_url) as desk:
        async with between_polls(desk) as before:
            await write(desk, t1="Not Started", t2="In Progress", t3="In Progress", t4="Not Started")
        last = await until_polled(desk, before + 1)
        assert await listed(desk) == {
            1: ("In Progress", None),
            2: ("Completed", None),
            3: ("Error", ERROR),
            4: ("Not Started", None),
        }
        wanted = {"entries": 3, "changed": 3, "same": 0, "finished": 0, "unknown": 0, "repeated": 0, "unreadable": 0}
        assert {name: last[name] for name in wanted} == wanted
        last = await until_polled(desk, before + 2)
        assert (last["changed"], last["same"], last["finished"]) == (0, 1, 2)
        text = (await desk.client.get(f"{desk.back}/metrics")).text
        assert 'orderup_campaigns_polled_entries_total{outcome="changed"} 3.0' in text


async def test_what_is_finished_never_changes(database_url: str) -> None:
    says = [
        {"id": "1", "status": "In Progress"},
        {"id": "2", "status": "Completed"},
        {"id": "3", "status": "Not Started"},
        {"id": "9", "status": "Completed"},
        {"id": "x", "status": "Completed"},
    ]
    async with serve(database_url, says=says) as desk:
        async with between_polls(desk) as before:
            await write(desk, t1="Completed", t2="Error", t3="In Progress")
        last = await until_polled(desk, before + 1)
        assert (last["finished"], last["changed"], last["unknown"], last["unreadable"]) == (2, 1, 1, 1)
        assert await listed(desk) == {1: ("Completed", None), 2: ("Error", None), 3: ("Not Started", None)}


async def test_only_rows_that_change_are_written(database_url: str) -> None:
    async with serve(database_url) as desk:
        async with between_polls(desk) as before:
            await write(desk, t1="In Progress", t2="Not Started")
            first = (await desk.client.get(f"{desk.front}/api/tasks")).json()["tasks"]
        await until_polled(desk, before + 2)
        then = (await desk.client.get(f"{desk.front}/api/tasks")).json()["tasks"]
        assert then[0] == first[0]
        assert then[1]["updated_at"] > first[1]["updated_at"]


async def test_very_many_entries_are_taken_over(database_url: str) -> None:
    many = polling.MOST_COMPARED + 500
    row = {"status": "Not Started", "created_at": 1, "updated_at": 1}
    rows = [{"id": id, **row} for id in range(1, many + 1)]
    says = [{"id": id, "status": "Completed" if id % 3 else "Not Started"} for id in range(1, many + 101)]
    async with serve(database_url, says=says) as desk:
        async with between_polls(desk) as before:
            await desk.house.database.write(lambda connection: connection.execute(insert(client_tasks), rows))
        last = await until_polled(desk, before + 1)
        assert (last["entries"], last["same"], last["unknown"]) == (many + 100, many // 3, 100)
        counted = select(client_tasks.c.status, func.count(), func.max(client_tasks.c.updated_at))
        found = await desk.house.database.read(
            lambda connection: connection.rows(counted.group_by(client_tasks.c.status).order_by("status"))
        )
        assert [row[:2] for row in found] == [("Completed", many - many // 3), ("Not Started", many // 3)]
        assert [row[2] > 1 for row in found] == [True, False]


async def test_a_task_that_its_owner_finishes_meanwhile_stays_as_he_wrote_it(database_url: str) -> None:
    async with serve(database_url) as desk:
        await write(desk, t1="In Progress", t2="In Progress")
        changes = [(id, Report(ClientStatus.ERROR, "no")) for id in (1, 2)]
        await desk.client.patch(f"{desk.front}/api/tasks/1", json={"status": "Completed"})
        count = await desk.house.database.write(
            lambda connection: polling.write_changes(changes, 1_000_000, connection)
        )
        assert count == 1
        assert await listed(desk) == {1: ("Completed", None), 2: ("Error", "no")}


@pytest.mark.parametrize(
    ("switched", "error", "deadline", "failures"),
    [
        ({"status": 500}, "answered 500", 20, 1),
        ({"status": 404}, "answered 404", 20, 1),
        ({"status": 429, "retry_after_seconds": 1}, "answered 429", 20, 0),
        ({"body": "html"}, "cannot be read", 20, 1),
        ({"body": "object"}, "cannot be read", 20, 1),
        ({"body": "empty"}, "cannot be read", 20, 1),
        ({"body": "garbage"}, "cannot be read", 20, 1),
        ({"body": "reset"}, "broke off", 20, 1),
        ({"body": "huge"}, "more than an answer may have", 60, 1),
        ({"body": "hang"}, "did not answer within", 1, 1),
        ({"body": "drip"}, "did not answer within", 1, 1),
    ],
)
async def test_a_platform_that_fails_is_asked_again(
    tmp_path: Path, switched: dict[str, Any], error: str, deadline: float, failures: int
) -> None:
    async with serve(sqlite_url(tmp_path), dsp_deadline_seconds=deadline) as desk:
        async with between_polls(desk) as before:
            desk.sandbox.dsp.switch(times=1, route="list_tasks", **switched)
            await write(desk, t3="In Progress")
        task = await until_task(desk, lambda each: each.error)
        assert error in (task.error or "")
        task = await until_task(desk, lambda each: memo_of(each).get("polls", 0) > before)
        assert task.failures == failures, "it is the same operation that asks again"
        assert await listed(desk) == {3: ("Error", ERROR)}


async def test_a_platform_that_wants_a_rest_gets_it_from_the_whole_queue(tmp_path: Path) -> None:
    async with serve(sqlite_url(tmp_path)) as desk:
        desk.sandbox.dsp.switch(status=429, retry_after_seconds=3600, route="list_tasks")
        await until_task(desk, lambda each: each.error)
        queues = (await desk.client.get(f"{desk.back}/api/queues")).json()["queues"]
        [queue] = [each for each in queues if each["name"] == f"campaigns/{polling.POLL}"]
        assert queue["paused_until"] is not None


async def test_what_cannot_be_read_is_told_in_one_line_a_poll(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serve(sqlite_url(tmp_path), says=[None] * 50) as desk:
        await until_polled(desk)
    lines = [line for line in capsys.readouterr().out.splitlines() if "cannot be read" in line]
    polls = desk.sandbox.dsp.asked["list_tasks"]
    assert 1 <= len(lines) <= polls
    assert all("50" in line for line in lines)


# going on


def test_it_asks_at_each_beat_and_after_a_day_the_next_one_does() -> None:
    first = polling.go_on(None, {"entries": 3}, began=1_000_002, now=1_000_003, period=10)
    assert (first.seconds, first.memo["since"], first.memo["polls"]) == (7, 1_000_002, 1)
    assert first.memo["last"] == {"at": "1970-01-12T13:46:43.000Z", "entries": 3}
    nearly = polling.go_on(first.memo, {}, began=1, now=1_000_002 + 86_399, period=10)
    assert (nearly.memo["since"], nearly.memo["polls"]) == (1_000_002, 2)
    last = polling.go_on(nearly.memo, {}, began=1, now=1_000_002 + 86_400, period=10)
    assert last["polls"] == 3


async def test_that_it_goes_on_is_no_skip(tmp_path: Path) -> None:
    async with serve(sqlite_url(tmp_path)) as desk:
        operation_id = await run_now(desk)
        await until_polled(desk, times=3)
        assert await run_now(desk) == operation_id
        operation = (await desk.house.database.load([operation_id]))[operation_id]
        assert operation.status is OperationStatus.RUNNING
        assert shop.schedules["follow_tasks"].keeps_alive


async def test_when_it_has_ended_the_schedule_begins_anew(tmp_path: Path) -> None:
    async with serve(sqlite_url(tmp_path)) as desk:
        first = await run_now(desk)
        await cancel_operation(desk.house.engine, first, reason="somebody stopped it")

        async def begun_anew() -> bool | None:
            schedules = (await desk.client.get(f"{desk.back}/api/schedules")).json()["schedules"]
            return any(each["last_operation_id"] not in (None, show_id(first)) for each in schedules) or None

        assert await desk.until(begun_anew)
