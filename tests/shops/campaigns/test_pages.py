"""The campaign desk's pages by HTTP, as a browser without JavaScript uses them."""

import csv
import re
from collections.abc import AsyncIterator, Mapping
from html import unescape
from pathlib import Path
from typing import Any

import httpx2
import pytest

from orderup.engine.limit import pause_queue, rest_until, resume_queue
from orderup.engine.steer import cancel_operation
from orderup.model.ids import read_id
from orderup.model.operation import OperationStatus
from orderup.sandbox.server import Sandbox
from orderup.shops.campaigns import shop
from orderup.shops.campaigns.import_pages import sample
from orderup.web.tokens import Role
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import sqlite_url
from tests.shops.campaigns.samples import campaign
from tests.shops.campaigns.test_submission import QUICK, open_platform
from tests.shops.served import Served, serve_shop
from tests.web.house import SECRET, token_of
from tests.web.pages.reading import buttons, cell, press, row_with, words_of

HOSTILE = "\"quoted\" 'it' <b>bold</b> & {{ 7*7 }} ليلى 🎂"
ENDED = {OperationStatus.COMPLETED, OperationStatus.ERRORED, OperationStatus.CANCELLED}


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Served]:
    """At a platform that takes what comes."""
    async with serve_shop(shop, database_url, prepare=open_platform, **QUICK) as served:
        yield served


@pytest.fixture
async def one_desk(tmp_path: Path) -> AsyncIterator[Served]:
    """The same, for tests to which one database is as good as another."""
    async with serve_shop(shop, sqlite_url(tmp_path), prepare=open_platform, **QUICK) as served:
        yield served


async def staff_page(desk: Served, path: str, *, code: int = 200) -> str:
    answer = await desk.client.get(f"{desk.back}{path}")
    assert answer.status_code == code, answer.text
    return answer.text


async def words_at(desk: Served, path: str) -> str:
    return words_of(await staff_page(desk, path))


async def send(desk: Served, path: str, fields: Mapping[str, str], *, code: int = 303) -> httpx2.Response:
    answer = await desk.client.post(f"{desk.back}{path}", data=dict(fields))
    assert answer.status_code == code, answer.text
    return answer


async def push(desk: Served, path: str, button: str) -> None:
    """The one button of this name on a page."""
    page = await staff_page(desk, path)
    address = await press(BackOf(desk), page, button)  # type: ignore[arg-type]  # a client of the back alone
    assert address.status_code == 303, address.text


class BackOf:
    """Sends to the back what a page of it says."""

    def __init__(self, desk: Served) -> None:
        self.desk = desk

    async def post(self, path: str, **options: Any) -> httpx2.Response:
        headers = {"Origin": self.desk.back}
        return await self.desk.client.post(f"{self.desk.back}{path}", **{**options, "headers": headers})


async def submit(desk: Served, **about: Any) -> str:
    """The id of a new campaign's operation."""
    answer = await desk.client.post(f"{desk.front}/campaigns", json=campaign(**about))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def hold(desk: Served) -> None:
    """Nothing is claimed any more that asks the platform."""
    for kind in ("submit", "follow"):
        await pause_queue(desk.house.engine, f"campaigns/{kind}", by="ann")


async def let_go(desk: Served) -> None:
    for kind in ("submit", "follow"):
        await resume_queue(desk.house.engine, f"campaigns/{kind}")


async def ended(desk: Served, id: str) -> OperationStatus:
    operation = await desk.until_stands(read_id(id), lambda found: found.status in ENDED)
    return operation.status


async def upload(desk: Served, text: str, *, name: str = "spring.csv", code: int = 303, **fields: str) -> str:
    """The import's page; or what is answered instead."""
    files = {"file": (name, text, "text/csv")}
    answer = await desk.client.post(f"{desk.back}/imports", files=files, data=fields)
    assert answer.status_code == code, answer.text
    return str(answer.headers["location"]) if code == 303 else answer.text


def progress_of(part: str) -> tuple[int, int]:
    [(most, done)] = re.findall(r'<progress [^>]*max="(\d+)" value="(\d+)"', part)
    return int(done), int(most)


