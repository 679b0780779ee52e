"""What the back answers a worker, by requests and over a WebSocket alike."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from tests.services.waiting import PATIENCE_SECONDS
from tests.worker.hand import Hand, HttpHand, SocketHand, socket_hand, wish_of
from tests.worker.visitor import Visitor


@pytest.fixture
async def hand(visitor: Visitor, transport: str) -> AsyncIterator[Hand]:
    if transport == "http":
        yield HttpHand(visitor)
        return
    async with socket_hand(visitor) as hand:
        yield hand


async def claimed(visitor: Visitor, hand: Hand, **fields: Any) -> dict[str, Any]:
    """A task that was just claimed."""
    await visitor.order(**fields)
    return (await hand.claim())[0]


async def test_a_completion_sent_again_is_answered_again_and_changes_nothing(visitor: Visitor, hand: Hand) -> None:
    task = await claimed(visitor, hand)
    answers = [await hand.say("complete", task["id"], token=task["token"], result={"blows": 3}) for _ in range(3)]
    assert answers == [(200, {"status": "completed"})] * 3
    operation = await visitor.operation(task["operation_id"])
    assert [operation["status"], operation["tasks"][0]["result"], operation["n"]] == ["completed", {"blows": 3}, 4]


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("complete", {"result": {"blows": 4}}),
        ("fail", {"error": "It broke."}),
        ("wait", {"seconds": 1.0}),
        ("remember", {"memo": 1}),
        ("heartbeat", {}),
        ("hand-back", {}),
    ],
)
async def test_nothing_else_is_accepted_once_a_task_is_completed(
    visitor: Visitor, hand: Hand, verb: str, body: dict[str, Any]
) -> None:
    task = await claimed(visitor, hand)
    await hand.say("complete", task["id"], token=task["token"], result={"blows": 3})
    before = await visitor.operation(task["operation_id"])
    status, problem = await hand.say(verb, task["id"], token=task["token"], **body)
    assert (status, problem["type"]) == (409, "urn:orderup:problem:stale-token")
    assert await visitor.operation(task["operation_id"]) == before


@pytest.mark.parametrize(("verb", "body"), [("fail", {"error": "It broke."}), ("wait", {"seconds": 60.0, "memo": 2})])
async def test_a_failure_and_a_wait_may_be_sent_again_too(
    visitor: Visitor, hand: Hand, verb: str, body: dict[str, Any]
) -> None:
    task = await claimed(visitor, hand)
    first = await hand.say(verb, task["id"], token=task["token"], **body)
    before = await visitor.operation(task["operation_id"])
    again = await hand.say(verb, task["id"], token=task["token"], **body)
    assert first == again
    assert first[0] == 200
    assert (await visitor.operation(task["operation_id"]))["n"] == before["n"]


@pytest.mark.parametrize("verb", ["complete", "heartbeat"])
async def test_a_worker_whose_order_was_cancelled_is_told_so(visitor: Visitor, hand: Hand, verb: str) -> None:
    task = await claimed(visitor, hand)
    await visitor.steer(task["operation_id"], "cancel")
    status, problem = await hand.say(verb, task["id"], token=task["token"])
    assert status == 409
    assert "cancelled" in problem["detail"]
    assert (await visitor.operation(task["operation_id"]))["status"] == "cancelled"


@pytest.mark.parametrize("verb", ["complete", "heartbeat", "hand-back"])
async def test_a_token_that_never_was_changes_nothing(visitor: Visitor, hand: Hand, verb: str) -> None:
    task = await claimed(visitor, hand)
    status, _ = await hand.say(verb, task["id"], token="x" * 32)
    assert status == 409
    assert (await visitor.task(task["operation_id"]))["status"] == "running"


async def test_what_is_handed_back_can_be_claimed_at_once_by_another(visitor: Visitor, hand: Hand) -> None:
    task = await claimed(visitor, hand)
    if isinstance(hand, SocketHand):
        await hand.say("claim", None, **wish_of(visitor, max=0))  # or it would come right back
    assert await hand.say("hand-back", task["id"], token=task["token"]) == (200, {"status": "pending"})
    [again] = await visitor.claim(worker="another")
    assert (again["id"], again["attempt"]) == (task["id"], 1)
    assert again["token"] != task["token"]
    assert (await hand.say("complete", task["id"], token=task["token"]))[0] == 409


async def test_there_is_no_such_task(hand: Hand) -> None:
    status, problem = await hand.say("complete", "0000000000000-0", token="x")
    assert (status, problem["title"]) == (404, "Not found")


@pytest.mark.parametrize(
    ("verb", "body", "fields"),
    [
        ("complete", {}, ["body.token"]),
        ("complete", {"token": "x", "resullt": 1}, ["body.resullt"]),
        ("fail", {"token": "x", "error": "", "final": "yes"}, ["body.error", "body.final"]),
        ("wait", {"token": "x", "seconds": -1}, ["body.seconds"]),
        ("remember", {"token": "x"}, ["body.memo"]),
        ("heartbeat", {"token": 7}, ["body.token"]),
    ],
)
async def test_a_body_that_is_wrong_is_refused_by_its_fields(
    visitor: Visitor, hand: Hand, verb: str, body: dict[str, Any], fields: list[str]
) -> None:
    task = await claimed(visitor, hand)
    status, problem = await hand.say(verb, task["id"], **body)
    assert status == 422
    assert [error["field"] for error in problem["errors"]] == fields


async def test_the_same_request_gets_the_same_tasks_within_a_lease(visitor: Visitor) -> None:
    hand = HttpHand(visitor)
    for _ in range(3):
        await visitor.order()
    name = str(uuid4())
    first = await hand.claim(max=2, request=name)
    again = await hand.claim(max=2, request=name)
    other = await hand.claim(max=2, request=str(uuid4()))
    assert len(first) == 2
    assert [(each["id"], each["token"]) for each in first] == [(each["id"], each["token"]) for each in again]
    assert len(other) == 1
    assert other[0]["id"] not in {each["id"] for each in first}


async def test_a_claim_that_waits_gives_way_to_the_same_one_asked_again(visitor: Visitor) -> None:
    hand = HttpHand(visitor)
    name = str(uuid4())
    first = asyncio.create_task(hand.claim(request=name, wait=60.0))
    second = asyncio.create_task(hand.claim(request=name, wait=60.0))
    async with asyncio.timeout(PATIENCE_SECONDS):
        done, waiting = await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
        id = await visitor.order()
        claims = [await each for each in (*done, *waiting)]
    assert [[task["operation_id"] for task in tasks] for tasks in claims] == [[], [id]]


async def test_a_claim_of_nothing_gets_what_the_same_request_was_given_and_nothing_new(visitor: Visitor) -> None:
    hand = HttpHand(visitor)
    await visitor.order()
    name = str(uuid4())
    assert await hand.claim(max=0, request=name) == []
    [task] = await hand.claim(request=name)
    await visitor.order()
    assert [each["token"] for each in await hand.claim(max=0, request=name)] == [task["token"]]


async def test_a_worker_that_only_beats_is_seen_alive(visitor: Visitor, hand: Hand) -> None:
    name = f"hand-{visitor.region}"
    await visitor.order()
    [task] = await hand.claim(worker=name)
    first = await visitor.until_worker(name, lambda _worker: True, what="it is listed")
    await hand.say("heartbeat", task["id"], token=task["token"])
    later = await visitor.until_worker(
        name, lambda worker: worker["seen_at"] > first["seen_at"], what="it is seen again"
    )
    assert (later["region"], later["tasks"]) == (visitor.region, [task["id"]])
