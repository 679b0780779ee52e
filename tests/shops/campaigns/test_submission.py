"""A campaign is submitted: each thing once, what belongs to it after it stands, whatever the platform answers."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import httpx2
import pytest

from orderup.model.ids import read_id
from orderup.model.operation import OperationStatus
from orderup.sandbox.dsp import Dsp
from orderup.sandbox.server import Sandbox
from orderup.shops.campaigns import shop
from tests.services.waiting import PATIENCE_SECONDS
from tests.shops.campaigns.samples import campaign
from tests.shops.served import Served, serve_shop

RUNNING, ENDED = OperationStatus.RUNNING, {OperationStatus.COMPLETED, OperationStatus.ERRORED}
# The deadline is also how long it takes until something is looked for: no more than a commit and a call need while the
# machine does other things, too.
QUICK: Mapping[str, Any] = {
    "dsp_requests_a_minute": 100_000,
    "dsp_status_seconds": 0.02,
    "dsp_search_seconds": 0,
    "dsp_deadline_seconds": 4,
}


def open_platform(sandbox: Sandbox) -> None:
    sandbox.dsp.verdict_seconds = 0.05
    sandbox.dsp.allow(100_000)


@pytest.fixture
async def quick(database_url: str) -> Any:
    async with serve_shop(shop, database_url, prepare=open_platform, **QUICK) as served:
        yield served


async def submit(desk: Served, body: dict[str, Any]) -> str:
    answer = await desk.client.post(f"{desk.front}/campaigns", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def ended(desk: Served, id: str) -> dict[str, Any]:
    """The campaign, once nothing of it moves any more."""
    await desk.until_stands(read_id(id), lambda operation: operation.status in ENDED)
    return await look(desk, id)


async def look(desk: Served, id: str) -> dict[str, Any]:
    answer = await desk.client.get(f"{desk.front}/campaigns/{id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def nodes(found: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Of a campaign, by their owner's ids."""
    root = found["campaign"]
    groups = root["ad_groups"]
    return {each["id"]: each for each in [root, *groups, *(ad for group in groups for ad in group["ads"])]}


def statuses(found: Mapping[str, Any]) -> dict[str, str]:
    return {id: node["status"] for id, node in nodes(found).items()}


def submitted(dsp: Dsp) -> Counter[str]:
    return +Counter({sort: len(things) for sort, things in dsp.things.items()})


async def settle(desk: Served, id: str, task_id: str, platform_id: str | None) -> httpx2.Response:
    path = f"{desk.front}/campaigns/{id}/tasks/{task_id}/settle"
    return await desk.client.post(path, json={"platform_id": platform_id})


async def test_everything_is_submitted_once_each_after_what_it_belongs_to(quick: Served) -> None:
    id = await submit(quick, campaign(groups=2, ads=3))
    found = await ended(quick, id)
    assert found["status"] == "completed"
    assert found["counts"] == {"success": 9}
    dsp = quick.sandbox.dsp
    assert submitted(dsp) == {"campaign": 1, "ad_group": 2, "ad": 6}
    assert dsp.doubles == {}
    assert dsp.too_early == 0
    [made] = dsp.things["campaign"].values()
    assert made.body["campaign_name"] == "Campaign spring"
    assert made.body["campaign_budget"] == "1000.50"
    assert found["campaign"]["platform_id"] == made.id
    assert {group.body["campaign_id"] for group in dsp.things["ad_group"].values()} == {made.id}


async def test_a_branch_that_fails_fails_alone(quick: Served) -> None:
    id = await submit(quick, campaign(groups=2, ads=2, rejected="g1"))
    found = await ended(quick, id)
    assert found["status"] == "errored"
    assert statuses(found) == {
        "spring": "success",
        "g1": "rejected",
        "g1a1": "waiting",
        "g1a2": "waiting",
        "g2": "success",
        "g2a1": "success",
        "g2a2": "success",
    }
    assert nodes(found)["g1"]["error"] == "The platform rejected it: Rejected by policy"


async def test_a_failed_branch_is_tried_again_and_nothing_is_submitted_twice(quick: Served) -> None:
    id = await submit(quick, campaign(groups=2, ads=2, rejected="g1a1"))
    found = await ended(quick, id)
    dsp = quick.sandbox.dsp
    [rejected] = (each for each in dsp.things["ad"].values() if each.is_rejected)
    # somebody at the platform has thought better of it
    rejected.body["ad_type"] = "banner"  # type: ignore[index]
    follow = nodes(found)["g1a1"]["follow_id"]
    answer = await quick.client.post(f"{quick.back}/api/tasks/{follow}/rerun")
    assert answer.status_code == 200, answer.text
    found = await ended(quick, id)
    assert found["counts"] == {"success": 7}
    assert dsp.doubles == {}


