"""What somebody sees who talks to the sandbox's Google, and what its page shows of it."""

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import jwt
import pytest

from orderup.integrations.google import GRANT, throw_away_key
from orderup.sandbox import Sandbox
from orderup.sandbox.google import DOCUMENT, FOLDER, MOST_TOKENS, mask_of
from tests.services.waiting import PATIENCE_SECONDS

KEY = throw_away_key("http://anywhere")
FILES = "/drive/v3/files"


def statement(**claims: Any) -> str:
    now = int(time.time())
    said = {"iss": "a@b.example", "scope": "s", "aud": "x", "iat": now, "exp": now + 3600} | claims
    return jwt.encode({name: value for name, value in said.items() if value}, KEY.private_key, algorithm="RS256")


@pytest.fixture
async def stranger(sandbox: Sandbox) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=f"{sandbox.base_url}/google", timeout=PATIENCE_SECONDS) as client:
        yield client


@pytest.fixture
async def account(stranger: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """With a token."""
    stranger.headers["Authorization"] = f"Bearer {(await token_for(stranger, statement())).json()['access_token']}"
    return stranger


@pytest.fixture
async def visitor(sandbox: Sandbox) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        base_url=f"{sandbox.base_url}/google", follow_redirects=True, timeout=PATIENCE_SECONDS
    ) as client:
        yield client


async def token_for(client: httpx2.AsyncClient, assertion: str) -> httpx2.Response:
    return await client.post("/token", data={"grant_type": GRANT, "assertion": assertion})


async def make(account: httpx2.AsyncClient, name: str, **more: Any) -> str:
    answer = await account.post(FILES, json={"name": name, "mimeType": DOCUMENT, **more})
    assert answer.status_code == 200
    return str(answer.json()["id"])


async def found(account: httpx2.AsyncClient, q: str, **more: str) -> list[str]:
    answer = await account.get(FILES, params={"q": q, "orderBy": "createdTime", **more})
    assert answer.status_code == 200, answer.text
    return [file["name"] for file in answer.json()["files"]]


# tokens


@pytest.mark.parametrize(
    "state",
    [
        lambda: "",
        lambda: "no.jwt.atall",
        lambda: statement(exp=int(time.time()) - 1000),
        lambda: statement(exp=int(time.time()) + 7200),
        lambda: statement(iat=int(time.time()) + 2000, exp=int(time.time()) + 3000),
        lambda: statement(iss=None),
        lambda: statement(scope=None),
        lambda: jwt.encode({"iss": "a", "scope": "s", "aud": "x", "iat": 1, "exp": 2}, "x" * 32, algorithm="HS256"),
    ],
    ids=["nothing", "no token", "over", "too long", "not yet", "of nobody", "for nothing", "by a shared key"],
)
async def test_a_statement_that_says_not_all_that_is_to_be_said_gets_no_token(
    stranger: httpx2.AsyncClient, state: Callable[[], str]
) -> None:
    refused = await token_for(stranger, state())  # stated now: the times in it count
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")


async def test_another_grant_gets_no_token(stranger: httpx2.AsyncClient) -> None:
    refused = await stranger.post("/token", data={"grant_type": "password"})
    assert (refused.status_code, refused.json()["error"]) == (400, "unsupported_grant_type")


