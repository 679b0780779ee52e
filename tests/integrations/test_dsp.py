"""An advertising platform, against the sandbox's over real requests, and against one that says what it likes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from orderup.errors import OutcomeUnknown, UpstreamFailed, UpstreamRefused
from orderup.integrations.dsp import (
    AD,
    AD_GROUP,
    CAMPAIGN,
    LARGEST_LIST,
    CannotSearch,
    Dsp,
    Status,
    Verdict,
    open_dsp,
)
from orderup.integrations.upstream import UpstreamMetrics
from orderup.sandbox import Sandbox, serve_sandbox
from orderup.settings import Settings
from tests.integrations.stranger import Stranger, meet_stranger, says
from tests.services.waiting import PATIENCE_SECONDS


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with serve_sandbox(scale=1_000) as sandbox:
        sandbox.dsp.allow(1_000_000)
        yield sandbox


@pytest.fixture
async def stranger() -> AsyncIterator[Stranger]:
    async with meet_stranger() as stranger:
        yield stranger


@pytest.fixture
async def dsp(sandbox: Sandbox) -> AsyncIterator[Dsp]:
    settings = Settings.model_validate({"dsp_url": f"{sandbox.base_url}/dsp"})
    async with open_dsp(settings, UpstreamMetrics(CollectorRegistry())) as dsp:
        yield dsp


@pytest.fixture
async def asking(stranger: Stranger) -> AsyncIterator[Dsp]:
    """Who asks the stranger."""
    settings = Settings.model_validate({"dsp_url": stranger.url, "dsp_token": SecretStr("a-token")})
    async with open_dsp(settings, UpstreamMetrics(CollectorRegistry())) as dsp:
        yield dsp


async def until_judged(dsp: Dsp, id: str) -> Status:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (status := await dsp.ask(CAMPAIGN, id)).verdict is Verdict.PENDING:
            pass
        return status


async def test_a_tree_is_submitted_under_our_ids_and_found_by_them(sandbox: Sandbox, dsp: Dsp) -> None:
    campaign = await dsp.submit(CAMPAIGN, {"campaign_name": "Spring"}, our_id="c/1 ä")
    group = await dsp.submit(AD_GROUP, {"campaign_id": campaign}, our_id="g1")
    ad = await dsp.submit(AD, {"ad_group_id": group}, our_id="a1")
    assert sandbox.dsp.things["campaign"][campaign].body == {"campaign_name": "Spring", "external_id": "c/1 ä"}
    assert await dsp.find(CAMPAIGN, "c/1 ä") == campaign
    assert await dsp.find(AD_GROUP, "g1") == group
    assert await dsp.find(AD, "a1") == ad
    assert await dsp.find(AD, "g1") is None


async def test_what_was_submitted_is_judged_after_a_while(sandbox: Sandbox, dsp: Dsp) -> None:
    sandbox.dsp.verdict_seconds = 3600
    id = await dsp.submit(CAMPAIGN, {}, our_id="c1")
    assert await dsp.ask(CAMPAIGN, id) == Status(Verdict.PENDING)
    sandbox.dsp.verdict_seconds = 0
    assert await until_judged(dsp, id) == Status(Verdict.SUCCESS)
    id = await dsp.submit(CAMPAIGN, {"campaign_name": "reject"}, our_id="c2")
    assert await until_judged(dsp, id) == Status(Verdict.FAILED, "Rejected by policy")


async def test_a_platform_that_cannot_search_says_so(sandbox: Sandbox, dsp: Dsp) -> None:
    sandbox.dsp.can_search = False
    with pytest.raises(CannotSearch):
        await dsp.find(CAMPAIGN, "c1")


async def test_something_without_a_parent_is_refused(dsp: Dsp) -> None:
    with pytest.raises(UpstreamRefused, match="422"):
        await dsp.submit(AD, {"ad_group_id": "nobody"}, our_id="a1")


async def test_what_was_sent_and_not_answered_is_unknown_and_not_sent_again(sandbox: Sandbox, dsp: Dsp) -> None:
    for body in ("reset", "html", "object", "empty"):
        sandbox.dsp.switch(body=body, times=1, takes_effect=True)
        with pytest.raises(OutcomeUnknown):
            await dsp.submit(CAMPAIGN, {}, our_id=body)
        assert await dsp.find(CAMPAIGN, body) is not None
    assert sandbox.dsp.doubles == {}


Call = Callable[[Dsp], Awaitable[Any]]
LOOKS: list[Call] = [
    lambda dsp: dsp.find(CAMPAIGN, "c1"),
    lambda dsp: dsp.ask(CAMPAIGN, "campaign-1"),
    lambda dsp: dsp.list_tasks(),
]


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("switched", [{"body": "reset"}, {"status": 500}, {"body": "garbage"}, {"body": "html"}])
async def test_a_call_is_one_request_whatever_comes_of_it(
    sandbox: Sandbox, dsp: Dsp, look: Call, switched: dict[str, Any]
) -> None:
    await dsp.submit(CAMPAIGN, {}, our_id="c1")  # the connection was good once
    sandbox.dsp.switch(**switched)
    before = len(sandbox.dsp.meter.arrivals)
    with pytest.raises(UpstreamFailed):
        await look(dsp)
    assert len(sandbox.dsp.meter.arrivals) == before + 1


async def test_too_many_requests_are_a_rest(sandbox: Sandbox, dsp: Dsp) -> None:
    sandbox.dsp.allow(1, seconds=3600)
    await dsp.list_tasks()
    with pytest.raises(UpstreamFailed) as caught:
        await dsp.submit(CAMPAIGN, {}, our_id="c1")
    assert not isinstance(caught.value, OutcomeUnknown), "it certainly was not taken"
    assert caught.value.retry_after is not None


async def test_it_says_who_it_is(stranger: Stranger, asking: Dsp) -> None:
    stranger.says = says(201, b'{"campaign_id": 17}')
    assert await asking.submit(CAMPAIGN, {}, our_id="c1") == "17"
    [asked] = stranger.asked
    assert (asked.line, asked.headers["authorization"]) == ("POST /base/campaigns", "Bearer a-token")


@pytest.mark.parametrize("body", [b"{}", b'{"campaign_id": ""}', b'{"campaign_id": true}', b"[]", b'{"ad_id": "x"}'])
async def test_an_answer_without_an_id_is_unknown(stranger: Stranger, asking: Dsp, body: bytes) -> None:
    stranger.says = says(201, body)
    with pytest.raises(OutcomeUnknown):
        await asking.submit(CAMPAIGN, {}, our_id="c1")


async def test_what_is_found_is_ours_even_if_the_platform_tells_of_all(stranger: Stranger, asking: Dsp) -> None:
    stranger.says = says(200, b'[{"campaign_id": "x", "external_id": "c2"}, {"campaign_id": "y", "external_id": "c1"}]')
    assert await asking.find(CAMPAIGN, "c1") == "y"
    stranger.says = says(200, b"[]")
    assert await asking.find(CAMPAIGN, "c1") is None


@pytest.mark.parametrize(
    "body",
    [
        b'[{"external_id": "c1"}]',
        b'[{"campaign_id": [], "external_id": "c1"}]',
        b'[{"campaign_id": "x", "external_id": "c2"}]',
        b"[1]",
    ],
)
async def test_a_search_that_leaves_a_doubt_is_not_that_it_is_not_there(
    stranger: Stranger, asking: Dsp, body: bytes
) -> None:
    stranger.says = says(200, body)
    with pytest.raises((UpstreamFailed, CannotSearch)):
        await asking.find(CAMPAIGN, "c1")


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        (b'{"status": "in review"}', Verdict.PENDING),
        (b'{"status": "failed"}', Verdict.FAILED),
        (b'{"status": "success", "more": [1]}', Verdict.SUCCESS),
    ],
)
async def test_a_status_that_nobody_knows_is_pending(
    stranger: Stranger, asking: Dsp, body: bytes, verdict: Verdict
) -> None:
    stranger.says = says(200, body)
    assert await asking.ask(CAMPAIGN, "../x") == Status(verdict)
    assert stranger.asked[-1].line == "GET /base/campaigns/..%2Fx/status"


async def test_something_that_is_not_known_yet_is_asked_for_again(dsp: Dsp) -> None:
    with pytest.raises(UpstreamFailed, match="does not know campaign-9"):
        await dsp.ask(CAMPAIGN, "campaign-9")


async def test_a_list_may_have_a_hundred_thousand_entries_and_no_gigabyte(sandbox: Sandbox, dsp: Dsp) -> None:
    sandbox.dsp.tasks = [{"id": str(id), "status": "In Progress"} for id in range(100_000)]
    assert 4_000_000 < len(await dsp.list_tasks()) < LARGEST_LIST
    sandbox.dsp.switch(body="huge")
    with pytest.raises(UpstreamFailed, match="more than an answer may have"):
        await dsp.list_tasks()
