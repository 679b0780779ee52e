"""The sandbox's Jira, as somebody without our client sees it; its board and its webhooks."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from orderup.sandbox import Sandbox, serve_sandbox
from orderup.sandbox.border import Refused
from orderup.sandbox.hooks import RETRIES
from orderup.sandbox.jira import MOST_ISSUES
from orderup.sandbox.jql import Unreadable, read_jql
from tests.integrations.stranger import Stranger, hangs_up, meet_stranger, says
from tests.sandbox.test_page import Forms
from tests.services.waiting import PATIENCE_SECONDS

ISSUE = "/rest/api/3/issue"
DOCUMENT = {
    "version": 1,
    "type": "doc",
    "content": [
        {"type": "paragraph", "content": [{"type": "text", "text": "<b>Order</b> 21 "}]},
        {
            "type": "paragraph",
            "content": [
                {
                    "type": "text",
                    "text": "21",
                    "marks": [{"type": "link", "attrs": {"href": 'https://shop.example/"><script>'}}],
                },
                {"type": "hardBreak"},
            ],
        },
        {
            "type": "table",
            "content": [
                {"type": "tableRow", "content": [{"type": "tableHeader", "content": [{"type": "paragraph"}]}]},
                {"type": "tableRow", "content": [{"type": "tableCell", "content": [{"type": "rule"}]}]},
            ],
        },
    ],
}
FIELDS = {"project": {"key": "BAKE"}, "issuetype": {"name": "Task"}, "summary": "<i>Day</i>", "labels": ["a", "b"]}


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[httpx2.AsyncClient]:
    url = f"{sandbox.base_url}/jira"
    async with httpx2.AsyncClient(base_url=url, auth=("ann@example.com", "token"), timeout=PATIENCE_SECONDS) as client:
        yield client


@pytest.fixture
async def visitor(sandbox: Sandbox) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=sandbox.base_url, follow_redirects=True, timeout=PATIENCE_SECONDS) as client:
        yield client


async def make(client: httpx2.AsyncClient, **fields: Any) -> str:
    answer = await client.post(ISSUE, json={"fields": {**FIELDS, **fields}})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["key"])


async def test_an_issue_is_made_read_and_changed(sandbox: Sandbox, client: httpx2.AsyncClient) -> None:
    answer = await client.post(ISSUE, json={"fields": {**FIELDS, "description": DOCUMENT, "duedate": "2026-11-21"}})
    made = answer.json()
    assert (answer.status_code, made["id"], made["key"]) == (201, "10000", "BAKE-1")
    assert made["self"] == f"{sandbox.base_url}/jira{ISSUE}/10000"
    for name in ("BAKE-1", "10000"):
        fields = (await client.get(f"{ISSUE}/{name}")).json()["fields"]
        assert fields["description"] == DOCUMENT
        assert fields["status"] == {"id": "1", "name": "To Do", "statusCategory": {"key": "new", "name": "To Do"}}
        assert fields["updated"].endswith("+0000")
    assert set((await client.get(f"{ISSUE}/BAKE-1?fields=labels,summary")).json()["fields"]) == {"labels", "summary"}
    assert (await client.put(f"{ISSUE}/BAKE-1", json={"fields": {"labels": []}})).status_code == 204
    assert sandbox.jira.issues["BAKE-1"].labels == []


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer x"}, {"Authorization": "Basic !"}])
async def test_who_does_not_say_who_he_is_is_refused(sandbox: Sandbox, header: dict[str, str]) -> None:
    async with httpx2.AsyncClient(timeout=PATIENCE_SECONDS) as client:
        answer = await client.post(f"{sandbox.base_url}/jira{ISSUE}", json={"fields": FIELDS}, headers=header)
    assert (answer.status_code, answer.json()["status-code"]) == (401, 401)
    assert sandbox.jira.issues == {}


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"project": {"key": "no such"}}, "project"),
        ({"issuetype": {}}, "issuetype"),
        ({"summary": ""}, "summary"),
        ({"summary": "a\nb"}, "summary"),
        ({"summary": "x" * 256}, "summary"),
        ({"labels": ["a b"]}, "labels"),
        ({"labels": "a"}, "labels"),
        ({"duedate": "21.11.2026"}, "duedate"),
        ({"duedate": "20261121"}, "duedate"),
        ({"description": "words"}, "description"),
        ({"description": {"version": 1, "type": "doc", "content": [{"type": "text", "text": "x"}]}}, "description"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_field_that_is_wrong_is_named(
    sandbox: Sandbox, client: httpx2.AsyncClient, fields: dict[str, Any], wrong: str
) -> None:
    answer = await client.post(ISSUE, json={"fields": {**FIELDS, **fields}})
    assert answer.status_code == 400
    assert (answer.json()["errorMessages"], list(answer.json()["errors"])) == ([], [wrong])
    assert sandbox.jira.issues == {}


async def test_a_body_that_is_none_is_refused_and_what_is_not_there_is_404(client: httpx2.AsyncClient) -> None:
    for body in (b"", b"[]", b"{}", b"\xff", b'{"fields":1}'):
        assert (await client.post(ISSUE, content=body)).status_code == 400
    await make(client)
    for body in (b"", b"[]", b"{}"):
        assert (await client.post(f"{ISSUE}/BAKE-1/remotelink", content=body)).status_code == 400
        assert (await client.post(f"{ISSUE}/BAKE-1/transitions", content=body)).status_code == 400
        assert (await client.post("/rest/api/3/search/jql", content=body)).status_code == 400
    for method, path in (("GET", ""), ("PUT", ""), ("POST", "/remotelink"), ("POST", "/transitions")):
        answer = await client.request(method, f"{ISSUE}/BAKE-9{path}", json={})
        assert (answer.status_code, answer.json()["errors"]) == (404, {})
    assert (await client.post("/rest/api/3/search", json={})).status_code == 404


async def test_a_link_is_made_and_replaced(client: httpx2.AsyncClient) -> None:
    await make(client)
    body = {"globalId": "x", "object": {"url": "https://shop.example", "title": "x"}}
    first, second = [await client.post(f"{ISSUE}/BAKE-1/remotelink", json=body) for _ in range(2)]
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]


async def test_a_transition_closes_an_issue(sandbox: Sandbox, client: httpx2.AsyncClient) -> None:
    await make(client)
    path = f"{ISSUE}/BAKE-1/transitions"
    [done] = [each for each in (await client.get(path)).json()["transitions"] if each["name"] == "Done"]
    assert (await client.post(path, json={"transition": {"id": done["id"]}})).status_code == 204
    assert sandbox.jira.issues["BAKE-1"].is_closed


async def test_search_gives_ids_only_unless_fields_are_asked_for_and_pages(client: httpx2.AsyncClient) -> None:
    for _ in range(3):
        await make(client)
    asked: dict[str, Any] = {"jql": 'project = BAKE AND labels = "a" ORDER BY created ASC', "maxResults": 2}
    first = (await client.post("/rest/api/3/search/jql", json=asked)).json()
    assert first["issues"] == [{"id": "10000"}, {"id": "10001"}]
    assert not first["isLast"]
    asked |= {"nextPageToken": first["nextPageToken"], "fields": ["key", "labels"]}
    second = (await client.post("/rest/api/3/search/jql", json=asked)).json()
    assert [(each["key"], each["fields"]) for each in second["issues"]] == [("BAKE-3", {"labels": ["a", "b"]})]
    assert (second["isLast"], second["nextPageToken"]) == (True, None)
    wrong = await client.post("/rest/api/3/search/jql", json={**asked, "nextPageToken": "x"})
    assert wrong.status_code == 400


@pytest.mark.parametrize(
    "jql",
    [
        "",
        "ORDER BY created",
        "project",
        "project = ",
        "project = BAKE labels = x",
        "project = BAKE OR labels = x",
        'labels = "x" OR project = "BAKE"',
        'labels = "x"" ',
        'labels = "x',
        'labels = "a\nb"',
        "labels >= x",
        "summary = x",
        "updated >= yesterday",
        "project = BAKE ORDER BY rank",
        "project = BAKE ORDER BY created UPWARDS",
        "project = = ",
    ],
)
def test_a_query_that_cannot_be_read_is_refused(jql: str) -> None:
    with pytest.raises(Unreadable):
        read_jql(jql)


async def test_only_so_many_issues_are_kept(sandbox: Sandbox, client: httpx2.AsyncClient) -> None:
    for _ in range(3):
        await make(client)
    issue = sandbox.jira.issues["BAKE-2"]
    sandbox.jira.issues.update({f"X-{number}": issue for number in range(MOST_ISSUES - 3)})
    await make(client)
    assert len(sandbox.jira.issues) == MOST_ISSUES
    assert "BAKE-1" not in sandbox.jira.issues
    assert "BAKE-4" in sandbox.jira.issues


# the board


async def test_the_board_shows_what_was_written_as_words(
    client: httpx2.AsyncClient, visitor: httpx2.AsyncClient
) -> None:
    await make(client, description=DOCUMENT, duedate="2026-11-21")
    link = {"url": "javascript:alert(1)", "title": "<u>x</u>"}
    await client.post(f"{ISSUE}/BAKE-1/remotelink", json={"globalId": "x", "object": link})
    page = (await visitor.get("/jira")).text
    for words in ("&lt;i&gt;Day&lt;/i&gt;", "&lt;b&gt;Order&lt;/b&gt; 21", "&lt;u&gt;x&lt;/u&gt;", "Due 2026-11-21."):
        assert words in page
    for markup in ("<b>", "<i>", "<u>", "<script", "javascript:"):
        assert markup not in page


async def test_a_person_labels_closes_and_deletes_on_the_board(
    sandbox: Sandbox, client: httpx2.AsyncClient, visitor: httpx2.AsyncClient
) -> None:
    await make(client)
    action = "/jira/page/issues/BAKE-1"
    form = Forms((await visitor.get("/jira/")).text).found[action]
    assert form == {"labels": "a b", "status": "To Do"}
    await visitor.post(action, data={"labels": "a  missing:flour a", "status": "Done"})
    issue = sandbox.jira.issues["BAKE-1"]
    assert (issue.labels, issue.is_closed) == (["a", "missing:flour"], True)
    page = await visitor.post(action, data={"labels": "a", "status": "Shut"})
    assert (page.status_code, "status: is one of To Do, In Progress, Done" in page.text) == (422, True)
    await visitor.post(action, data={"delete": "yes"})
    assert sandbox.jira.issues == {}
    assert (await visitor.post(action, data={"delete": "yes"})).status_code == 404


async def test_search_is_delayed_from_the_board(
    sandbox: Sandbox, client: httpx2.AsyncClient, visitor: httpx2.AsyncClient
) -> None:
    await visitor.post("/jira/page/search", data={"seconds": "3600"})
    await make(client)
    found = await client.post("/rest/api/3/search/jql", json={"jql": "project = BAKE"})
    assert found.json()["issues"] == []
    for wrong in ("soon", "-1", "nan"):
        assert (await visitor.post("/jira/page/search", data={"seconds": wrong})).status_code == 422
    assert sandbox.jira.search_delay_seconds == 3600


# webhooks


@pytest.fixture
async def shop(sandbox: Sandbox) -> AsyncIterator[Stranger]:
    """Who is told."""
    async with meet_stranger() as shop:
        sandbox.jira.send_hooks(f"{shop.url}/hook", "s3cret")
        yield shop


async def until_sent(sandbox: Sandbox) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        await sandbox.jira.ledger.until(lambda _ledger: all(each.has_ended for each in sandbox.jira.hooks.deliveries))


async def test_closing_an_issue_is_told_signed(sandbox: Sandbox, client: httpx2.AsyncClient, shop: Stranger) -> None:
    key = await make(client)
    sandbox.jira.move(key, status="In Progress")
    assert not sandbox.jira.hooks.deliveries
    sandbox.jira.move(key, labels=["missing-ingredients"])
    await until_sent(sandbox)
    [told] = shop.asked
    assert told.line == "POST /base/hook"
    digest = hmac.new(b"s3cret", told.body, hashlib.sha256).hexdigest()
    assert told.headers["x-hub-signature"] == f"sha256={digest}"
    assert told.headers["x-atlassian-webhook-identifier"] == sandbox.jira.hooks.deliveries[0].id
    assert "x-atlassian-webhook-retry" not in told.headers
    event = json.loads(told.body)
    assert (event["webhookEvent"], event["issue"]["key"]) == ("jira:issue_updated", key)
    assert event["issue"]["fields"]["labels"] == ["missing-ingredients"]
    assert event["issue"]["fields"]["status"]["statusCategory"]["key"] == "done"
    assert event["changelog"]["items"][0]["fromString"] == "In Progress"


async def test_a_label_that_a_closed_issue_is_given_later_is_told_too(
    sandbox: Sandbox, client: httpx2.AsyncClient, shop: Stranger
) -> None:
    key = await make(client)
    sandbox.jira.move(key)
    sandbox.jira.move(key, labels=["missing-ingredients"])
    await until_sent(sandbox)
    assert sorted(json.loads(each.body)["issue"]["fields"]["labels"] for each in shop.asked) == [
        ["a", "b"],
        ["missing-ingredients"],
    ]


@pytest.mark.parametrize(("status", "times"), [(200, 1), (404, 1), (401, 1), (503, RETRIES + 1), (429, RETRIES + 1)])
async def test_what_nobody_took_is_sent_again_under_the_same_name(status: int, times: int) -> None:
    async with serve_sandbox(scale=100_000) as sandbox, meet_stranger() as shop:
        sandbox.jira.send_hooks(shop.url, "s3cret")
        shop.says = says(status)
        async with httpx2.AsyncClient(
            base_url=f"{sandbox.base_url}/jira", auth=("a", "b"), timeout=PATIENCE_SECONDS
        ) as own:
            sandbox.jira.move(await make(own))
        await until_sent(sandbox)
    assert len({each.headers["x-atlassian-webhook-identifier"] for each in shop.asked}) == 1
    retries = [each.headers.get("x-atlassian-webhook-retry") for each in shop.asked]
    assert retries == [None, *map(str, range(1, times))]
    assert sandbox.jira.hooks.deliveries[0].answers == [str(status)] * times


async def test_who_is_away_is_told_when_he_is_back() -> None:
    async with serve_sandbox(scale=100_000) as sandbox, meet_stranger() as shop:
        sandbox.jira.send_hooks(shop.url, "s3cret")
        hung_up = 0

        async def is_away_at_first(writer: asyncio.StreamWriter) -> None:
            nonlocal hung_up
            hung_up += 1
            await (hangs_up if hung_up <= 2 else says(200))(writer)

        shop.says = is_away_at_first
        async with httpx2.AsyncClient(
            base_url=f"{sandbox.base_url}/jira", auth=("a", "b"), timeout=PATIENCE_SECONDS
        ) as client:
            sandbox.jira.move(await make(client))
        await until_sent(sandbox)
        [delivery] = sandbox.jira.hooks.deliveries
        assert delivery.answers == ["RemoteProtocolError", "RemoteProtocolError", "200"]


async def test_the_webhook_is_set_and_taken_away_on_the_board(
    sandbox: Sandbox, client: httpx2.AsyncClient, visitor: httpx2.AsyncClient, shop: Stranger
) -> None:
    key = await make(client)
    await visitor.post("/jira/page/webhook", data={"url": ""})
    sandbox.jira.move(key)
    assert not sandbox.jira.hooks.deliveries
    await visitor.post("/jira/page/webhook", data={"url": f"{shop.url}/other", "secret": "x"})
    sandbox.jira.move(key)
    await until_sent(sandbox)
    assert shop.asked[0].line == "POST /base/other"
    page = (await visitor.get("/jira/")).text
    assert f"<td>{key}</td><td>200</td>" in page
    assert (await visitor.post("/jira/page/webhook", data={"url": "file:///etc/passwd"})).status_code == 422


async def test_what_is_asked_of_it_in_python_is_checked_too(sandbox: Sandbox) -> None:
    with pytest.raises(Refused):
        sandbox.jira.move("BAKE-1")
    with pytest.raises(Refused):
        sandbox.jira.send_hooks("ftp://x")


async def test_a_link_to_an_issue_leads_to_it_on_the_board(
    client: httpx2.AsyncClient, visitor: httpx2.AsyncClient
) -> None:
    key = await make(client)
    page = await visitor.get(f"/jira/browse/{key}")
    assert page.url.fragment == key
    assert f'id="{key}"' in page.text
