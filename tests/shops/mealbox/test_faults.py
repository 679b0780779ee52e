"""Services that misbehave in every way they can, and a process that is killed: every order that was answered ends, and
each that is complete is told of once."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from orderup.sandbox import serve_sandbox
from tests.journeys.patience import Patient
from tests.serving import ServerProcess, sqlite_url
from tests.shops.mealbox.conftest import GOOD, SCALE, Kiosk, open_kiosk
from tests.shops.mealbox.test_messages import consuming

SECONDS = 150
# Of life, which passes twenty times faster here.
MISBEHAVIOURS: tuple[dict[str, Any], ...] = (
    {},
    {"delay_seconds": 10},
    {"status": 500},
    {"status": 404},
    {"status": 429, "retry_after_seconds": 1},
    {"status": 503},
    {"status": 503, "retry_after_seconds": 1},
    {"status": 418},
    *({"body": body} for body in ("garbage", "empty", "drip", "hang", "reset", "huge")),
    {"status": 500, "alternate": {"status": 200}},
)
USERS = {f"user-{number}": {"firstName": f"First{number}", "lastName": f"Last{number}"} for number in range(8)}
PRODUCTS = {f"box-{number}": {"name": f"Box {number}", "price": number + 0.1} for number in range(8)}


async def misbehave(kiosk: Kiosk, random: Random) -> None:
    for collection, things in (("users", USERS), ("products", PRODUCTS)):
        for id, thing in things.items():
            await kiosk.behave(collection, id, **thing, **random.choice([{}, random.choice(MISBEHAVIOURS)]))


async def recover(kiosk: Kiosk) -> None:
    for collection, things in (("users", USERS), ("products", PRODUCTS)):
        for id, thing in things.items():
            await kiosk.behave(collection, id, **thing)


@pytest.mark.timeout(SECONDS + 30)
async def test_whatever_the_services_do_every_order_that_was_answered_ends(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    settings = {"mealbox_attempts": 3, "upstream_deadline_seconds": 1}
    async with open_kiosk(sqlite_url(tmp_path), **settings) as kiosk, asyncio.timeout(SECONDS):
        answers: Counter[int] = Counter()
        asked: dict[str, dict[str, str]] = {}

        async def order(number: int) -> None:
            wish = {"user_id": random.choice([*USERS]), "product_code": random.choice([*PRODUCTS])}
            answer = await kiosk.order(key=f"order {number}", prefer=random.choice(["wait=1", "respond-async"]), **wish)
            answers[answer.status_code] += 1
            if answer.status_code in (201, 202):
                asked[answer.json()["id"]] = wish

        for _ in range(3):
            await misbehave(kiosk, random)
            await asyncio.gather(*(order(number) for number in range(answers.total(), answers.total() + 20)))
        await recover(kiosk)
        assert set(answers) <= {201, 202, 422}
        found = [await ended(kiosk, id) for id in asked]
    print(f"answers {dict(answers)}, orders {dict(Counter(each['status'] for each in found))}")
    for each in found:
        assert each["status"] in ("completed", "failed")
        if each["status"] == "completed":
            check(each, asked[each["id"]])
        else:
            assert each["reason"]


async def ended(kiosk: Kiosk, id: str) -> dict[str, Any]:
    while (shown := await kiosk.read(id))["status"] == "pending":  # noqa: ASYNC110  in another process, as a customer looks
        await asyncio.sleep(0.1)
    return shown


def check(shown: dict[str, Any], wish: dict[str, str]) -> None:
    """It holds what the services say of this user and this box, and of no other."""
    user, product = USERS[wish["user_id"]], PRODUCTS[wish["product_code"]]
    expected = (f"{user['firstName']} {user['lastName']}", product["name"], product["price"])
    assert (shown["customer_fullname"], shown["product_name"], shown["total_amount"]) == expected


@pytest.mark.needs("rabbitmq_url")
@pytest.mark.timeout(SECONDS + 30)
async def test_a_process_that_is_killed_loses_no_order_and_no_message(
    seed: int, tmp_path: Path, rabbitmq_url: str
) -> None:
    count, random = 60, Random(seed)
    async with asyncio.timeout(SECONDS), serve_sandbox(scale=SCALE) as sandbox, consuming(rabbitmq_url) as consumer:
        services = f"{sandbox.base_url}/mealbox"
        environment = {
            "USER_SERVICE_URL": services,
            "PRODUCT_SERVICE_URL": services,
            "RABBITMQ_URL": rabbitmq_url,
            # one user's service fails every other time, whoever asks: nobody shall be out of luck for good
            "MEALBOX_ATTEMPTS": "50",
            "LEASE_SECONDS": "2",
            "HEARTBEAT_SECONDS": "1",
        }
        server = ServerProcess(
            "orderup.shops.mealbox:shop", folder=tmp_path, database_url=sqlite_url(tmp_path), environment=environment
        )
        with server:
            await asyncio.to_thread(server.start)
            patient, ids = Patient(random), set[str]()

            async def order(number: int) -> None:
                headers = {"Idempotency-Key": f"order {number}", "Prefer": random.choice(["wait=1", "respond-async"])}
                wish = GOOD if number % 2 else {**GOOD, "user_id": "e6f24d7d1c7e"}
                answer = await patient.send("POST", f"{server.front}/orders", json=wish, headers=headers)
                assert answer.status_code in (201, 202), answer.text
                ids.add(answer.json()["id"])

            async with asyncio.TaskGroup() as group:
                for number in range(count):
                    group.create_task(order(number), name=f"order {number}")
                for _ in range(3):
                    await asyncio.sleep(random.uniform(0.2, 1.5))
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)
            told: Counter[str] = Counter()
            async with consumer.queue.iterator() as messages:
                async for message in messages:
                    async with message.process():
                        id = json.loads(message.body)["payload"]["order"]["order_id"]
                    if id in ids:
                        told[id] += 1
                        if len(told) == count:
                            break
            assert len(ids) == count
            assert set(told) == ids
            listed = await patient.send("GET", f"{server.front}/orders", params={"limit": 500})
            assert {each["id"]: each["status"] for each in listed.json()["orders"]} == dict.fromkeys(ids, "completed")
        await patient.client.aclose()
