"""A pizzeria that is served by a process of its own, and what its customers, staff and workers do to it by hand."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from uuid import uuid4

import httpx2
import msgspec
from websockets.sync.client import connect

from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import ServerProcess

STEPS = ("make_dough", "add_toppings", "bake_pizza", "deliver_pizza")


class Pizzeria:
    """`region`: where its orders go unless told otherwise; nobody else works there."""

    def __init__(self, server: ServerProcess, *, tokens: dict[str, str] | None = None) -> None:
        self.server, self.tokens = server, tokens or {}
        self.region = f"kitchen-{uuid4().hex[:8]}"
        self.client = httpx2.Client(timeout=PATIENCE_SECONDS)

    # customers

    def post(self, body: object, *, key: str | None = None, token: str | None = None) -> httpx2.Response:
        headers = {**({"Idempotency-Key": key} if key else {}), **bearer(token)}
        return self.client.post(f"{self.server.front}/pizzas", json=body, headers=headers)

    def body(self, **changes: object) -> dict[str, object]:
        order = {"name": "Margherita", "tier": "basic", "delivery_address": "1 Harbour Lane", "customer": "Ada"}
        return {**order, "region": self.region, **changes}

    def order(self, *, token: str | None = None, **changes: object) -> dict[str, Any]:
        """The answer to an order that is taken."""
        answer = self.post(self.body(**changes), token=token)
        assert answer.status_code == 202, answer.text
        placed: dict[str, Any] = answer.json()
        return placed

    def read(self, placed: dict[str, Any]) -> dict[str, Any]:
        answer = self.client.get(placed["links"]["self"])
        assert answer.status_code == 200, answer.text
        order: dict[str, Any] = answer.json()
        return order

    def status(self, placed: dict[str, Any]) -> str:
        return str(self.read(placed)["status"])

    def cancel(self, placed: dict[str, Any], *, key: str | None = None) -> httpx2.Response:
        headers = {"Idempotency-Key": key} if key else {}
        return self.client.delete(placed["links"]["cancel"], headers=headers)

    # staff

    def decide(self, placed: dict[str, Any], verb: str, *, notes: str | None = None) -> None:
        url = f"{self.server.back}/api/rfas/{placed['rfa_id']}/{verb}"
        answer = self.client.post(url, json={"notes": notes}, headers=bearer(self.tokens.get("staff")))
        assert answer.status_code == 200, answer.text

    def approve(self, placed: dict[str, Any], *, notes: str | None = None) -> None:
        self.decide(placed, "approve", notes=notes)

    # workers

    def claim(self, *steps: str, wait: float = 10, most: int = 1) -> list[dict[str, Any]]:
        wish = {"worker": "cook", "shop": "pizza", "tasks": list(steps or STEPS), "region": self.region}
        answer = self._work("claim", {**wish, "max": most, "wait": wait})
        tasks: list[dict[str, Any]] = answer.json()["tasks"]
        return tasks

    def claim_one(self, *steps: str) -> dict[str, Any]:
        [task] = self.claim(*steps)
        return task

    def answer(self, task: dict[str, Any], verb: str, **body: object) -> httpx2.Response:
        return self._work(f"{task['id']}/{verb}", {"token": task["token"], **body})

    def do(self, *steps: str) -> None:
        """Do the one task that waits, for each of these steps."""
        for step in steps:
            task = self.claim_one(step)
            assert self.answer(task, "complete", result={"done": step}).status_code == 200

    def _work(self, path: str, body: object) -> httpx2.Response:
        url = f"{self.server.back}/api/work/{path}"
        return self.client.post(url, json=body, headers=bearer(self.tokens.get("worker")))


def bearer(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


@contextmanager
def following(url: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Messages of an order as they come; each must come within the deadline."""
    with connect(url, open_timeout=PATIENCE_SECONDS) as socket:
        yield (msgspec.json.decode(socket.recv(PATIENCE_SECONDS)) for _ in iter(int, 1))


def read_until(messages: Iterator[dict[str, Any]], type: str) -> list[dict[str, Any]]:
    read = []
    for message in messages:
        read.append(message)
        if message["type"] == type:
            break
    return read


@contextmanager
def open_pizzeria(server: ServerProcess, *, tokens: dict[str, str] | None = None) -> Iterator[Pizzeria]:
    with server.start():
        pizzeria = Pizzeria(server, tokens=tokens)
        with closing(pizzeria.client):
            yield pizzeria
