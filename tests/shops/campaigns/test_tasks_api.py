"""The Tasks API, as its clients know it."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from orderup.shops.campaigns import shop
from orderup.shops.campaigns.tasks import LARGEST_ID
from orderup.web.tokens import Role
from tests.serving import sqlite_url
from tests.shops.served import Served, serve_shop
from tests.web.house import SECRET, token_of


async def send(desk: Served, method: str, path: str = "", **options: Any) -> httpx2.Response:
    return await desk.client.request(method, f"{desk.front}/api/tasks{path}", **options)


async def add(desk: Served, **task: Any) -> dict[str, Any]:
    answer = await send(desk, "POST", json={"status": "Not Started", **task})
    assert answer.status_code == 201, answer.text
    added: dict[str, Any] = answer.json()["task"]
    return added


async def test_a_task_is_written_down_read_and_changed(desk: Served) -> None:
    answer = await send(desk, "POST", json={"id": 1, "status": "Not Started"})
    assert answer.status_code == 201
    [(name, task)] = answer.json().items()
    assert name == "task"
    assert list(task) == ["id", "status", "validation_error", "created_at", "updated_at"]
    assert (task["id"], task["status"], task["validation_error"]) == (1, "Not Started", None)
    assert task["created_at"] == task["updated_at"]
    at = datetime.strptime(task["created_at"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - at).total_seconds()) < 60
    assert len(task["created_at"]) == len("2026-11-21T09:30:00.125000Z")
    assert (await send(desk, "GET", "/1")).json() == {"task": task}
    answer = await send(desk, "PATCH", "/1", json={"status": "In Progress"})
    assert (answer.status_code, answer.json()["task"]["status"]) == (202, "In Progress")
    assert answer.json()["task"]["created_at"] == task["created_at"]
    assert answer.json()["task"]["updated_at"] > task["updated_at"]
    assert (await send(desk, "GET", "/1")).json() == answer.json()


@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_slash_at_the_end_makes_no_difference(one_desk: Served, slash: str) -> None:
    assert (await send(one_desk, "POST", slash, json={"id": 7, "status": "Completed"})).status_code == 201
    assert [task["id"] for task in (await send(one_desk, "GET", slash)).json()["tasks"]] == [7]
    assert (await send(one_desk, "GET", f"/7{slash}")).status_code == 200
    assert (await send(one_desk, "PATCH", f"/7{slash}", json={})).status_code == 202
    assert (await send(one_desk, "DELETE", f"/7{slash}")).status_code == 204


async def test_an_id_that_is_not_given_is_the_next_one(desk: Served) -> None:
    assert (await add(desk))["id"] == 1
    await add(desk, id=41)
    assert (await add(desk))["id"] == 42
    await add(desk, id=LARGEST_ID)
    assert (await add(desk))["id"] == 2, "the first that is free behind another"


async def test_ids_that_are_not_given_are_never_the_same(desk: Served) -> None:
    tasks = await asyncio.gather(*(add(desk) for _ in range(30)))
    assert sorted(task["id"] for task in tasks) == list(range(1, 31))


async def test_an_id_that_exists_is_409_and_changes_nothing(desk: Served) -> None:
    task = await add(desk, id=1)
    answer = await send(desk, "POST", json={"id": 1, "status": "Completed"})
    assert (answer.status_code, answer.json()) == (409, {"detail": "Task with ID 1 already exists"})
    assert (await send(desk, "GET", "/1")).json()["task"] == task


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("id", [9, 0, -1, 1 << 70])
async def test_a_task_that_is_not_there_is_404(desk: Served, method: str, id: int) -> None:
    answer = await send(desk, method, f"/{id}", json={"status": "Error"} if method == "PATCH" else None)
    assert (answer.status_code, answer.json()) == (404, {"detail": f"Task with ID {id} not found"})
    assert answer.headers["content-type"] == "application/json"


async def test_an_id_is_a_whole_number_however_it_is_written(one_desk: Served) -> None:
    for id, status in (("5135.0", 201), ("5135.5", 422)):
        content = f'{{"id": {id}, "status": "Not Started"}}'
        url, headers = f"{one_desk.front}/api/tasks", {"Content-Type": "application/json"}
        assert (await one_desk.client.post(url, content=content, headers=headers)).status_code == status, id


async def test_a_validation_error_makes_the_status_error(desk: Served) -> None:
    added = await add(desk, status="Completed", validation_error="no budget")
    assert (added["status"], added["validation_error"]) == ("Error", "no budget")
    await add(desk, id=2)
    for body in ({"validation_error": "no budget"}, {"validation_error": "no budget", "status": "In Progress"}):
        changed = (await send(desk, "PATCH", "/2", json=body)).json()["task"]
        assert (changed["status"], changed["validation_error"]) == ("Error", "no budget")


async def test_what_a_patch_leaves_out_stays(desk: Served) -> None:
    await add(desk, validation_error="no budget")
    changed = (await send(desk, "PATCH", "/1", json={"status": "In Progress"})).json()["task"]
    assert (changed["status"], changed["validation_error"]) == ("In Progress", "no budget")
    changed = (await send(desk, "PATCH", "/1", json={"validation_error": None})).json()["task"]
    assert (changed["status"], changed["validation_error"]) == ("In Progress", None)
    assert (await send(desk, "PATCH", "/1", json={})).json()["task"] == changed


async def test_a_finished_task_may_be_changed_by_its_owner(desk: Served) -> None:
    await add(desk, status="Completed")
    changed = (await send(desk, "PATCH", "/1", json={"status": "Not Started"})).json()["task"]
    assert changed["status"] == "Not Started"


async def test_what_a_patch_may_not_change_is_ignored(desk: Served) -> None:
    task = await add(desk)
    body = {"id": 99, "created_at": "long ago", "updated_at": None, "status": "Completed"}
    answer = await send(desk, "PATCH", "/1", json=body)
    assert answer.status_code == 202
    assert (answer.json()["task"]["id"], answer.json()["task"]["created_at"]) == (1, task["created_at"])


@pytest.mark.parametrize(
    ("method", "path", "body", "wrong"),
    [
        ("POST", "", {}, ("missing", ["body", "status"])),
        ("POST", "", {"status": "Done"}, ("enum", ["body", "status"])),
        ("POST", "", {"status": "Completed", "colour": 1}, ("extra_forbidden", ["body", "colour"])),
        ("POST", "", {"status": "Completed", "created_at": "now"}, ("extra_forbidden", ["body", "created_at"])),
        ("POST", "", {"status": "Completed", "id": "1"}, ("int_type", ["body", "id"])),
        ("POST", "", {"status": "Completed", "id": 0}, ("greater_than_equal", ["body", "id"])),
        ("POST", "", {"status": "Completed", "id": 1 << 63}, ("less_than_equal", ["body", "id"])),
        ("POST", "", [], ("model_attributes_type", ["body"])),
        ("PATCH", "/1", {"colour": 1}, ("extra_forbidden", ["body", "colour"])),
        ("PATCH", "/1", {"status": "done"}, ("enum", ["body", "status"])),
        ("PATCH", "/1", {"validation_error": 5}, ("string_type", ["body", "validation_error"])),
        ("PATCH", "/1", {"validation_error": "\0"}, ("value_error", ["body", "validation_error"])),
        ("GET", "/one", None, ("int_parsing", ["path", "id"])),
        ("GET", "?status=Done", None, ("enum", ["query", "status"])),
        ("GET", "?limit=0", None, ("greater_than_equal", ["query", "limit"])),
    ],
)
async def test_what_is_wrong_is_told_as_fastapi_tells_it(
    one_desk: Served, method: str, path: str, body: Any, wrong: tuple[str, list[str]]
) -> None:
    await add(one_desk, id=1)
    answer = await send(one_desk, method, path, json=body)
    assert answer.status_code == 422
    assert list(answer.json()) == ["detail"]
    [found] = answer.json()["detail"]
    assert (found["type"], found["loc"]) == wrong
    assert set(found) == {"type", "loc", "msg"}


async def test_a_body_that_is_no_json_is_422(one_desk: Served) -> None:
    for body in (b"{", b"\xff", b'{"status": NaN}'):
        answer = await send(one_desk, "POST", content=body, headers={"Content-Type": "application/json"})
        [found] = answer.json()["detail"]
        assert (answer.status_code, found["type"], found["loc"]) == (422, "json_invalid", ["body"])
    answer = await send(one_desk, "POST", content=b"", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body"])


async def test_a_method_that_is_not_possible_is_405(one_desk: Served) -> None:
    answer = await send(one_desk, "PUT", json={})
    assert (answer.status_code, answer.json()) == (405, {"detail": "Method Not Allowed"})
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert (await send(one_desk, "OPTIONS", "/1")).headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH"
    assert (await send(one_desk, "GET", "/1/more")).json() == {"detail": "Not Found"}


async def test_elsewhere_errors_are_problems(one_desk: Served) -> None:
    for path in ("/api/tasksx", "/api/elsewhere"):
        answer = await one_desk.client.get(f"{one_desk.front}{path}")
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_among_other_shops_it_is_the_same_below_its_name(tmp_path: Path) -> None:
    async with serve_shop(shop, sqlite_url(tmp_path), at_root=False) as desk:
        answer = await desk.client.get(f"{desk.front}/campaigns/api/tasks/9")
        assert (answer.status_code, answer.json()) == (404, {"detail": "Task with ID 9 not found"})
        answer = await desk.client.get(f"{desk.front}/api/tasks/9")
        assert answer.headers["content-type"] == "application/problem+json"


async def test_tasks_are_listed_by_status_and_page(desk: Served) -> None:
    for id in (5, 3, 4, 1):
        await add(desk, id=id, status="Completed" if id == 4 else "Not Started")
    page = (await send(desk, "GET", "?limit=2")).json()
    assert [task["id"] for task in page["tasks"]] == [1, 3]
    page = (await send(desk, "GET", f"?limit=2&cursor={page['cursor']}")).json()
    assert ([task["id"] for task in page["tasks"]], page["cursor"]) == ([4, 5], None)
    page = (await send(desk, "GET", "?status=Not%20Started")).json()
    assert [task["id"] for task in page["tasks"]] == [1, 3, 5]


async def test_a_task_is_deleted_once(desk: Served) -> None:
    await add(desk)
    assert (await send(desk, "DELETE", "/1")).status_code == 204
    assert (await send(desk, "DELETE", "/1")).status_code == 404


async def test_the_same_key_writes_one_task(desk: Served) -> None:
    key = {"Idempotency-Key": "k1"}
    first, second = [await send(desk, "POST", json={"status": "Not Started"}, headers=key) for _ in range(2)]
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    answer = await send(desk, "POST", json={"status": "Completed"}, headers=key)
    assert (answer.status_code, list(answer.json())) == (422, ["detail"])
    assert len((await send(desk, "GET")).json()["tasks"]) == 1


async def test_a_key_is_not_used_up_by_a_request_that_is_refused(desk: Served) -> None:
    await add(desk, id=1)
    for _ in range(2):
        answer = await send(desk, "POST", json={"id": 1, "status": "Error"}, headers={"Idempotency-Key": "k1"})
        assert answer.status_code == 409
    answer = await send(desk, "POST", json={"id": 2, "status": "Error"}, headers={"Idempotency-Key": "k1"})
    assert answer.status_code == 201
    answer = await send(desk, "POST", json={"id": 2, "status": "Error"}, headers={"Idempotency-Key": "k1"})
    assert (answer.status_code, answer.headers["idempotency-replayed"]) == (201, "true")


async def test_where_there_are_tokens_customers_and_staff_may_and_nobody_else(tmp_path: Path) -> None:
    async with serve_shop(shop, sqlite_url(tmp_path), secret_key=SECRET) as desk:
        for role, status in ((Role.CUSTOMER, 201), (Role.STAFF, 201), (Role.WORKER, 403)):
            headers = {"Authorization": f"Bearer {token_of(role)}"}
            answer = await send(desk, "POST", json={"status": "Completed"}, headers=headers)
            assert answer.status_code == status
        answer = await send(desk, "GET")
        assert (answer.status_code, list(answer.json()), answer.headers["www-authenticate"]) == (
            401,
            ["detail"],
            "Bearer",
        )
        assert (await desk.client.get(f"{desk.front}/api/healthchecker")).status_code == 200


async def test_it_says_that_it_is_up(one_desk: Served) -> None:
    answer = await one_desk.client.get(f"{one_desk.front}/api/healthchecker")
    assert (answer.status_code, answer.json()) == (200, {"message": "The API is up."})
