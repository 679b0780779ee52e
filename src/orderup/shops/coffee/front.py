"""The coffee bar's route for customers: one request is one coffee, and is answered when it is ready.

200 or nothing. Whoever asks for too much is told so (429); whatever goes wrong on our side, the customer waits, or the
connection is closed without an answer: he asks again, and with an `Idempotency-Key` finds his order in its old place.
"""

import asyncio
from typing import Any

from pydantic import BaseModel
from sqlalchemy import update
from starlette.responses import Response

from orderup.db.database import Key, WriteConnection
from orderup.db.read import find_key
from orderup.db.tables import keys
from orderup.engine.desk import Replayed
from orderup.engine.engine import Engine
from orderup.errors import IdTaken, NotFound, Unavailable
from orderup.model.ids import OperationId, show_id
from orderup.model.operation import Operation, OperationStatus
from orderup.shops.coffee.bar import RETRY_SECONDS, Answer, Bar
from orderup.shops.coffee.order import owner_of, place_coffee
from orderup.shops.coffee.plan import shop
from orderup.web import AsAnyone, Router, takes_key
from orderup.web.direct import Call, Direct, Reply, directly
from orderup.web.fair_use import Ignored
from orderup.web.idempotency import REPLAYED, client_of, idempotency_key
from orderup.web.orders import load
from orderup.web.wire import hang_up, told_when_gone

front = Router(tags=["coffee"])
# A key whose order ended so, without a coffee, is as good as new.
LAPSED = (OperationStatus.CANCELLED, OperationStatus.ERRORED)


class ReadyCoffee(BaseModel):
    """waited_seconds: from when the order was placed until the coffee was ready."""

    order_id: str
    status: str
    waited_seconds: float


async def take_order(call: Call) -> Reply | None:
    if not call.is_plain:
        await call.request.body()  # nobody needs it; one that is too large is refused here
    visit = _Visit(call)
    try:
        with told_when_gone(call.scope, call.receive, visit.note_gone):
            operation, ready_at = await visit.wait()
    except Ignored:
        hang_up(call.scope)
        return None
    finally:
        visit.end()
    if operation is None or ready_at is None:
        hang_up(call.scope)
        return None
    waited = round(max(ready_at - operation.placed_at, 0) / 1e6, 3)
    content = {"order_id": show_id(operation.id), "status": "ready", "waited_seconds": waited}
    return Reply(content, headers=REPLAYED if visit.is_replay else None)


class _Visit:
    """One request of a customer: his order, placed now or found by its key, and his wait for it."""

    def __init__(self, call: Call) -> None:
        self.bar: Bar = call.state.keepers[shop.name]
        self.engine: Engine = self.bar.engine
        self.client = client_of(call.scope, call.caller)
        self.owner = owner_of(call.caller)
        self.key: Key | None = None
        if not call.is_plain:
            self.key = idempotency_key(call.request, call.caller, None, now=self.engine.now())
        self.is_replay = self.is_gone = self.is_admitted = False
        self._id = OperationId(0)
        self._answer: Answer | None = None

    def note_gone(self) -> None:
        self.is_gone = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(None)

    def end(self) -> None:
        if self._answer is not None:
            self.bar.leave(self._id, self._answer)
            self._answer = None

    async def wait(self) -> tuple[Operation | None, int | None]:
        """His order, and when it was ready; None for both where there is nothing to say. Raises TooMany, Ignored."""
        if self.bar.is_draining:
            return None, None
        operation = await self._find() if self.key is not None else None
        while operation is None or operation.status in LAPSED:
            if self.is_gone or self.bar.is_draining:
                return None, None
            # may find one that the same key placed at this moment, and that has left the line since
            operation = await self._place(lapsed=operation)
        return operation, operation.finished_at if self._answer is None else await self._answer

    def _expect(self, operation_id: OperationId, answer: Answer) -> None:
        self._id, self._answer = operation_id, answer
        if self.is_gone:
            answer.set_result(None)

    async def _find(self) -> Operation | None:
        """The order that was placed with this key, which he waits for from here on if it is open."""
        key, database = self.key, self.engine.database
        assert key is not None
        while not self.is_gone and not self.bar.is_draining:
            try:
                taken = await database.read(lambda connection: find_key(connection, key.key))
                if taken is None:
                    return None
                if not self.is_admitted:  # he has asked once, however often we have to
                    self.bar.fair_use.admit_again(self.client)
                    self.is_admitted = True
                id = OperationId(taken.operation_id)
                self._expect(id, self.bar.rejoin(id, self.client))
                # looked at after he was noted: what happens since is told to him
                operation = await load(self.engine, id)
                self.is_replay = operation.status not in LAPSED
                if operation.status.is_final:
                    self._dismiss()
                    return operation
                await self.bar.take_over(operation)
                return operation
            except NotFound:
                self._dismiss()
                return None
            except Unavailable:
                self.end()
                await self._rest()
        return None

    async def _place(self, *, lapsed: Operation | None) -> Operation | None:
        """A new order. `lapsed`: the one that was placed with the same key, and left the line before it was started."""
        self.bar.fair_use.admit(self.client)
        id = self.engine.new_id(self.engine.now())
        self._expect(id, self.bar.receive(id, self.client, is_kept=self.key is not None))
        also = None
        if lapsed is not None and self.key is not None:
            also = _take_over_key(self.key, lapsed.id)
        while True:
            try:
                return await place_coffee(
                    self.bar,
                    self._id,
                    client=self.client,
                    owner=self.owner,
                    key=self.key if also is None else None,
                    also=also,
                )
            except IdTaken:
                return await self._after_a_doubt()
            except (Replayed, _KeyMoved):
                # the same request, at the same moment: he waits for that one
                self._dismiss()
                return await self._find()
            except Unavailable:
                if self.is_gone or self.bar.is_draining:
                    return None
                await self._rest()

    async def _after_a_doubt(self) -> Operation | None:
        """It was placed after all, when the database seemed to be away."""
        while not self.is_gone and not self.bar.is_draining:
            try:
                return await load(self.engine, self._id)
            except Unavailable:
                await self._rest()
        return None

    def _dismiss(self) -> None:
        if self._answer is not None:
            self.bar.dismiss(self._id, self._answer)
            self._answer = None

    async def _rest(self) -> None:
        await asyncio.sleep(self.engine.random.uniform(0.5, 1.5) * RETRY_SECONDS)


class _KeyMoved(Exception):
    """Somebody else has taken the key over meanwhile."""


def _take_over_key(key: Key, lapsed: int) -> Any:
    """The key of an order that left the line is the new one's."""

    def take(connection: WriteConnection, operation_id: OperationId) -> None:
        here = (keys.c.key == key.key) & (keys.c.operation_id == lapsed)
        moved = connection.execute(update(keys).where(here).values(operation_id=operation_id, made_at=key.made_at))
        if not moved.rowcount:
            raise _KeyMoved

    return take


@front.post("/order/", response_model=ReadyCoffee, summary="Order an americano; answered when it is ready")
@takes_key
@directly(take_order, never_fails=True)
async def order(caller: AsAnyone) -> Response:
    return Direct(take_order, caller)
