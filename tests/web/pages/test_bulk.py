"""Verbs for all operations that match, and for single tasks, by HTTP on both databases."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from itertools import product
from pathlib import Path

import httpx2
import pytest
from msgspec.structs import replace
from sqlalchemy import update

from orderup.cli.assembly import House
from orderup.db.tables import tasks
from orderup.engine.forget import FORGOTTEN
from orderup.engine.steer import pause_operation
from orderup.errors import Conflict
from orderup.model import steer
from orderup.model.ids import OperationId, read_id
from orderup.model.operation import Draft, Operation, OperationStatus
from orderup.model.placing import place as place_plan
from orderup.model.plan import Plan, PlannedTask
from orderup.model.task import TaskStatus
from orderup.web.orders import load
from orderup.web.pages.bulk import MOST_AT_ONCE, VERBS, verbs_of
from orderup.web.pages.staff import task_verbs_of
from orderup.web.tokens import Role
from tests.web.house import ASKED, CHAIN, DATABASES, client_of, open_test_house, place, settings_for, token_of, workshop

SAW = Plan([PlannedTask("saw")])
ORIGIN = {"Origin": "http://localhost:8001"}


@pytest.fixture(params=DATABASES)
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    is_file = request.param == "sqlite"
    values = {} if is_file else {"database_url": request.getfixturevalue("prepared_postgres")}
    async with open_test_house(settings_for(tmp_path, **values)) as house:
        yield house


@pytest.fixture
async def back(house: House) -> AsyncIterator[httpx2.AsyncClient]:
    """Somebody who has signed in."""
    async with client_of(house.back) as client:
        await client.post("/sign-in", data={"token": token_of(Role.STAFF, "ann"), "next": "/"})
        yield client


def fields_of(page: str) -> dict[str, str]:
    """What the page's form for doing it carries."""
    form = page.partition("<main")[2].partition("<form")[2].partition("</form>")[0]
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form))


def heading_of(page: str) -> str:
    [heading] = re.findall(r"<h1>(.*?)</h1>", page, re.DOTALL)
    return re.sub(r"\s+", " ", heading).strip()


async def ask(back: httpx2.AsyncClient, verb: str, **wanted: str) -> httpx2.Response:
    """The first step, from the buttons of the list."""
    listed = await back.get("/operations", params=wanted)
    assert f'action="/operations/all/{verb}"' in listed.text, listed.text
    [csrf] = set(re.findall(r'name="csrf" value="([^"]*)"', listed.text))
    return await back.post(f"/operations/all/{verb}", data={"csrf": csrf, **wanted}, headers=ORIGIN)


async def confirm(back: httpx2.AsyncClient, verb: str, asked: httpx2.Response) -> httpx2.Response:
    return await back.post(f"/operations/all/{verb}", data=fields_of(asked.text), headers=ORIGIN)


async def statuses_of(house: House, ids: Sequence[str]) -> list[str]:
    return [(await load(house.engine, read_id(id))).status.value for id in ids]


async def errored(house: House) -> str:
    """The id of a new operation whose only task failed for good; no other task waits yet."""
    await place(house, SAW)
    async with client_of(house.back, token=token_of(Role.WORKER)) as client:
        claim = {"worker": "w1", "shop": "workshop", "tasks": ["saw"]}
        [task] = (await client.post("/api/work/claim", json=claim)).json()["tasks"]
        body = {"token": task["token"], "error": "the saw broke", "final": True}
        answer = await client.post(f"/api/work/{task['id']}/fail", json=body)
    assert answer.status_code == 200, answer.text
    return str(task["operation_id"])


async def test_it_is_asked_first_with_the_count_and_nothing_is_done(house: House, back: httpx2.AsyncClient) -> None:
    ids = [await place(house) for _ in range(3)]
    asked = await ask(back, "cancel", status="running")
    assert asked.status_code == 200
    assert heading_of(asked.text) == "Cancel 3 operations?"
    assert set(await statuses_of(house, ids)) == {"running"}


async def test_then_it_is_done_and_reported(house: House, back: httpx2.AsyncClient) -> None:
    ids = [await place(house) for _ in range(3)]
    report = await confirm(back, "cancel", await ask(back, "cancel", status="running"))
    assert report.status_code == 200
    assert heading_of(report.text) == "3 cancelled"
    assert set(await statuses_of(house, ids)) == {"cancelled"}
    assert (await load(house.engine, read_id(ids[0]))).reason == "cancelled by ann"


async def test_all_are_paused_and_resumed_and_what_failed_is_tried_again(
    house: House, back: httpx2.AsyncClient
) -> None:
    failed, ids = await errored(house), [await place(house) for _ in range(2)]
    for verb, status in (("pause", "paused"), ("resume", "running")):
        report = await confirm(back, verb, await ask(back, verb))
        assert heading_of(report.text) == f"2 {verb}d"
        assert await statuses_of(house, ids) == [status, status]
    assert await statuses_of(house, [failed]) == ["errored"]
    report = await confirm(back, "retry", await ask(back, "retry", status="errored"))
    assert heading_of(report.text) == "1 retried"
    assert await statuses_of(house, [failed]) == ["running"]


