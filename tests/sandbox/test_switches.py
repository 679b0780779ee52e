"""Every way to answer, switched by HTTP or by a test."""

import asyncio
import json
from typing import Any

import httpx2
import pytest

from orderup.sandbox import Ledger, Outcome, Sandbox, serve_sandbox
from orderup.sandbox.behaviour import LONGEST_DELAY
from orderup.sandbox.border import LARGEST_BODY, Refused
from orderup.sandbox.collection import LONGEST_ID, MOST_THINGS
from tests.sandbox.conftest import client_of
from tests.services.waiting import PATIENCE_SECONDS

BOX = "/products/classic-box"
HONEST = {"code": "classic-box", "name": "Classic Box", "price": 9.99}


async def switch(mealbox: httpx2.AsyncClient, path: str, /, **given: Any) -> dict[str, Any]:
    answer = await mealbox.put(f"{path}/behaviour", json=given)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def last_ends(ledger: Ledger) -> Outcome:
    async with asyncio.timeout(PATIENCE_SECONDS):
        await ledger.until(lambda ledger: ledger.arrivals and ledger.arrivals[-1].outcome is not Outcome.UNDER_WAY)
    return ledger.arrivals[-1].outcome


async def test_a_switch_is_told_as_it_is_set(mealbox: httpx2.AsyncClient) -> None:
    given = {"delay_seconds": 1.5, "status": 503, "body": "empty", "retry_after_seconds": 7, "alternate": None}
    told = await switch(mealbox, BOX, **given)
    assert told == {**given, "name": "Classic Box", "price": 9.99}
    assert (await mealbox.get(f"{BOX}/behaviour")).json() == told


async def test_what_is_left_out_is_as_in_an_honest_answer_at_once(mealbox: httpx2.AsyncClient) -> None:
    await switch(mealbox, BOX, delay_seconds=3600, status=500)
    await switch(mealbox, BOX)
    assert (await mealbox.get(BOX)).json() == HONEST


async def test_a_status_comes_with_an_error_in_json_and_with_when_to_come_again(mealbox: httpx2.AsyncClient) -> None:
    await switch(mealbox, BOX, status=429, retry_after_seconds=30)
    answer = await mealbox.get(BOX)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "30")
    assert list(answer.json()) == ["error"]


async def test_garbage_says_it_is_json_and_is_none(mealbox: httpx2.AsyncClient) -> None:
    await switch(mealbox, BOX, body="garbage")
    answer = await mealbox.get(BOX)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    with pytest.raises(ValueError, match="codec"):
        answer.json()


async def test_an_empty_body_is_empty(mealbox: httpx2.AsyncClient) -> None:
    await switch(mealbox, BOX, body="empty", status=502)
    answer = await mealbox.get(BOX)
    assert (answer.status_code, answer.content) == (502, b"")


async def test_a_drip_comes_bit_by_bit_and_is_whole_in_the_end(sandbox: Sandbox, mealbox: httpx2.AsyncClient) -> None:
    await switch(mealbox, BOX, body="drip")
    async with mealbox.stream("GET", BOX) as answer:
        parts = [part async for part in answer.aiter_raw()]
    assert len(parts) > 1
    assert json.loads(b"".join(parts)) == HONEST
    assert await last_ends(sandbox.mealbox.ledger) is Outcome.ANSWERED


@pytest.mark.parametrize("given", [{"body": "hang"}, {"delay_seconds": LONGEST_DELAY}])
async def test_whoever_is_let_wait_waits_alone_until_he_leaves(given: dict[str, Any]) -> None:
    async with serve_sandbox() as sandbox, client_of(sandbox) as mealbox:
        await switch(mealbox, BOX, **given)
        ledger = sandbox.mealbox.ledger
        asking = asyncio.create_task(mealbox.get(BOX))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await ledger.until(lambda ledger: ledger.counts[BOX] == 1)
        assert (await mealbox.get("/products/veggie-box")).status_code == 500
        assert ledger.arrivals[0].outcome is Outcome.UNDER_WAY
        asking.cancel()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await ledger.until(lambda ledger: ledger.arrivals[0].outcome is Outcome.CALLER_LEFT)
        assert ledger.arrivals[0].status is None


async def test_the_scale_divides_a_delay() -> None:
    async with serve_sandbox(scale=LONGEST_DELAY * 100) as sandbox, client_of(sandbox) as mealbox:
        await switch(mealbox, BOX, delay_seconds=LONGEST_DELAY)
        assert (await mealbox.get(BOX)).json() == HONEST


async def test_a_reset_ends_the_connection_without_an_answer(sandbox: Sandbox, mealbox: httpx2.AsyncClient) -> None:
    await switch(mealbox, BOX, body="reset")
    with pytest.raises(httpx2.ReadError):
        await mealbox.get(BOX)
    assert await last_ends(sandbox.mealbox.ledger) is Outcome.RESET
    assert sandbox.mealbox.ledger.arrivals[-1].status is None


async def test_a_reset_is_one_and_not_an_end_in_order(sandbox: Sandbox) -> None:
    sandbox.mealbox.products.switch("classic-box", body="reset")
    port = int(sandbox.base_url.rpartition(":")[2])
    request = f"GET /mealbox{BOX} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\r\n"
    async with asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request.encode())
            with pytest.raises(ConnectionResetError):
                await reader.read()
        finally:
            writer.close()


