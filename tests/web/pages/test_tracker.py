"""What a customer's page calls the stages of an order."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from orderup.model.ids import OperationId
from orderup.model.kind import Kind
from orderup.model.operation import Operation, OperationStatus
from orderup.model.placing import place
from orderup.model.plan import Approval, Plan, PlannedTask
from orderup.model.rfa import RfaStatus
from orderup.model.task import TaskStatus
from orderup.web.pages.tracker import track


def completed(words: dict[str, str]) -> Operation:
    """An order of one key, approved and made."""
    plan = Plan([PlannedTask("cut", says="Cutting")], approval=Approval("A key?"), words=words)
    kinds = {"cut": Kind("cut")}
    placed = place(plan, id=OperationId(1), shop="keys", kinds=kinds, now=0, rfa_within=timedelta(hours=1)).base
    assert placed.rfa is not None
    return replace(
        placed,
        status=OperationStatus.COMPLETED,
        rfa=replace(placed.rfa, status=RfaStatus.APPROVED),
        tasks=tuple(replace(task, status=TaskStatus.COMPLETED) for task in placed.tasks),
    )


@pytest.mark.parametrize(
    ("words", "stages"),
    [
        ({}, ["Request received", "Approved", "Cutting", "Done"]),
        (
            {"operation.placed": "We have it", "rfa.approved": "Fine", "operation.completed": "Come and fetch it"},
            ["We have it", "Fine", "Cutting", "Come and fetch it"],
        ),
        # told to nobody, and yet it was placed
        ({"operation.placed": ""}, ["Request received", "Approved", "Cutting", "Done"]),
    ],
)
def test_stages_are_called_as_the_plan_calls_their_events(words: dict[str, str], stages: list[str]) -> None:
    links = {"live": "", "events": ""}
    tracker = track(completed(words), shop="Locksmith", links=links, page="/track/1", history=[])
    assert [stage.name for stage in tracker.stages] == stages