async def test_what_was_submitted_cannot_be_rerun(quick: Served) -> None:
    id = await submit(quick, campaign(groups=1, ads=1, rejected="g1"))
    group = nodes(await ended(quick, id))["g1"]
    answer = await quick.client.post(f"{quick.back}/api/tasks/{group['task_id']}/rerun")
    assert answer.status_code == 409
    assert "once" in answer.json()["detail"]


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 500},
        {"status": 502, "takes_effect": True},
        {"delay_seconds": 3600, "takes_effect": True},
        {"body": "html", "takes_effect": True},
        {"body": "reset", "takes_effect": True},
    ],
    ids=str,
)
async def test_an_unknown_outcome_is_looked_up_before_anything_is_sent_again(
    quick: Served, answer: dict[str, Any]
) -> None:
    dsp = quick.sandbox.dsp
    dsp.switch(route="submit_campaign", times=1, **answer)
    found = await ended(quick, await submit(quick, campaign(groups=1, ads=1)))
    assert found["counts"] == {"success": 3}
    assert dsp.doubles == {}
    assert dsp.asked["find_campaign"] == 1


async def test_a_platform_that_says_no_is_not_asked_again_by_itself(quick: Served) -> None:
    dsp = quick.sandbox.dsp
    dsp.switch(route="submit_campaign", times=1, status=422)
    id = await submit(quick, campaign(groups=1, ads=1))
    found = await ended(quick, id)
    assert statuses(found)["spring"] == "failed"
    answer = await quick.client.post(f"{quick.back}/api/operations/{id}/retry")
    assert answer.status_code == 200
    assert (await ended(quick, id))["counts"] == {"success": 3}
    assert dsp.asked["find_campaign"] == 0, "it was certainly not submitted"


async def test_where_the_platform_cannot_search_a_person_decides_that_it_is_there(quick: Served) -> None:
    dsp = quick.sandbox.dsp
    dsp.can_search = False
    dsp.switch(route="submit_campaign", times=1, status=502, takes_effect=True)
    id = await submit(quick, campaign(groups=1, ads=1))
    found = await ended(quick, id)
    root = found["campaign"]
    assert root["status"] == "unknown"
    assert root["error"].startswith("submission unknown")
    # to try it again by hand sends nothing, either
    assert (await quick.client.post(f"{quick.back}/api/operations/{id}/retry")).status_code == 200
    assert (await ended(quick, id))["campaign"]["status"] == "unknown"
    assert submitted(dsp) == {"campaign": 1}
    [there] = dsp.things["campaign"].values()
    answer = await settle(quick, id, root["task_id"], there.id)
    assert answer.status_code == 200, answer.text
    found = await ended(quick, id)
    assert found["counts"] == {"success": 3}
    assert found["campaign"]["platform_id"] == there.id
    assert submitted(dsp) == {"campaign": 1, "ad_group": 1, "ad": 1}


async def test_a_person_who_names_what_the_platform_does_not_have_is_asked_again(quick: Served) -> None:
    dsp = quick.sandbox.dsp
    dsp.can_search = False
    dsp.switch(route="submit_campaign", times=1, status=502, takes_effect=True)
    id = await submit(quick, campaign(groups=1, ads=1))
    root = (await ended(quick, id))["campaign"]
    assert (await settle(quick, id, root["task_id"], "campaign-7")).status_code == 200
    root = (await ended(quick, id))["campaign"]
    assert root["status"] == "unknown"
    assert "does not know campaign-7" in root["error"]
    assert (await settle(quick, id, root["task_id"], "campaign-1")).status_code == 200
    assert (await ended(quick, id))["counts"] == {"success": 3}
    assert dsp.doubles == {}


async def test_a_person_who_names_what_the_platform_will_not_talk_of_is_asked_again(quick: Served) -> None:
    dsp = quick.sandbox.dsp
    dsp.can_search = False
    dsp.switch(route="submit_campaign", times=1, status=502, takes_effect=True)
    id = await submit(quick, campaign(groups=1, ads=1))
    root = (await ended(quick, id))["campaign"]
    dsp.switch(route="read_campaign", times=1, status=422)
    assert (await settle(quick, id, root["task_id"], "campaign-7")).status_code == 200
    root = (await ended(quick, id))["campaign"]
    assert root["status"] == "unknown"
    assert "does not say whether it has campaign-7" in root["error"]
    assert (await settle(quick, id, root["task_id"], "campaign-1")).status_code == 200
    assert (await ended(quick, id))["counts"] == {"success": 3}
    assert dsp.doubles == {}