async def test_without_a_token_nothing_is_told_or_done(sandbox: Sandbox, stranger: httpx2.AsyncClient) -> None:
    for header in ({}, {"Authorization": "Bearer ya29.invented"}):
        refused = await stranger.post(FILES, json={"name": "x"}, headers=header)
        assert (refused.status_code, refused.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
    assert not sandbox.drive.files


async def test_only_the_newest_tokens_are_kept(sandbox: Sandbox, stranger: httpx2.AsyncClient) -> None:
    for _ in range(MOST_TOKENS + 1):
        await token_for(stranger, statement())
    assert len(sandbox.drive.tokens) == MOST_TOKENS


# files


async def test_a_search_knows_names_kinds_folders_properties_and_the_bin(
    sandbox: Sandbox, account: httpx2.AsyncClient
) -> None:
    folder = await make(account, "O'Brien's", mimeType=FOLDER)
    one = await make(account, "One", parents=[folder], appProperties={"k": "it's \\"})
    await make(account, "Two")
    assert await found(account, r"name = 'O\'Brien\'s' and mimeType = 'application/vnd.google-apps.folder'") == [
        "O'Brien's"
    ]
    assert await found(account, f"'{folder}' in parents and trashed = false") == ["One"]
    assert await found(account, r"appProperties has { key='k' and value='it\'s \\' }") == ["One"]
    assert await found(account, "") == ["O'Brien's", "One", "Two"]
    sandbox.drive.files[one].trashed = True
    assert await found(account, "trashed = true") == ["One"]


@pytest.mark.parametrize("q", ["name = 'a'b'", "nmae = 'a'", "name = 'a' and ", "name = 'a' or name = 'b'", "x"])
async def test_a_search_that_is_none_is_400(account: httpx2.AsyncClient, q: str) -> None:
    refused = await account.get(FILES, params={"q": q})
    assert (refused.status_code, refused.json()["error"]["errors"][0]["location"]) == (400, "q")


async def test_a_list_comes_by_pages(account: httpx2.AsyncClient) -> None:
    for number in range(5):
        await make(account, f"No. {number}")
    seen: list[str] = []
    more: dict[str, str] = {}
    for _ in range(5):
        page = (await account.get(FILES, params={"pageSize": "2", "orderBy": "createdTime", **more})).json()
        seen += [file["name"] for file in page["files"]]
        if "nextPageToken" not in page:
            break
        more = {"pageToken": page["nextPageToken"]}
    assert seen == [f"No. {number}" for number in range(5)]


async def test_only_the_fields_that_are_asked_for_are_told(account: httpx2.AsyncClient) -> None:
    id = await make(account, "One", appProperties={"k": "v"})
    assert (await account.get(f"{FILES}/{id}")).json().keys() == {"kind", "id", "name", "mimeType"}
    told = (await account.get(f"{FILES}/{id}", params={"fields": "id,appProperties(k)"})).json()
    assert told == {"id": id, "appProperties": {"k": "v"}}
    assert (await account.get(f"{FILES}/{id}", params={"fields": "id("})).status_code == 400
    assert (await account.get("/drive/v3/about")).status_code == 400


@pytest.mark.parametrize("fields", ["", "a(", "a)", "(a)", "a;b", "a(b))"])
def test_fields_that_are_none_are_noticed(fields: str) -> None:
    assert mask_of(fields) is None


async def test_a_file_that_cannot_be_is_refused(sandbox: Sandbox, account: httpx2.AsyncClient) -> None:
    for given, status in [
        ({"name": "x", "parents": ["nowhere"]}, 404),
        ({"name": "x", "parents": ["root", "root"]}, 400),
        ({"name": "x", "appProperties": {"k": "x" * 124}}, 403),
    ]:
        assert (await account.post(FILES, json=given)).status_code == status
    assert (await account.post(FILES, content=b"{")).status_code == 400
    assert not sandbox.drive.files


# documents


async def test_text_is_written_as_docs_takes_it_and_read_by_paragraphs(account: httpx2.AsyncClient) -> None:
    path = f"/docs/v1/documents/{await make(account, 'One')}"
    insert = {"insertText": {"endOfSegmentLocation": {}, "text": "One 🍰\x00\x07\ue000\nTwo\n"}}
    written = await account.post(f"{path}:batchUpdate", json={"requests": [insert]})
    read = (await account.get(path)).json()
    assert read["revisionId"] == written.json()["writeControl"]["requiredRevisionId"]
    paragraphs = [part["paragraph"] for part in read["body"]["content"] if "paragraph" in part]
    runs = [element for paragraph in paragraphs for element in paragraph["elements"]]
    assert [run["textRun"]["content"] for run in runs] == ["One 🍰\n", "Two\n", "\n"]
    assert [(run["startIndex"], run["endIndex"]) for run in runs] == [(1, 8), (8, 12), (12, 13)]


async def test_what_cannot_be_written_as_a_whole_is_not_written_at_all(
    sandbox: Sandbox, account: httpx2.AsyncClient
) -> None:
    id = await make(account, "One")
    good = {"insertText": {"endOfSegmentLocation": {}, "text": "One\n"}}
    for requests, control in [
        ([good, {"insertText": {"endOfSegmentLocation": {}, "text": "\x00"}}], {}),
        ([good, {"deleteContentRange": {}}], {}),
        ([good], {"requiredRevisionId": "old"}),
    ]:
        body = {"requests": requests, "writeControl": control}
        assert (await account.post(f"/docs/v1/documents/{id}:batchUpdate", json=body)).status_code == 400
    assert not sandbox.drive.files[id].text
    assert (await account.get("/docs/v1/documents/none")).status_code == 404


# the page


async def test_the_page_shows_documents_as_text_and_a_visitor_writes_in_them(
    sandbox: Sandbox, account: httpx2.AsyncClient, visitor: httpx2.AsyncClient
) -> None:
    assert "There is no document yet." in (await visitor.get("/")).text
    id = await make(account, "<b>One</b>")
    revision = sandbox.drive.files[id].revision
    await visitor.post(f"/documents/{id}/lines", data={"line": "<script>alert(1)</script>"})
    assert sandbox.drive.files[id].revision != revision
    page = (await visitor.get("/")).text
    assert "&lt;b&gt;One&lt;/b&gt;" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    await visitor.post(f"/documents/{id}/bin")
    assert sandbox.drive.documents == []
    assert (await visitor.post("/documents/none/bin")).status_code == 404


async def test_a_visitor_takes_tokens_back(account: httpx2.AsyncClient, visitor: httpx2.AsyncClient) -> None:
    assert (await account.get(FILES)).status_code == 200
    await visitor.post("/revoke")
    assert (await account.get(FILES)).status_code == 401
