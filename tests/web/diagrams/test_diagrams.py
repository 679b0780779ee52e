"""Drawings of plans and of stored orders, as Mermaid and as SVG."""

import re
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings, strategies as st

from orderup import Approval, Plan, PlannedTask, Retry, Shop
from orderup.errors import Invalid
from orderup.model import approval, work
from orderup.model.ids import OperationId
from orderup.model.operation import Draft, Operation
from orderup.model.placing import place
from orderup.model.rfa import RfaStatus
from orderup.model.task import TaskStatus
from orderup.web.diagrams.drawing import MOST_TASKS, Drawing, Panel, draw_operation, draw_plan, show_span
from orderup.web.diagrams.mermaid import as_mermaid
from orderup.web.diagrams.svg import as_svg, lay_out, rows_of
from orderup.web.diagrams.tones import TONES

SVG = "{http://www.w3.org/2000/svg}"
NOW = 1_700_000_000_000_000
DAY = timedelta(hours=24)


def cafe() -> Shop:
    shop = Shop("cafe")
    shop.remote("grind", says="Grinding", rate="40/minute", concurrency=2)
    shop.remote("brew", retry=Retry(attempts=1), lease=timedelta(minutes=2))

    @shop.handler()
    async def serve(_context: object) -> None:
        return None

    @shop.step()
    def tidy(_connection: object, _context: object) -> None:
        return None

    return shop


DIAMOND = Plan(
    [
        PlannedTask("grind", region="eu"),
        PlannedTask("left", kind="brew", after=["grind"]),
        PlannedTask("right", kind="brew", after=["grind"]),
        PlannedTask("serve", after=["left", "right"]),
        PlannedTask("tidy", after=["grind", "serve"]),
    ],
    approval=Approval("Coffee at this hour?"),
)


def draw(plan: Plan, shop: Shop | None = None) -> Drawing:
    return draw_plan(shop or cafe(), plan, rfa_within=DAY, lease=timedelta(seconds=30))


def stored(plan: Plan = DIAMOND) -> Operation:
    draft = place(plan, id=OperationId(1), shop="cafe", kinds=cafe().kinds, now=NOW, rfa_within=DAY)
    return draft.result()


def lines_of(drawing: Drawing, box: str) -> list[str]:
    return [line for each in drawing.panels[0].boxes if each.id == box for line in (each.title, *each.lines)]


# what is drawn


def test_a_task_is_drawn_with_its_queue_its_limits_and_what_a_failure_and_a_lost_worker_cost() -> None:
    assert lines_of(draw(DIAMOND), "task0") == [
        "grind",
        "queue cafe/grind@eu",
        "a remote worker in eu",
        "5 attempts, 1 s to 5 min apart, within 24 h",
        "lease 30 s: a lost worker costs no more",
        "at most 40 in 1 min",
        "at most 2 at once",
        "the customer reads: Grinding",
    ]


def test_who_does_a_task_is_told() -> None:
    drawing = draw(DIAMOND)
    assert [lines_of(drawing, f"task{position}")[2] for position in (1, 3, 4)] == [
        "a remote worker or a person",
        "a handler, run by an executor",
        "a step, inside its transaction",
    ]


def test_a_kinds_own_lease_and_retry_go_before() -> None:
    left = lines_of(draw(DIAMOND), "task1")
    assert "one attempt, within 24 h" in left
    assert "lease 2 min: a lost worker costs no more" in left


def test_an_allowance_is_drawn_as_what_a_task_shares_and_how_much_of_it() -> None:
    shop = Shop("cafe")
    well = shop.allowance("well", "5/minute")
    shop.remote("fetch", allowance=well)
    shop.remote("rinse", allowance=well, share=0.5)
    drawing = draw(Plan.chain(PlannedTask("fetch", region="eu"), PlannedTask("rinse")), shop)
    whole, half = "shares cafe/well: at most 5 in 1 min", "shares cafe/well x 0.5: at most 2 in 1 min"
    shared = [[line for line in lines_of(drawing, task) if "shares" in line] for task in ("task0", "task1")]
    assert shared == [[whole], [whole, half]]


def test_arrows_follow_the_plan_from_the_request_to_the_end() -> None:
    arrows = {(arrow.source, arrow.target) for arrow in draw(DIAMOND).panels[0].arrows}
    assert arrows == {
        ("placed", "rfa"),
        ("rfa", "cancelled"),
        ("rfa", "task0"),
        ("task0", "task1"),
        ("task0", "task2"),
        ("task0", "task4"),
        ("task1", "task3"),
        ("task2", "task3"),
        ("task3", "task4"),
        ("task4", "completed"),
    }


def test_a_plan_that_asks_nobody_has_no_question() -> None:
    boxes = {box.id for box in draw(Plan([PlannedTask("serve")])).panels[0].boxes}
    assert boxes == {"placed", "task0", "completed"}


def test_every_state_of_a_task_is_drawn_and_every_state_has_a_colour() -> None:
    states = draw(DIAMOND).panels[1]
    assert {box.id for box in states.boxes} == set(TaskStatus)
    assert TONES.keys() >= {*TaskStatus, *RfaStatus} - {RfaStatus.APPROVED}


