"""The timeline is drawn from the log alone: what it shows is what the events say."""

import re
from datetime import timedelta

from orderup import Approval, Plan, PlannedTask
from orderup.model import approval, work
from orderup.model.event import Event
from orderup.model.ids import OperationId
from orderup.model.kind import Kind
from orderup.model.operation import Draft, Operation
from orderup.model.placing import place
from orderup.web.pages.timeline import draw, pieces_of

NOW = 1_700_000_000_000_000
SECOND = 1_000_000
KINDS = {name: Kind(name) for name in ("saw", "a<b")}


class Told:
    """An operation with an approval, step by step, and its events."""

    def __init__(self) -> None:
        plan = Plan.chain(PlannedTask("saw"), PlannedTask("a<b"), approval=Approval("May we?"))
        self.draft = place(
            plan, id=OperationId(1), shop="workshop", kinds=KINDS, now=NOW, rfa_within=timedelta(hours=24)
        )
        self.events: list[Event] = []

    def take(self) -> Operation:
        operation = self.draft.result()
        self.events += self.draft.events
        self.draft = Draft(operation)
        return operation


def lost_once() -> Told:
    """Approved after an hour, lost after 10 s, done at the second attempt; the second task is being done."""
    told = Told()
    told.take()
    began = NOW + 3600 * SECOND
    approval.approve(told.draft, by="ann", notes=None, now=began)
    told.take()
    work.start(told.draft, 0, worker="w", token="1", now=began)
    told.take()
    work.lose(told.draft, 0, token="1", now=began + 10 * SECOND)
    told.take()
    work.start(told.draft, 0, worker="w", token="2", now=began + 15 * SECOND)
    told.take()
    work.complete(told.draft, 0, token="2", result=None, now=began + 25 * SECOND)
    told.take()
    work.start(told.draft, 1, worker="w", token="3", now=began + 25 * SECOND)
    return told


def test_each_attempt_and_each_wait_is_a_piece_of_its_tasks_bar() -> None:
    told = lost_once()
    operation, now = told.take(), NOW + 3635 * SECOND
    pieces = pieces_of(operation, told.events, now=now)
    found = [(p.lane, p.kind, (p.begin - NOW) // SECOND, (p.end - NOW) // SECOND) for p in pieces]
    assert sorted(found) == [
        (0, "wait", 0, 3600),
        (1, "done", 3615, 3625),
        (1, "failed", 3600, 3610),
        (1, "wait", 3610, 3615),
        (2, "run", 3625, 3635),
    ]


def test_the_drawing_folds_the_idle_hour_and_tells_kinds_apart_by_pattern_too() -> None:
    told = lost_once()
    drawn = str(draw(told.take(), told.events, now=NOW + 3635 * SECOND))
    assert "1 h idle" in drawn
    assert re.findall(r'fill="url\(#(\w+)\)" x="\d', drawn).count("failed") >= 1
    assert drawn.count('fill="url(#run)"') == 2  # the bar, and its swatch
    assert "a&lt;b" in drawn
    assert "a<b" not in drawn
    legend = re.sub("<[^>]*>", " ", drawn.partition("</svg><p")[2])
    assert [words in legend for words in ("being done", "done", "failed or lost", "waits")] == [True] * 4


def test_an_operation_that_waits_for_its_approval_has_nothing_but_that_wait() -> None:
    told = Told()
    operation = told.take()
    [piece] = pieces_of(operation, told.events, now=NOW + SECOND)
    assert (piece.lane, piece.kind) == (0, "wait")
    assert "idle" not in str(draw(operation, told.events, now=NOW + SECOND))