# Campaigns


async def test_the_list_says_what_to_do_when_there_is_nothing_yet(one_desk: Served) -> None:
    page = await staff_page(one_desk, "/campaigns")
    assert "There is no campaign yet. Import a file of them" in words_of(page)
    assert "Nothing waits to be submitted." in words_of(page)
    assert "No campaign is paused. Show all." in await words_at(one_desk, "/campaigns?status=paused")


async def test_the_list_tells_how_far_each_campaign_is(desk: Served) -> None:
    done, failed = await submit(desk, name="spring"), await submit(desk, name="summer", rejected="g1a1")
    assert await ended(desk, done) is OperationStatus.COMPLETED
    assert await ended(desk, failed) is OperationStatus.ERRORED
    await hold(desk)
    waiting = await submit(desk, name="autumn", groups=3, ads=5)
    page = await staff_page(desk, "/campaigns")
    rows = {id: row_with(page, f'id="campaign-{id}"') for id in (done, failed, waiting)}
    assert [progress_of(rows[id]) for id in (done, failed, waiting)] == [(7, 7), (6, 7), (0, 19)]
    assert cell(rows[failed], "How far") == "6 of 7 stand"
    assert cell(rows[failed], "Why").endswith("Rejected by policy")
    assert cell(rows[waiting], "Campaign") == "Campaign autumn autumn"
    assert cell(rows[waiting], "Status") == "running"
    assert " 19 things are still to be submitted" in words_of(page)
    listed = await staff_page(desk, "/campaigns?status=errored")
    assert re.findall(r'id="campaign-(\w+)"', listed) == [failed]


async def test_what_is_submitted_and_not_judged_is_not_still_to_be_submitted(desk: Served) -> None:
    await pause_queue(desk.house.engine, "campaigns/follow", by="ann")
    ids = [await submit(desk, name=f"c{number}", groups=1, ads=1) for number in range(4)]
    for id in ids:
        await desk.until_stands(read_id(id), lambda found: found.open == 5)
    assert " 8 things are still to be submitted" in await words_at(desk, "/campaigns")


async def test_older_campaigns_are_on_the_next_page(one_desk: Served) -> None:
    await hold(one_desk)
    ids = [await submit(one_desk, name=f"c{number}", groups=1, ads=1) for number in range(27)]
    first = await staff_page(one_desk, "/campaigns?status=running")
    assert re.findall(r'id="campaign-(\w+)"', first) == ids[:1:-1]
    [older] = re.findall(r'<a href="(\?status=running&cursor=\d+)">Older ones', unescape(first))
    assert re.findall(r'id="campaign-(\w+)"', await staff_page(one_desk, f"/campaigns{older}")) == ids[1::-1]


async def test_the_list_tells_how_much_of_the_platforms_allowance_is_used(desk: Served) -> None:
    await ended(desk, await submit(desk, groups=1, ads=1))
    await hold(desk)
    before = await used_of(desk)
    words = await words_at(desk, "/campaigns")
    after = await used_of(desk)
    shown = [
        int(used)
        for pattern in (r"(\d+) of 100,000 requests used in the last minute", r"something stands: (\d+) of 49,[0-9]{3}")
        for used in re.findall(pattern, words)
    ]
    assert before[0] >= 6, "each thing was submitted, and asked after"
    assert all(first <= used <= last for first, used, last in zip(before, shown, after, strict=True))


async def used_of(desk: Served) -> list[int]:
    """What counts of the platform's allowance, and of the part of those that ask."""
    told = (await desk.client.get(f"{desk.back}/api/queues")).json()["allowances"]
    used = {"share" if " x " in each["name"] else each["name"]: each["used"] for each in told}
    looks = used["campaigns/looks"]
    return [used["campaigns/platform"] + looks, used["share"] + looks]


