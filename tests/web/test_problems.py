from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from orderup import errors
from orderup.web import routes
from orderup.web.problems import MOST_FIELDS, STATUS, status_of
from tests.web.sample import CLOSED, LAPTOP, client_of, sample_app, serving


async def problem(method: str, path: str, **request: Any) -> tuple[int, dict[str, Any], dict[str, str]]:
    async with client_of(sample_app(LAPTOP)) as client:
        answer = await client.request(method, path, **request)
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json(), dict(answer.headers)


@pytest.mark.parametrize(
    ("how", "status", "kind"),
    [
        ("not_found", 404, "not-found"),
        ("conflict", 409, "conflict"),
        ("stale", 409, "stale-token"),
        ("misused", 422, "key-misused"),
        ("invalid", 422, "invalid"),
        ("gone", 410, "gone"),
        ("upstream", 502, "upstream-failed"),
        ("refused", 502, "upstream-refused"),
        ("away", 503, "unavailable"),
        ("full", 507, "storage-full"),
    ],
)
async def test_each_error_is_a_problem_of_its_own(how: str, status: int, kind: str) -> None:
    got, body, _ = await problem("GET", f"/fail/{how}")
    assert got == body["status"] == status
    assert body["type"] == f"urn:orderup:problem:{kind}"
    assert body["instance"] == f"/fail/{how}"
    assert body["title"]
    assert body["detail"]


async def test_a_problem_says_what_the_error_says() -> None:
    _, body, _ = await problem("GET", "/fail/stale")
    assert body["title"] == "Stale token"
    assert body["detail"].startswith("Task x1-1: its lease ran out. Nothing was changed.")


def all_errors(root: type[errors.OrderupError]) -> list[type[errors.OrderupError]]:
    return [root, *(error for child in root.__subclasses__() for error in all_errors(child))]


def test_the_table_knows_every_error_there_is() -> None:
    for error in all_errors(errors.Refused):
        assert 400 <= STATUS[next(cls for cls in error.__mro__ if cls in STATUS)] < 500, error
    for error in all_errors(errors.Unavailable):
        assert STATUS[next(cls for cls in error.__mro__ if cls in STATUS)] in {503, 507}, error
    assert status_of(ZeroDivisionError()) == 500


@pytest.mark.parametrize(("how", "seconds"), [("away", "2"), ("full", "2"), ("upstream", "62")])
async def test_who_may_come_back_is_told_when(how: str, seconds: str) -> None:
    _, _, headers = await problem("GET", f"/fail/{how}")
    assert headers["retry-after"] == seconds


async def test_nobody_waits_for_ever_to_hear_whether_it_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "ANSWER_SECONDS", 0.02)
    status, body, headers = await problem("POST", "/wonder?seconds=60")
    assert (status, headers["retry-after"]) == (503, "2")
    assert "may or may not have been" in body["detail"]
    async with client_of(sample_app(LAPTOP)) as client:
        assert (await client.post("/ponder?seconds=0.1")).json() == "done"


async def test_what_is_waited_for_besides_does_not_count_and_what_comes_after_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routes, "ANSWER_SECONDS", 2)
    async with client_of(sample_app(LAPTOP)) as client:
        answer = await client.post("/linger?seconds=2.2")
        assert (answer.status_code, answer.json()) == (200, "written")
    monkeypatch.setattr(routes, "ANSWER_SECONDS", 0.02)
    status, body, headers = await problem("POST", "/linger?seconds=0.1&then=60")
    assert (status, headers["retry-after"]) == (503, "2")
    assert "may or may not have been" in body["detail"]


