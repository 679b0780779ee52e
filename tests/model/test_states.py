"""What holds in every state that the verbs of model/ can reach. docs/states.md draws the arrows between them."""

import pytest

from orderup.errors import Conflict
from orderup.model.operation import Draft, OperationStatus
from orderup.model.rfa import RfaStatus
from orderup.model.steer import cancel_task, rerun
from orderup.model.task import MOVING, TaskStatus
from orderup.model.work import complete, run_out, start
from tests.model.arrows import NOW, PLANS, TOKEN, TOO_LATE, Step, arrows, placed, walk

STEPS = list(walk())


def told(step: Step) -> str:
    before = [task.status.value for task in step.before.tasks] if step.before else []
    return f"{step.verb}: {before} -> {[task.status.value for task in step.after.tasks]}, {step.after.status}"


def test_a_task_has_a_token_while_it_runs_and_at_no_other_time() -> None:
    wrong = [
        told(step)
        for step in STEPS
        for task in step.after.tasks
        if (task.token is not None) is not (task.status is TaskStatus.RUNNING)
    ]
    assert wrong == []


def test_whatever_is_final_has_a_time_at_which_it_ended_and_nothing_else_has() -> None:
    for step in STEPS:
        ended: list[tuple[int | None, bool]] = [(step.after.finished_at, step.after.status.is_final)]
        ended += [(task.finished_at, task.status.is_final) for task in step.after.tasks]
        assert [each for each in ended if (each[0] is not None) is not each[1]] == [], told(step)


def test_an_rfa_has_a_time_of_decision_unless_it_is_pending() -> None:
    rfas = [step.after.rfa for step in STEPS if step.after.rfa is not None]
    assert [rfa for rfa in rfas if (rfa.decided_at is not None) is not (rfa.status is not RfaStatus.PENDING)] == []


def test_an_operation_waits_for_approval_exactly_as_long_as_its_rfa_is_pending() -> None:
    wrong = [
        told(step)
        for step in STEPS
        if (step.after.status is OperationStatus.PENDING)
        is not (step.after.rfa is not None and step.after.rfa.status is RfaStatus.PENDING)
    ]
    assert wrong == []


def test_an_operation_under_way_has_a_task_to_which_something_will_happen() -> None:
    under_way = [step for step in STEPS if step.after.status in (OperationStatus.RUNNING, OperationStatus.PAUSED)]
    assert [told(step) for step in under_way if not step.after.moving] == []


def test_the_counts_of_open_and_moving_tasks_are_what_counting_gives() -> None:
    wrong = [
        told(step)
        for step in STEPS
        if step.after.open != sum(task.status is not TaskStatus.COMPLETED for task in step.after.tasks)
        or step.after.moving != sum(task.status in MOVING for task in step.after.tasks)
    ]
    assert wrong == []


def test_events_are_numbered_without_a_gap_and_the_version_is_the_number_of_the_last() -> None:
    for step in STEPS:
        first = step.before.version if step.before else 0
        assert [event.n for event in step.draft.events] == list(range(first + 1, step.after.version + 1)), told(step)


def test_every_change_but_the_end_of_a_wait_is_told() -> None:
    silent = {step.verb for step in STEPS if step.draft.changed and not step.draft.events}
    assert silent == {"end_waits"}


def test_nothing_leaves_cancelled_declined_expired_or_a_completed_operation() -> None:
    ends = {
        *((noun, "cancelled") for noun in ("operation", "task", "rfa")),
        *(("rfa", status) for status in ("approved", "declined", "expired")),
        ("operation", "completed"),
    }
    assert [arrow for arrow in arrows() if (arrow.noun, arrow.before) in ends] == []


def test_only_a_retry_or_a_rerun_by_hand_leaves_errored_or_a_completed_task() -> None:
    leaving = {
        arrow.verb for arrow in arrows() if arrow.before in {"errored", "completed"} and arrow.after != arrow.before
    }
    assert leaving == {"retry", "rerun"}


def test_a_task_of_an_operation_that_waits_for_approval_cannot_be_cancelled_by_itself() -> None:
    waiting = placed(PLANS[0]).result()
    with pytest.raises(Conflict, match="decline its RFA"):
        cancel_task(Draft(waiting), 0, now=NOW)


def test_a_task_that_ran_out_of_time_unbegun_is_done_anew_after_the_rerun_of_what_it_comes_after() -> None:
    draft = placed(PLANS[1])
    start(draft, 0, worker="w", token=TOKEN, now=NOW)
    complete(draft, 0, token=TOKEN, result="1", now=NOW)
    run_out(draft, 1, now=TOO_LATE)
    assert draft.status is OperationStatus.ERRORED
    rerun(draft, 0, now=TOO_LATE)
    start(draft, 0, worker="w", token=TOKEN, now=TOO_LATE)
    complete(draft, 0, token=TOKEN, result="2", now=TOO_LATE)
    later = draft.task(1)
    assert (later.status, later.error, later.finished_at) == (TaskStatus.PENDING, None, None)