async def test_the_list_tells_why_nothing_is_submitted(one_desk: Served) -> None:
    engine = one_desk.house.engine
    until = engine.now() + 3_600_000_000
    await one_desk.house.database.write(lambda connection: rest_until(connection, "campaigns/submit", until))
    assert "The platform asked us to wait, until" in await words_at(one_desk, "/campaigns")
    await hold(one_desk)
    assert "Nothing is submitted until somebody resumes it" in await words_at(one_desk, "/campaigns")
    await let_go(one_desk)
    assert "resumes it" not in await words_at(one_desk, "/campaigns")


# One campaign


async def test_a_campaign_is_a_tree_with_what_each_thing_is_at_the_platform(one_desk: Served) -> None:
    id = await submit(one_desk, groups=2, ads=2, rejected="g2")
    assert await ended(one_desk, id) is OperationStatus.ERRORED
    page = await staff_page(one_desk, f"/campaigns/{id}")
    words = words_of(page)
    assert "4 of 7 stand" in words
    assert "success The campaign itself, at the platform campaign-1" in words
    assert "success Group 1 g1 · 3 of 3 stand" in words
    assert "rejected reject me g2 · 0 of 3 stand" in words
    assert "4 success 1 rejected" in words.replace("2 waiting ", "")
    ad = row_with(page, "g1a2")
    assert cell(ad, "Status") == "success"
    assert cell(ad, "At the platform").startswith("ad-")
    assert cell(row_with(page, "g2a1"), "Status") == "waiting"


async def test_a_branch_that_failed_is_retried_by_its_button_and_nothing_is_submitted_twice(one_desk: Served) -> None:
    id = await submit(one_desk, rejected="g2")
    await ended(one_desk, id)
    page = await staff_page(one_desk, f"/campaigns/{id}")
    assert "1 thing needs you" in words_of(page)
    assert "Ad group reject me ( g2 ) rejected The platform rejected it: Rejected by policy" in words_of(page)
    group = next(each for each in one_desk.sandbox.dsp.things["ad_group"].values() if each.is_rejected)
    group.body["ad_group_name"] = "put right there"  # type: ignore[index]
    await push(one_desk, f"/campaigns/{id}", "Ask again")
    assert await ended(one_desk, id) is OperationStatus.COMPLETED
    assert one_desk.sandbox.dsp.doubles == {}
    assert "7 of 7 stand" in await words_at(one_desk, f"/campaigns/{id}")


@pytest.mark.parametrize("is_running", [False, True])
async def test_all_that_failed_is_retried_at_once(one_desk: Served, *, is_running: bool) -> None:
    """Of one that has ended; of one whose other branches are under way."""
    id = await submit(one_desk, groups=3, rejected="g2a1")
    operation = await one_desk.until_stands(read_id(id), lambda found: found.status in ENDED)
    if is_running:
        [position] = [task.position for task in operation.tasks if task.name == "ad 2.2 stands"]
        await hold(one_desk)
        await one_desk.client.post(f"{one_desk.back}/api/tasks/{id}-{position}/rerun")
    thing = next(each for each in one_desk.sandbox.dsp.things["ad"].values() if each.is_rejected)
    thing.body["ad_type"] = "banner"  # type: ignore[index]
    page = await staff_page(one_desk, f"/campaigns/{id}")
    assert buttons(page)[: 3 if is_running else 1] == [
        "Retry all that failed",
        *(["Pause", "Cancel"] if is_running else []),
    ]
    await push(one_desk, f"/campaigns/{id}", "Retry all that failed")
    await let_go(one_desk)
    assert await ended(one_desk, id) is OperationStatus.COMPLETED
    assert one_desk.sandbox.dsp.doubles == {}
    await send(one_desk, f"/campaigns/{id}", {"verb": "retry"}, code=409)


async def test_a_campaign_is_paused_resumed_and_cancelled_by_its_buttons(one_desk: Served) -> None:
    await hold(one_desk)
    id = await submit(one_desk)
    path = f"/campaigns/{id}"
    assert buttons(await staff_page(one_desk, path)) == ["Pause", "Cancel"]
    await push(one_desk, path, "Pause")
    assert buttons(await staff_page(one_desk, path)) == ["Resume", "Cancel"]
    await push(one_desk, path, "Resume")
    await push(one_desk, path, "Cancel")
    page = await staff_page(one_desk, path)
    assert buttons(page) == []
    assert "cancelled cancelled by local" in words_of(page)
    assert "7 cancelled" in words_of(page)
    await send(one_desk, path, {"verb": "pause"}, code=409)