@pytest.mark.parametrize("how", ["crash", "misconfigured"])
async def test_a_crash_tells_nothing_of_the_inside(how: str) -> None:
    status, body, headers = await problem("GET", f"/fail/{how}")
    assert status == 500
    assert "canary" not in str(body)
    assert "ZeroDivision" not in str(body)
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({"name": "x", "colour": "red"}, "body.colour", "There is no such field."),
        ({}, "body.name", "This field is required."),
        ({"name": 5}, "body.name", "Input should be a valid string"),
        (
            {"name": "x", "toppings": [{"name": "ham", "grams": "5"}]},
            "body.toppings.0.grams",
            "Input should be a valid",
        ),
        ({"name": "x", "toppings": [{"name": "ham", "grams": True}]}, "body.toppings.0.grams", "Input should be a"),
        ({"name": "x", "toppings": [{"name": "ham", "grams": 0}]}, "body.toppings.0.grams", "Input should be greater"),
        ({"name": "x", "toppings": {}}, "body.toppings", "This should be a list: […]."),
        ({"name": "x", "toppings": [5]}, "body.toppings.0", "This should be an object: {…}."),
        ([], "body", "This should be an object: {…}."),
        ("text", "body", "This should be an object: {…}."),
        (
            {"name": "x", "toppings": [{"name": "a\0b", "grams": 5}]},
            "body.toppings.0.name",
            "A text may not hold a NUL.",
        ),
    ],
)
async def test_a_wrong_body_names_the_field(body: object, field: str, message: str) -> None:
    status, answer, _ = await problem("POST", "/orders", json=body)
    assert status == 422
    assert answer["type"] == "urn:orderup:problem:invalid"
    [found] = answer["errors"]
    assert found["field"] == field
    assert found["message"].startswith(message)
    assert field not in found["message"]
    assert answer["detail"] == f"{field}: {found['message']}"


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b'{"name": 1e999}', "body.name"),
        (b'{"name": "x", "toppings": [{"name": "ham"}, {"grams": -1e400}]}', "body.toppings.1.grams"),
        (b'{"name": ' + b"9" * 5_000 + b"}", "body.name"),
        (b"[0, 1e999]", "body.1"),
        (b"1e999", "body"),
    ],
)
async def test_a_number_out_of_range_names_its_field(content: bytes, field: str) -> None:
    headers = {"Content-Type": "application/json"}
    status, answer, _ = await problem("POST", "/orders", content=content, headers=headers)
    assert status == 400
    assert answer["errors"] == [{"field": field, "message": "This number is out of range."}]
    assert answer["detail"] == f"{field}: This number is out of range."


@pytest.mark.parametrize(("grams", "status"), [(5, 202), (5.0, 202), (5.5, 422), (1e300, 202), (-0.0, 422)])
async def test_a_whole_number_is_one_however_it_is_written(grams: float, status: int) -> None:
    async with client_of(sample_app(LAPTOP)) as client:
        body = {"name": "x", "toppings": [{"name": "ham", "grams": grams}]}
        assert (await client.post("/orders", json=body)).status_code == status


async def test_a_missing_body_is_named_too() -> None:
    status, answer, _ = await problem("POST", "/orders")
    assert (status, answer["errors"]) == (422, [{"field": "body", "message": "This field is required."}])


async def test_a_field_that_only_the_shop_can_judge_is_named_alike() -> None:
    _, answer, _ = await problem("GET", "/fail/invalid")
    assert answer["errors"] == [{"field": "body.tier", "message": "No such tier."}]


async def test_what_was_sent_is_not_repeated() -> None:
    _, answer, _ = await problem("POST", "/orders", json={"name": {"canary": 1}})
    assert "canary" not in str(answer)


async def test_a_thousand_wrong_fields_make_a_short_answer() -> None:
    body = {"name": "x", **{f"{n}{'x' * 500}": n for n in range(1000)}}
    _, answer, headers = await problem("POST", "/orders", json=body)
    assert len(answer["errors"]) == MOST_FIELDS
    assert answer["detail"].endswith("and 980 more")
    assert int(headers["content-length"]) < 10_000


async def test_nothing_there_is_a_problem() -> None:
    status, body, _ = await problem("GET", "/nothing%20here?key=canary")
    assert status == 404
    assert body["detail"] == "There is nothing at /nothing%20here."
    assert "canary" not in str(body)


async def test_a_wrong_method_is_told_all_the_right_ones() -> None:
    status, body, headers = await problem("PUT", "/orders/x1")
    assert status == 405
    assert headers["allow"] == "DELETE, GET, HEAD, OPTIONS"
    assert body["detail"] == "PUT is not possible here. Use DELETE or GET or HEAD or OPTIONS."


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"]
)
async def test_a_body_of_another_kind_is_a_problem(content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    status, _, _ = await problem("POST", "/orders", content=b'{"name": "x"}', headers=headers)
    assert status == 415


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=UTF-8", "application/x+json"])
async def test_json_is_taken_under_each_of_its_names(content_type: str) -> None:
    async with client_of(sample_app(LAPTOP)) as client:
        answer = await client.post("/orders", content=b'{"name": "x"}', headers={"Content-Type": content_type})
    assert answer.status_code == 202


@pytest.mark.parametrize(("how", "code"), [("gone", 4410), ("conflict", 1008), ("away", 1013), ("full", 1013)])
async def test_an_accepted_socket_is_closed_with_a_code_and_the_reason(how: str, code: int) -> None:
    async with serving(sample_app(CLOSED), CLOSED) as port, connect(f"ws://127.0.0.1:{port}/late/{how}") as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == code
    assert closed.value.rcvd.reason
