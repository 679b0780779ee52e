"""Plans: what a shop may ask to have done, and what is refused before anything is stored."""

from datetime import timedelta
from typing import Any

import pytest

from orderup.errors import InvalidPlan
from orderup.model.ids import OperationId
from orderup.model.kind import Kind
from orderup.model.operation import Draft
from orderup.model.placing import place
from orderup.model.plan import Approval, Plan, PlannedTask
from orderup.model.task import TaskStatus

NOW = 1_800_000_000_000_000
KINDS = {"step": Kind("step", says="Working"), "other": Kind("other")}


def placed(plan: Plan, **options: Any) -> Draft:
    return place(plan, id=OperationId(1), shop="shop", kinds=KINDS, now=NOW, rfa_within=timedelta(hours=24), **options)


def step(name: str, *after: str, **options: Any) -> PlannedTask:
    return PlannedTask(name, after=after, kind="step", **options)


def test_a_plan_without_tasks_is_refused() -> None:
    with pytest.raises(InvalidPlan, match="at least one task"):
        Plan([])


def test_a_task_that_comes_after_itself_is_refused() -> None:
    with pytest.raises(InvalidPlan, match="circle: knead"):
        Plan([step("knead", "knead")])


def test_a_circle_is_refused_and_its_tasks_are_named() -> None:
    with pytest.raises(InvalidPlan, match=r"circle: b, c, d\.$"):
        Plan([step("a"), step("b", "a", "d"), step("c", "b"), step("d", "c")])


def test_a_circle_behind_ten_thousand_tasks_is_found() -> None:
    tasks = [step("t0", "t9999"), *(step(f"t{number}", f"t{number - 1}") for number in range(1, 10_000))]
    with pytest.raises(InvalidPlan, match="circle: t0, t1, t2"):
        Plan(tasks)


def test_a_dependency_that_is_not_in_the_plan_is_refused_by_name() -> None:
    with pytest.raises(InvalidPlan, match="bake comes after top, which is not in the plan"):
        Plan([step("dough"), step("bake", "top")])


def test_a_name_used_twice_is_refused() -> None:
    with pytest.raises(InvalidPlan, match="Two tasks of this plan are named bake"):
        Plan([step("bake"), step("dough"), step("bake")])


@pytest.mark.parametrize("name", ["", "x" * 101])
def test_a_name_has_one_to_a_hundred_characters(name: str) -> None:
    with pytest.raises(InvalidPlan, match="1 to 100 characters"):
        Plan([step(name)])


@pytest.mark.parametrize("region", ["", "x" * 101, "Île-de-France", "eu west", "eu\n"])
def test_a_region_is_called_as_a_worker_of_it_can_say(region: str) -> None:
    with pytest.raises(InvalidPlan, match="Task bake: a region has 1 to 100 ASCII letters"):
        PlannedTask("bake", region=region)


def test_dependencies_written_as_one_string_are_refused_with_the_way_out() -> None:
    with pytest.raises(InvalidPlan, match=r'write after=\["dough"\]'):
        PlannedTask("bake", after="dough")


def test_a_dependency_named_twice_counts_once() -> None:
    plan = Plan([step("dough"), step("bake", "dough", "dough")])
    assert placed(plan).task(1).blocked_by == 1


@pytest.mark.parametrize("within", [timedelta(0), timedelta(seconds=-1)])
def test_a_time_in_which_nothing_can_be_done_is_refused(within: timedelta) -> None:
    with pytest.raises(InvalidPlan, match="leaves no time"):
        step("bake", within=within)
    with pytest.raises(InvalidPlan, match="leaves no time"):
        Approval("Shall we?", within=within)


@pytest.mark.parametrize("priority", [1_000_001, -1_000_001, 2**40])
def test_a_priority_beyond_what_a_database_holds_is_refused(priority: int) -> None:
    with pytest.raises(InvalidPlan, match="priority"):
        step("bake", priority=priority)


def test_a_kind_the_shop_does_not_have_is_refused_with_those_it_has() -> None:
    with pytest.raises(InvalidPlan, match=r"fry, which shop shop does not have\. It has: other, step"):
        placed(Plan([PlannedTask("fry")]))


def test_a_chain_is_done_one_after_the_other() -> None:
    plan = Plan.chain(step("a"), step("b"), step("c"))
    assert plan.links == [((), (1,)), ((0,), (2,)), ((1,), ())]


def test_a_link_of_a_chain_may_come_after_others_too() -> None:
    plan = Plan.chain(step("a"), step("b"), step("c", "a"))
    assert plan.links == [((), (1, 2)), ((0,), (2,)), ((0, 1), ())]


def test_of_a_diamond_only_the_first_task_is_released() -> None:
    draft = placed(Plan([step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c")]))
    assert [task.status for task in draft.tasks()] == ["pending", "blocked", "blocked", "blocked"]
    assert [task.blocked_by for task in draft.tasks()] == [0, 1, 1, 2]
    assert draft.task(0).next == (1, 2)
    assert draft.released == [0]


def test_a_plan_of_ten_thousand_tasks_becomes_an_operation() -> None:
    middle = [step(f"ad{number}", "campaign") for number in range(9_998)]
    plan = Plan([step("campaign"), *middle, step("report", *(task.name for task in middle))])
    draft = placed(plan)
    assert (draft.open, draft.moving) == (10_000, 1)
    assert draft.task(9_999).blocked_by == 9_998


def test_what_a_task_leaves_out_is_taken_from_its_kind() -> None:
    kinds = {"step": Kind("step", says="Working", within=timedelta(hours=2), lease=timedelta(seconds=9))}
    plan = Plan([step("a"), step("b", says="Really working", within=timedelta(hours=1))])
    draft = place(plan, id=OperationId(1), shop="shop", kinds=kinds, now=NOW, rfa_within=timedelta(hours=24))
    first, second = draft.tasks()
    assert (first.says, first.within_us, first.lease_us) == ("Working", 7_200_000_000, 9_000_000)
    assert (second.says, second.within_us) == ("Really working", 3_600_000_000)


def test_a_region_is_part_of_the_queue() -> None:
    draft = placed(Plan([step("a", region="eu-west-3"), step("b")]))
    assert [task.queue for task in draft.tasks()] == ["shop/step@eu-west-3", "shop/step"]
    assert [task.region for task in draft.tasks()] == ["eu-west-3", None]


def test_an_rfa_expires_when_its_plan_says_or_else_when_the_owner_says() -> None:
    asked = placed(Plan([step("a")], approval=Approval("Shall we?")))
    assert asked.rfa is not None
    assert asked.rfa.expires_at == NOW + 24 * 3_600_000_000
    hasty = placed(Plan([step("a")], approval=Approval("Shall we?", within=timedelta(minutes=5))))
    assert hasty.rfa is not None
    assert hasty.rfa.expires_at == NOW + 300_000_000


def test_params_that_json_cannot_hold_are_refused_when_the_order_is_placed() -> None:
    with pytest.raises(InvalidPlan, match="params of task a cannot be stored as JSON"):
        placed(Plan([step("a", params={"oven": object()})]))


def test_words_for_an_event_that_there_is_not_are_refused() -> None:
    with pytest.raises(InvalidPlan, match=r"no event operation\.complete\. There are: operation\.placed, "):
        Plan([step("a")], words={"operation.complete": "Delivered"})


def test_until_it_is_approved_every_task_is_blocked() -> None:
    draft = placed(Plan([step("a"), step("b")], approval=Approval("Shall we?")))
    assert {task.status for task in draft.tasks()} == {TaskStatus.BLOCKED}
    assert draft.released == []