async def unknown_campaign(desk: Served) -> tuple[str, str]:
    """A campaign whose one ad was perhaps submitted, and nobody can say: its id, and the ad's task."""
    dsp = desk.sandbox.dsp
    dsp.can_search = False
    dsp.switch(route="submit_ad", times=1, status=500)
    id = await submit(desk, groups=1, ads=1)
    assert await ended(desk, id) is OperationStatus.ERRORED
    [task] = re.findall(r'id="fault-(\w+-\d+)"', await staff_page(desk, f"/campaigns/{id}"))
    return id, task


async def test_of_what_was_perhaps_submitted_a_person_says_that_it_is_there(one_desk: Served) -> None:
    id, task = await unknown_campaign(one_desk)
    page = await staff_page(one_desk, f"/campaigns/{id}")
    words = words_of(page)
    assert "unknown submission unknown" in words
    assert buttons(page) == ["It is there: go on", "The platform does not have it: submit it"]
    assert f"it would have our id, {task} . Then say what you found." in words
    await send(one_desk, f"/campaigns/{id}/{task}/settle", {"is_there": "yes", "platform_id": " "}, code=422)
    # as it is there, however it came there
    [group] = one_desk.sandbox.dsp.things["ad_group"]
    body = {"ad_group_id": group, "external_id": task}
    there = (await one_desk.client.post(f"{one_desk.sandbox.base_url}/dsp/ads", json=body)).json()["ad_id"]
    await send(one_desk, f"/campaigns/{id}/{task}/settle", {"is_there": "yes", "platform_id": f" {there} "})
    assert await ended(one_desk, id) is OperationStatus.COMPLETED
    assert one_desk.sandbox.dsp.doubles == {}
    assert there in await words_at(one_desk, f"/campaigns/{id}")


async def test_of_what_was_perhaps_submitted_a_person_says_that_it_is_not_there(one_desk: Served) -> None:
    id, task = await unknown_campaign(one_desk)
    await push(one_desk, f"/campaigns/{id}", "The platform does not have it: submit it")
    assert await ended(one_desk, id) is OperationStatus.COMPLETED
    assert one_desk.sandbox.dsp.doubles == {}
    again = await send(one_desk, f"/campaigns/{id}/{task}/settle", {"is_there": "no"}, code=409)
    assert "there is no doubt about its submission" in words_of(again.text)
    await send(one_desk, f"/campaigns/{id}/0000000000000-0/settle", {"is_there": "no"}, code=404)


async def test_a_platform_that_can_be_searched_by_now_tells_of_what_was_perhaps_submitted(one_desk: Served) -> None:
    id, _task = await unknown_campaign(one_desk)
    one_desk.sandbox.dsp.can_search = True
    await send(one_desk, f"/campaigns/{id}", {"verb": "retry"})
    assert await ended(one_desk, id) is OperationStatus.COMPLETED
    assert one_desk.sandbox.dsp.doubles == {}
    assert one_desk.sandbox.dsp.asked["find_ad"] >= 1


async def test_a_campaign_of_many_ads_shows_those_of_the_group_that_is_opened(one_desk: Served) -> None:
    await hold(one_desk)
    id = await submit(one_desk, groups=60, ads=2)
    page = await staff_page(one_desk, f"/campaigns/{id}")
    assert page.count('<tr><td data-label="Ad"') == 50 * 2, "two hundred ads at most are shown at once"
    large = await submit(one_desk, name="large", groups=2, ads=450)
    folded = await staff_page(one_desk, f"/campaigns/{large}")
    assert "g1a1<" not in folded
    [link] = re.findall(r'<a href="([^"]*)">Show its 450 ads', folded)[:1]
    opened = await staff_page(one_desk, f"/campaigns/{large}{unescape(link).partition('#')[0]}")
    assert re.findall(r"<bdi>(g\da\d+)</bdi>", opened) == [f"g1a{number}" for number in range(1, 201)]
    last = await staff_page(one_desk, f"/campaigns/{large}?group=2&ads=3")
    assert re.findall(r"<bdi>(g\da\d+)</bdi>", last) == [f"g2a{number}" for number in range(401, 451)]
    beyond = await staff_page(one_desk, f"/campaigns/{large}?group=2&ads=9")
    assert re.findall(r"<bdi>(g\da\d+)</bdi>", beyond) == re.findall(r"<bdi>(g\da\d+)</bdi>", last)


