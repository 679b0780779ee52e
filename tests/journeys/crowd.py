"""Customers who order and follow, and staff that decides: each goes on, whatever happens to the server.

All is written down for the checker (tests/invariants).
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from random import Random
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from orderup.model.event import Audience
from tests.invariants.records import Accepted, Asked, Decided, Finished, Follows, Ledger, Received
from tests.journeys.patience import Patient

ENDS = ("operation.completed", "operation.cancelled", "operation.errored", "rfa.declined", "rfa.expired")
# Of the events that a customer, or staff, gets: after one of so many the connection is cut.
CUSTOMER_CUT_ONCE_IN, STAFF_CUT_ONCE_IN = 10, 200
PIZZA = {"name": "Margherita", "tier": "basic", "delivery_address": "1 Mill Lane", "customer": "Ada"}


class Crowd:
    """`ended`: how each order ended, by its id. cut_off: how often a follower had to come back.

    path, body: where orders are placed, and what is sent there. place_at: the front that they are placed at, if it is
    not the one that they are followed at. name: tells its followers from another crowd's. declined, cancelled: of every
    hundred orders, how many staff declines, and how many customers think better of.
    """

    def __init__(
        self,
        front: str,
        back: str,
        ledger: Ledger,
        random: Random,
        *,
        name: str = "crowd",
        place_at: str | None = None,
        path: str = "pizzas",
        body: Mapping[str, Any] = PIZZA,
        declined: int = 5,
        cancelled: int = 5,
    ) -> None:
        self.front, self.back, self.ledger, self.random = front, back, ledger, random
        self.place_at, self.path, self.body = place_at or front, path, body
        self.name, self.declined, self.cancelled = name, declined, cancelled
        self.patient = Patient(random)
        self.placed: list[str] = []
        self.ended: dict[str, str] = {}
        self.cut_off = 0

    async def order(self, count: int, *, at_once: int = 1_000, ended_before: int = 0) -> None:
        """Place so many orders, so many of them open at once, and follow each to its end; staff decides meanwhile.

        ended_before: how many others have ended already, for staff, who follows everything from the beginning.
        """
        async with asyncio.TaskGroup() as group:
            deciding = group.create_task(self._decide_all(), name="staff decides")
            async with asyncio.TaskGroup() as others:
                others.create_task(self._watch(ended_before + count), name="staff watches")
                others.create_task(self.order_without_staff(count, at_once=at_once), name="customers")
            deciding.cancel()

    async def order_without_staff(self, count: int, *, at_once: int = 1_000) -> None:
        """The same, with staff that is there already, or not needed."""
        self._room = asyncio.Semaphore(at_once)
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(self._customer(number), name=f"customer {number}")

    async def _customer(self, number: int) -> None:
        async with self._room:
            await self._order_one(number)

    async def _order_one(self, number: int) -> None:
        key = f"order {number} {self.random.getrandbits(64):x}"
        self.ledger.write(Asked(key=key))
        headers = {"Idempotency-Key": key}
        answer = await self.patient.send("POST", f"{self.place_at}/{self.path}", json=self.body, headers=headers)
        assert answer.status_code == 202, answer.text
        id = answer.json()["id"]
        self.ledger.write(Accepted(id=id, key=key))
        self.placed.append(id)
        leaving = None
        if self.random.randrange(100) < self.cancelled:
            leaving = asyncio.create_task(self._cancel(id, key), name=f"customer {number} thinks better of it")
        self.ended[id] = await self._follow(f"{self.name}, customer {number}", id)
        if leaving is not None:
            await leaving

    async def _cancel(self, id: str, key: str) -> None:
        await self.patient.pause()
        headers = {"Idempotency-Key": f"cancel {key}"}
        answer = await self.patient.send("DELETE", f"{self.front}/{self.path}/{id}", headers=headers)
        self.ledger.write(Decided(id=id, decision="cancelled", status=answer.status_code))

    async def _follow(self, name: str, id: str) -> str:
        """The type of the event that ended it."""
        self.ledger.write(Follows(follower=name, operation_id=id))
        address = f"{self.front.replace('http', 'ws', 1)}/{self.path}/{id}/live"
        async with aclosing(self._events(name, address, cut_once_in=CUSTOMER_CUT_ONCE_IN)) as events:
            async for event in events:
                if event["type"] in ENDS:
                    self.ledger.write(Finished(follower=name))
                    return str(event["type"])
        raise AssertionError("following never ends by itself")

    async def _watch(self, count: int) -> None:
        """Staff follows everything, until so many orders have ended."""
        name = f"{self.name}, staff"
        self.ledger.write(Follows(follower=name, audience=Audience.INTERNAL))
        address = f"{self.back.replace('http', 'ws', 1)}/api/live"
        async with aclosing(self._events(name, address, cut_once_in=STAFF_CUT_ONCE_IN)) as events:
            async for event in events:
                count -= event["type"] in ENDS
                if not count:
                    return

    async def _events(self, name: str, address: str, *, cut_once_in: int) -> AsyncGenerator[dict[str, Any], None]:
        """Every event, over as many connections as it takes."""
        after = tries = 0
        while True:
            with suppress(OSError, WebSocketException, EOFError):
                async with connect(f"{address}?after={after}", open_timeout=10, close_timeout=1) as socket:
                    tries = 0
                    try:
                        async for text in socket:
                            event: dict[str, Any] = json.loads(text)
                            after = event["seq"]
                            self.ledger.write(Received(follower=name, event=event))
                            yield event
                            if not self.random.randrange(cut_once_in):
                                break
                    finally:
                        socket.transport.abort()  # a hand that is cut off does not wave
            self.cut_off += not tries
            tries += 1
            await self.patient.pause(tries)

    async def _decide_all(self) -> None:
        """Until cancelled. Each decision is made once, however often it is sent."""
        while True:
            answer = await self.patient.send("GET", f"{self.back}/api/rfas?limit=50")
            asked = answer.json()["rfas"]
            async with asyncio.TaskGroup() as group:
                for rfa in asked:
                    group.create_task(self._decide(rfa["id"]), name=f"decide {rfa['id']}")
            if not asked:
                await self.patient.pause()

    async def _decide(self, id: str) -> None:
        verb, decision = (
            ("decline", "declined") if self.random.randrange(100) < self.declined else ("approve", "approved")
        )
        headers = {"Idempotency-Key": f"decide {id}"}
        address = f"{self.back}/api/rfas/{id}/{verb}"
        answer = await self.patient.send("POST", address, json={"notes": "Sold out."}, headers=headers)
        self.ledger.write(Decided(id=id, decision=decision, status=answer.status_code))
