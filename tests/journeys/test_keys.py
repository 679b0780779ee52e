"""Idempotency keys under pressure: sent many times at once, to two servers."""

import asyncio
from collections import Counter, defaultdict

import pytest

from tests.invariants.records import Accepted, Asked
from tests.journeys.crowd import PIZZA
from tests.journeys.patience import Patient
from tests.journeys.scene import Scene

KEYS, TIMES = 50, 20


@pytest.mark.timeout(420)
async def test_a_key_that_is_sent_many_times_at_once_places_one_order(scene: Scene) -> None:
    servers = [scene.server("pizza", name=name).start() for name in ("one", "other")]
    patient = Patient(scene.random)
    ids: dict[str, set[str]] = defaultdict(set)
    replays: Counter[str] = Counter()

    async def send(key: str, number: int) -> None:
        address = f"{servers[number % 2].front}/pizzas"
        while True:  # 409: the first one with this key is still being answered
            answer = await patient.send("POST", address, json=PIZZA, headers={"Idempotency-Key": key})
            if answer.status_code != 409:
                break
        assert answer.status_code == 202, answer.text
        ids[key].add(answer.json()["id"])
        replays[key] += "idempotency-replayed" in answer.headers
        scene.log.write(Accepted(id=answer.json()["id"], key=key))

    keys = [f"key {number}" for number in range(KEYS)]
    requests = [(key, number) for key in keys for number in range(TIMES)]
    scene.random.shuffle(requests)
    for key in keys:
        scene.log.write(Asked(key=key))
    async with patient.client:
        async with asyncio.timeout(300), asyncio.TaskGroup() as group:
            for key, number in requests:
                group.create_task(send(key, number), name=f"{key}, {number}")
        misused = [
            await patient.send(
                "POST",
                f"{servers[0].front}/pizzas",
                json={**PIZZA, "tier": "premium"},
                headers={"Idempotency-Key": key},
            )
            for key in keys[:5]
        ]
    assert {key: len(found) for key, found in ids.items()} == dict.fromkeys(keys, 1)
    assert replays == Counter(dict.fromkeys(keys, TIMES - 1))
    assert {answer.status_code for answer in misused} == {422}
    assert set(patient.statuses) <= {202, 409, 422, 503}
    evidence = scene.check()
    assert len(evidence.database.operations) == KEYS
    scene.assert_no_crash()
