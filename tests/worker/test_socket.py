"""What only the WebSocket has: pushes, their numbers, and what becomes of them when the socket goes."""

import asyncio
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed

from tests.services.waiting import PATIENCE_SECONDS
from tests.worker.hand import SocketHand, socket_hand, wish_of
from tests.worker.visitor import Visitor


async def tell_received(hand: SocketHand, push: dict[str, Any]) -> None:
    assert await hand.say("received", None, n=push["n"]) == (200, {"n": push["n"]})


async def test_tasks_are_pushed_as_they_come_and_numbered(visitor: Visitor) -> None:
    async with socket_hand(visitor) as hand:
        assert await hand.say("claim", None, **wish_of(visitor, max=2)) == (200, {"max": 2})
        ids = []
        for n in (1, 2):
            ids.append(await visitor.order())
            push = await hand.next_push()
            assert push["n"] == n
            assert [task["operation_id"] for task in push["tasks"]] == ids[-1:]


async def test_no_more_are_unfinished_at_once_than_the_worker_wishes(visitor: Visitor) -> None:
    async with socket_hand(visitor) as hand:
        ids = [await visitor.order() for _ in range(4)]
        await hand.say("claim", None, **wish_of(visitor, max=2))
        tasks: list[dict[str, Any]] = []
        while len(tasks) < 2:
            tasks += (await hand.next_push())["tasks"]
        assert [(await visitor.task(id))["status"] for id in ids] == ["running", "running", "pending", "pending"]
        await hand.say("complete", tasks[0]["id"], token=tasks[0]["token"])
        [third] = (await hand.next_push())["tasks"]
        assert third["operation_id"] == ids[2]
        assert (await visitor.task(ids[3]))["status"] == "pending"


async def test_a_task_that_ended_otherwise_makes_room_when_the_worker_is_told(visitor: Visitor) -> None:
    async with socket_hand(visitor) as hand:
        await visitor.order()
        [task] = await hand.claim()
        await visitor.say("complete", task["id"], token=task["token"])
        later = await visitor.order()
        assert (await hand.say("heartbeat", task["id"], token=task["token"]))[0] == 409
        [next_task] = (await hand.next_push())["tasks"]
    assert next_task["operation_id"] == later


async def test_a_wish_of_nothing_ends_the_pushing(visitor: Visitor) -> None:
    async with socket_hand(visitor) as hand:
        await hand.say("claim", None, **wish_of(visitor))
        await hand.say("claim", None, **wish_of(visitor, max=0))
        id = await visitor.order()
        [task] = await visitor.claim(worker="another")
        assert task["operation_id"] == id
        assert hand.pushed.empty()


async def test_what_was_never_received_goes_back_when_the_socket_goes(visitor: Visitor) -> None:
    id = await visitor.order()
    async with socket_hand(visitor) as hand:
        await hand.claim()
    task = await visitor.until_task(id, lambda task: task["status"] == "pending", what="it went back")
    assert (task["attempt"], task["losses"]) == (0, 0)


async def test_what_was_received_stays_the_workers_when_the_socket_goes(visitor: Visitor) -> None:
    await visitor.order()
    async with socket_hand(visitor) as hand:
        await hand.say("claim", None, **wish_of(visitor))
        push = await hand.next_push()
        await tell_received(hand, push)
    [task] = push["tasks"]
    async with socket_hand(visitor) as hand:
        assert (await hand.say("heartbeat", task["id"], token=task["token"]))[0] == 200
        assert (await hand.say("complete", task["id"], token=task["token"]))[0] == 200


async def test_who_says_anything_of_a_task_has_received_it(visitor: Visitor) -> None:
    await visitor.order()
    async with socket_hand(visitor) as hand:
        [task] = await hand.claim()
        await hand.say("heartbeat", task["id"], token=task["token"])
    assert (await visitor.say("complete", task["id"], token=task["token"])).status_code == 200


