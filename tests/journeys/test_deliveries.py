"""A server that sends events dies in the middle of it, and another one goes on."""

import asyncio
from typing import Any

import httpx2
from starlette.responses import Response

from orderup.db.tables import deliveries, events
from orderup.model.event import Audience
from orderup.model.ids import show_id
from tests.integrations.receiver import SECRET, Receiver, fine
from tests.journeys.crowd import PIZZA
from tests.journeys.scene import Scene, until
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import ServerProcess

ORDERS, ACCEPTED_BEFORE = 12, 10


async def order(client: httpx2.AsyncClient, server: ServerProcess) -> None:
    """One that staff approves and then cancels: six events."""
    placed = await client.post(f"{server.front}/pizzas", json=PIZZA)
    id = placed.raise_for_status().json()["id"]
    for verb in (f"rfas/{id}/approve", f"operations/{id}/cancel"):
        (await client.post(f"{server.back}/api/{verb}")).raise_for_status()


async def test_a_server_killed_while_it_sends_loses_nothing_and_another_goes_on_in_order(scene: Scene) -> None:
    let_go = asyncio.Event()

    async def accept_some(_event: dict[str, Any]) -> Response:
        if len(receiver.received) >= ACCEPTED_BEFORE:
            await let_go.wait()
        return Response(status_code=204)

    async with Receiver() as receiver, httpx2.AsyncClient(timeout=PATIENCE_SECONDS) as client:
        webhook = {"WEBHOOK_URL": receiver.url, "WEBHOOK_SECRET": SECRET}
        first = scene.server("pizza", environment=webhook, name="first").start()
        await until_held(client, first)
        second = scene.server("pizza", environment=webhook, name="second").start()
        receiver.answer = accept_some
        for _ in range(ORDERS):
            await order(client, first)
        # some have arrived and are not answered: nobody but the receiver can know of them
        await receiver.until(lambda: receiver.arrived >= len(receiver.received) + 3)
        unanswered = receiver.arrived - len(receiver.received)
        first.kill()
        receiver.answer = fine
        let_go.set()
        await until(lambda: all_arrived(scene), what="all events have arrived")
        told = (await client.get(f"{second.back}/api/deliveries")).json()
    assert receiver.forged == []
    [target] = told["targets"]
    assert (target["pending"], target["failed"], target["is_held"]) == (0, 0, True)
    check_all_in_order(scene, receiver)
    repeats = len(receiver.received) - len(receiver.accepted)
    assert 3 <= unanswered <= repeats, "what was not answered came again, under its id"
    scene.check()


async def until_held(client: httpx2.AsyncClient, server: ServerProcess) -> None:
    """Until it is this server that sends."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (await client.get(f"{server.back}/api/deliveries")).json()["targets"][0]["is_held"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def all_arrived(scene: Scene) -> bool:
    rows = scene.table(deliveries)
    due = [each for each in scene.table(events) if each.audience <= Audience.STAFF]
    return len(rows) == len(due) > 0 and all(row.state == "delivered" for row in rows)


def check_all_in_order(scene: Scene, receiver: Receiver) -> None:
    """Of each operation what staff may see was accepted, in the order in which it happened."""
    happened: dict[str, list[int]] = {}
    for row in sorted(scene.table(events), key=lambda row: row.seq):
        if row.audience <= Audience.STAFF:
            happened.setdefault(show_id(row.operation_id), []).append(row.n)
    accepted: dict[str, list[int]] = {}
    for each in receiver.accepted:
        accepted.setdefault(each.operation, []).append(each.event["n"])
    assert accepted == happened
    assert len(happened) == ORDERS
