"""Writes that come too late, twice, or from the wrong hands: 409, and not a byte of the state changed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from tests.journeys.crowd import PIZZA
from tests.journeys.scene import PIZZA_STEPS, Scene, everything_in
from tests.services.waiting import PATIENCE_SECONDS, wait_until

RESULT = {"slices": 8}
VERBS: list[tuple[str, dict[str, Any]]] = [
    ("complete", {"result": RESULT}),
    ("complete", {}),
    ("fail", {"error": "The oven is cold."}),
    ("fail", {"error": "The oven is cold.", "final": True}),
    ("wait", {"seconds": 1, "memo": "half done"}),
    ("remember", {"memo": "half done"}),
    ("hand-back", {}),
    ("heartbeat", {}),
]


class Counter:
    """One who stands at the counter of a pizzeria, and does by hand what customers, staff and workers do."""

    def __init__(self, scene: Scene, *, lease_seconds: int) -> None:
        self.scene = scene
        self.server = scene.server("pizza", environment={"LEASE_SECONDS": str(lease_seconds)}).start()
        self.client = httpx2.Client(timeout=PATIENCE_SECONDS)

    def post(self, path: str, body: dict[str, Any] | None = None) -> httpx2.Response:
        return self.client.post(f"{self.server.back}{path}", json=body)

    def work(self, task: dict[str, Any], verb: str, **body: Any) -> httpx2.Response:
        return self.post(f"/api/work/{task['id']}/{verb}", {"token": task["token"], **body})

    def approved(self) -> str:
        """A new order's id."""
        id: str = self.client.post(f"{self.server.front}/pizzas", json=PIZZA).raise_for_status().json()["id"]
        self.post(f"/api/rfas/{id}/approve").raise_for_status()
        return id

    def claim(self, worker: str) -> dict[str, Any]:
        body = {"worker": worker, "shop": "pizza", "tasks": PIZZA_STEPS.split(","), "region": "eu-west-3", "wait": 10}
        [task] = self.post("/api/work/claim", body).raise_for_status().json()["tasks"]
        return dict(task)

    def read_task(self, id: str) -> dict[str, Any]:
        return dict(self.client.get(f"{self.server.back}/api/tasks/{id}").raise_for_status().json())

    def refused(self, send: Callable[..., httpx2.Response], *what: Any, **body: Any) -> str:
        """Why, after making sure that it was refused and that nothing was changed."""
        before = everything_in(self.scene.rows())
        answer = send(*what, **body)
        assert answer.status_code == 409, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert everything_in(self.scene.rows()) == before
        return str(answer.json()["detail"])


@contextmanager
def open_counter(scene: Scene, *, lease_seconds: int) -> Iterator[Counter]:
    counter = Counter(scene, lease_seconds=lease_seconds)
    with counter.client:
        yield counter
    scene.check()
    scene.assert_no_crash()


@pytest.fixture
def counter(scene: Scene) -> Iterator[Counter]:
    """Whose leases outlast the test."""
    with open_counter(scene, lease_seconds=600) as counter:
        yield counter


@pytest.fixture
def hasty_counter(scene: Scene) -> Iterator[Counter]:
    with open_counter(scene, lease_seconds=12) as counter:
        yield counter


def test_a_token_whose_lease_has_run_out_does_nothing_any_more(hasty_counter: Counter) -> None:
    counter = hasty_counter
    counter.approved()
    stale = counter.claim("first")
    wait_until(lambda: counter.read_task(stale["id"])["losses"] == 1, what="the lease has run out")
    for verb, body in VERBS:
        assert "claim has ended" in counter.refused(counter.work, stale, verb, **body), verb
    fresh = counter.claim("second")
    assert fresh["id"] == stale["id"]
    for verb, body in VERBS:
        assert "claim has ended" in counter.refused(counter.work, stale, verb, **body), verb
        assert counter.work(fresh, "heartbeat").status_code == 200
    assert counter.work(fresh, "complete", result=RESULT).status_code == 200
    assert counter.read_task(fresh["id"])["worker"] == "second"


def test_a_result_sent_again_is_taken_once_and_another_one_is_refused(counter: Counter) -> None:
    counter.approved()
    task = counter.claim("first")
    assert counter.work(task, "complete", result=RESULT).status_code == 200
    before = everything_in(counter.scene.rows())
    assert counter.work(task, "complete", result=RESULT).status_code == 200
    assert everything_in(counter.scene.rows()) == before
    for verb, body in VERBS[1:]:
        counter.refused(counter.work, task, verb, **body)
    counter.refused(counter.work, task, "complete", result={"slices": 9})
    assert counter.read_task(task["id"])["result"] == RESULT


def test_nothing_is_taken_from_a_worker_once_the_order_was_cancelled(counter: Counter) -> None:
    id = counter.approved()
    task = counter.claim("first")
    counter.post(f"/api/operations/{id}/cancel").raise_for_status()
    for verb, body in VERBS:
        assert "cancelled" in counter.refused(counter.work, task, verb, **body), verb


def test_a_token_that_was_made_up_opens_nothing(counter: Counter) -> None:
    counter.approved()
    task = {**counter.claim("first"), "token": "0" * 32}
    for verb, body in VERBS:
        counter.refused(counter.work, task, verb, **body)


def test_what_has_ended_is_not_steered_any_more(counter: Counter) -> None:
    id = counter.approved()
    for _ in PIZZA_STEPS.split(","):
        task = counter.claim("first")
        assert counter.work(task, "complete", result=RESULT).status_code == 200
    paths = [f"/api/operations/{id}/{verb}" for verb in ("cancel", "pause", "resume", "retry")]
    paths += [f"/api/rfas/{id}/approve", f"/api/rfas/{id}/decline"]
    paths += [f"/api/tasks/{id}-0/{verb}" for verb in ("rerun", "cancel")]
    for path in paths:
        counter.refused(counter.post, path)
