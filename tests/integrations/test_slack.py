"""Finding people on Slack and writing to them: against the sandbox's Slack, over real requests."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from orderup.errors import OutcomeUnknown, Resting, UpstreamFailed, UpstreamRefused
from orderup.integrations.breaker import BreakerState
from orderup.integrations.slack import (
    ABANDONED,
    FRESH,
    MINUTE,
    PAGE_SIZE,
    PAGES_A_MINUTE,
    STALE,
    Match,
    Slack,
    escape,
    open_slack,
    plain_name,
)
from orderup.integrations.upstream import UpstreamMetrics
from orderup.sandbox import Sandbox, serve_sandbox
from orderup.sandbox.slack import BOT, SLACKBOT, Member
from orderup.settings import Settings
from tests.services.waiting import PATIENCE_SECONDS

AWKWARD = 'O\'Brien "Bob" <!channel> & <https://evil.example|click>\nsecond \u202eline 🍰'


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with serve_sandbox(scale=1_000) as sandbox:
        yield sandbox


@pytest.fixture
async def slack(sandbox: Sandbox) -> AsyncIterator[Slack]:
    settings = Settings(slack_base_url=f"{sandbox.base_url}/slack/api", slack_bot_token=SecretStr("xoxb-test"))
    async with open_slack(settings, UpstreamMetrics(CollectorRegistry())) as slack:
        yield slack


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def passes(self, time: timedelta) -> None:
        self.now += time.total_seconds()


@pytest.fixture
def clock(slack: Slack) -> Clock:
    """Of the directory."""
    clock = Clock()
    slack.directory.monotonic = clock
    return clock


async def channel_to(slack: Slack, email: str) -> str:
    user_id = await slack.find_by_email(email)
    assert user_id is not None
    return await slack.open_dm(user_id)


def just_now() -> datetime:
    return datetime.now(UTC)


# finding people


async def test_a_member_is_found_by_his_address_in_any_case(sandbox: Sandbox, slack: Slack) -> None:
    member = sandbox.slack.add_member("Zoë", email="zoe+cakes@example.com")
    assert await slack.find_by_email("ZOE+cakes@example.com") == member.id


async def test_nobody_is_found_by_an_address_that_no_member_has_any_more(slack: Slack) -> None:
    assert await slack.find_by_email("nobody@example.com") is None
    assert await slack.find_by_email("grace@example.com") is None
    assert await slack.find_by_email("a@b.c&email=ada@example.com") is None


async def test_a_member_is_found_by_either_of_his_names(sandbox: Sandbox, slack: Slack) -> None:
    member = sandbox.slack.add_member("Jürgen  O'Brien-Łuk", display_name="\uff2a\uff2f\uff22 🍰")
    for name in ["jürgen obrien łuk", "JU\u0308RGEN O’BRIEN-ŁUK", "job", "Job!"]:
        assert await slack.find_by_name(name) == Match(member.id)


@pytest.mark.parametrize("name", ["Nobody", "", "🍰", "Grace Hopper", "Slackbot", "orderup", "Ada"[:2]])
async def test_who_is_not_there_has_left_or_is_no_person_is_not_found(slack: Slack, name: str) -> None:
    assert await slack.find_by_name(name) == Match()


async def test_one_of_several_with_a_name_is_not_guessed(sandbox: Sandbox, slack: Slack) -> None:
    sandbox.slack.add_member("Somebody Else", display_name="Mr. Cakelover")
    assert await slack.find_by_name("John Smith") == Match(is_ambiguous=True)
    assert await slack.find_by_name("Mr Cakelover") == Match(is_ambiguous=True)


async def test_one_with_the_same_name_twice_is_one(sandbox: Sandbox, slack: Slack) -> None:
    member = sandbox.slack.add_member("Linus T", display_name="linus t.")
    assert await slack.find_by_name("LinusT") == Match(member.id)


def test_marks_that_make_another_letter_make_another_name() -> None:
    assert plain_name("किरण") != plain_name("करण")
    assert plain_name("STRASSE 7") == plain_name("straße-7")


# the directory


async def test_all_pages_are_read_once_and_known_for_half_an_hour(sandbox: Sandbox, slack: Slack, clock: Clock) -> None:
    sandbox.slack.add_members(3 * PAGE_SIZE)
    for number in (0, 3 * PAGE_SIZE - 1):
        assert (await slack.find_by_name(f"Member {number}")).user_id is not None
    assert sandbox.slack.asked["list_members"] == 4
    clock.passes(FRESH)
    new = sandbox.slack.add_member("New One")
    assert await slack.find_by_name("New One") == Match(new.id)
    assert sandbox.slack.asked["list_members"] == 8


async def test_many_who_ask_at_once_have_it_read_once(sandbox: Sandbox, slack: Slack) -> None:
    sandbox.slack.add_members(2 * PAGE_SIZE)
    found = await asyncio.gather(*(slack.find_by_name(f"Member {number}") for number in range(20)))
    assert all(match.user_id for match in found)
    assert sandbox.slack.asked["list_members"] == 3


async def test_a_large_one_is_read_over_minutes_without_losing_or_repeating_a_page(
    sandbox: Sandbox, slack: Slack, clock: Clock
) -> None:
    sandbox.slack.add_members(2 * PAGES_A_MINUTE * PAGE_SIZE)
    for minutes in (1, 2):
        with pytest.raises(Resting) as rest:
            await slack.find_by_name("Member 1")
        assert rest.value.seconds == pytest.approx(MINUTE.total_seconds())
        assert sandbox.slack.asked["list_members"] == minutes * PAGES_A_MINUTE
        clock.passes(MINUTE)
    assert (await slack.find_by_name(f"Member {2 * PAGES_A_MINUTE * PAGE_SIZE - 1}")).user_id is not None
    assert sandbox.slack.asked["list_members"] == 2 * PAGES_A_MINUTE + 1


async def test_no_minute_has_more_pages_than_slack_allows_whenever_they_were_read(
    sandbox: Sandbox, slack: Slack, clock: Clock
) -> None:
    sandbox.slack.add_members((PAGES_A_MINUTE - 1) * PAGE_SIZE - 10)
    await slack.find_by_name("Member 1")
    assert sandbox.slack.asked["list_members"] == PAGES_A_MINUTE - 1
    clock.passes(FRESH)
    await slack.find_by_name("Member 1")
    slack.directory._known = None  # noqa: SLF001  as if half an hour had passed within the minute
    with pytest.raises(Resting):
        await slack.find_by_name("Member 1")
    assert sandbox.slack.asked["list_members"] == 2 * (PAGES_A_MINUTE - 1) + 1


async def test_the_old_one_does_while_a_new_one_cannot_be_read_to_its_end_but_not_for_ever(
    sandbox: Sandbox, slack: Slack, clock: Clock
) -> None:
    await slack.find_by_name("Ada Lovelace")
    sandbox.slack.add_members(PAGES_A_MINUTE * PAGE_SIZE)
    clock.passes(FRESH)
    assert (await slack.find_by_name("Ada Lovelace")).user_id is not None
    assert await slack.find_by_name("Member 1") == Match()
    assert sandbox.slack.asked["list_members"] == 1 + PAGES_A_MINUTE
    clock.passes(MINUTE)
    assert (await slack.find_by_name("Member 1")).user_id is not None
    clock.passes(STALE)
    with pytest.raises(Resting):
        await slack.find_by_name("Ada Lovelace")


async def test_the_old_one_does_while_slack_is_down_but_not_for_ever(
    sandbox: Sandbox, slack: Slack, clock: Clock
) -> None:
    await slack.find_by_name("Ada Lovelace")
    sandbox.slack.switch(status=503)
    clock.passes(FRESH)
    assert (await slack.find_by_name("Ada Lovelace")).user_id is not None
    clock.passes(STALE - FRESH)
    with pytest.raises(UpstreamFailed):
        await slack.find_by_name("Ada Lovelace")
    assert sandbox.slack.asked["list_members"] == 3


async def test_a_page_that_fails_is_asked_for_again_and_none_before_it(sandbox: Sandbox, slack: Slack) -> None:
    sandbox.slack.add_members(2 * PAGE_SIZE)
    sandbox.slack.switch(route="list_members", status=503, times=1)
    with pytest.raises(UpstreamFailed):
        await slack.find_by_name("Member 1")
    assert (await slack.find_by_name("Member 1")).user_id is not None
    assert sandbox.slack.asked["list_members"] == 1 + 3


async def test_where_slack_has_forgotten_the_place_the_list_is_read_anew(
    sandbox: Sandbox, slack: Slack, clock: Clock
) -> None:
    sandbox.slack.add_members(PAGES_A_MINUTE * PAGE_SIZE)
    with pytest.raises(Resting):
        await slack.find_by_name("Member 1")
    for id in [id for id in sandbox.slack.members if id.startswith("U0000")]:
        del sandbox.slack.members[id]
    clock.passes(MINUTE)
    with pytest.raises(UpstreamFailed, match="read anew"):
        await slack.find_by_name("Member 1")
    new = sandbox.slack.add_member("New One")
    assert await slack.find_by_name("New One") == Match(new.id)
    assert await slack.find_by_name("Member 1") == Match()


async def test_a_reading_that_was_left_lying_begins_anew(sandbox: Sandbox, slack: Slack, clock: Clock) -> None:
    sandbox.slack.add_members(PAGES_A_MINUTE * PAGE_SIZE)
    with pytest.raises(Resting):
        await slack.find_by_name("Member 1")
    clock.passes(ABANDONED + MINUTE)
    with pytest.raises(Resting):
        await slack.find_by_name("Member 1")
    assert sandbox.slack.asked["list_members"] == 2 * PAGES_A_MINUTE


# writing to them


async def test_a_message_is_posted_with_its_key(sandbox: Sandbox, slack: Slack) -> None:
    channel = await channel_to(slack, "mr_cakelover@gmail.com")
    ts = await slack.post(channel, text=f"Order 21 [{escape(AWKWARD)}] was cancelled", key="order:21:cancelled")
    [message] = sandbox.slack.messages
    assert (message.ts, message.key) == (ts, "order:21:cancelled")
    assert "<" not in message.text
    assert "&lt;!channel&gt; &amp; &lt;https://evil.example|click&gt;" in message.text


async def test_the_channel_to_a_member_is_the_same_each_time(slack: Slack) -> None:
    assert await channel_to(slack, "ada@example.com") == await channel_to(slack, "ada@example.com")


async def test_a_link_leads_a_person_to_the_conversation(slack: Slack) -> None:
    channel = await channel_to(slack, "ada@example.com")
    async with httpx2.AsyncClient(follow_redirects=True, timeout=PATIENCE_SECONDS) as visitor:
        page = await visitor.get(slack.link(channel))
    assert page.url.fragment == channel
    assert f'id="{channel}"' in page.text


@pytest.mark.parametrize(("user_id", "error"), [("U404", "user_not_found"), (BOT, "cannot_dm_bot"), (SLACKBOT, "bot")])
async def test_who_cannot_be_written_to_is_refused_with_slacks_reason(slack: Slack, user_id: str, error: str) -> None:
    with pytest.raises(UpstreamRefused, match=error):
        await slack.open_dm(user_id)


async def test_who_has_left_cannot_be_written_to(sandbox: Sandbox, slack: Slack) -> None:
    member: Member = sandbox.slack.add_member("Gone")
    member.deleted = True
    with pytest.raises(UpstreamRefused, match="user_disabled"):
        await slack.open_dm(member.id)


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},  # Slack's internal_error, with 200
        {"status": 502},
        {"body": "reset"},
        {"body": "garbage"},
        {"body": "empty"},
    ],
)
@pytest.mark.parametrize("takes_effect", [True, False])
async def test_nobody_knows_of_a_message_until_he_has_looked(
    sandbox: Sandbox, slack: Slack, fault: dict[str, object], *, takes_effect: bool
) -> None:
    channel, began = await channel_to(slack, "ada@example.com"), just_now()
    sandbox.slack.switch(route="post_message", times=1, takes_effect=takes_effect, **fault)
    with pytest.raises(OutcomeUnknown):
        await slack.post(channel, text="Hello", key="order:21:cancelled")
    found = await slack.find_posted(channel, key="order:21:cancelled", since=began)
    assert (found is not None) is takes_effect
    if found is None:
        await slack.post(channel, text="Hello", key="order:21:cancelled")
    assert len(sandbox.slack.messages) == 1


async def test_a_key_is_looked_for_on_all_pages_and_not_before_its_time(sandbox: Sandbox, slack: Slack) -> None:
    channel, began = await channel_to(slack, "ada@example.com"), just_now()
    ts = await slack.post(channel, text="Hello", key="first")
    for number in range(PAGE_SIZE):
        await slack.post(channel, text="Hello", key=f"another {number}")
    assert await slack.find_posted(channel, key="first", since=began) == ts
    assert sandbox.slack.asked["read_messages"] == 2
    assert await slack.find_posted(channel, key="firs", since=began) is None
    assert await slack.find_posted(channel, key="first", since=began + timedelta(hours=1)) is None


async def test_what_only_reads_may_be_asked_again_whatever_happened(sandbox: Sandbox, slack: Slack) -> None:
    # a connection that was kept and breaks is replaced once, before anybody is told
    for times, fault in ((1, {"status": 500}), (1, {"status": 502}), (2, {"body": "reset"}), (1, {"body": "garbage"})):
        sandbox.slack.switch(times=times, **fault)
        with pytest.raises(UpstreamFailed) as failed:
            await slack.find_by_email("ada@example.com")
        assert not isinstance(failed.value, OutcomeUnknown)


# what it says of us


async def test_too_many_messages_pause_for_as_long_as_slack_says(sandbox: Sandbox, slack: Slack) -> None:
    channel = await channel_to(slack, "ada@example.com")
    sandbox.slack.switch(route="post_message", status=429, retry_after_seconds=30, times=1)
    with pytest.raises(UpstreamFailed) as failed:
        await slack.post(channel, text="Hello", key="k")
    assert failed.value.retry_after == timedelta(seconds=30)
    assert not isinstance(failed.value, OutcomeUnknown)
    assert failed.value.pause_queue


@pytest.mark.parametrize("error", ["ratelimited", "rate_limited", "message_limit_exceeded"])
async def test_too_many_calls_pause_also_where_slack_says_so_with_200(
    sandbox: Sandbox, slack: Slack, error: str
) -> None:
    channel = await channel_to(slack, "ada@example.com")
    sandbox.slack.says_no = error
    sandbox.slack.switch(retry_after_seconds=7)
    with pytest.raises(UpstreamFailed) as failed:
        await slack.post(channel, text="Hello", key="k")
    assert failed.value.retry_after == timedelta(seconds=7)
    assert not isinstance(failed.value, OutcomeUnknown)


@pytest.mark.parametrize("error", ["token_revoked", "account_inactive", "not_authed"])
async def test_every_word_for_a_token_that_is_none_stops_us(sandbox: Sandbox, slack: Slack, error: str) -> None:
    sandbox.slack.says_no = error
    with pytest.raises(Resting):
        await slack.open_dm("U1")
    assert slack.upstream.breaker.state is BreakerState.OPEN


@pytest.mark.parametrize(("status", "error"), [(401, "invalid_auth"), (403, "missing_scope, it wants chat:write")])
async def test_a_token_that_is_not_taken_is_not_tried_again_for_a_while(
    sandbox: Sandbox, slack: Slack, status: int, error: str
) -> None:
    sandbox.slack.switch(status=status)
    for _ in range(3):
        with pytest.raises(Resting):
            await slack.find_by_email("ada@example.com")
    assert sandbox.slack.asked.total() == 1
    assert slack.upstream.breaker.state is BreakerState.OPEN
    assert error in str(slack.upstream.last_error)


async def test_a_revoked_token_is_seen_by_each_call(sandbox: Sandbox, slack: Slack) -> None:
    sandbox.slack.token = "xoxb-renewed"
    with pytest.raises(Resting) as rest:
        await slack.check()
    assert rest.value.seconds == pytest.approx(300)


async def test_the_check_says_who_we_are(slack: Slack) -> None:
    assert await slack.check() == "orderup in the workspace Sandbox"


async def test_other_refusals_are_for_good(sandbox: Sandbox, slack: Slack) -> None:
    with pytest.raises(UpstreamRefused, match="channel_not_found"):
        await slack.post("D404", text="Hello", key="k")
    channel = await channel_to(slack, "ada@example.com")
    with pytest.raises(UpstreamRefused, match="no_text"):
        await slack.post(channel, text="", key="k")
    assert sandbox.slack.messages == []


def test_a_conversation_is_looked_at_beside_the_api(sandbox: Sandbox, slack: Slack) -> None:
    assert slack.link("D01/2") == f"{sandbox.base_url}/slack/app_redirect?channel=D01%2F2"
