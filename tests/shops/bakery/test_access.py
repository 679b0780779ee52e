"""Who may develop is let in at GitHub, and who may not any more is let out, whatever overtakes what."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from orderup.model.ids import read_id, show_id
from orderup.model.operation import Operation
from orderup.sandbox.github import GitHub
from orderup.shops.bakery import shop
from orderup.web.tokens import Role
from tests.serving import sqlite_url
from tests.shops.served import Served, serve_shop
from tests.web.house import SECRET, token_of

JACK = {"firstName": "Jack", "lastName": "Harrot", "permissions": {"developer": True}, "github": "ada-lovelace"}
OVER = {"completed", "errored", "cancelled"}


@pytest_asyncio.fixture
async def office(tmp_path: Path) -> AsyncIterator[Served]:
    async with serve_shop(shop, sqlite_url(tmp_path)) as served:
        yield served


async def hired(office: Served, **given: Any) -> Any:
    """As the API shows him."""
    answer = await office.client.post(f"{office.front}/employees", json={**JACK, **given})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def changed(office: Served, id: int, **given: Any) -> None:
    answer = await office.client.patch(f"{office.front}/employees/{id}", json=given)
    assert answer.status_code == 200, answer.text


async def fired(office: Served, id: int) -> None:
    answer = await office.client.delete(f"{office.front}/employees/{id}")
    assert answer.status_code == 204, answer.text


async def read(office: Served, id: int) -> Any:
    return (await office.client.get(f"{office.front}/employees/{id}")).json()


async def in_line(office: Served) -> list[Operation]:
    """All operations, the newest first, once all of them are over."""

    async def are_over() -> list[Operation] | None:
        listed = (await office.client.get(f"{office.back}/api/operations?limit=100")).json()["operations"]
        if not all(each["status"] in OVER for each in listed):
            return None
        ids = [read_id(each["id"]) for each in listed]
        found = await office.house.database.load(ids)
        return [found[id] for id in ids]

    return await office.until(are_over)


async def completed(office: Served) -> None:
    assert {each.status for each in await in_line(office)} == {"completed"}


def github_of(office: Served) -> GitHub:
    return office.sandbox.github


def invited(office: Served) -> list[str]:
    return sorted(each.user.login for each in github_of(office).invitations.values())


def members(office: Served) -> list[str]:
    github = github_of(office)
    return sorted(user.login for user in github.users.values() if user.id in github.collaborators)


# In and out


async def test_a_developer_who_is_hired_is_invited_once(office: Served) -> None:
    jack = await hired(office)
    await completed(office)
    assert (invited(office), (await read(office, jack["id"]))["access"]) == (["ada-lovelace"], "invited")
    await changed(office, jack["id"], firstName="Jacques")
    await completed(office)
    assert (invited(office), github_of(office).asked["invite"]) == (["ada-lovelace"], 1)


async def test_who_has_access_already_is_a_member(office: Served) -> None:
    github = github_of(office)
    github.collaborators[github.users["ada-lovelace"].id] = "push"
    jack = await hired(office, github="Ada-Lovelace")
    await completed(office)
    assert ((await read(office, jack["id"]))["access"], github.asked["invite"]) == ("member", 0)


async def test_who_is_no_developer_is_left_as_he_is(office: Served) -> None:
    github = github_of(office)
    github.collaborators[github.users["ada-lovelace"].id] = "admin"
    jack = await hired(office, permissions={"baker": True})
    await changed(office, jack["id"], firstName="Jacques")
    await completed(office)
    assert (members(office), github.asked) == (["ada-lovelace"], {})


@pytest.mark.parametrize("accepted", [False, True], ids=["invited", "accepted"])
@pytest.mark.parametrize("how", ["permission", "fired"])
async def test_who_loses_the_permission_loses_the_access(office: Served, how: str, accepted: bool) -> None:  # noqa: FBT001
    jack = await hired(office)
    await completed(office)
    if accepted:
        github_of(office).accept("ada-lovelace")
    await (fired(office, jack["id"]) if how == "fired" else changed(office, jack["id"], permissions={"baker": True}))
    await completed(office)
    assert (invited(office), members(office)) == ([], [])
    if how == "permission":
        assert (await read(office, jack["id"]))["access"] is None


@pytest.mark.parametrize("how", ["permission", "fired"])
@pytest.mark.parametrize("route", ["read_user", "is_collaborator", "invitations", "invite"])
async def test_who_is_let_go_while_he_is_being_invited_has_neither_invitation_nor_access(
    office: Served, route: str, how: str
) -> None:
    github = github_of(office)
    github.switch(route=route, times=1, delay_seconds=1, takes_effect=True)
    jack = await hired(office)
    await github.ledger.until(lambda _: github.asked[route])
    await (fired(office, jack["id"]) if how == "fired" else changed(office, jack["id"], permissions={}))
    await completed(office)
    assert (invited(office), members(office)) == ([], [])


async def test_who_is_let_go_before_github_was_reached_is_never_invited(office: Served) -> None:
    github = github_of(office)
    github.switch(status=503)
    jack = await hired(office)
    await github.ledger.until(lambda _: github.asked["read_user"])
    await fired(office, jack["id"])
    github.restore()
    await completed(office)
    assert (invited(office), members(office), github.asked["invite"]) == ([], [], 0)


async def test_who_gets_the_permission_back_keeps_his_access(office: Served) -> None:
    jack = await hired(office)
    await completed(office)
    github = github_of(office)
    github.accept("ada-lovelace")
    github.switch(status=503)
    await changed(office, jack["id"], permissions={})
    await changed(office, jack["id"], permissions={"developer": True})
    github.restore()
    await completed(office)
    assert (members(office), (await read(office, jack["id"]))["access"]) == (["ada-lovelace"], "member")


# Logins


@pytest.mark.parametrize("accepted", [False, True], ids=["invited", "accepted"])
async def test_another_login_takes_the_place_of_the_old_one(office: Served, accepted: bool) -> None:  # noqa: FBT001
    jack = await hired(office)
    await completed(office)
    if accepted:
        github_of(office).accept("ada-lovelace")
    await changed(office, jack["id"], github="grace-hopper")
    await completed(office)
    assert (invited(office), members(office)) == (["grace-hopper"], [])
    assert (await read(office, jack["id"]))["access"] == "invited"


async def test_a_login_in_other_letters_is_the_same_one(office: Served) -> None:
    jack = await hired(office)
    await completed(office)
    github_of(office).accept("ada-lovelace")
    await changed(office, jack["id"], github="Ada-Lovelace")
    await completed(office)
    assert (members(office), github_of(office).asked["remove"]) == (["ada-lovelace"], 0)


async def test_who_was_given_anothers_login_by_mistake_takes_nothing_from_him(office: Served) -> None:
    await hired(office)
    await completed(office)
    github_of(office).accept("ada-lovelace")
    wrong = await hired(office, firstName="Grace")
    await changed(office, wrong["id"], github="grace-hopper")
    await completed(office)
    assert (members(office), invited(office)) == (["ada-lovelace"], ["grace-hopper"])
    again = await hired(office, firstName="Grace")
    await fired(office, again["id"])
    await completed(office)
    assert members(office) == ["ada-lovelace"]


@pytest.mark.parametrize("login", ["nobody-of-that-name", "cake-inc"], ids=["unknown", "organisation"])
async def test_a_login_that_is_no_users_is_an_error_that_says_what_to_do(office: Served, login: str) -> None:
    jack = await hired(office, github=login)
    [operation] = await in_line(office)
    assert operation.status == "errored"
    shown = (await office.client.get(f"{office.back}/api/operations/{show_id(operation.id)}")).json()
    assert shown["tasks"][0]["error"] == f"GitHub has no user {login}: correct the employee's login."
    await changed(office, jack["id"], github="octocat")
    newest, _ = await in_line(office)
    assert (newest.status, invited(office)) == ("completed", ["octocat"])


async def test_a_login_that_became_somebody_elses_lets_nobody_in(office: Served) -> None:
    jack = await hired(office)
    await completed(office)
    github = github_of(office)
    github.decline("ada-lovelace")
    github.rename_user("ada-lovelace", "ada")
    github.add_user("ada-lovelace")
    await changed(office, jack["id"], firstName="Jacques")
    newest, _ = await in_line(office)
    assert newest.status == "errored"
    assert "belongs to another account" in (newest.tasks[0].error or "")
    assert (invited(office), members(office)) == ([], [])


async def test_who_has_another_login_by_now_loses_his_invitation_and_staff_is_told(office: Served) -> None:
    jack = await hired(office)
    await completed(office)
    github = github_of(office)
    github.rename_user("ada-lovelace", "ada")
    github.collaborators[github.add_user("ada-lovelace").id] = "push"
    await fired(office, jack["id"])
    newest, _ = await in_line(office)
    assert newest.status == "errored"
    assert "remove by hand" in (newest.tasks[0].error or "")
    assert (invited(office), members(office)) == ([], ["ada-lovelace"])


async def test_an_invitation_that_expired_is_sent_again(office: Served) -> None:
    jack = await hired(office)
    await completed(office)
    github = github_of(office)
    github.expire("ada-lovelace")
    [old] = github.invitations
    await changed(office, jack["id"], firstName="Jacques")
    await completed(office)
    [new] = github.invitations.values()
    assert (new.id != old, new.is_expired) == (True, False)


# GitHub fails


@pytest.mark.parametrize("route", ["read_user", "is_collaborator", "invitations", "invite"])
@pytest.mark.parametrize(
    "switch",
    [
        {"body": "reset", "takes_effect": True},
        {"status": 500, "takes_effect": True},
        {"body": "reset"},
        {"status": 429, "retry_after_seconds": 1},
        {"status": 403, "retry_after_seconds": 1},
    ],
    ids=["done-then-reset", "done-then-500", "reset", "429", "403-rate-limit"],
)
async def test_whatever_call_fails_there_is_one_invitation(office: Served, route: str, switch: dict[str, Any]) -> None:
    github_of(office).switch(route=route, times=1, **switch)
    await hired(office)
    await completed(office)
    assert (invited(office), len(github_of(office).sent)) == (["ada-lovelace"], 1)


@pytest.mark.parametrize("route", ["withdraw", "remove", "invitations"])
@pytest.mark.parametrize("takes_effect", [False, True], ids=["before", "after"])
async def test_whatever_call_fails_who_is_fired_is_out(office: Served, route: str, takes_effect: bool) -> None:  # noqa: FBT001
    jack = await hired(office)
    await completed(office)
    github_of(office).switch(route=route, times=1, status=500, takes_effect=takes_effect)
    await fired(office, jack["id"])
    await completed(office)
    assert (invited(office), members(office)) == ([], [])


async def test_when_no_more_invitations_are_sent_today_he_is_invited_later(office: Served) -> None:
    github = github_of(office)
    for number in range(50):
        github.sent.append(github.add_user(f"user-{number}").since)
    await hired(office)
    [found] = (await office.client.get(f"{office.back}/api/operations")).json()["operations"]
    operation = await office.until_stands(read_id(found["id"]), lambda now: now.tasks[0].status == "waiting")
    assert operation.tasks[0].failures == 0
    assert operation.tasks[0].due_at is not None
    rest = timedelta(microseconds=operation.tasks[0].due_at - office.house.engine.now())
    assert timedelta(minutes=30) < rest <= timedelta(hours=1)
    assert (invited(office), github.asked["invite"]) == ([], 1)


async def test_a_token_that_github_refuses_is_not_tried_again_and_again(office: Served) -> None:
    github_of(office).switch(status=401)
    for login in ("ada-lovelace", "grace-hopper", "octocat"):
        await hired(office, github=login)
    listed = (await office.client.get(f"{office.back}/api/operations")).json()["operations"]
    for each in listed:
        await office.until_stands(read_id(each["id"]), lambda now: now.tasks[0].status == "waiting")
    assert sum(github_of(office).asked.values()) == 1


async def test_a_token_that_may_not_invite_errors_with_githubs_words(office: Served) -> None:
    github_of(office).is_admin = False
    await hired(office)
    [operation] = await in_line(office)
    assert operation.status == "errored"
    assert "Must have admin rights" in (operation.tasks[0].error or "")


# The API


@pytest.mark.parametrize("role", [None, Role.CUSTOMER, Role.WORKER, Role.STAFF])
async def test_only_admins_see_who_works_here(tmp_path: Path, role: Role | None) -> None:
    async with serve_shop(shop, sqlite_url(tmp_path), secret_key=SECRET) as office:
        admin = {"Authorization": f"Bearer {token_of(Role.ADMIN)}"}
        employees = f"{office.front}/employees"
        jack = await office.client.post(employees, json=JACK, headers=admin)
        assert jack.status_code == 201, jack.text
        headers = {} if role is None else {"Authorization": f"Bearer {token_of(role, shop='bakery')}"}
        asked: list[tuple[str, str, Any]] = [
            ("GET", employees, None),
            ("POST", employees, JACK),
            *((method, f"{employees}/{jack.json()['id']}", {}) for method in ("GET", "PATCH", "DELETE")),
        ]
        answers = [await office.client.request(method, url, json=body, headers=headers) for method, url, body in asked]
        assert {answer.status_code for answer in answers} == {401 if role is None else 403}
        listed = await office.client.get(employees, headers=admin)
        assert [each["firstName"] for each in listed.json()["employees"]] == ["Jack"]


async def test_an_employee_comes_back_as_he_was_hired(office: Served) -> None:
    jack = await hired(office, github=None, permissions={"baker": True, "developer": False})
    assert jack == {
        "id": jack["id"],
        "firstName": "Jack",
        "lastName": "Harrot",
        "permissions": {"baker": True, "developer": False},
        "github": None,
        "access": None,
    }
    assert await read(office, jack["id"]) == jack


async def test_a_patch_changes_what_it_names_and_permissions_as_a_whole(office: Served) -> None:
    jack = await hired(office, permissions={"developer": True, "baker": True})
    await changed(office, jack["id"], lastName="Hare")
    assert {**await read(office, jack["id"]), "access": None} == {**jack, "lastName": "Hare"}
    await changed(office, jack["id"], permissions={"baker": True})
    assert (await read(office, jack["id"]))["permissions"] == {"baker": True}
    await changed(office, jack["id"])
    assert (await read(office, jack["id"]))["permissions"] == {"baker": True}


@pytest.mark.parametrize(
    "body",
    [
        {"permissions": {"developer": True}},
        {"firstName": ""},
        {"firstName": "\n"},
        {"permissions": {"Developer!": True}},
        {"github": "-ada"},
        {"github": "../../user"},
        {"github": "a" * 40},
        {"github": "a" * 38 + "-" + "b" * 5},
        {"nickname": "Jay"},
        {"access": "member"},
        [],
    ],
)
async def test_a_patch_that_is_wrong_changes_nothing(office: Served, body: Any) -> None:
    jack = await hired(office, github=None, permissions={})
    answer = await office.client.patch(f"{office.front}/employees/{jack['id']}", json=body)
    assert answer.status_code == 422, answer.text
    assert await read(office, jack["id"]) == jack


async def test_a_developer_without_a_login_is_not_hired(office: Served) -> None:
    answer = await office.client.post(f"{office.front}/employees", json={**JACK, "github": None})
    assert answer.status_code == 422, answer.text
    assert (await office.client.get(f"{office.front}/employees")).json() == {"employees": []}
    assert (await office.client.get(f"{office.back}/api/operations")).json()["operations"] == []


@pytest.mark.parametrize("id", ["99", "0", "-1", "x", "1.0", "9" * 30, "%F0%9F%8E%82"])
async def test_who_was_never_here_is_not_found(office: Served, id: str) -> None:
    for method in ("GET", "PATCH", "DELETE"):
        answer = await office.client.request(method, f"{office.front}/employees/{id}", json={})
        assert answer.status_code == 404, (method, answer.text)


async def test_who_was_fired_is_gone_and_cannot_be_fired_again(office: Served) -> None:
    jack = await hired(office)
    await fired(office, jack["id"])
    for method in ("GET", "PATCH", "DELETE"):
        answer = await office.client.request(method, f"{office.front}/employees/{jack['id']}", json={})
        assert answer.status_code == 404, (method, answer.text)
    assert (await office.client.get(f"{office.front}/employees")).json() == {"employees": []}
    await completed(office)
    assert len(await in_line(office)) == 2
    again = await hired(office)
    assert again["id"] != jack["id"]
