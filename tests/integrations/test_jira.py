"""Our issues at Jira, against the sandbox's Jira over real requests."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from orderup.errors import Invalid, Misconfigured, OutcomeUnknown, Resting, UpstreamFailed, UpstreamRefused
from orderup.integrations.adf import document, paragraph, table, text
from orderup.integrations.jira import IssueRef, Jira, open_jira, quoted
from orderup.integrations.upstream import UpstreamMetrics
from orderup.sandbox import Sandbox, serve_sandbox
from orderup.settings import Settings
from tests.integrations.stranger import meet_stranger, says
from tests.integrations.test_adf import AWKWARD, problems

DESCRIPTION = document(paragraph("Order ", text("21", link="https://shop.example/orders/21")), table(["a"], [["b"]]))
DAY = date(2026, 11, 21)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with serve_sandbox(scale=1_000) as sandbox:
        yield sandbox


def settings_for(base_url: str, **given: str) -> Settings:
    return Settings(
        jira_base_url=f"{base_url}/jira",
        jira_email="baker@example.com",
        jira_api_token=SecretStr("a token"),
        **given,  # type: ignore[arg-type]
    )


@pytest.fixture
async def jira(sandbox: Sandbox) -> AsyncIterator[Jira]:
    async with open_jira(settings_for(sandbox.base_url), UpstreamMetrics(CollectorRegistry())) as jira:
        yield jira


async def make(jira: Jira, label: str = "day-1", *, summary: str = "Ingredients") -> IssueRef:
    return await jira.create_issue(summary=summary, description=DESCRIPTION, labels=["orderup", label], due=DAY)


async def test_an_issue_is_made_as_it_was_asked_for(sandbox: Sandbox, jira: Jira) -> None:
    made = await make(jira)
    [issue] = sandbox.jira.issues.values()
    assert made == IssueRef(issue.id, issue.key) == IssueRef("10000", "BAKE-1")
    assert (issue.summary, issue.labels, issue.due) == ("Ingredients", ["orderup", "day-1"], "2026-11-21")
    assert issue.description == DESCRIPTION
    assert problems(issue.description) == []


async def test_an_issue_needs_no_day(sandbox: Sandbox, jira: Jira) -> None:
    await jira.create_issue(summary="x", description=DESCRIPTION, labels=[], due=None)
    assert sandbox.jira.issues["BAKE-1"].due is None


async def test_awkward_words_are_words(sandbox: Sandbox, jira: Jira) -> None:
    made = await jira.create_issue(
        summary=AWKWARD + "!" * 300, description=document(paragraph(AWKWARD)), labels=["x"], due=DAY
    )
    issue = sandbox.jira.issues[made.key]
    assert issue.summary.startswith(
        'O\'Brien "Bob" <script>alert(1)</script> {"type":"rule"} \\ gnirts 🍰[31m Bcc: all'
    )
    assert len(issue.summary) == 255
    assert problems(issue.description) == []
    assert await jira.link(made.key, global_id="orderup:21", url="https://shop.example/21", title=AWKWARD)


async def test_an_issue_is_found_by_its_label_oldest_first_and_at_most_two(sandbox: Sandbox, jira: Jira) -> None:
    made = [await make(jira, "day-1") for _ in range(3)]
    await make(jira, "day-2")
    assert await jira.find_issues("day-1") == made[:2]
    assert await jira.find_issues("day-3") == []
    assert sandbox.jira.asked["search"] == 2


@pytest.mark.parametrize(
    "label", ['x" OR labels = "day-1', "x\\", 'x\\" OR labels = \\"day-1', 'x"', "a\nb", "\u202e🍰", "day-1)", "'", ""]
)
async def test_a_label_is_one_whatever_stands_in_it(jira: Jira, label: str) -> None:
    """The stand-in refuses a query that it cannot read, as Jira does."""
    await make(jira, "day-1")
    assert await jira.find_issues(label) == []


async def test_a_quoted_label_finds_itself(jira: Jira) -> None:
    label = '"\\"x\\\\'
    made = await make(jira, label)
    assert await jira.find_issues(label) == [made]
    assert quoted('a"b\\c') == '"a\\"b\\\\c"'


async def test_a_new_issue_may_be_found_later_only_and_is_read_at_once(sandbox: Sandbox, jira: Jira) -> None:
    sandbox.jira.delay_search(3600)
    made = await make(jira)
    assert await jira.find_issues("day-1") == []
    found = await jira.read_issue(made.key)
    assert found is not None
    assert (found.id, found.key, found.summary) == (made.id, made.key, "Ingredients")
    sandbox.jira.delay_search(0)
    assert await jira.find_issues("day-1") == [made]


async def test_an_issue_is_read_as_it_stands(sandbox: Sandbox, jira: Jira) -> None:
    made = await make(jira)
    found = await jira.read_issue(made.key)
    assert found is not None
    assert (found.labels, found.is_closed) == (("orderup", "day-1"), False)
    assert abs(datetime.now(UTC) - found.updated) < timedelta(minutes=1)
    sandbox.jira.move(made.key, labels=["missing:flour"], status="Done")
    found = await jira.read_issue(made.key)
    assert found is not None
    assert (found.labels, found.is_closed) == (("missing:flour",), True)
    assert await jira.read_issue("BAKE-99") is None


async def test_a_description_is_set_anew_and_labels_only_if_they_are_given(sandbox: Sandbox, jira: Jira) -> None:
    made = await make(jira)
    again = document(paragraph("Nothing any more"))
    for _ in range(2):
        assert await jira.update_issue(made.key, description=again)
    issue = sandbox.jira.issues[made.key]
    assert (issue.description, issue.labels) == (again, ["orderup", "day-1"])
    assert await jira.update_issue(made.key, description=again, labels=[])
    assert issue.labels == []
    sandbox.jira.delete(made.key)
    assert not await jira.update_issue(made.key, description=again)


async def test_a_link_is_made_once_and_replaced(sandbox: Sandbox, jira: Jira) -> None:
    made = await make(jira)
    for title in ("Order 21", "Order 21, cancelled"):
        assert await jira.link(made.key, global_id="orderup:order:21", url="https://shop.example/21", title=title)
    [link] = sandbox.jira.issues[made.key].links.values()
    assert link["object"] == {"url": "https://shop.example/21", "title": "Order 21, cancelled"}
    assert not await jira.link("BAKE-99", global_id="x", url="https://shop.example/21", title="x")


async def test_closed_issues_are_found_page_by_page(sandbox: Sandbox, jira: Jira) -> None:
    keys = [(await make(jira, "missing")).key for _ in range(121)]
    assert await jira.find_closed("missing") == []
    for key in keys[:-1]:
        sandbox.jira.move(key)
    sandbox.jira.issues[keys[0]].updated -= timedelta(days=3)
    found = await jira.find_closed("missing")
    assert [each.key for each in found] == keys[1:-1]
    assert all(each.is_closed for each in found)
    assert sandbox.jira.asked["search"] == 1 + 3
    assert len(await jira.find_closed("missing", days=4)) == 120


# what goes wrong


async def test_an_issue_that_may_have_been_made_is_looked_for(sandbox: Sandbox, jira: Jira) -> None:
    sandbox.jira.switch(body="reset", route="create_issue", times=1, takes_effect=True)
    with pytest.raises(OutcomeUnknown):
        await make(jira)
    [found] = await jira.find_issues("day-1")
    assert found.key in sandbox.jira.issues
    assert len(sandbox.jira.issues) == 1


@pytest.mark.parametrize("switched", [{"body": "reset"}, {"status": 500}, {"body": "garbage"}, {"body": "empty"}])
@pytest.mark.parametrize("takes_effect", [False, True])
async def test_of_all_calls_only_the_one_that_makes_an_issue_is_not_repeated(
    sandbox: Sandbox, jira: Jira, switched: dict[str, object], *, takes_effect: bool
) -> None:
    made = await make(jira)
    sandbox.jira.switch(takes_effect=takes_effect, **switched)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: make(jira),
        lambda: jira.find_issues("x"),
        lambda: jira.read_issue(made.key),
        jira.check,
        lambda: jira.find_closed("x"),
    ]
    if switched not in ({"body": "garbage"}, {"body": "empty"}):  # to these a yes is enough, without words
        calls += [
            lambda: jira.update_issue(made.key, description=DESCRIPTION),
            lambda: jira.link(made.key, global_id="x", url="https://shop.example/", title="x"),
        ]
    for number, call in enumerate(calls):
        with pytest.raises(UpstreamFailed) as caught:
            await call()
        assert isinstance(caught.value, OutcomeUnknown) is (number == 0)
        jira.upstream.breaker.succeeded()


async def test_what_jira_says_is_wrong_is_told_from_both_places(sandbox: Sandbox, jira: Jira) -> None:
    with pytest.raises(UpstreamRefused, match=r"Jira answered 400: .*labels: The label contains spaces"):
        await jira.create_issue(summary="", description=DESCRIPTION, labels=["a b"], due=DAY)
    with pytest.raises(UpstreamRefused, match=r"summary: You must specify a summary"):
        await jira.create_issue(summary="", description=DESCRIPTION, labels=["a b"], due=DAY)
    sandbox.jira.switch(status=403)
    with pytest.raises(UpstreamRefused, match="Jira answered 403: You do not have permission to perform this"):
        await make(jira)
    assert sandbox.jira.issues == {}


async def test_a_no_without_words_and_one_in_other_words_are_told_as_they_are() -> None:
    async with meet_stranger() as stranger:
        settings = Settings(jira_base_url=stranger.url, jira_email="a@b.c", jira_api_token=SecretStr("x"))
        async with open_jira(settings, UpstreamMetrics(CollectorRegistry())) as jira:
            for body, said in ((b"{}", "400: {}"), (b"<html>\nno", "400: <html> no"), (b'{"errors":[]}', "400: {")):
                stranger.says = says(400, body)
                with pytest.raises(UpstreamRefused, match=f"answered {said}"):
                    await make(jira)


async def test_the_path_of_a_base_address_stays_and_who_we_are_is_said() -> None:
    """A token with scopes works at api.atlassian.com/ex/jira/CLOUD_ID only."""
    async with meet_stranger() as stranger:
        stranger.says = says(201, b'{"id":"1","key":"BAKE-1"}')
        settings = Settings(
            jira_base_url=f"{stranger.url}/ex/jira/11-22",
            jira_browse_url="https://bakery.atlassian.net",
            jira_email="zoë@example.com",
            jira_api_token=SecretStr("a:token"),
        )
        async with open_jira(settings, UpstreamMetrics(CollectorRegistry())) as jira:
            await make(jira)
            assert jira.browse("BAKE-1") == "https://bakery.atlassian.net/browse/BAKE-1"
        [asked] = stranger.asked
        assert asked.line == "POST /base/ex/jira/11-22/rest/api/3/issue"
        assert asked.headers["authorization"] == "Basic em/Dq0BleGFtcGxlLmNvbTphOnRva2Vu"
        assert json.loads(asked.body)["fields"]["project"] == {"key": "BAKE"}


async def test_dates_and_shapes_that_jira_never_sends_are_no_answer() -> None:
    issue = {
        "id": "1",
        "key": "BAKE-1",
        "fields": {"summary": "x", "labels": [], "status": {"statusCategory": {"key": "done"}}, "updated": "soon"},
    }
    async with meet_stranger() as stranger:
        settings = Settings(jira_base_url=stranger.url, jira_email="a@b.c", jira_api_token=SecretStr("x"))
        async with open_jira(settings, UpstreamMetrics(CollectorRegistry())) as jira:
            stranger.says = says(200, json.dumps(issue).encode())
            with pytest.raises(UpstreamFailed, match="cannot be read"):
                await jira.read_issue("BAKE-1")
            stranger.says = says(200, json.dumps({"issues": [issue]}).encode())
            with pytest.raises(UpstreamFailed, match="cannot be read"):
                await jira.find_closed("x")


async def test_who_asks_for_a_rest_is_given_it(sandbox: Sandbox, jira: Jira) -> None:
    for status in (429, 503):
        sandbox.jira.switch(status=status, retry_after_seconds=40, times=1)
        with pytest.raises(UpstreamFailed) as caught:
            await make(jira)
        assert isinstance(caught.value, OutcomeUnknown) == (status == 503)
        assert caught.value.retry_after == timedelta(seconds=40)
    assert (await make(jira)).key == "BAKE-1"


async def test_a_token_that_was_revoked_is_not_tried_again_and_again(sandbox: Sandbox, jira: Jira) -> None:
    sandbox.jira.switch(status=401)
    for _ in range(3):
        with pytest.raises(Resting) as caught:
            await make(jira)
        assert caught.value.seconds == pytest.approx(300, abs=60)
    assert sandbox.jira.asked.total() == 1
    assert jira.upstream.last_error is not None


async def test_a_key_that_is_none_leads_nowhere(sandbox: Sandbox, jira: Jira) -> None:
    for key in ("../project/BAKE", "BAKE-1/../../x", "BAKE-1?x=", "", ".", "BAKE-1\n"):
        with pytest.raises(Invalid, match="no key of an issue"):
            await jira.read_issue(key)
        with pytest.raises(Invalid):
            await jira.update_issue(key, description=DESCRIPTION)
        with pytest.raises(Invalid):
            await jira.link(key, global_id="x", url="https://x.example", title="x")
    assert sandbox.jira.asked.total() == 0


async def test_the_check_says_what_we_may_see_and_changes_nothing(sandbox: Sandbox, jira: Jira) -> None:
    assert await jira.check() == "sees the project BAKE, Bake"
    settings = settings_for(sandbox.base_url, jira_project="no project")
    async with open_jira(settings, UpstreamMetrics(CollectorRegistry())) as elsewhere:
        with pytest.raises(UpstreamRefused, match="404: No project could be found with key 'no project'"):
            await elsewhere.check()
    assert sandbox.jira.asked == {"read_project": 2}


async def test_without_an_address_there_is_no_jira() -> None:
    with pytest.raises(Misconfigured, match="JIRA_BASE_URL"):
        async with open_jira(Settings(), UpstreamMetrics(CollectorRegistry())):
            pass