async def test_what_does_not_match_or_cannot_be_done_is_left_alone(house: House, back: httpx2.AsyncClient) -> None:
    failed, running, asked_for = await errored(house), await place(house), await place(house, ASKED)
    asked = await ask(back, "cancel", status="pending")
    assert heading_of(asked.text) == "Cancel 1 operation?"
    await confirm(back, "cancel", asked)
    assert await statuses_of(house, [running, asked_for, failed]) == ["running", "cancelled", "errored"]
    report = await confirm(back, "cancel", await ask(back, "cancel"))
    assert heading_of(report.text) == "1 cancelled"
    assert await statuses_of(house, [running, asked_for, failed]) == ["cancelled", "cancelled", "errored"]


async def test_what_was_placed_after_the_count_is_left_alone(house: House, back: httpx2.AsyncClient) -> None:
    before = await place(house)
    asked = await ask(back, "pause", status="running")
    later = await place(house)
    await confirm(back, "pause", asked)
    assert await statuses_of(house, [before, later]) == ["paused", "running"]


async def test_what_went_on_in_the_meantime_is_left_alone(house: House, back: httpx2.AsyncClient) -> None:
    first, second = await place(house), await place(house)
    asked = await ask(back, "pause", status="running")
    await pause_operation(house.engine, read_id(first))
    report = await confirm(back, "pause", asked)
    assert heading_of(report.text) == "1 paused"
    report = await confirm(back, "pause", asked)
    assert "None was left" in report.text
    assert await statuses_of(house, [first, second]) == ["paused", "paused"]


async def test_each_that_is_refused_is_listed_with_its_reason_and_stops_no_other(
    house: House, back: httpx2.AsyncClient
) -> None:
    forgotten, other = await errored(house), await errored(house)
    of = tasks.c.operation_id == read_id(forgotten)
    await house.database.write(lambda connection: connection.execute(update(tasks).where(of).values(params=FORGOTTEN)))
    report = (await confirm(back, "retry", await ask(back, "retry", status="errored"))).text
    assert heading_of(report) == "1 retried, 1 refused"
    refused = report.partition("<h2>Refused</h2>")[2].partition("</table>")[0]
    assert f"/operations/{forgotten}" in refused
    assert "was forgotten" in refused
    assert other not in refused
    assert await statuses_of(house, [forgotten, other]) == ["errored", "running"]


async def test_two_who_do_it_at_once_do_each_operation_once(house: House, back: httpx2.AsyncClient) -> None:
    for _ in range(30):
        await place(house)
    asked = await ask(back, "cancel", status="running")
    reports = await asyncio.gather(*(confirm(back, "cancel", asked) for _ in range(2)))
    done = [int(re.findall(r"^\d+", heading_of(report.text))[0]) for report in reports]
    assert sum(done) == 30
    refused = [re.findall(r"(\d+) refused", heading_of(report.text)) for report in reports]
    for report, found in zip(reports, refused, strict=True):
        assert report.text.count("is cancelled: it cannot be cancelled.") == int(found[0] if found else 0)


async def test_of_very_many_the_newest_are_done_at_once_and_the_rest_when_asked_again(
    house: House, back: httpx2.AsyncClient
) -> None:
    placed = [place(house, SAW) for _ in range(MOST_AT_ONCE + 20)]
    ids = sorted(await asyncio.gather(*placed))
    asked = await ask(back, "pause", status="running")
    assert heading_of(asked.text) == "Pause 1,000 or more operations?"
    report = await confirm(back, "pause", asked)
    assert heading_of(report.text) == "1,000 paused"
    assert "There are more." in report.text
    assert await statuses_of(house, ids[:21]) == [*["running"] * 20, "paused"]
    rest = await confirm(back, "pause", report)
    assert heading_of(rest.text) == "20 paused"
    assert "There are more." not in rest.text


async def test_a_shops_token_does_it_to_its_own_only(house: House) -> None:
    id = await place(house)
    async with client_of(house.back, token=token_of(Role.STAFF, shop="bakery")) as client:
        for form in ({}, {"shop": "workshop"}, {"newest": id}):
            answer = await client.post("/operations/all/cancel", data=form)
            assert answer.status_code == 200
    assert await statuses_of(house, [id]) == ["running"]


@pytest.mark.parametrize("wrong", ["no token", "another site"])
async def test_a_form_that_is_not_ours_changes_nothing(house: House, back: httpx2.AsyncClient, wrong: str) -> None:
    id = await place(house)
    fields = fields_of((await ask(back, "cancel")).text)
    headers = ORIGIN
    if wrong == "no token":
        fields.pop("csrf")
    else:
        headers = {"Origin": "https://evil.example"}
    answer = await back.post("/operations/all/cancel", data=fields, headers=headers)
    assert answer.status_code == 403
    assert await statuses_of(house, [id]) == ["running"]


