"""The sandbox's advertising platform, as somebody without our client sees it, and its page."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from orderup.sandbox import Sandbox
from orderup.sandbox.border import Refused
from orderup.sandbox.dsp import SHOWN_TASKS, TASKS, Meter
from tests.sandbox.test_page import Forms
from tests.services.waiting import PATIENCE_SECONDS


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[httpx2.AsyncClient]:
    sandbox.dsp.allow(1_000_000)
    async with httpx2.AsyncClient(base_url=f"{sandbox.base_url}/dsp", timeout=PATIENCE_SECONDS) as client:
        yield client


@pytest.fixture
async def visitor(sandbox: Sandbox) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=sandbox.base_url, follow_redirects=True, timeout=PATIENCE_SECONDS) as client:
        yield client


async def submit(client: httpx2.AsyncClient, path: str, **body: Any) -> str:
    answer = await client.post(path, json=body)
    assert answer.status_code == 201, answer.text
    [id] = answer.json().values()
    return str(id)


async def judged(client: httpx2.AsyncClient, path: str) -> dict[str, str]:
    """What it says once that is no more "pending"."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            answer: dict[str, str] = (await client.get(path)).json()
            if answer["status"] != "pending":
                return answer


async def test_a_tree_is_submitted_and_succeeds_after_a_while(sandbox: Sandbox, client: httpx2.AsyncClient) -> None:
    sandbox.dsp.verdict_seconds = 3600
    answer = await client.post("/campaigns", json={"name": "Spring", "external_id": "c1"})
    assert (answer.status_code, list(answer.json())) == (201, ["campaign_id"])
    campaign = answer.json()["campaign_id"]
    assert (await client.get(f"/campaigns/{campaign}/status")).json() == {"status": "pending"}
    sandbox.dsp.verdict_seconds = 1
    assert await judged(client, f"/campaigns/{campaign}/status") == {"status": "success"}
    group = await submit(client, "/ad-groups", campaign_id=campaign)
    assert await judged(client, f"/ad-groups/{group}/status") == {"status": "success"}
    ad = await submit(client, "/ads", ad_group_id=group)
    assert await judged(client, f"/ads/{ad}/status") == {"status": "success"}
    assert sandbox.dsp.too_early == 0


async def test_what_is_called_a_reject_fails_with_an_error(client: httpx2.AsyncClient) -> None:
    campaign = await submit(client, "/campaigns", campaign_name="To be Rejected")
    assert await judged(client, f"/campaigns/{campaign}/status") == {
        "status": "failed",
        "error": "Rejected by policy",
    }


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/ad-groups", {}),
        ("/ad-groups", {"campaign_id": "campaign-9"}),
        ("/ad-groups", {"campaign_id": ["campaign-1"]}),
        ("/ads", {"ad_group_id": "campaign-1"}),
        ("/campaigns", {"external_id": 1}),
        ("/campaigns", []),
    ],
)
async def test_what_has_no_parent_or_is_no_object_is_422(
    sandbox: Sandbox, client: httpx2.AsyncClient, path: str, body: Any
) -> None:
    await submit(client, "/campaigns")
    answer = await client.post(path, json=body)
    assert (answer.status_code, list(answer.json())) == (422, ["error"])
    assert [len(things) for things in sandbox.dsp.things.values()] == [1, 0, 0]


async def test_what_is_not_there_is_404(client: httpx2.AsyncClient) -> None:
    for path in ("/campaigns/x/status", "/ad-groups/x/status", "/ads/x/status", "/elsewhere"):
        assert (await client.get(path)).status_code == 404


async def test_twice_is_two_and_that_is_told(sandbox: Sandbox, client: httpx2.AsyncClient) -> None:
    first, second = [await submit(client, "/campaigns", external_id="c1") for _ in range(2)]
    assert first != second
    for path, parent in (("/ad-groups", {"campaign_id": first}), ("/campaigns", {})):
        await submit(client, path, external_id="c2", **parent)
    told = (await client.get("/requests")).json()
    assert told["submitted_more_than_once"] == [{"sort": "campaign", "external_id": "c1", "times": 2}]
    assert told["submitted"] == {"campaign": 3, "ad_group": 1, "ad": 0}
    assert sandbox.dsp.doubles == {("campaign", "c1"): 2}


async def test_what_is_below_something_unfinished_is_counted(sandbox: Sandbox, client: httpx2.AsyncClient) -> None:
    sandbox.dsp.verdict_seconds = 3600
    campaign = await submit(client, "/campaigns")
    await submit(client, "/ad-groups", campaign_id=campaign)
    assert (await client.get("/requests")).json()["submitted_too_early"] == 1


async def test_something_is_found_by_our_id_unless_it_cannot_search(
    sandbox: Sandbox, client: httpx2.AsyncClient
) -> None:
    id = await submit(client, "/campaigns", external_id="ä&1")
    answer = await client.get("/campaigns", params={"external_id": "ä&1"})
    assert answer.json() == [{"campaign_id": id, "external_id": "ä&1"}]
    assert (await client.get("/ads", params={"external_id": "ä&1"})).json() == []
    assert (await client.get("/campaigns")).status_code == 422
    sandbox.dsp.search_delay_seconds = 3600 * 1000
    assert (await client.get("/campaigns", params={"external_id": "ä&1"})).json() == []
    sandbox.dsp.can_search = False
    assert (await client.get("/campaigns", params={"external_id": "ä&1"})).status_code == 404