async def test_who_comes_back_goes_on_where_he_was(visitor: Visitor) -> None:
    name = str(uuid4())
    first = await visitor.order()
    async with socket_hand(visitor) as hand:
        await hand.say("claim", None, **wish_of(visitor, max=2, request=name))
        push = await hand.next_push()
        await tell_received(hand, push)
        second = await visitor.order()
        missed = await hand.next_push()
    async with socket_hand(visitor) as hand:
        await hand.say("claim", None, **wish_of(visitor, max=1, request=name, after=push["n"]))
        again = await hand.next_push()
    assert [task["operation_id"] for task in push["tasks"]] == [first]
    assert [task["operation_id"] for task in missed["tasks"]] == [second]
    assert (again["n"], [task["operation_id"] for task in again["tasks"]]) == (2, [second])


async def test_an_older_socket_under_the_same_name_is_closed_first(visitor: Visitor) -> None:
    name = str(uuid4())
    await visitor.order()
    async with socket_hand(visitor) as old, socket_hand(visitor) as new:
        [lost] = await old.claim(request=name)
        [task] = await new.claim(request=name)
        assert task["id"] == lost["id"]
        assert task["token"] != lost["token"]
        with pytest.raises(ConnectionClosed) as closed:
            await old.hear()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4409
        assert (await new.say("complete", task["id"], token=task["token"]))[0] == 200


@pytest.mark.parametrize(
    ("frame", "id", "status", "words"),
    [
        ("{", None, 400, "is not JSON"),
        ("[]", None, 422, "Send an object"),
        (b"{}", None, 400, "text frames"),
        ('{"verb": "claim", "body": {}}', None, 422, "an id of your own"),
        ('{"id": true, "verb": "claim", "body": {}}', None, 422, "an id of your own"),
        ('{"id": 1}', 1, 422, "verb: This field is required"),
        ('{"id": "a", "verb": "fly", "body": {}}', "a", 422, "There is no verb 'fly'"),
        ('{"id": 1, "verb": "complete", "body": {}}', 1, 422, "put its id into `task`"),
        ('{"id": 1, "verb": "received", "body": {"n": -1}}', 1, 422, "body.n"),
        ('{"id": 1, "verb": "claim", "body": {}, "extra": 1}', 1, 422, "extra: There is no such field"),
        ('{"id": 7, "verb": "complete", "task": "x", "body": {"token": "\\u0000"}}', 7, 422, "may not hold a NUL"),
        ('{"id": 8, "verb": "claim", "body": ' + "[" * 70 + "]" * 70 + "}", 8, 422, "nested deeper"),
        ('{"id": 9, "verb": "claim", "body": ' + "[" * 5000 + "]" * 5000 + "}", None, 422, "nested deeper"),
    ],
)
async def test_a_bad_frame_gets_a_clear_answer_and_the_socket_goes_on(
    visitor: Visitor, frame: str | bytes, id: int | str | None, status: int, words: str
) -> None:
    async with socket_hand(visitor) as hand:
        answer = await hand.send(frame)
        assert (answer["id"], answer["status"]) == (id, status)
        assert words in answer["body"]["detail"]
        assert (await hand.say("claim", None, **wish_of(visitor)))[0] == 200


async def test_a_frame_that_is_too_large_ends_the_socket_with_the_reason(visitor: Visitor) -> None:
    async with socket_hand(visitor) as hand:
        with pytest.raises(ConnectionClosed) as closed:
            await hand.send(msgspec.json.encode("x" * 70_000).decode())
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


async def test_many_frames_at_once_are_all_answered(visitor: Visitor) -> None:
    async with socket_hand(visitor) as hand:
        for id in range(500):
            await hand.socket.send(f'{{"id": {id}, "verb": "heartbeat", "task": "x", "body": {{"token": "x"}}}}')
        async with asyncio.timeout(PATIENCE_SECONDS):
            answers = [await hand.hear() for _ in range(500)]
    assert {answer["id"] for answer in answers} == set(range(500))
    assert {answer["status"] for answer in answers} == {404}