@pytest.mark.parametrize("newest", ["nonsense", "7zzzzzzzzzzzz"])
async def test_an_end_that_nobody_gave_harms_nothing(house: House, back: httpx2.AsyncClient, newest: str) -> None:
    await place(house)
    fields = fields_of((await ask(back, "cancel")).text)
    answer = await back.post("/operations/all/cancel", data={**fields, "newest": newest}, headers=ORIGIN)
    assert answer.status_code == (404 if newest == "nonsense" else 200)


async def test_buttons_are_those_that_some_of_the_list_allow(house: House, back: httpx2.AsyncClient) -> None:
    await place(house)
    offered = {}
    for status in ("", "running", "completed"):
        page = (await back.get("/operations", params={"status": status})).text
        offered[status] = re.findall(r'action="/operations/all/(\w+)"', page)
    assert offered == {"": ["pause", "resume", "retry", "cancel"], "running": ["pause", "cancel"], "completed": []}


# Single tasks


def task_buttons(page: str) -> list[tuple[str, str]]:
    return re.findall(r'name="verb" value="(\w+)" class="small[^"]*" aria-label="\w+ (\w+)"', page)


async def test_a_task_is_cancelled_and_rerun_by_its_buttons(house: House, back: httpx2.AsyncClient) -> None:
    failed, chain = await errored(house), await place(house, CHAIN)
    page = (await back.get(f"/operations/{failed}")).text
    assert task_buttons(page) == [("rerun", "saw")]
    [csrf] = set(re.findall(r'name="csrf" value="([^"]*)"', page))
    answer = await back.post(f"/tasks/{failed}-0", data={"csrf": csrf, "verb": "rerun"}, headers=ORIGIN)
    assert answer.headers["location"] == f"/operations/{failed}#task-0"
    assert await statuses_of(house, [failed]) == ["running"]
    page = (await back.get(f"/operations/{chain}")).text
    assert task_buttons(page) == [("cancel", "saw"), ("cancel", "glue"), ("cancel", "paint")]
    await back.post(f"/tasks/{chain}-1", data={"csrf": csrf, "verb": "cancel"}, headers=ORIGIN)
    operation = await load(house.engine, read_id(chain))
    assert [task.status for task in operation.tasks] == ["pending", "cancelled", "cancelled"]
    assert task_buttons((await back.get(f"/operations/{chain}")).text) == [("cancel", "saw")]


async def test_what_a_task_does_not_allow_is_refused_with_the_reason(house: House, back: httpx2.AsyncClient) -> None:
    id = await place(house)
    [csrf] = set(re.findall(r'name="csrf" value="([^"]*)"', (await back.get(f"/operations/{id}")).text))
    answer = await back.post(f"/tasks/{id}-0", data={"csrf": csrf, "verb": "rerun"}, headers=ORIGIN)
    assert answer.status_code == 409
    assert "only a completed or errored one can be rerun" in answer.text
    for address, verb, status in ((f"{id}-9", "cancel", 404), (f"{id}-0", "paint", 422), (id, "cancel", 404)):
        answer = await back.post(f"/tasks/{address}", data={"csrf": csrf, "verb": verb}, headers=ORIGIN)
        assert answer.status_code == status, answer.text


# What is offered is what is allowed

NOW = 1_700_000_000_000_000


def in_state(status: OperationStatus, *tasks: TaskStatus) -> Operation:
    """Of these tasks, one after the other."""
    draft = place_plan(
        Plan.chain(*(PlannedTask(f"saw{n}", kind="saw") for n in range(len(tasks)))),
        id=OperationId(1),
        shop="workshop",
        kinds=workshop().kinds,
        now=NOW,
        rfa_within=timedelta(hours=1),
    )
    operation = draft.result()
    changed = [
        replace(task, status=state, attempt=int(state not in (TaskStatus.BLOCKED, TaskStatus.PENDING)))
        for task, state in zip(operation.tasks, tasks, strict=True)
    ]
    return replace(operation, status=status, tasks=tuple(changed), open=len(tasks), moving=1)


@pytest.mark.parametrize("status", OperationStatus)
def test_the_verbs_offered_for_an_operation_are_those_that_are_not_refused(status: OperationStatus) -> None:
    allowed = set()
    for verb in VERBS:
        reason = {"reason": "closed"} if verb == "cancel" else {}
        try:
            getattr(steer, verb)(Draft(in_state(status, TaskStatus.PENDING)), now=NOW, **reason)
        except Conflict:
            continue
        allowed.add(verb)
    assert set(verbs_of(status)) == allowed


@pytest.mark.parametrize("status", OperationStatus)
def test_the_verbs_offered_for_a_task_are_those_that_are_not_refused(status: OperationStatus) -> None:
    for states in product(TaskStatus, repeat=2):
        operation = in_state(status, *states)
        for task in operation.tasks:
            allowed = []
            for verb, do in (("rerun", steer.rerun), ("cancel", steer.cancel_task)):
                try:
                    do(Draft(operation), task.position, now=NOW)
                except Conflict:
                    continue
                allowed.append(verb)
            assert task_verbs_of(operation, task, now=NOW) == allowed, (states, task.name)