async def test_what_is_no_campaign_is_not_shown_as_one(one_desk: Served) -> None:
    path = await upload(one_desk, sample())
    await push(one_desk, path, "Import 2 campaigns")
    placing = (await one_desk.client.get(f"{one_desk.front}/campaigns{path}")).json()["operation_id"]
    for id in ("0000000000000", placing):
        await staff_page(one_desk, f"/campaigns/{id}", code=404)
        await send(one_desk, f"/campaigns/{id}", {"verb": "cancel"}, code=404)


async def test_names_are_shown_and_not_run(one_desk: Served) -> None:
    await hold(one_desk)
    body = campaign(name="hostile", groups=1, ads=1)
    body["campaign_name"] = body["ad_groups"][0]["ad_group_name"] = HOSTILE
    id = (await one_desk.client.post(f"{one_desk.front}/campaigns", json=body)).json()["id"]
    for path in ("/campaigns", f"/campaigns/{id}"):
        assert HOSTILE in await words_at(one_desk, path)
        assert "<b>" not in await staff_page(one_desk, path)


# Imports


async def test_the_sample_file_is_imported(desk: Served) -> None:
    answer = await desk.client.get(f"{desk.back}/sample.csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="campaigns-sample.csv"'
    path = await upload(desk, answer.text, name="sample.csv")
    page = await staff_page(desk, path)
    words = words_of(page)
    assert "ready Nothing is imported yet." in words
    assert "Rows 7 Campaigns 2 Ad groups 3 Ads 7" in words
    assert "At 100,000 requests a minute the platform needs less than a minute" in words
    assert "What is wrong in it Nothing." in words
    await push(desk, path, "Import 2 campaigns")

    async def is_done() -> str | None:
        found = await staff_page(desk, path)
        return found if "2 campaigns are here and will be submitted" in words_of(found) else None

    page = await desk.until(is_done)
    links = dict(re.findall(r'<a href="(/campaigns/\w+)"><bdi>([\w-]+)</bdi>', page))
    assert set(links.values()) == {"sample-spring", "sample-summer"}
    for link in links:
        assert await ended(desk, link.removeprefix("/campaigns/")) is OperationStatus.COMPLETED
    again = words_of(await staff_page(desk, await upload(desk, answer.text)))
    assert "ready Everything in it is here already: nothing is left to import, and it can be discarded." in again
    assert "Nothing is imported yet" not in again
    assert "2 of the campaigns are here already, by their id, and are left out: sample-spring , sample-summer" in again
    assert "Import 2" not in again


def with_faults(count: int = 2) -> str:
    first = sample().splitlines()[1]
    return sample() + "".join(first.replace("5000", f"-{number}") + "\n" for number in range(1, count + 1))


async def test_what_is_wrong_is_told_with_line_and_column_and_can_be_downloaded(one_desk: Served) -> None:
    path = await upload(one_desk, with_faults(60))
    page = await staff_page(one_desk, path)
    assert "60 things are wrong" in words_of(page)
    first = row_with(page, "&#39;-1&#39;")
    assert cell(first, "Column") == "campaign_budget"
    [more] = re.findall(r'<a href="(\?cursor=\d+)#wrong">More of them', page)
    assert "-60&#39;" in await staff_page(one_desk, f"{path}{more}")
    [link] = re.findall(r'<a href="([^"]*errors.csv)"', page)
    rows = list(csv.reader((await staff_page(one_desk, link)).splitlines()))
    assert len(rows) == 61
    assert rows[1][:2] == ["9", "campaign_budget"]


async def test_an_import_that_is_all_or_nothing_is_nothing_if_a_row_is_wrong(one_desk: Served) -> None:
    page = await staff_page(one_desk, await upload(one_desk, with_faults(), strict="1"))
    assert "Nothing was imported, because something is wrong in it" in words_of(page)
    assert buttons(page) == []
    whole = await staff_page(one_desk, await upload(one_desk, sample(), strict="1"))
    assert buttons(whole) == ["Import 2 campaigns", "Discard"]


async def test_a_file_of_which_nothing_can_be_imported_can_only_be_discarded(one_desk: Served) -> None:
    header, first = sample().splitlines()[:2]
    page = await staff_page(one_desk, await upload(one_desk, f"{header}\n{first.replace('5000', '-5')}\n"))
    assert "ready There is nothing in it that could be imported. It can be discarded." in words_of(page)
    assert buttons(page) == ["Discard"]


async def test_an_import_is_discarded(one_desk: Served) -> None:
    path = await upload(one_desk, sample())
    await push(one_desk, path, "Discard")
    page = await staff_page(one_desk, path)
    assert "discarded Nothing was imported." in words_of(page)
    assert buttons(page) == []
    await send(one_desk, path, {"verb": "start"}, code=409)
    assert "There is no campaign yet" in await words_at(one_desk, "/campaigns")


async def test_an_import_that_has_stopped_is_resumed_by_its_button(desk: Served) -> None:
    engine = desk.house.engine
    await pause_queue(engine, "campaigns/place_campaigns", by="ann")
    path = await upload(desk, sample())
    await push(desk, path, "Import 2 campaigns")
    page = await staff_page(desk, path)
    assert "placing Its campaigns are being placed." in words_of(page)
    assert buttons(page) == ["Stop, discard the rest"]
    placing = (await desk.client.get(f"{desk.front}/campaigns{path}")).json()["operation_id"]
    await cancel_operation(engine, read_id(placing), reason="by mistake")
    page = await staff_page(desk, path)
    assert "It has stopped: the operation that placed its campaigns was cancelled." in words_of(page)
    assert buttons(page) == ["Resume", "Discard the rest"]
    assert "0 of 2 campaigns are here, and it has stopped" in await words_at(desk, "/imports")
    await push(desk, path, "Resume")
    await resume_queue(engine, "campaigns/place_campaigns")

    async def is_done() -> str | None:
        found = await staff_page(desk, path)
        return found if "2 campaigns are here and will be submitted" in words_of(found) else None

    await desk.until(is_done)


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "The file is empty"), ("a,b\n1,2\n", "column"), ("\x00" * 9, "UTF-16")],
)
async def test_a_file_that_is_none_is_told_beside_its_field(one_desk: Served, text: str, said: str) -> None:
    page = await upload(one_desk, text, code=422)
    [fault] = re.findall(r'id="file-error" role="alert">(.*?)</p>', page)
    assert said in unescape(fault)
    assert "No file was sent yet" in words_of(page)