async def test_when_the_platform_asks_for_a_rest_it_has_one(quick: Served) -> None:
    dsp = quick.sandbox.dsp
    dsp.switch(route="submit_campaign", times=1, status=429, retry_after_seconds=600)
    await submit(quick, campaign(groups=1, ads=1))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            queues = (await quick.client.get(f"{quick.back}/api/queues?shop=campaigns")).json()["queues"]
            resting = {each["name"] for each in queues if each["paused_until"]}
            if resting:
                break
    assert resting == {f"campaigns/{kind}" for kind in ("submit", "follow", "poll_tasks")}


async def test_where_the_platform_cannot_search_a_person_decides_that_it_is_not_there(quick: Served) -> None:
    dsp = quick.sandbox.dsp
    dsp.can_search = False
    dsp.switch(route="submit_ad", times=1, status=500)
    id = await submit(quick, campaign(groups=1, ads=2))
    found = await ended(quick, id)
    [unknown] = [node for node in nodes(found).values() if node["status"] == "unknown"]
    assert submitted(dsp) == {"campaign": 1, "ad_group": 1, "ad": 1}
    assert (await settle(quick, id, unknown["task_id"], None)).status_code == 200
    assert (await ended(quick, id))["counts"] == {"success": 4}
    again = await settle(quick, id, unknown["task_id"], None)
    assert again.status_code == 409
    assert "no doubt" in again.json()["detail"]
    assert dsp.doubles == {}


async def test_a_platform_that_is_not_there_is_waited_for(quick: Served) -> None:
    dsp = quick.sandbox.dsp
    dsp.switch(status=429, retry_after_seconds=1, times=2)
    found = await ended(quick, await submit(quick, campaign(groups=1, ads=1)))
    assert found["counts"] == {"success": 3}
    assert dsp.doubles == {}
    assert dsp.asked["find_campaign"] == 0, "what is refused for its rate was not submitted"


async def test_two_campaigns_of_one_id_are_refused(quick: Served) -> None:
    first = await submit(quick, campaign())
    answer = await quick.client.post(f"{quick.front}/campaigns", json=campaign())
    assert answer.status_code == 409
    assert first in answer.json()["detail"]
    listed = (await quick.client.get(f"{quick.front}/campaigns")).json()["campaigns"]
    assert [each["campaign_id"] for each in listed] == ["spring"]


async def test_a_fault_is_named_by_its_place(quick: Served) -> None:
    body = campaign()
    body["ad_groups"][1]["ads"][0]["click_url"] = "example.com"
    answer = await quick.client.post(f"{quick.front}/campaigns", json=body)
    assert answer.status_code == 422
    assert "ad_groups[1].ads[0].click_url" in answer.text


async def test_all_that_is_asked_of_the_platform_stays_within_what_it_allows(database_url: str) -> None:
    """Its own meter counts, and says no to whoever exceeds it."""

    def prepare(sandbox: Sandbox) -> None:
        sandbox.dsp.verdict_seconds = 0
        sandbox.dsp.allow(12)

    settings = {**QUICK, "dsp_requests_a_minute": 12, "dsp_poll_seconds": 1}
    async with serve_shop(shop, database_url, prepare=prepare, **settings) as desk:
        dsp = desk.sandbox.dsp
        await submit(desk, campaign(groups=3, ads=9))

        async def is_used_up() -> bool | None:
            return dsp.meter.used(time.monotonic()) >= 12 or None

        await desk.until(is_used_up)
        told = (await desk.client.get(f"{desk.back}/api/queues")).json()["allowances"]
        assert sum(each["used"] for each in told if " x " not in each["name"]) == 12
        assert sum(dsp.asked[name] for name in dsp.asked if name.startswith(("read_", "list_"))) <= 6
        assert dsp.meter.most_seen == 12
        assert dsp.meter.refused == 0


async def test_what_is_not_said_to_stand_is_not_said_to_be_rejected(quick: Served) -> None:
    dsp = quick.sandbox.dsp
    dsp.switch(route="read_campaign", status=403)
    id = await submit(quick, campaign(groups=1, ads=1))
    found = await ended(quick, id)
    assert found["campaign"]["status"] == "unanswered"
    dsp.restore()
    answer = await quick.client.post(f"{quick.back}/api/tasks/{found['campaign']['follow_id']}/rerun")
    assert answer.status_code == 200
    assert (await ended(quick, id))["counts"] == {"success": 3}
    assert dsp.doubles == {}
