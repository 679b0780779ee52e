"""What all third parties with an API of their own share, shown by one that takes letters."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
import pytest

from orderup.sandbox.app import build_app
from orderup.sandbox.behaviour import Answer
from orderup.sandbox.border import Refused
from orderup.sandbox.ledger import Outcome
from orderup.sandbox.server import listen, serve_app
from orderup.sandbox.service import LARGEST_REQUEST, Asked, Call, Form, Said, Service, Switch
from tests.sandbox.test_page import Forms
from tests.services.waiting import PATIENCE_SECONDS


class Letters(Service):
    name, title, template = "letters", "Letters & <parcels>", "service.html"

    def __init__(self) -> None:
        super().__init__(scale=1_000)
        self.posted: list[Any] = []

    def calls(self) -> list[Call]:
        return [
            Call("post_letter", "POST", "/v1/letters", self._post),
            Call("burn_letters", "DELETE", "/v1/letters", self._burn),
            Call("read_letter", "GET", "/v1/letters/{number}", self._read_one),
        ]

    def admit(self, asked: Asked) -> Said | None:
        return None if asked.headers.get("authorization") == "Bearer stamp" else self.failure(Answer(status=401))

    def _post(self, asked: Asked) -> Said:
        self.posted.append(asked.json())
        return Said({"id": len(self.posted)}, status=201, headers={"x-left": "7"})

    def _burn(self, _asked: Asked) -> Said:
        self.posted.clear()
        return Said(status=204)

    def _read_one(self, asked: Asked) -> Said:
        return Said({"number": asked.parts["number"], "as": asked.query.get("as"), "url": asked.url})

    def failure(self, answer: Answer) -> Said:
        return Said({"letter": f"no, {answer.status}"}, status=answer.status)

    def shown(self) -> Mapping[str, Any]:
        return {}

    def forms(self) -> list[Form]:
        return [Form("/page/write/{who}", self._write)]

    def _write(self, parts: Mapping[str, str], form: Mapping[str, str]) -> None:
        if "text" not in form:
            raise Refused(422, "A letter without words.", {"text": "is missing"})
        self.posted.append(f"{parts['who']}: {form['text']}")


@pytest.fixture
def letters() -> Letters:
    return Letters()


@pytest.fixture
async def base_url(letters: Letters) -> AsyncIterator[str]:
    with listen(0) as listener:
        async with serve_app(build_app([], [letters]), listener):
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
async def client(base_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"Authorization": "Bearer stamp"}
    async with httpx2.AsyncClient(base_url=f"{base_url}/letters", headers=headers, timeout=PATIENCE_SECONDS) as client:
        yield client


@pytest.fixture
async def visitor(base_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=base_url, follow_redirects=True, timeout=PATIENCE_SECONDS) as client:
        yield client


async def post(client: httpx2.AsyncClient) -> int:
    return (await client.post("/v1/letters", json="dear")).status_code


async def test_a_call_does_its_work_and_is_counted(letters: Letters, client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/letters", json={"to": "Zoë"})
    assert (answer.status_code, answer.json(), answer.headers["x-left"]) == (201, {"id": 1}, "7")
    assert (await client.get("/v1/letters/a%20b", params={"as": "pdf"})).json() == {
        "number": "a b",
        "as": "pdf",
        "url": str(client.base_url).rstrip("/"),
    }
    assert letters.posted == [{"to": "Zoë"}]
    assert letters.asked == {"post_letter": 1, "read_letter": 1}
    assert letters.ledger.counts["/v1/letters"] == 1
    burnt = await client.delete("/v1/letters")
    assert (burnt.status_code, burnt.content) == (204, b"")


async def test_who_is_not_known_and_what_is_not_there_is_told_in_its_own_shape(
    letters: Letters, client: httpx2.AsyncClient
) -> None:
    refused = await client.post("/v1/letters", json={}, headers={"Authorization": "Bearer none"})
    assert (refused.status_code, refused.json()) == (401, {"letter": "no, 401"})
    for method, path in (("GET", "/v2/letters"), ("PATCH", "/v1/letters")):
        answer = await client.request(method, path)
        assert (answer.status_code, answer.json()) == (404, {"letter": "no, 404"})
    assert letters.posted == []


@pytest.mark.parametrize(
    "given", [{"status": 503}, {"body": "garbage"}, {"body": "empty"}, {"status": 500, "body": "empty"}]
)
@pytest.mark.parametrize("takes_effect", [False, True])
async def test_a_call_that_is_answered_badly_has_done_its_work_only_if_the_switch_says_so(
    letters: Letters, client: httpx2.AsyncClient, given: dict[str, Any], *, takes_effect: bool
) -> None:
    letters.switch(takes_effect=takes_effect, **given)
    answer = await client.post("/v1/letters", json="dear")
    assert answer.status_code == given.get("status", 201 if takes_effect else 200)
    assert answer.content != b'{"id": 1}'
    assert len(letters.posted) == takes_effect


@pytest.mark.parametrize("takes_effect", [False, True])
async def test_a_reset_and_a_hang_take_effect_only_if_the_switch_says_so(
    letters: Letters, client: httpx2.AsyncClient, *, takes_effect: bool
) -> None:
    letters.switch(body="reset", takes_effect=takes_effect)
    with pytest.raises(httpx2.TransportError):
        await post(client)
    letters.switch(delay_seconds=3600, takes_effect=takes_effect)
    asking = asyncio.create_task(post(client))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await letters.ledger.until(lambda ledger: ledger.counts["/v1/letters"] == 2)
        await letters.ledger.until(lambda _ledger: len(letters.posted) == 2 * takes_effect)
    asking.cancel()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await letters.ledger.until(lambda ledger: ledger.arrivals[-1].outcome is Outcome.CALLER_LEFT)
    assert len(letters.posted) == (2 if takes_effect else 0)


async def test_what_is_only_slow_does_its_work(letters: Letters, client: httpx2.AsyncClient) -> None:
    letters.switch(delay_seconds=5, body="drip")
    answer = await client.post("/v1/letters", json="dear")
    assert (answer.status_code, answer.json()) == (201, {"id": 1})


async def test_a_switch_may_be_for_one_call_and_for_some_times_only(
    letters: Letters, client: httpx2.AsyncClient
) -> None:
    letters.switch(status=429, retry_after_seconds=9, route="post_letter", times=2)
    assert (await client.get("/v1/letters/1")).status_code == 200
    answer = await client.post("/v1/letters", json="dear")
    assert (answer.status_code, answer.headers["retry-after"], answer.json()) == (429, "9", {"letter": "no, 429"})
    assert letters.behaviour.times == 1
    assert [await post(client), await post(client)] == [429, 201]
    assert letters.behaviour == Switch()


async def test_the_switch_is_set_shown_and_restored_by_http(letters: Letters, client: httpx2.AsyncClient) -> None:
    given = {"status": 502, "route": "burn_letters", "times": 3, "takes_effect": True}
    told = (await client.put("/behaviour", json=given)).json()
    assert told == {**Switch().model_dump(mode="json"), **given}
    assert (await client.get("/behaviour")).json() == told
    assert letters.behaviour == Switch.model_validate(given)
    assert (await client.delete("/behaviour")).status_code == 204
    assert letters.behaviour == Switch()


@pytest.mark.parametrize(
    ("given", "field"), [({"route": "eat_letter"}, "route"), ({"times": 0}, "times"), ({"colour": "red"}, "colour")]
)
async def test_a_switch_that_is_wrong_is_told_and_changes_nothing(
    letters: Letters, client: httpx2.AsyncClient, given: dict[str, Any], field: str
) -> None:
    answer = await client.put("/behaviour", json={"status": 500, **given})
    assert answer.status_code == 422
    assert list(answer.json()["fields"]) == [field]
    assert letters.behaviour == Switch()


async def test_a_body_has_a_largest_size(letters: Letters, client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/letters", content=b"x" * (LARGEST_REQUEST + 1))
    assert answer.status_code == 413
    assert letters.posted == []


async def test_the_first_page_leads_to_its_page(
    letters: Letters, client: httpx2.AsyncClient, visitor: httpx2.AsyncClient
) -> None:
    await post(client)
    letters.switch(status=500)
    home = (await visitor.get("/")).text
    assert '<a href="/letters/">Letters &amp; &lt;parcels&gt;</a>' in home
    assert "1 requests, switched" in home
    page = await visitor.get("/letters")
    assert "<h1>Letters &amp; &lt;parcels&gt;</h1>" in page.text
    assert "POST /v1/letters" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "//" not in page.text
    assert (await client.get("/requests")).json()["calls"] == {"post_letter": 1}


async def test_its_form_switches_and_restores(letters: Letters, visitor: httpx2.AsyncClient) -> None:
    fields = Forms((await visitor.get("/letters/")).text).found["/letters/behaviour"]
    assert (await visitor.post("/letters/behaviour", data=fields)).status_code == 200
    assert letters.behaviour == Switch()
    wanted = {**fields, "status": "503", "route": "post_letter", "times": "4", "takes_effect": "true"}
    page = await visitor.post("/letters/behaviour", data=wanted)
    assert letters.behaviour == Switch(status=503, route="post_letter", times=4, takes_effect=True)
    assert Forms(page.text).found["/letters/behaviour"] == wanted
    await visitor.post("/letters/behaviour", data={**wanted, "restore": "yes"})
    assert letters.behaviour == Switch()


async def test_what_a_person_does_on_its_page_is_done_or_refused_there(
    letters: Letters, visitor: httpx2.AsyncClient
) -> None:
    page = await visitor.post("/letters/page/write/ann", data={"text": "<b>hi</b>"})
    assert page.url.path == "/letters/"
    assert letters.posted == ["ann: <b>hi</b>"]
    page = await visitor.post("/letters/page/write/ann", data={"text": ""})
    assert page.status_code == 422
    assert "A letter without words." in page.text
    assert "<h1>Letters" in page.text