async def test_files_that_were_sent_are_listed(one_desk: Served) -> None:
    await upload(one_desk, sample(), name="one.csv")
    path = await upload(one_desk, with_faults(), name="<b>bold</b> & {{ 7*7 }} ليلى.csv")
    page = await staff_page(one_desk, "/imports")
    hostile = row_with(page, path)
    assert cell(hostile, "File") == "<b>bold</b> & {{ 7*7 }} ليلى.csv"
    assert cell(hostile, "State") == "ready"
    assert cell(hostile, "Errors") == "2"
    assert cell(row_with(page, "one.csv"), "How far") == "2 campaigns, 7 ads"


# Customers' tasks, and the rest


async def write_down(desk: Served, id: int, status: str = "Not Started") -> None:
    answer = await desk.client.post(f"{desk.front}/api/tasks", json={"id": id, "status": status})
    assert answer.status_code == 201, answer.text


async def test_customers_tasks_are_listed_by_status_with_what_the_platform_said_last(tmp_path: Path) -> None:
    def say(sandbox: Sandbox) -> None:
        sandbox.dsp.tasks = [
            {"id": "7", "status": "Error", "error_message": HOSTILE},
            {"id": "99", "status": "Error"},
            5,
        ]

    quick = {**QUICK, "dsp_poll_seconds": 1}
    async with serve_shop(shop, sqlite_url(tmp_path), prepare=say, **quick) as desk:
        assert "There is no task yet." in await words_at(desk, "/tasks")
        await write_down(desk, 7)
        await write_down(desk, 8, "Completed")

        async def is_told() -> str | None:
            page = await staff_page(desk, "/tasks")
            return page if "Error (1)" in page and "0 changed, 1 unknown here, 1 unreadable" in page else None

        page = await desk.until(is_told)
        assert cell(row_with(page, 'id="task-7"'), "Error") == HOSTILE
        assert "It told of 3 tasks" in words_of(page)
        finished = await staff_page(desk, "/tasks?status=Completed")
        assert re.findall(r'id="task-(\d+)"', finished) == ["8"]
        assert "No task is In Progress. Show all." in await words_at(desk, "/tasks?status=In%20Progress")


