"""What a worker does, whichever way it talks to the back: every test here runs by HTTP and by WebSocket."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
import structlog

from orderup.errors import Invalid
from orderup.worker import Task, TaskFailed, UpstreamFailed, Wait
from tests.services.waiting import PATIENCE_SECONDS
from tests.worker.conftest import NewWorker, working
from tests.worker.visitor import Visitor, until


async def test_a_result_is_stored_and_handed_to_the_tasks_that_depend_on_it(
    visitor: Visitor, new_worker: NewWorker
) -> None:
    worker = new_worker()
    seen: list[Task] = []

    @worker.task()
    async def hammer(task: Task) -> dict[str, int]:
        seen.append(task)
        return {"blows": 12}

    @worker.task("polish")
    async def finish(task: Task) -> None:
        seen.append(task)

    async with working(worker):
        id = await visitor.order("hammer", "polish", params={"metal": "iron"})
        operation = await visitor.until(id, "completed")
    assert [task["result"] for task in operation["tasks"]] == [{"blows": 12}, None]
    assert [task["worker"] for task in operation["tasks"]] == [worker.name] * 2
    first, second = seen
    assert (first.id, first.task_id, first.operation_id) == (f"{id}-0", f"{id}-0", id)
    assert (first.name, first.kind, first.params, first.inputs) == ("hammer", "hammer", {"metal": "iron"}, {})
    assert (first.memo, first.attempt, first.lease) == (None, 1, timedelta(seconds=6))
    assert second.inputs == {"hammer": {"blows": 12}}


async def test_all_that_is_logged_of_a_task_carries_its_ids(visitor: Visitor, new_worker: NewWorker) -> None:
    worker = new_worker()

    @worker.task("hammer")
    async def hammer(task: Task) -> None:
        task.log.info("hammering")

    with structlog.testing.capture_logs() as lines:
        async with working(worker):
            id = await visitor.order()
            await visitor.until(id, "completed")
    told = [line for line in lines if line["event"] in {"started", "hammering", "answered"}]
    assert [(line["operation_id"], line["task_id"]) for line in told] == [(id, f"{id}-0")] * 3


async def test_a_task_knows_how_much_time_it_has_left(visitor: Visitor, new_worker: NewWorker) -> None:
    worker = new_worker()
    left: list[float] = []

    @worker.task("hammer")
    async def hammer(task: Task) -> None:
        left.append(task.deadline)

    async with working(worker):
        await visitor.until(await visitor.order(within_seconds=600), "completed")
    assert 500 < left[0] <= 600


async def test_who_asks_to_wait_is_called_again_with_his_memo(visitor: Visitor, new_worker: NewWorker) -> None:
    worker = new_worker()
    memos: list[Any] = []

    @worker.task("hammer")
    async def hammer(task: Task) -> str | Wait:
        memos.append(task.memo)
        return (
            "done"
            if task.memo == {"asked": 2}
            else Wait(0.01, memo={"asked": (task.memo or {"asked": 0})["asked"] + 1})
        )

    async with working(worker):
        operation = await visitor.until(await visitor.order(), "completed")
    assert memos == [None, {"asked": 1}, {"asked": 2}]
    assert operation["tasks"][0]["failures"] == 0


async def test_a_failed_attempt_is_made_again_until_there_were_too_many(
    visitor: Visitor, new_worker: NewWorker
) -> None:
    worker = new_worker()

    @worker.task("hammer")
    async def hammer(task: Task) -> None:
        raise TaskFailed(f"It broke at attempt {task.attempt}\0.")

    async with working(worker):
        operation = await visitor.until(await visitor.order(), "errored")
    assert operation["tasks"][0]["failures"] == 3
    assert operation["tasks"][0]["error"] == "It broke at attempt 3\N{REPLACEMENT CHARACTER}."


async def test_a_final_failure_is_not_tried_again(visitor: Visitor, new_worker: NewWorker) -> None:
    worker = new_worker()

    @worker.task("hammer")
    async def hammer(_task: Task) -> None:
        raise TaskFailed("That is no metal.", final=True)

    async with working(worker):
        operation = await visitor.until(await visitor.order(), "errored")
    assert operation["tasks"][0]["failures"] == 1


async def test_any_other_error_is_a_failed_attempt_too(visitor: Visitor, new_worker: NewWorker) -> None:
    worker = new_worker()

    @worker.task("hammer")
    async def hammer(task: Task) -> str:
        if task.attempt == 1:
            raise LookupError
        if task.attempt == 2:
            raise asyncio.CancelledError
        return "done"

    async with working(worker):
        operation = await visitor.until(await visitor.order(), "completed")
    assert operation["tasks"][0]["failures"] == 2


async def test_a_third_party_that_asks_to_come_back_later_pauses_the_queue(
    visitor: Visitor, new_worker: NewWorker
) -> None:
    worker = new_worker()

    @worker.task("temper")
    async def temper(_task: Task) -> None:
        raise UpstreamFailed("The furnace is busy.", retry_after=timedelta(minutes=10))

    async with working(worker):
        id = await visitor.order("temper")
        await visitor.until_task(id, lambda task: task["status"] == "waiting", what="it waits")
        answer = await visitor.client.get(f"{visitor.back}/api/queues")
        paused = {queue["name"]: queue["paused_until"] for queue in answer.json()["queues"]}
    await visitor.client.post(f"{visitor.back}/api/queues/forge/temper/resume")
    assert paused["forge/temper"] is not None


async def test_what_was_remembered_is_there_for_whoever_takes_over(visitor: Visitor, new_worker: NewWorker) -> None:
    worker = new_worker()
    memos: list[Any] = []

    @worker.task("hammer")
    async def hammer(task: Task) -> None:
        memos.append(task.memo)
        if task.attempt == 1:
            await task.remember({"heated": True})
            assert task.memo == {"heated": True}
            raise TaskFailed("The fire went out.")

    async with working(worker):
        await visitor.until(await visitor.order(), "completed")
    assert memos == [None, {"heated": True}]


@pytest.mark.parametrize("result", [object(), "\ud800", {"a": {1: object()}}])
async def test_a_result_that_json_cannot_hold_fails_for_good(
    visitor: Visitor, new_worker: NewWorker, result: object
) -> None:
    worker = new_worker()

    @worker.task("hammer")
    async def hammer(_task: Task) -> object:
        return result

    async with working(worker):
        operation = await visitor.until(await visitor.order(), "errored")
    assert "cannot be stored as JSON" in operation["tasks"][0]["error"]
    assert operation["tasks"][0]["failures"] == 1


async def test_a_large_result_arrives_whole_and_makes_room_for_the_next_task(
    visitor: Visitor, new_worker: NewWorker
) -> None:
    worker = new_worker()

    @worker.task("hammer")
    async def hammer(_task: Task) -> str:
        return "x" * 200_000

    async with working(worker):
        for _ in range(3):
            operation = await visitor.until(await visitor.order(), "completed")
            assert len(operation["tasks"][0]["result"]) == 200_000


@pytest.mark.parametrize(("result", "words"), [("x" * 1_100_000, "bytes at most"), ("\0", "may not hold a NUL")])
async def test_a_result_that_the_server_refuses_fails_the_task_with_its_words(
    visitor: Visitor, new_worker: NewWorker, result: str, words: str
) -> None:
    worker = new_worker()

    @worker.task("hammer")
    async def hammer(_task: Task) -> str:
        return result

    async with working(worker):
        operation = await visitor.until(await visitor.order(), "errored")
    assert "Its answer was refused" in operation["tasks"][0]["error"]
    assert words in operation["tasks"][0]["error"]


async def test_a_memo_that_the_server_refuses_is_the_functions_to_handle(
    visitor: Visitor, new_worker: NewWorker
) -> None:
    worker = new_worker()

    @worker.task("hammer")
    async def hammer(task: Task) -> str:
        with pytest.raises(Invalid, match="may not hold a NUL"):
            await task.remember("\0")
        return "done"

    async with working(worker):
        await visitor.until(await visitor.order(), "completed")


async def test_heartbeats_extend_the_lease_while_the_function_runs(visitor: Visitor, new_worker: NewWorker) -> None:
    worker = new_worker()
    may_end = asyncio.Event()

    @worker.task("hammer")
    async def hammer(_task: Task) -> None:
        await may_end.wait()

    async with working(worker):
        id = await visitor.order()
        first = await visitor.until_task(id, lambda task: task["status"] == "running", what="it runs")
        leases = [first["lease_until"]]
        for _ in range(3):
            later = await visitor.until_task(id, lambda task: task["lease_until"] > leases[-1], what="it beats")
            leases.append(later["lease_until"])
        may_end.set()
        operation = await visitor.until(id, "completed")
    assert operation["tasks"][0]["losses"] == 0


async def test_a_function_can_see_that_its_order_is_paused(visitor: Visitor, new_worker: NewWorker) -> None:
    worker = new_worker()
    tasks: asyncio.Queue[Task] = asyncio.Queue()
    may_end = asyncio.Event()

    @worker.task("hammer")
    async def hammer(task: Task) -> None:
        tasks.put_nowait(task)
        await may_end.wait()

    async with working(worker):
        id = await visitor.order()
        task = await tasks.get()
        await visitor.steer(id, "pause")
        await until(status_of(task), lambda status: status == "paused", what="it is told")
        await visitor.steer(id, "resume")
        may_end.set()
        await visitor.until(id, "completed")


def status_of(task: Task) -> Callable[[], Awaitable[str]]:
    async def look() -> str:
        return task.operation_status

    return look


async def test_a_function_whose_order_was_cancelled_is_cancelled_and_its_result_dropped(
    visitor: Visitor, new_worker: NewWorker
) -> None:
    worker = new_worker()
    is_running, is_cancelled = asyncio.Event(), asyncio.Event()

    @worker.task("hammer")
    async def hammer(_task: Task) -> str:
        is_running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            is_cancelled.set()
        return "too late"

    async with working(worker):
        id = await visitor.order()
        await is_running.wait()
        await visitor.steer(id, "cancel")
        async with asyncio.timeout(PATIENCE_SECONDS):
            await is_cancelled.wait()
    operation = await visitor.operation(id)
    assert (operation["status"], operation["tasks"][0]["result"]) == ("cancelled", None)


async def test_as_many_tasks_run_at_once_as_the_worker_has_room_for(visitor: Visitor, new_worker: NewWorker) -> None:
    worker = new_worker(concurrency=3)
    together = asyncio.Barrier(3)
    running = most = 0

    @worker.task("hammer")
    async def hammer(_task: Task) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await together.wait()
        running -= 1

    async with working(worker):
        ids = [await visitor.order() for _ in range(12)]
        for id in ids:
            await visitor.until(id, "completed")
    assert most == 3


async def test_who_is_asked_to_stop_finishes_what_he_has_and_takes_nothing_new(
    visitor: Visitor, new_worker: NewWorker
) -> None:
    worker = new_worker(concurrency=2, grace=timedelta(seconds=PATIENCE_SECONDS))
    begun: list[str] = []
    is_running, may_end = asyncio.Event(), asyncio.Event()

    @worker.task("hammer")
    async def hammer(task: Task) -> None:
        begun.append(task.operation_id)
        is_running.set()
        await may_end.wait()

    serving = asyncio.create_task(worker.serve())
    early = await visitor.order()
    await is_running.wait()
    worker.stop()
    late = await visitor.order()
    may_end.set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await serving
    assert begun == [early]
    assert (await visitor.operation(early))["status"] == "completed"
    # what was claimed for him in the moment he stopped went back
    await visitor.until_task(late, lambda task: (task["status"], task["attempt"]) == ("pending", 0), what="it is free")


@pytest.mark.parametrize("how", ["grace over", "second stop", "cancelled"])
async def test_who_has_to_end_before_he_is_done_hands_back(visitor: Visitor, new_worker: NewWorker, how: str) -> None:
    worker = new_worker(grace=timedelta(0 if how == "grace over" else 3600))
    is_running, is_cancelled = asyncio.Event(), asyncio.Event()

    @worker.task("hammer")
    async def hammer(_task: Task) -> None:
        is_running.set()
        try:
            await asyncio.Event().wait()
        finally:
            is_cancelled.set()

    serving = asyncio.create_task(worker.serve())
    id = await visitor.order()
    await is_running.wait()
    if how == "cancelled":
        serving.cancel()
    else:
        worker.stop()
    if how == "second stop":
        worker.stop()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.wait({serving})
    task = await visitor.task(id)
    assert is_cancelled.is_set()
    assert (task["status"], task["attempt"], task["losses"]) == ("pending", 0, 0)
    assert serving.cancelled() == (how == "cancelled")


async def test_a_stop_before_the_first_step_is_not_lost(visitor: Visitor, new_worker: NewWorker) -> None:
    worker = new_worker()
    worker.task("hammer")(never)
    worker.stop()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await worker.serve()
    assert visitor.region == worker.region


async def never(_task: Task) -> None:
    await asyncio.Event().wait()


async def test_a_worker_without_a_region_gets_only_what_may_be_done_anywhere(
    visitor: Visitor, new_worker: NewWorker
) -> None:
    worker = new_worker(region=None)

    @worker.task("hammer")
    async def hammer(_task: Task) -> None: ...

    async with working(worker):
        here = await visitor.order()
        anywhere = await visitor.order(region=None)
        await visitor.until(anywhere, "completed")
        assert (await visitor.task(here))["attempt"] == 0
    await visitor.steer(here, "cancel")


async def test_a_front_tells_where_the_back_is(visitor: Visitor, new_worker: NewWorker) -> None:
    worker = new_worker(server=visitor.front)

    @worker.task("hammer")
    async def hammer(_task: Task) -> None: ...

    async with working(worker):
        await visitor.until(await visitor.order(), "completed")


async def test_who_asks_for_work_that_the_shop_does_not_have_is_told_so(new_worker: NewWorker) -> None:
    worker = new_worker()
    worker.task("juggle")(never)
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(Invalid, match="Shop forge has no kind of task juggle"):
            await worker.serve()


async def test_a_kind_that_says_nothing_has_the_lease_that_the_owner_set(visitor: Visitor) -> None:
    await visitor.order("hammer")
    await visitor.order("temper")
    leases = {task["kind"]: task["lease_seconds"] for task in await visitor.claim(tasks=["hammer", "temper"], max=2)}
    assert leases == {"hammer": 6, "temper": 600}
