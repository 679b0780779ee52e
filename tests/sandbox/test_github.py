"""The sandbox's GitHub, as somebody without our client sees it, and its page."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from orderup.sandbox import Sandbox
from orderup.sandbox.border import Refused
from orderup.sandbox.github import MOST_USERS
from tests.sandbox.test_page import Forms
from tests.services.waiting import PATIENCE_SECONDS

PERSON = "/repos/cake-inc/website/collaborators/octocat"
INVITATIONS = "/repos/cake-inc/website/invitations"


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"Authorization": "Bearer token"}
    url = f"{sandbox.base_url}/github"
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE_SECONDS) as client:
        yield client


@pytest.fixture
async def visitor(sandbox: Sandbox) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=sandbox.base_url, follow_redirects=True, timeout=PATIENCE_SECONDS) as client:
        yield client


async def test_who_does_not_say_who_he_is_is_refused(sandbox: Sandbox) -> None:
    async with httpx2.AsyncClient(base_url=f"{sandbox.base_url}/github", timeout=PATIENCE_SECONDS) as client:
        answer = await client.get("/users/octocat")
        assert (answer.status_code, answer.json()["message"]) == (401, "Bad credentials")
        answer = await client.get("/users/octocat", headers={"Authorization": "Bearer x", "User-Agent": ""})
        assert (answer.status_code, "User-Agent" in answer.json()["message"]) == (403, True)


async def test_an_invitation_is_listed_until_it_is_accepted(sandbox: Sandbox, client: httpx2.AsyncClient) -> None:
    first = await client.put(PERSON)
    again = await client.put(PERSON, json={"permission": "admin"})
    assert (first.status_code, first.json()["permissions"]) == (201, "write")
    assert (again.status_code, again.json()["permissions"], again.json()["id"]) == (201, "admin", first.json()["id"])
    assert (await client.get(PERSON)).status_code == 404
    assert [each["id"] for each in (await client.get(INVITATIONS)).json()] == [first.json()["id"]]
    sandbox.github.accept("octocat")
    assert (await client.get(PERSON)).status_code == 204
    assert (await client.put(PERSON)).status_code == 204
    assert (await client.get(INVITATIONS)).json() == []
    assert (await client.delete(PERSON)).status_code == 204
    assert (await client.get(PERSON)).status_code == 404


async def test_an_invitation_is_withdrawn_once(client: httpx2.AsyncClient) -> None:
    id = (await client.put(PERSON)).json()["id"]
    assert (await client.delete(f"{INVITATIONS}/{id}")).status_code == 204
    assert (await client.delete(f"{INVITATIONS}/{id}")).status_code == 404


@pytest.mark.parametrize("body", [b'{"permission":"king"}', b"[]", b"{", b"\xff"])
async def test_a_permission_that_there_is_not_is_422(client: httpx2.AsyncClient, body: bytes) -> None:
    answer = await client.put(PERSON, content=body)
    assert (answer.status_code, answer.json()["message"]) == (422, "Validation Failed")


async def test_an_owner_needs_no_invitation(sandbox: Sandbox, client: httpx2.AsyncClient) -> None:
    answer = await client.put("/repos/octocat/website/collaborators/octocat")
    assert (answer.status_code, answer.json()["errors"]) == (
        422,
        [{"message": "Repository owner cannot be a collaborator"}],
    )
    assert sandbox.github.invitations == {}


async def test_pages_lead_to_the_next_one(sandbox: Sandbox, client: httpx2.AsyncClient) -> None:
    for number in range(3):
        sandbox.github.add_user(f"baker-{number}")
        await client.put(f"/repos/cake-inc/website/collaborators/baker-{number}")
    first = await client.get(INVITATIONS, params={"per_page": 2})
    assert len(first.json()) == 2
    second = await client.get(first.links["next"]["url"])
    assert [each["invitee"]["login"] for each in second.json()] == ["baker-2"]
    assert "next" not in second.links
    assert (await client.get(INVITATIONS, params={"per_page": "x", "page": "-1"})).status_code == 200


async def test_a_login_that_was_given_up_is_somebody_elses(sandbox: Sandbox, client: httpx2.AsyncClient) -> None:
    before = (await client.get("/users/octocat")).json()["id"]
    sandbox.github.rename_user("octocat", "octopus")
    assert (await client.get("/users/octocat")).status_code == 404
    sandbox.github.add_user("octocat")
    assert (await client.get("/users/octocat")).json()["id"] != before
    assert (await client.get("/users/OCTOPUS")).json()["id"] == before


async def test_people_become_known_accept_and_decline_on_the_page(
    sandbox: Sandbox, client: httpx2.AsyncClient, visitor: httpx2.AsyncClient
) -> None:
    await visitor.post("/github/page/users", data={"login": "baker", "type": "User"})
    assert sandbox.github.users["baker"].login == "baker"
    for act, becomes in (("decline", False), ("accept", True)):
        await client.put("/repos/cake-inc/website/collaborators/baker")
        page = (await visitor.get("/github")).text
        assert "invited (push)" in page
        assert "/github/page/users/baker" in Forms(page).found
        await visitor.post("/github/page/users/baker", data={"act": act})
        assert sandbox.github.has_access("baker") is becomes
    assert "/github/page/users/baker" not in Forms((await visitor.get("/github")).text).found


async def test_an_expired_invitation_lets_nobody_in(
    sandbox: Sandbox, client: httpx2.AsyncClient, visitor: httpx2.AsyncClient
) -> None:
    await client.put(PERSON)
    page = await visitor.post("/github/page/users/octocat", data={"act": "expire"})
    assert "invited (push), expired" in page.text
    page = await visitor.post("/github/page/users/octocat", data={"act": "accept"})
    assert (page.status_code, "has expired" in page.text) == (409, True)
    assert not sandbox.github.has_access("octocat")


@pytest.mark.parametrize(
    ("path", "data", "status"),
    [
        ("users", {"login": "<script>"}, 422),
        ("users", {"login": "octocat"}, 409),
        ("users/nobody", {"act": "accept"}, 404),
        ("users/octocat", {"act": "accept"}, 404),
        ("users/octocat", {"act": "dance"}, 422),
    ],
)
async def test_what_is_wrong_with_a_form_is_told_on_the_page(
    visitor: httpx2.AsyncClient, path: str, data: dict[str, str], status: int
) -> None:
    page = await visitor.post(f"/github/page/{path}", data=data)
    assert page.status_code == status
    assert "<h1>GitHub</h1>" in page.text
    assert "<script" not in page.text


async def test_there_is_room_for_so_many_users_only(sandbox: Sandbox) -> None:
    for number in range(MOST_USERS - len(sandbox.github.users)):
        sandbox.github.add_user(f"baker-{number}")
    with pytest.raises(Refused):
        sandbox.github.add_user("one-more")
