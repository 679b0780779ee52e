"""Stations by HTTP, as a browser without JavaScript uses them: take, finish, hand back, and what was taken back."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from html import unescape
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import update

from orderup.cli.assembly import House
from orderup.db.tables import tasks
from orderup.engine.limit import pause_queue, resume_queue
from orderup.engine.place import place_order
from orderup.engine.steer import cancel_operation, pause_operation, rerun_task
from orderup.model import work
from orderup.model.ids import read_id, show_id
from orderup.model.operation import OperationStatus
from orderup.model.plan import Plan, PlannedTask
from orderup.model.task import Task, TaskStatus
from orderup.model.times import as_micros
from orderup.web.orders import load
from orderup.web.tokens import Role
from tests.web.house import DATABASES, client_of, open_test_house, place, settings_for, token_of, workshop
from tests.web.pages.reading import ORIGIN, signed_in, words_of

PARAMS = {"boards": 4, "length_ml": 250, "woods": ["oak", "ash"], "wishes": {"no_knots": True}}
SAW = Plan([PlannedTask("saw", params=PARAMS)])
IN_PARIS = Plan([PlannedTask("saw", region="paris")])
STATION = "/station/workshop/saw"


@pytest.fixture(params=DATABASES)
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    is_file = request.param == "sqlite"
    values = {} if is_file else {"database_url": request.getfixturevalue("prepared_postgres")}
    shop = workshop()
    shop.remote("carve", lease=timedelta(hours=1))
    shop.remote("turn", turns_after=2)
    async with open_test_house(settings_for(tmp_path, **values), shops=[shop]) as house:
        yield house


class Tablet:
    """A browser at a station."""

    def __init__(self, client: httpx2.AsyncClient, address: str = STATION) -> None:
        self.client, self.address = client, address
        self.page = ""

    async def look(self) -> str:
        answer = await self.client.get(self.address)
        assert answer.status_code == 200, answer.text
        self.page = answer.text
        return words_of(self.page)

    async def press(self, button: str, *, form: str | None = None, **typed: str) -> httpx2.Response:
        """The first button of this name, in the form of this id if it is named; the page is looked at again."""
        action, fields = form_with(self.page, button, form=form)
        answer = await self.client.post(action, data={**fields, **typed}, headers=ORIGIN)
        if answer.status_code == 303:
            assert answer.headers["location"] == self.address
            await self.look()
        return answer

    async def take(self) -> str:
        """The id of the task."""
        await self.look()
        before = set(held_on(self.page))
        assert (await self.press("Take next")).status_code == 303
        [id] = set(held_on(self.page)) - before
        return id


def form_with(page: str, button: str, *, form: str | None = None) -> tuple[str, dict[str, str]]:
    for head, inside in re.findall(r"<form ([^>]*)>(.*?)</form>", page, re.DOTALL):
        found = re.search(rf'<button(?: name="(\w+)" value="([\w-]+)")?[^>]*>{button}</button>', inside)
        if found and (form is None or f'id="{form}"' in head):
            fields = dict(
                re.findall(r'<input type="hidden"(?: id="\w+" data-swap)? name="(\w+)" value="([^"]*)">', inside)
            )
            verb = {found[1]: found[2]} if found[1] else {}
            [action] = re.findall(r'action="([^"]*)"', head)
            return unescape(action), {**fields, **verb}
    raise AssertionError(f"no button {button} in {words_of(page)}")


def held_on(page: str) -> list[str]:
    return re.findall(r'<form id="done-([\w-]+)"', page)


def section(page: str, id: str) -> str:
    """The words of one of the lists of a station."""
    [inside] = re.findall(rf'<[ou]l id="{id}"[^>]*>(.*?)</[ou]l>\n', page, re.DOTALL)
    return words_of(inside)


async def tablet_of(house: House, stack: list[httpx2.AsyncClient], token: str, address: str = STATION) -> Tablet:
    client = client_of(house.back)
    stack.append(client)
    return Tablet(await signed_in(client, token), address)


@pytest.fixture
async def clients() -> AsyncIterator[list[httpx2.AsyncClient]]:
    clients: list[httpx2.AsyncClient] = []
    yield clients
    for client in clients:
        await client.aclose()


@pytest.fixture
async def ann(house: House, clients: list[httpx2.AsyncClient]) -> Tablet:
    return await tablet_of(house, clients, token_of(Role.WORKER, "ann"))


@pytest.fixture
async def bob(house: House, clients: list[httpx2.AsyncClient]) -> Tablet:
    return await tablet_of(house, clients, token_of(Role.STAFF, "bob"))


async def task_of(house: House, id: str) -> Task:
    return (await load(house.engine, read_id(id.partition("-")[0]))).tasks[0]


async def set_ready(house: House, id: str, ago: timedelta) -> None:
    """It has waited for so long."""
    changed = (
        update(tasks).where(tasks.c.operation_id == read_id(id)).values(ready_at=house.engine.now() - as_micros(ago))
    )
    await house.database.write(lambda connection: connection.execute(changed))


async def lose(house: House, id: str) -> None:
    """As the rescuer does when the lease has not moved."""
    token = (await task_of(house, id)).token or ""
    await house.engine.desk.decide(
        read_id(id.partition("-")[0]), lambda draft: work.lose(draft, 0, token=token, now=house.engine.now())
    )


async def test_what_waits_is_said_in_plain_words(house: House, ann: Tablet) -> None:
    id = await place(house, SAW)
    waiting = section((await ann.look(), ann.page)[1], "waiting")
    assert id[-4:] in waiting
    for words in ("Boards 4", "Length 250 ml", "Woods oak, ash", "Wishes No knots: yes", "on time"):
        assert words in waiting
    assert id not in waiting


async def test_a_person_takes_the_first_in_line_and_says_that_it_is_done(house: House, ann: Tablet) -> None:
    first, second = await place(house, SAW), await place(house, SAW)
    id = await ann.take()
    assert id == f"{first}-0"
    assert second[-4:] in section(ann.page, "waiting")
    assert (await task_of(house, id)).worker == "ann@station"
    await ann.press("Done", note="Mind the splinters.")
    task = await task_of(house, id)
    assert (task.status, task.result) == (TaskStatus.COMPLETED, '{"note":"Mind the splinters."}')
    assert "You have nothing" in section(ann.page, "mine")
    assert "“Mind the splinters.”" in section(ann.page, "done")


async def test_a_note_is_read_by_whoever_does_the_next_task(house: House, ann: Tablet, bob: Tablet) -> None:
    await place(house, Plan.chain(PlannedTask("saw"), PlannedTask("paint")))
    await ann.take()
    await ann.press("Done", note="Still wet.")
    bob.address = "/station/workshop/paint"
    await bob.take()
    assert "What came before Saw Note: Still wet." in section(bob.page, "mine")


async def test_what_was_done_twice_is_done_once(house: House, ann: Tablet) -> None:
    await place(house, SAW)
    id = await ann.take()
    before = ann.page
    await ann.press("Done", note="Once.")
    ann.page = before
    assert (await ann.press("Done", note="Once.")).status_code == 303
    ann.page = before
    answer = await ann.press("Done", note="Twice.")
    assert answer.status_code == 409
    assert "You have done it already" in words_of(answer.text)
    assert (await task_of(house, id)).result == '{"note":"Once."}'


async def test_what_is_to_be_done_anew_is_no_longer_done(house: House, ann: Tablet) -> None:
    id = await place(house, Plan.chain(PlannedTask("saw"), PlannedTask("paint")))
    await ann.take()
    await ann.press("Done")
    assert id[-4:] in section(ann.page, "done")
    await rerun_task(house.engine, read_id(id), 0)
    await ann.look()
    assert id[-4:] not in section(ann.page, "done")
    assert "You have nothing" in section(ann.page, "mine")
    assert id[-4:] in section(ann.page, "waiting")


async def test_a_beat_leaves_everything_in_its_place(house: House, ann: Tablet) -> None:
    for _ in range(2):
        await place(house, SAW)
    taken = [await ann.take(), await ann.take()]
    assert (await ann.press("Still at it", form=f"beat-{taken[0]}")).status_code == 303
    assert held_on(ann.page) == taken


@pytest.mark.parametrize("name", ["Zoë ² & Åsa, 2nd", "x" * 100, "--", "李"])
async def test_whatever_somebody_is_called_he_can_take_a_task(
    house: House, clients: list[httpx2.AsyncClient], name: str
) -> None:
    await place(house, SAW)
    tablet = await tablet_of(house, clients, token_of(Role.WORKER, name))
    assert (await task_of(house, await tablet.take())).status is TaskStatus.RUNNING


async def test_what_waits_longer_than_it_should_is_late(house: House, ann: Tablet) -> None:
    plans = [SAW, SAW, Plan([PlannedTask("saw", within=timedelta(minutes=10))])]
    minutes = (11, 6, 6)
    ids = [await place(house, plan) for plan in plans]
    for id, ago in zip(ids, minutes, strict=True):
        await set_ready(house, id, timedelta(minutes=ago))
    await ann.look()
    waiting = section(ann.page, "waiting")
    for id, said in zip(ids, ("11 min late", "6 min on time", "6 min late"), strict=True):
        assert f"{id[-4:]} {said}" in waiting


async def test_a_persons_lease_is_longer_than_a_machines_and_never_shorter_than_its_kinds(
    house: House, ann: Tablet
) -> None:
    for kind, length in (("saw", timedelta(minutes=10)), ("carve", timedelta(hours=1))):
        await place(house, Plan([PlannedTask(kind)]))
        ann.address = f"/station/workshop/{kind}"
        task = await task_of(house, await ann.take())
        assert (task.lease_until or 0) - (task.started_at or 0) == as_micros(length)


async def test_two_people_take_two_tasks(house: House, ann: Tablet, bob: Tablet) -> None:
    await place(house, SAW)
    await place(house, SAW)
    assert await ann.take() != await bob.take()
    assert "Nothing waits" in section(bob.page, "waiting")


async def test_a_form_that_is_sent_twice_takes_once(house: House, ann: Tablet) -> None:
    await place(house, SAW)
    await place(house, SAW)
    await ann.look()
    first = ann.page
    await ann.press("Take next")
    ann.page = first
    await ann.press("Take next")
    assert len(held_on(ann.page)) == 1


async def test_what_is_handed_back_waits_again_in_its_old_place(house: House, ann: Tablet) -> None:
    first = await place(house, SAW)
    await place(house, SAW)
    id = await ann.take()
    await ann.press("Hand back")
    assert (await task_of(house, id)).status is TaskStatus.PENDING
    assert "You have nothing" in section(ann.page, "mine")
    assert section(ann.page, "waiting").index(first[-4:]) < 20


@pytest.mark.parametrize(
    ("button", "status"), [("Try again later", TaskStatus.WAITING), ("Give it up for good", TaskStatus.ERRORED)]
)
async def test_what_cannot_be_done_is_said_with_its_reason(
    house: House, ann: Tablet, button: str, status: TaskStatus
) -> None:
    await place(house, SAW)
    id = await ann.take()
    refused = await ann.press(button, reason=" ")
    assert refused.status_code == 422
    assert (await task_of(house, id)).status is TaskStatus.RUNNING
    await ann.press(button, reason="The saw is blunt.")
    task = await task_of(house, id)
    assert (task.status, task.error) == (status, "The saw is blunt.")
    assert "You have nothing" in section(ann.page, "mine")


async def test_a_lease_that_ran_out_is_said_until_it_was_seen(house: House, ann: Tablet) -> None:
    await place(house, SAW)
    id = await ann.take()
    await lose(house, id)
    await ann.look()
    assert re.search(
        r"Taken back: your lease ended \d\d:\d\d UTC ; somebody else may be making it", section(ann.page, "mine")
    )
    assert id[9:13] in section(ann.page, "waiting")
    await ann.press("All right")
    assert "You have nothing" in section(ann.page, "mine")


async def test_what_comes_too_late_changes_nothing_and_what_was_written_is_shown(
    house: House, ann: Tablet, bob: Tablet
) -> None:
    await place(house, SAW)
    id = await ann.take()
    await lose(house, id)
    assert await bob.take() == id
    answer = await ann.press("Done", note="Four fine boards.")
    assert answer.status_code == 409
    told = words_of(answer.text)
    assert "bob@station is making it now" in told
    assert "What you sent changed nothing" in told
    assert "Four fine boards." in told
    assert f'href="{STATION}"' in answer.text
    assert (await task_of(house, id)).worker == "bob@station"


async def test_a_cancelled_order_stays_struck_out_until_it_was_seen(house: House, ann: Tablet) -> None:
    id = await place(house, SAW)
    await ann.take()
    await cancel_operation(house.engine, read_id(id), reason="cancelled by its customer")
    answer = await ann.press("Still at it")
    assert answer.status_code == 409
    assert "Cancelled: cancelled by its customer" in words_of(answer.text)
    await ann.look()
    assert "Cancelled: cancelled by its customer" in section(ann.page, "mine")
    await ann.press("All right")
    assert "You have nothing" in section(ann.page, "mine")


async def test_still_at_it_extends_the_lease(house: House, ann: Tablet) -> None:
    await place(house, SAW)
    id = await ann.take()
    before = (await task_of(house, id)).lease_until or 0
    assert (await ann.press("Still at it")).status_code == 303
    assert ((await task_of(house, id)).lease_until or 0) > before


async def test_a_station_is_of_one_region_and_of_what_may_be_done_anywhere(
    house: House, clients: list[httpx2.AsyncClient], ann: Tablet
) -> None:
    inside, anywhere = await place(house, IN_PARIS), await place(house, SAW)
    assert inside[-4:] not in section((await ann.look(), ann.page)[1], "waiting")
    assert f'href="{STATION}?region=paris"' in ann.page
    there = Tablet(ann.client, f"{STATION}?region=paris")
    taken = [await there.take(), await there.take()]
    assert taken == [f"{inside}-0", f"{anywhere}-0"]
    bound = await tablet_of(house, clients, token_of(Role.WORKER, "cy", region="rome"), f"{STATION}?region=paris")
    assert (await bound.client.get(bound.address)).status_code == 403
    await place(house, IN_PARIS)
    for tablet, sees in ((ann, True), (bound, False)):
        assert ("paris" in (await tablet.client.get("/station")).text) is sees


async def test_one_line_is_shown_in_the_order_in_which_it_is_taken(house: House, ann: Tablet) -> None:
    ids = [await place(house, plan) for plan in (SAW, IN_PARIS, SAW, IN_PARIS)]
    ann.address = f"{STATION}?region=paris"
    await ann.look()
    waiting = section(ann.page, "waiting")
    assert sorted(ids, key=lambda id: waiting.index(id[-4:])) == ids
    assert [await ann.take() for _ in ids] == [f"{id}-0" for id in ids]


async def test_where_clients_take_turns_the_line_is_shown_in_the_order_of_turns(house: House, ann: Tablet) -> None:
    ann.address = "/station/workshop/turn"
    turn = Plan([PlannedTask("turn")])
    ids = [show_id((await place_order(house.engine, "workshop", turn, client=client)).id) for client in "a" * 14 + "b"]
    await ann.look()
    shown = re.findall(r'id="waits-([0-9a-z]+)-0"', ann.page)
    assert shown == [ids[0], ids[14], *ids[1:11]]
    assert [await ann.take() for _ in range(3)] == [f"{id}-0" for id in shown[:3]]


async def test_what_nobody_may_take_just_now_is_said(house: House, ann: Tablet) -> None:
    await place(house, SAW)
    await ann.look()
    await pause_queue(house.engine, "workshop/saw", by="bob")
    answer = await ann.press("Take next")
    assert answer.status_code == 409
    assert "Nothing was taken" in words_of(answer.text)
    assert "On hold until staff resumes it" in words_of(answer.text)
    await resume_queue(house.engine, "workshop/saw")
    assert await ann.take()


async def test_a_task_of_an_order_on_hold_may_be_finished(house: House, ann: Tablet) -> None:
    id = await place(house, SAW)
    await ann.take()
    await pause_operation(house.engine, read_id(id))
    await ann.look()
    assert "Its order is on hold" in section(ann.page, "mine")
    await ann.press("Done")
    assert (await load(house.engine, read_id(id))).status is OperationStatus.COMPLETED


async def test_what_somebody_took_is_on_his_every_tablet_and_on_nobody_elses(
    house: House, clients: list[httpx2.AsyncClient], ann: Tablet, bob: Tablet
) -> None:
    await place(house, SAW)
    id = await ann.take()
    other = await tablet_of(house, clients, token_of(Role.WORKER, "ann"))
    await other.look()
    await bob.look()
    assert held_on(other.page) == [id]
    assert held_on(bob.page) == []
    ann.client.cookies.delete("orderup_token")
    await ann.client.post("/sign-in", data={"token": token_of(Role.STAFF, "bob"), "next": "/"})
    assert "You have nothing" in section((await ann.look(), ann.page)[1], "mine")


async def test_the_list_says_where_how_many_wait(house: House, ann: Tablet) -> None:
    await place(house, SAW)
    await place(house, IN_PARIS)
    page = (await ann.client.get("/station")).text
    assert "No region: 1 waits" in words_of(page)
    assert "paris: 1 waits" in words_of(page)
    assert "Glue" not in words_of(page)
    assert 'href="/inbox"' not in page
    for path in ("workshop/glue", "workshop/nothing", "nowhere/saw"):
        assert (await ann.client.get(f"/station/{path}")).status_code == 404


async def test_a_station_of_another_shop_is_not_there(house: House, clients: list[httpx2.AsyncClient]) -> None:
    tablet = await tablet_of(house, clients, token_of(Role.WORKER, "eve", shop="coffee"))
    assert (await tablet.client.get(STATION)).status_code == 404
    assert "No shop here has tasks for people" in words_of((await tablet.client.get("/station")).text)


async def test_a_form_without_what_ours_carry_takes_nothing(house: House, ann: Tablet) -> None:
    id = await place(house, SAW)
    answer = await ann.client.post(STATION, data={"verb": "take", "csrf": "0" * 64}, headers=ORIGIN)
    assert answer.status_code == 403
    assert (await task_of(house, id)).status is TaskStatus.PENDING