def test_a_stored_order_is_drawn_as_it_stands() -> None:
    draft = Draft(stored())
    approval.approve(draft, by="clerk", notes=None, now=NOW)
    work.start(draft, 0, worker="grinder-1", token="t", now=NOW)
    work.complete(draft, 0, token="t", result=None, now=NOW + 1_000_000)
    drawing = draw_operation(cafe(), draft.result())
    assert "RFA: approved" in lines_of(drawing, "rfa")
    grinding = lines_of(drawing, "task0")
    assert grinding[:4] == ["grind", "completed, attempt 1", "queue cafe/grind@eu", "worker grinder-1"]
    assert "finished 2023-11-14T22:13:21.000Z" in grinding
    tones = {box.id: box.tone for box in drawing.panels[0].boxes}
    assert (tones["task0"], tones["task1"], tones["task3"]) == ("completed", "pending", "blocked")


def test_a_crowd_of_tasks_is_not_drawn() -> None:
    many = Plan([PlannedTask(f"cup {number}", kind="brew") for number in range(MOST_TASKS + 1)])
    with pytest.raises(Invalid, match="201 tasks"):
        draw(many)


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(seconds=1.5), "1.5 s"),
        (timedelta(seconds=90), "90 s"),
        (timedelta(minutes=5), "5 min"),
        (timedelta(hours=24), "24 h"),
        (timedelta(days=7), "7 days"),
    ],
)
def test_a_length_of_time_is_told_in_its_largest_whole_unit(span: timedelta, text: str) -> None:
    assert show_span(span) == text


# Mermaid


def test_mermaid_has_a_line_for_every_box_and_arrow() -> None:
    drawing = draw(DIAMOND)
    text = as_mermaid(drawing)
    boxes = re.findall(r"^ {8}(p\d_\w+)[\[{(]", text, re.MULTILINE)
    assert boxes == [f"p{number}_{box.id}" for number, panel in enumerate(drawing.panels) for box in panel.boxes]
    assert text.count("-->") == sum(len(panel.arrows) for panel in drawing.panels)


def test_no_text_is_taken_for_mermaids_own_syntax() -> None:
    shop = Shop("cafe", title='It\'s "our" <b>café</b>')
    shop.remote("brew", says='say "hi" & <script> #1 `x` \\n ]')
    text = as_mermaid(draw(Plan([PlannedTask("brew")], words={"operation.completed": '"]'}), shop))
    assert "the customer reads: say #34;hi#34; #38; #60;script#62; #35;1 #96;x#96; #92;n ]" in text
    assert 'p0_completed(["<b>completed</b><br/>#34;]"])' in text
    assert text.splitlines()[1] == "title: 'It''s \"our\" <b>café</b>: how an order is carried out'"


# SVG


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314  our own


def test_svg_shows_every_word_and_says_what_it_shows() -> None:
    drawing = draw(DIAMOND)
    svg = as_svg(drawing)
    shown = texts(svg)
    for panel in drawing.panels:
        for box in panel.boxes:
            assert {box.title, *box.lines} <= set(shown)
        assert {arrow.label for arrow in panel.arrows if arrow.label} <= set(shown)
    description = ET.fromstring(svg).findtext(f"{SVG}desc")  # noqa: S314  our own
    assert description is not None
    assert "grind leads to left." in description


def test_svg_survives_any_words() -> None:
    shop = Shop("cafe", title="<&>\"'")
    shop.remote("brew", says="</text><script>alert(1)</script>")
    svg = as_svg(draw(Plan([PlannedTask("brew")]), shop))
    assert not list(ET.fromstring(svg).iter(f"{SVG}script"))  # noqa: S314  our own
    assert "the customer reads: </text><script>alert(1)</script>" in texts(svg)


def edges(count: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    pairs = [(earlier, later) for later in range(count) for earlier in range(later)]
    return st.lists(st.sampled_from(pairs), unique=True) if pairs else st.just([])


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    count = draw(st.integers(1, 9))
    after: dict[int, list[str]] = {}
    for earlier, later in draw(edges(count)):
        after.setdefault(later, []).append(f"task {earlier}")
    return Plan([PlannedTask(f"task {n}", kind="brew", after=after.get(n, [])) for n in range(count)])


@settings(deadline=None, max_examples=60)
@given(plans())
def test_whatever_the_plan_boxes_lie_apart_and_arrows_lead_down(plan: Plan) -> None:
    panel = draw(plan).panels[0]
    layout = lay_out(panel)
    for row in rows_with_spots(panel):
        spots = sorted((layout.spots[key] for key in row), key=lambda spot: spot.x)
        for left, right in pairwise(spots):
            assert left.x + left.width / 2 < right.x - right.width / 2
    for arrow, route in zip(panel.arrows, layout.routes, strict=True):
        source, target = layout.spots[arrow.source], layout.spots[arrow.target]
        assert route[0][1] == source.y + source.height
        assert route[-1][1] == target.y
        assert [y for _, y in route] == sorted(y for _, y in route)
        assert source.x - source.width / 2 <= route[0][0] <= source.x + source.width / 2
    assert min(spot.x - spot.width / 2 for spot in layout.spots.values()) == pytest.approx(0)
    assert max(spot.x + spot.width / 2 for spot in layout.spots.values()) <= layout.width


def rows_with_spots(panel: Panel) -> Iterator[list[str]]:
    rank = rows_of(panel)
    for row in range(max(rank.values()) + 1):
        yield [key for key, its_row in rank.items() if its_row == row]
