"""What somebody sees who talks to the sandbox's Slack, and what its page shows of it."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from orderup.sandbox import Sandbox
from orderup.sandbox.slack import MOST_CHANNELS, MOST_MESSAGES
from tests.services.waiting import PATIENCE_SECONDS

TOKEN = {"Authorization": "Bearer xoxb-1"}


@pytest.fixture
async def bot(sandbox: Sandbox) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        base_url=f"{sandbox.base_url}/slack/api", headers=TOKEN, timeout=PATIENCE_SECONDS
    ) as client:
        yield client


@pytest.fixture
async def visitor(sandbox: Sandbox) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        base_url=f"{sandbox.base_url}/slack", follow_redirects=True, timeout=PATIENCE_SECONDS
    ) as client:
        yield client


async def told(bot: httpx2.AsyncClient, method: str, **given: Any) -> dict[str, Any]:
    answer = await bot.post(f"/{method}", json=given)
    assert answer.status_code == 200
    return dict(answer.json())


async def asked(bot: httpx2.AsyncClient, method: str, **given: Any) -> dict[str, Any]:
    answer = await bot.get(f"/{method}", params=given)
    assert answer.status_code == 200
    return dict(answer.json())


@pytest.mark.parametrize(
    ("header", "error"), [({}, "not_authed"), ({"Authorization": "Bearer xoxp-1"}, "invalid_auth")]
)
async def test_who_brings_no_token_of_a_bot_is_told_so_with_200(
    sandbox: Sandbox, header: dict[str, str], error: str
) -> None:
    async with httpx2.AsyncClient(timeout=PATIENCE_SECONDS) as client:
        answer = await client.post(f"{sandbox.base_url}/slack/api/auth.test", headers=header)
    assert (answer.status_code, answer.json()) == (200, {"ok": False, "error": error})


async def test_members_come_by_pages_until_the_cursor_is_empty(sandbox: Sandbox, bot: httpx2.AsyncClient) -> None:
    sandbox.slack.add_members(450)
    seen, cursor = [], ""
    for _ in range(10):
        page = await asked(bot, "users.list", limit=200, cursor=cursor)
        seen += [member["id"] for member in page["members"]]
        cursor = page["response_metadata"]["next_cursor"]
        if not cursor:
            break
    assert seen == list(sandbox.slack.members)
    assert (await asked(bot, "users.list", cursor="bm9uZQ=="))["error"] == "invalid_cursor"


async def test_metadata_is_told_only_to_who_asks_for_it(sandbox: Sandbox, bot: httpx2.AsyncClient) -> None:
    member = sandbox.slack.add_member("Zoë")
    channel = (await told(bot, "conversations.open", users=member.id))["channel"]["id"]
    metadata = {"event_type": "e", "event_payload": {"key": "k"}}
    posted = await told(bot, "chat.postMessage", channel=channel, text="Hello", metadata=metadata)
    [plain] = (await asked(bot, "conversations.history", channel=channel))["messages"]
    [full] = (await asked(bot, "conversations.history", channel=channel, include_all_metadata="true"))["messages"]
    assert (full["ts"], full["metadata"]) == (posted["ts"], metadata)
    assert "metadata" not in plain
    assert (await asked(bot, "conversations.history", channel=channel, oldest=posted["ts"]))["messages"] == []


async def test_methods_that_write_take_json_only(bot: httpx2.AsyncClient) -> None:
    form = await bot.post("/chat.postMessage", data={"channel": "D1", "text": "Hello"})
    assert form.json() == {"ok": False, "error": "invalid_arguments"}
    broken = await bot.post("/chat.postMessage", content=b"{", headers={"Content-Type": "application/json"})
    assert broken.json() == {"ok": False, "error": "invalid_json"}
    assert await told(bot, "chat.postMessage", channel="D1", text="Hello") == {
        "ok": False,
        "error": "channel_not_found",
    }


async def test_too_much_is_429_and_a_method_that_nobody_knows_is_an_error(
    sandbox: Sandbox, bot: httpx2.AsyncClient
) -> None:
    sandbox.slack.switch(status=429, retry_after_seconds=3, times=1)
    limited = await bot.post("/auth.test")
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "3")
    assert limited.json() == {"ok": False, "error": "ratelimited"}
    assert (await told(bot, "chat.unheardOf"))["ok"] is False


async def test_what_is_kept_has_an_end(sandbox: Sandbox, bot: httpx2.AsyncClient) -> None:
    members = [sandbox.slack.add_member(f"M {number}") for number in range(MOST_CHANNELS + 1)]
    opened = [await told(bot, "conversations.open", users=member.id) for member in members]
    assert len(sandbox.slack.channels) == MOST_CHANNELS
    last = opened[-1]["channel"]["id"]
    for _ in range(MOST_MESSAGES + 1):
        await told(bot, "chat.postMessage", channel=last, text="Hello")
    assert len(sandbox.slack.messages_to(members[-1])) == MOST_MESSAGES


async def test_the_page_shows_what_was_written_as_text(
    sandbox: Sandbox, bot: httpx2.AsyncClient, visitor: httpx2.AsyncClient
) -> None:
    member = sandbox.slack.add_member("<b>Zoë</b>")
    channel = (await told(bot, "conversations.open", users=member.id))["channel"]["id"]
    await told(bot, "chat.postMessage", channel=channel, text="<script>alert(1)</script>")
    page = (await visitor.get("/")).text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;b&gt;Zoë&lt;/b&gt;" in page
    assert "<script" not in page
    assert "<b>" not in page


async def test_a_visitor_adds_members_and_lets_them_leave(bot: httpx2.AsyncClient, visitor: httpx2.AsyncClient) -> None:
    page = await visitor.post("/members", data={"real_name": "Zoë", "email": "zoe@example.com", "display_name": ""})
    assert page.status_code == 200
    id = (await asked(bot, "users.lookupByEmail", email="zoe@example.com"))["user"]["id"]
    await visitor.post(f"/members/{id}")
    assert (await asked(bot, "users.lookupByEmail", email="zoe@example.com"))["error"] == "users_not_found"
    await visitor.post(f"/members/{id}")
    assert (await told(bot, "conversations.open", users=id))["ok"]
    assert (await visitor.post("/members", data={"real_name": " "})).status_code == 422
    assert (await visitor.post("/members/U404")).status_code == 404


async def test_a_visitor_chooses_what_it_says_no_with(bot: httpx2.AsyncClient, visitor: httpx2.AsyncClient) -> None:
    await visitor.post("/says-no", data={"error": "token_revoked"})
    assert await told(bot, "auth.test") == {"ok": False, "error": "token_revoked"}
    await visitor.post("/says-no", data={"error": ""})
    assert (await told(bot, "auth.test"))["ok"]