async def test_many_tasks_are_on_several_pages(one_desk: Served) -> None:
    for id in range(1, 53):
        await write_down(one_desk, id, "Completed")
    page = await staff_page(one_desk, "/tasks?status=Completed")
    assert "Completed (52)" in words_of(page)
    [later] = re.findall(r'<a href="([^"]*)">Later ones', page)
    assert re.findall(r'id="task-(\d+)"', await staff_page(one_desk, f"/tasks{unescape(later)}")) == ["51", "52"]


async def test_the_first_page_of_the_front_says_what_the_desk_is_and_leads_to_its_api(one_desk: Served) -> None:
    page = (await one_desk.client.get(f"{one_desk.front}/")).text
    assert "POST /api/tasks" in words_of(page)
    assert (await one_desk.client.get(f"{one_desk.front}/docs/")).status_code == 200


async def test_staff_is_led_to_the_desks_pages(one_desk: Served) -> None:
    page = await staff_page(one_desk, "/queues")
    for path in ("/campaigns", "/imports", "/tasks", "/services"):
        assert f'href="{path}"' in page
        await staff_page(one_desk, path)
    assert "/dsp" in await words_at(one_desk, "/services")


async def test_with_a_secret_the_pages_are_for_staff_and_forms_must_be_ours(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    async with serve_shop(shop, url, prepare=open_platform, at_root=False, secret_key=SECRET, **QUICK) as desk:
        for path in ("campaigns", "imports", "tasks", "services", "sample.csv"):
            for token, code in ((None, 401), (token_of(Role.CUSTOMER, "bo"), 403)):
                headers = {} if token is None else {"Authorization": f"Bearer {token}"}
                answer = await desk.client.get(f"{desk.back}/campaigns/{path}", headers=headers)
                assert answer.status_code == code, path
        async with httpx2.AsyncClient(
            base_url=desk.back, headers={"Origin": desk.back}, timeout=PATIENCE_SECONDS
        ) as staff:
            await staff.post("/sign-in", data={"token": token_of(Role.STAFF, "ann"), "next": "/"})
            file = {"file": ("s.csv", sample(), "text/csv")}
            assert (await staff.post("/campaigns/imports", files=file)).status_code == 403
            page = (await staff.get("/campaigns/imports")).text
            [csrf] = set(re.findall(r'name="csrf" value="(\w+)"', page))
            sent = await staff.post("/campaigns/imports", files=file, data={"csrf": csrf})
            assert sent.status_code == 303, sent.text
            path = sent.headers["location"]
            assert path.startswith("/campaigns/imports/")
            assert (await staff.post(path, data={"verb": "start"})).status_code == 403
            started = await staff.post(path, data={"verb": "start", "csrf": csrf})
            assert started.status_code == 303, started.text
            assert "by ann" in words_of((await staff.get("/campaigns/imports")).text)