async def test_a_huge_answer_has_no_end_until_the_caller_leaves(sandbox: Sandbox, mealbox: httpx2.AsyncClient) -> None:
    await switch(mealbox, BOX, body="huge")
    read = 0
    async with mealbox.stream("GET", BOX) as answer:
        assert "content-length" not in answer.headers
        async for part in answer.aiter_raw():
            read += len(part)
            if read > 4 << 20:
                break
    assert await last_ends(sandbox.mealbox.ledger) is Outcome.CALLER_LEFT
    assert (await mealbox.get("/products/family-box")).status_code == 200


async def test_an_alternate_answers_every_second_request_and_begins_anew_when_switched(
    mealbox: httpx2.AsyncClient,
) -> None:
    for _ in range(2):
        await switch(mealbox, BOX, alternate={"status": 503, "body": "empty"})
        assert [(await mealbox.get(BOX)).status_code for _ in range(3)] == [200, 503, 200]


async def test_an_id_that_is_not_there_is_added_and_taken_away_again(mealbox: httpx2.AsyncClient) -> None:
    await switch(mealbox, "/products/tiny-box", name="Tiny Box", price=0.1)
    await switch(mealbox, "/users/ann", firstName="Ann", lastName="Öz", status=201)
    assert (await mealbox.get("/products/tiny-box")).json() == {"code": "tiny-box", "name": "Tiny Box", "price": 0.1}
    answer = await mealbox.get("/users/ann")
    assert (answer.status_code, answer.json()) == (201, {"id": "ann", "firstName": "Ann", "lastName": "Öz"})
    for path in ("/products/tiny-box", "/users/ann"):
        assert (await mealbox.delete(f"{path}/behaviour")).status_code == 204
        assert (await mealbox.get(path)).status_code == 404


async def test_what_is_restored_is_as_it_was_in_the_beginning(mealbox: httpx2.AsyncClient) -> None:
    before = (await mealbox.get(f"{BOX}/behaviour")).json()
    await switch(mealbox, BOX, name="Another Box", price=1, status=500)
    assert (await mealbox.delete(f"{BOX}/behaviour")).status_code == 204
    assert (await mealbox.get(f"{BOX}/behaviour")).json() == before
    assert (await mealbox.get(BOX)).json() == HONEST


async def test_a_test_may_switch_without_a_request(sandbox: Sandbox, mealbox: httpx2.AsyncClient) -> None:
    sandbox.mealbox.products.switch("classic-box", status=503)
    assert (await mealbox.get(BOX)).status_code == 503
    sandbox.mealbox.products.restore("classic-box")
    assert (await mealbox.get(BOX)).json() == HONEST


@pytest.mark.parametrize(
    ("path", "given", "wrong"),
    [
        (BOX, {"delay_seconds": -1}, {"delay_seconds"}),
        (BOX, {"delay_seconds": 3601}, {"delay_seconds"}),
        (BOX, {"delay_seconds": "soon", "status": 99, "body": "rude"}, {"delay_seconds", "status", "body"}),
        (BOX, {"status": 600}, {"status"}),
        (BOX, {"status": 204}, {"status"}),
        (BOX, {"alternate": {"status": 1}}, {"alternate.status"}),
        (BOX, {"alternate": {"alternate": {}}}, {"alternate.alternate"}),
        (BOX, {"retry_after_seconds": -1}, {"retry_after_seconds"}),
        (BOX, {"price": -1}, {"price"}),
        (BOX, {"code": "other-box", "id": 7}, {"code", "id"}),
        ("/products/no-box", {"status": 500}, {"name", "price"}),
        ("/users/nobody", {"firstName": "No"}, {"lastName"}),
    ],
)
async def test_what_is_wrong_with_a_switch_is_told_by_field(
    mealbox: httpx2.AsyncClient, path: str, given: dict[str, Any], wrong: set[str]
) -> None:
    answer = await mealbox.put(f"{path}/behaviour", json=given)
    assert answer.status_code == 422
    assert set(answer.json()["fields"]) == wrong
    assert all(answer.json()["fields"].values())
    assert (await mealbox.get(BOX)).json() == HONEST


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"\xff", 400),
        (b"[" * 10_000, 400),
        (b'{"delay_seconds": NaN}', 422),
        (b"[]", 422),
        (b"7", 422),
        (b'"' + b"x" * LARGEST_BODY + b'"', 413),
    ],
)
async def test_a_body_that_is_no_switch_at_all_is_refused(
    mealbox: httpx2.AsyncClient, body: bytes, status: int
) -> None:
    answer = await mealbox.put(f"{BOX}/behaviour", content=body)
    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_what_is_not_there_has_no_switch(mealbox: httpx2.AsyncClient, method: str) -> None:
    answer = await mealbox.request(method, "/products/no-box/behaviour")
    assert (answer.status_code, answer.json()["error"]) == (404, "There is no product no-box.")


async def test_there_is_an_end_to_what_can_be_added(sandbox: Sandbox) -> None:
    products = sandbox.mealbox.products
    for number in range(MOST_THINGS - len(products.entries)):
        products.switch(f"box-{number}", name="Box", price=number)
    with pytest.raises(Refused, match="Delete some"):
        products.switch("one-more", name="Box", price=1)
    products.restore("box-0")
    products.switch("one-more", name="Box", price=1)
    with pytest.raises(Refused, match="at most"):
        products.switch("x" * (LONGEST_ID + 1), name="Box", price=1)
