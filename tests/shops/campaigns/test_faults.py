"""What goes wrong between the campaign desk and its platform, and with whoever uses it: nothing is submitted twice."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from orderup.errors import OutcomeUnknown
from orderup.integrations.dsp import CAMPAIGN, open_dsp
from orderup.integrations.upstream import UpstreamMetrics
from orderup.sandbox.dsp import Dsp
from orderup.shops.campaigns import shop
from orderup.web.tokens import Role
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import sqlite_url
from tests.shops.campaigns.odd_platform import OddPlatform, Twist, always, in_turn, serve_beside, with_fields, without
from tests.shops.campaigns.samples import campaign
from tests.shops.campaigns.test_submission import (
    QUICK,
    ended,
    nodes,
    open_platform,
    settle,
    statuses,
    submit,
    submitted,
)
from tests.shops.served import Served, serve_shop
from tests.web.house import SECRET, token_of

LONG = "x" * 10_000


@pytest.fixture
async def quick(database_url: str) -> AsyncIterator[Served]:
    async with serve_shop(shop, database_url, prepare=open_platform, **QUICK) as served:
        yield served


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Served]:
    """For tests to which one database is as good as another."""
    async with serve_shop(shop, sqlite_url(tmp_path), prepare=open_platform, **QUICK) as served:
        yield served


@pytest.fixture
def odd() -> OddPlatform:
    platform = OddPlatform()
    platform.verdict_seconds = 0.05
    platform.allow(100_000)
    return platform


@pytest.fixture
async def desk(odd: OddPlatform, tmp_path: Path) -> AsyncIterator[Served]:
    """Beside the odd platform. To the database it is all one what a platform says."""
    async with serve_beside(odd, sqlite_url(tmp_path), **QUICK) as served:
        yield served


def assert_once(dsp: Dsp) -> None:
    assert dsp.doubles == {}
    assert dsp.too_early == 0
    assert dsp.meter.refused == 0


# what it answers to a submission that has taken effect

STRANGE_ANSWERS: list[Twist] = [
    without("ad_id"),
    with_fields(ad_id=None),
    with_fields(ad_id=0),
    with_fields(ad_id=-1),
    with_fields(ad_id=""),
    with_fields(ad_id=LONG),
    with_fields(ad_id=10**4000),
    with_fields(ad_id=True),
    with_fields(ad_id=1.5),
    with_fields(ad_id=["ad-1"]),
    always(["ad-1"]),
    always("ad-1"),
    always(None),
]


async def test_what_was_submitted_and_got_no_id_is_looked_up(desk: Served, odd: OddPlatform) -> None:
    odd.twists["submit_ad"] = in_turn(*STRANGE_ANSWERS)
    ads = len(STRANGE_ANSWERS)
    found = await ended(desk, await submit(desk, campaign(groups=1, ads=ads)))
    assert found["counts"] == {"success": ads + 2}
    assert {node["platform_id"] for node in nodes(found).values()} == {*odd.things["ad"], "ad_group-1", "campaign-1"}
    assert_once(odd)


async def test_where_it_cannot_be_looked_up_a_person_says_which_it_is(desk: Served, odd: OddPlatform) -> None:
    odd.can_search = False
    odd.twists["submit_ad"] = in_turn(*STRANGE_ANSWERS)
    ads = len(STRANGE_ANSWERS)
    id = await submit(desk, campaign(groups=1, ads=ads))
    found = await ended(desk, id)
    assert found["counts"] == {"success": 2, "unknown": ads}
    there = {each.our_id: each.id for each in odd.things["ad"].values()}
    for node in nodes(found).values():
        if node["status"] == "unknown":
            assert (await settle(desk, id, node["task_id"], there[node["task_id"]])).status_code == 200
    assert (await ended(desk, id))["counts"] == {"success": ads + 2}
    assert_once(odd)


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 302},
        {"status": 503},
        {"status": 503, "retry_after_seconds": 1},
        {"status": 408},
        {"body": "huge"},
        {"body": "empty"},
        {"body": "garbage"},
        {"body": "drip"},
        {"body": "hang"},
    ],
    ids=str,
)
async def test_whatever_submissions_are_answered_they_are_sent_once(one: Served, answer: dict[str, Any]) -> None:
    dsp = one.sandbox.dsp
    dsp.switch(route="submit_ad", times=2, takes_effect=True, **answer)
    found = await ended(one, await submit(one, campaign(groups=1, ads=3)))
    assert found["counts"] == {"success": 5}
    assert submitted(dsp) == {"campaign": 1, "ad_group": 1, "ad": 3}
    assert_once(dsp)


# what it answers to a search for something that it has

OTHERS = [{"campaign_id": f"campaign-{number}", "external_id": f"theirs-{number}"} for number in range(50, 60)]
NEVER_ONES = {
    "only-others": always(OTHERS),
    "no-id": lambda honest: [without("campaign_id")(each) for each in honest],
    "null-id": with_fields(campaign_id=None),
    "long-id": with_fields(campaign_id=LONG),
    "two": lambda honest: [*honest, *with_fields(campaign_id="campaign-7")(honest)],
}


@pytest.mark.parametrize("twist", NEVER_ONES.values(), ids=NEVER_ONES)
async def test_a_search_that_does_not_say_what_it_has_leaves_it_to_a_person(
    desk: Served, odd: OddPlatform, twist: Twist
) -> None:
    odd.twists |= {"submit_campaign": in_turn(always({})), "find_campaign": twist}
    id = await submit(desk, campaign(groups=1, ads=1))
    found = await ended(desk, id)
    assert found["campaign"]["status"] == "unknown"
    assert found["campaign"]["error"].startswith("submission unknown")
    assert (await settle(desk, id, found["campaign"]["task_id"], "campaign-1")).status_code == 200
    assert (await ended(desk, id))["counts"] == {"success": 3}
    assert_once(odd)


async def test_a_search_that_says_more_or_less_finds_it(desk: Served, odd: OddPlatform) -> None:
    odd.twists["submit_ad"] = in_turn(*[always({})] * 5)
    odd.twists["find_ad"] = in_turn(
        lambda honest: [*OTHERS, *honest],
        lambda honest: [*honest, *honest],
        always({"items": []}),
        always(["ad-1"]),
        always(None),
    )
    found = await ended(desk, await submit(desk, campaign(groups=1, ads=5)))
    assert found["counts"] == {"success": 7}
    assert {node["platform_id"] for node in nodes(found).values()} == {*odd.things["ad"], "ad_group-1", "campaign-1"}
    assert_once(odd)


async def test_a_search_that_is_refused_leaves_it_to_a_person(one: Served) -> None:
    dsp = one.sandbox.dsp
    dsp.switch(route="submit_campaign", times=1, status=500, takes_effect=True)
    id = await submit(one, campaign(groups=1, ads=1))
    await dsp_is_asked(one, "submit_campaign")
    dsp.switch(route="find_campaign", status=403)
    found = await ended(one, id)
    assert found["campaign"]["status"] == "unknown"
    assert found["campaign"]["error"].startswith("submission unknown")
    assert submitted(dsp) == {"campaign": 1}


async def dsp_is_asked(desk: Served, call: str, *, times: int = 1) -> None:
    dsp = desk.sandbox.dsp
    async with asyncio.timeout(PATIENCE_SECONDS):
        await dsp.ledger.until(lambda _: dsp.asked[call] >= times)


# what it says of how something stands


async def test_what_cannot_be_understood_of_a_status_is_asked_again(desk: Served, odd: OddPlatform) -> None:
    strange: list[Any] = [
        {"status": "launching"},
        {"status": "success!"},
        {"status": None},
        {"status": 1},
        [{"status": "failed"}],
        {},
        "failed",
    ]
    odd.twists["read_ad"] = in_turn(*map(always, strange))
    ads = len(strange)
    found = await ended(desk, await submit(desk, campaign(groups=1, ads=ads)))
    assert found["counts"] == {"success": ads + 2}
    assert_once(odd)


async def test_why_something_was_rejected_may_be_said_in_any_shape(desk: Served, odd: OddPlatform) -> None:
    errors: list[Any] = ["no", {"code": 7}, ["no", "no"], 7, None, "\0" + LONG]
    odd.twists["read_ad"] = in_turn(*[always({"status": "failed", "error": error}) for error in errors])
    found = await ended(desk, await submit(desk, campaign(groups=1, ads=len(errors))))
    assert found["counts"] == {"success": 2, "rejected": len(errors)}
    said = sorted(
        node["error"][len("The platform rejected it") :][:20] for node in nodes(found).values() if node["error"]
    )
    assert said == ["", ": 7", ': ["no","no"]', ": no", ': {"code":7}', ": \N{REPLACEMENT CHARACTER}" + "x" * 17]


async def test_what_has_succeeded_has_succeeded_whatever_is_said_later(desk: Served, odd: OddPlatform) -> None:
    said = iter([{"status": "success"}])
    odd.twists["read_campaign"] = lambda _honest: next(said, {"status": "failed", "error": "on second thoughts"})
    id = await submit(desk, campaign(groups=1, ads=1, rejected="g1a1"))
    found = await ended(desk, id)
    assert statuses(found) == {"spring": "success", "g1": "success", "g1a1": "rejected"}
    assert (await desk.client.post(f"{desk.back}/api/operations/{id}/retry")).status_code == 200
    assert statuses(await ended(desk, id)) == {"spring": "success", "g1": "success", "g1a1": "rejected"}
    assert odd.asked["read_campaign"] == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 404},
        {"status": 302},
        {"status": 500},
        {"status": 429, "retry_after_seconds": 1},
        {"status": 429},
        {"body": "html"},
        {"body": "huge"},
        {"body": "drip"},
        {"body": "reset"},
    ],
    ids=str,
)
async def test_a_status_that_is_not_told_is_asked_again(one: Served, answer: dict[str, Any]) -> None:
    dsp = one.sandbox.dsp
    dsp.switch(route="read_ad", times=2, **answer)
    found = await ended(one, await submit(one, campaign(groups=1, ads=2)))
    assert found["counts"] == {"success": 4}
    assert_once(dsp)


# people


async def unknown_campaign(desk: Served, **options: Any) -> tuple[str, str]:
    """Its id, and the id of the task of which nobody knows whether it submitted anything."""
    dsp = desk.sandbox.dsp
    dsp.can_search = False
    dsp.switch(route="submit_campaign", times=1, status=502, takes_effect=True)
    id = await submit(desk, campaign(groups=1, ads=1, **options))
    found = await ended(desk, id)
    assert found["campaign"]["status"] == "unknown"
    return id, found["campaign"]["task_id"]


async def test_who_settles_twice_at_once_settles_once(quick: Served) -> None:
    id, task = await unknown_campaign(quick)
    answers = await asyncio.gather(
        *(settle(quick, id, task, each) for each in ("campaign-1", None, "campaign-1", None))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert (await ended(quick, id))["counts"] == {"success": 3}
    # if the first to come said so, it was submitted again, by a person's decision
    assert submitted(quick.sandbox.dsp)["campaign"] <= 2


async def test_who_settles_again_with_the_same_key_is_answered_again(quick: Served) -> None:
    id, task = await unknown_campaign(quick)
    path = f"{quick.front}/campaigns/{id}/tasks/{task}/settle"
    for said, status, replayed in (
        ("campaign-1", 200, None),
        ("campaign-1", 200, "true"),
        ("campaign-2", 422, None),
        (None, 422, None),
    ):
        answer = await quick.client.post(path, json={"platform_id": said}, headers={"Idempotency-Key": "k1"})
        assert (answer.status_code, answer.headers.get("idempotency-replayed")) == (status, replayed), answer.text
    assert (await ended(quick, id))["counts"] == {"success": 3}
    assert_once(quick.sandbox.dsp)


async def test_nobody_settles_what_is_not_in_doubt(one: Served) -> None:
    id, _ = await unknown_campaign(one)
    other = await submit(one, campaign("other", groups=1, ads=1, rejected="g1"))
    await ended(one, other)
    for where, task, status in (
        (id, f"{other}-0", 404),
        (id, f"{id}-999", 404),
        (id, f"{id}-01", 404),
        (id, f"{id}-1", 409),
        (id, f"{id}-2", 409),
        (id, "%0A", 404),
        (other, f"{other}-0", 409),
        (other, f"{other}-2", 409),
        (other, f"{other}-3", 409),
        ("0000000000000", "0000000000000-0", 404),
    ):
        answer = await settle(one, where, task, "campaign-1")
        assert answer.status_code == status, (where, task, answer.text)
    assert_once(one.sandbox.dsp)


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        *({"platform_id": id} for id in ("", "  ", "a\nb", "a b", "a\0", 7, "x" * 201)),
        {"platform_id": "a", "sure": True},
    ],
    ids=lambda body: repr(body)[:30],
)
async def test_what_is_no_id_settles_nothing(one: Served, body: Any) -> None:
    path = f"{one.front}/campaigns/0000000000000/tasks/0000000000000-0/settle"
    answer = await one.client.post(path, json=body)
    assert answer.status_code in {400, 422}, answer.text


async def test_what_is_copied_with_the_space_around_it_is_the_id(one: Served) -> None:
    id, task = await unknown_campaign(one)
    assert (await settle(one, id, task, " campaign-1\n")).status_code == 200
    assert (await ended(one, id))["campaign"]["platform_id"] == "campaign-1"


async def test_settling_while_it_is_looked_for_changes_nothing(one: Served) -> None:
    dsp = one.sandbox.dsp
    dsp.switch(route="submit_campaign", times=1, status=502, takes_effect=True)
    id = await submit(one, campaign(groups=1, ads=1))
    await dsp_is_asked(one, "submit_campaign")
    dsp.switch(route="find_campaign", times=1, delay_seconds=2)
    await dsp_is_asked(one, "find_campaign")
    answer = await settle(one, id, f"{id}-0", None)
    assert answer.status_code == 409, answer.text
    assert (await ended(one, id))["counts"] == {"success": 3}
    assert_once(dsp)


async def test_a_campaign_sent_again_with_its_key_is_one_campaign(quick: Served) -> None:
    async def send(key: str, **options: Any) -> Any:
        body = campaign(groups=1, ads=1, **options)
        return await quick.client.post(f"{quick.front}/campaigns", json=body, headers={"Idempotency-Key": key})

    together = await asyncio.gather(*(send("k1") for _ in range(4)))
    assert {answer.status_code for answer in together} == {202}
    [id] = {answer.json()["id"] for answer in together}
    assert (await send("k2")).status_code == 409
    assert (await send("k1", name="other")).status_code == 422
    await ended(quick, id)
    assert (await send("k1")).json()["id"] == id
    assert submitted(quick.sandbox.dsp) == {"campaign": 1, "ad_group": 1, "ad": 1}
    assert_once(quick.sandbox.dsp)


async def test_a_campaign_that_is_none_is_refused(one: Served) -> None:
    bodies: list[tuple[Any, int]] = [
        (campaign("a\nb"), 422),
        (campaign("a\0b"), 422),
        (campaign(LONG), 422),
        (campaign("x", groups=0), 422),
        (campaign("x", ads=0), 422),
        ({}, 422),
        ([], 422),
        (campaign("x" * (1 << 20)), 413),
    ]
    for body, status in bodies:
        answer = await one.client.post(f"{one.front}/campaigns", json=body)
        assert answer.status_code == status, (str(body)[:60], answer.text[:300])
    assert (await one.client.get(f"{one.front}/campaigns")).json()["campaigns"] == []


async def test_campaigns_are_for_staff(tmp_path: Path) -> None:
    async with serve_shop(shop, sqlite_url(tmp_path), prepare=open_platform, secret_key=SECRET, **QUICK) as desk:
        somewhere = f"{desk.front}/campaigns"
        for role, status in ((Role.CUSTOMER, 403), (Role.WORKER, 403), (None, 401)):
            headers = {} if role is None else {"Authorization": f"Bearer {token_of(role)}"}
            for method, path, body in (
                ("POST", "", campaign()),
                ("GET", "", None),
                ("POST", "/0000000000000/tasks/0000000000000-0/settle", {"platform_id": None}),
            ):
                answer = await desk.client.request(method, f"{somewhere}{path}", json=body, headers=headers)
                assert answer.status_code == status, (role, method, path, answer.text)


async def test_what_was_to_be_sent_by_a_moment_that_has_passed_is_not_sent(one: Served) -> None:
    settings, platform = one.house.settings, one.sandbox.dsp
    async with open_dsp(settings, UpstreamMetrics(CollectorRegistry())) as dsp:
        await dsp.submit(CAMPAIGN, {}, our_id="c1")  # there is a connection that can be used at once
        for _ in range(3):
            with pytest.raises(OutcomeUnknown):
                await dsp.submit(CAMPAIGN, {}, our_id="c2", ends_at=time.monotonic() + 1e-9)
        await dsp.submit(CAMPAIGN, {}, our_id="c3", ends_at=time.monotonic() + 30)
    assert [thing.our_id for thing in platform.things["campaign"].values()] == ["c1", "c3"]
