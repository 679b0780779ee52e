"""A remote worker for tests that faults are made for: `python -m tests.journeys.cook --back URL --ledger FILE …`.

It does what it is given in a moment, and writes down what it was given before it begins, and what it was answered when
it was done. Written against the API, not with orderup.worker, so that the one can be tested without the other.
"""

import argparse
import asyncio
import signal
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

from tests.invariants.records import Answered, Ledger, Started
from tests.journeys.patience import Patient

CLAIM_WAIT_SECONDS = 10
OVER = (404, 409)


class Cook:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self.back, self.name = arguments.back, arguments.worker
        self.random = Random(arguments.seed)
        self.ledger = Ledger(arguments.ledger)
        self.patient = Patient(self.random)
        self.shortest, self.longest = arguments.shortest, arguments.longest
        self.claim = {
            "worker": self.name,
            "shop": arguments.shop,
            "tasks": arguments.tasks.split(","),
            "region": arguments.region,
            "max": 1,
            "wait": CLAIM_WAIT_SECONDS,
        }

    async def work(self, slots: int) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for slot in range(slots):
                group.create_task(self._serve(), name=f"slot {slot}")

    async def _serve(self) -> None:
        while True:
            request = {**self.claim, "request": str(uuid4())}
            answer = await self.patient.send("POST", f"{self.back}/api/work/claim", json=request)
            answer.raise_for_status()
            for task in answer.json()["tasks"]:
                await self._do(task)

    async def _do(self, task: dict[str, Any]) -> None:
        who = {"worker": self.name, "task": task["id"], "attempt": task["attempt"], "token": task["token"]}
        self.ledger.write(Started(**who, inputs=task["inputs"]))
        beating = asyncio.create_task(self._beat(task), name="heartbeats")
        await asyncio.sleep(self.random.uniform(self.shortest, self.longest))
        beating.cancel()
        await asyncio.wait({beating})
        result = {"of": task["name"], "after": sorted(task["inputs"]), "attempt": task["attempt"]}
        body = {"token": task["token"], "result": result}
        answer = await self.patient.send("POST", f"{self.back}/api/work/{task['id']}/complete", json=body)
        self.ledger.write(Answered(**who, verb="complete", result=result, status=answer.status_code))

    async def _beat(self, task: dict[str, Any]) -> None:
        while True:
            await asyncio.sleep(task["lease_seconds"] / 3)
            address = f"{self.back}/api/work/{task['id']}/heartbeat"
            answer = await self.patient.send("POST", address, json={"token": task["token"]})
            if answer.status_code in OVER:
                return


async def main(arguments: argparse.Namespace) -> None:
    cook = Cook(arguments)
    working = asyncio.create_task(cook.work(arguments.slots), name="cook")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
    async with cook.patient.client:
        await asyncio.wait({working})
    if not working.cancelled():
        working.result()


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.journeys.cook", description=__doc__)
    parser.add_argument("--back", required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--worker", required=True)
    parser.add_argument("--shop", required=True)
    parser.add_argument("--tasks", required=True, help="kinds, separated by commas")
    parser.add_argument("--region")
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--shortest", type=float, default=0.0, help="seconds that a task takes at least")
    parser.add_argument("--longest", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(read_arguments()))