async def test_more_than_it_allows_is_429_and_does_nothing(sandbox: Sandbox, client: httpx2.AsyncClient) -> None:
    sandbox.dsp.allow(2, seconds=3600)
    answers = [await client.post("/campaigns", json={}) for _ in range(4)]
    assert [each.status_code for each in answers] == [201, 201, 429, 429]
    assert 3500 < int(answers[2].headers["retry-after"]) <= 3600
    rate = (await client.get("/requests")).json()["rate"]
    assert rate == {"requests": 2, "window_seconds": 3600, "in_window": 4, "most_in_window": 4, "refused": 2}
    assert len(sandbox.dsp.things["campaign"]) == 2
    assert len(sandbox.dsp.meter.arrivals) == 4


async def test_what_is_answered_badly_counts_as_well(sandbox: Sandbox, client: httpx2.AsyncClient) -> None:
    sandbox.dsp.switch(status=500)
    assert (await client.get("/tasks")).status_code == 500
    assert sandbox.dsp.meter.most_seen == 1


def test_windows_slide() -> None:
    meter = Meter(2, 60)
    assert [meter.admit(now) for now in (0.0, 40.0, 50.0, 60.0, 100.0)] == [None, None, 10.0, None, None]
    assert (meter.most_seen, meter.refused) == (3, 1)


@pytest.mark.parametrize(("requests", "seconds"), [(0, 60), (1, 0), (1, -1), (1, float("nan"))])
def test_a_limit_that_is_none_is_refused(requests: int, seconds: float, sandbox: Sandbox) -> None:
    with pytest.raises(Refused):
        sandbox.dsp.allow(requests, seconds=seconds)


async def test_tasks_are_three_unless_told_otherwise(sandbox: Sandbox, client: httpx2.AsyncClient) -> None:
    told = (await client.get("/tasks")).json()
    assert told == list(TASKS)
    assert told[:2] == [
        {"id": "1", "status": "In Progress"},
        {"id": "3", "status": "Error", "error_message": "Invalid IP range: 192.168.1.256"},
    ]
    sandbox.dsp.tasks = [{"id": str(id), "status": "Completed"} for id in range(100_000)]
    assert len((await client.get("/tasks")).json()) == 100_000


@pytest.mark.parametrize(
    ("body", "begins", "media_type"),
    [("html", "<!doctype html>", "text/html; charset=utf-8"), ("object", "{", "application/json")],
)
async def test_another_may_answer_in_its_place(
    sandbox: Sandbox, client: httpx2.AsyncClient, body: str, begins: str, media_type: str
) -> None:
    sandbox.dsp.switch(body=body)
    answer = await client.get("/tasks")
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert answer.text.startswith(begins)


async def test_something_takes_effect_although_nobody_is_told(sandbox: Sandbox, client: httpx2.AsyncClient) -> None:
    sandbox.dsp.switch(body="reset", times=1, takes_effect=True, route="submit_campaign")
    with pytest.raises(httpx2.ReadError):
        await client.post("/campaigns", json={"external_id": "c1"})
    assert len((await client.get("/campaigns", params={"external_id": "c1"})).json()) == 1


async def test_the_page_shows_the_tree_and_how_often_it_is_asked(
    client: httpx2.AsyncClient, visitor: httpx2.AsyncClient
) -> None:
    campaign = await submit(client, "/campaigns", external_id="<script>x")
    group = await submit(client, "/ad-groups", campaign_id=campaign)
    await submit(client, "/ads", ad_group_id=group)
    page = (await visitor.get("/dsp/")).text
    assert page.index("campaign-1") < page.index("ad_group-1") < page.index("ad-1")
    assert "3 of 1000000 requests" in page
    assert "<script" not in page


async def test_the_page_sets_what_it_allows_and_says(sandbox: Sandbox, visitor: httpx2.AsyncClient) -> None:
    form = Forms((await visitor.get("/dsp/")).text).found["/dsp/page/settings"]
    meter = sandbox.dsp.meter
    await visitor.post("/dsp/page/settings", data=form)
    assert sandbox.dsp.meter is meter
    wanted = {**form, "requests": "7", "window_seconds": "9", "verdict_seconds": "2.5", "search_delay_seconds": "4"}
    wanted.pop("can_search")
    page = await visitor.post("/dsp/page/settings", data=wanted)
    assert Forms(page.text).found["/dsp/page/settings"] == {
        **wanted,
        "window_seconds": "9.0",
        "search_delay_seconds": "4.0",
    }
    assert (sandbox.dsp.meter.most, sandbox.dsp.can_search) == (7, False)
    await visitor.post("/dsp/page/tasks", data={"tasks": '{"no": "array"}'})
    assert sandbox.dsp.tasks == {"no": "array"}
    sandbox.dsp.tasks = [{"id": "1"}] * (SHOWN_TASKS + 1)
    assert f"{SHOWN_TASKS + 1} tasks, too many" in (await visitor.get("/dsp/")).text


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("settings", {"requests": "many"}),
        ("settings", {"verdict_seconds": "nan"}),
        ("settings", {"window_seconds": "0"}),
        ("settings", {"search_delay_seconds": "soon"}),
        ("tasks", {"tasks": "["}),
    ],
)
async def test_what_is_wrong_with_a_form_is_told_and_changes_nothing(
    sandbox: Sandbox, visitor: httpx2.AsyncClient, path: str, data: dict[str, str]
) -> None:
    fields = Forms((await visitor.get("/dsp/")).text).found[f"/dsp/page/{path}"]
    page = await visitor.post(f"/dsp/page/{path}", data={**fields, **data})
    assert page.status_code == 422
    assert "<h1>Advertising platform</h1>" in page.text
    assert (sandbox.dsp.meter.most, sandbox.dsp.verdict_seconds, sandbox.dsp.tasks) == (40, 1.0, list(TASKS))
