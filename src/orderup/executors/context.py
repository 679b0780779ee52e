"""What a handler of this process is given."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import structlog
from sqlalchemy import select

from orderup.db.database import Claimed, Key, ReadConnection, WriteConnection
from orderup.db.tables import tasks
from orderup.engine.desk import Replayed
from orderup.engine.engine import Engine
from orderup.engine.place import place_order, scoped_key
from orderup.engine.wait import remember
from orderup.errors import Conflict, StaleToken, Unavailable
from orderup.executors.third_parties import ThirdParties
from orderup.model import steer
from orderup.model.ids import OperationId, read_id, show_id, show_task_id
from orderup.model.operation import Draft
from orderup.model.placing import encode
from orderup.model.plan import Plan

if TYPE_CHECKING:
    import httpx2

log = structlog.get_logger("orderup.handlers")
R = TypeVar("R")
_decode, _encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode


class LocalContext:
    """See `orderup.shop.Context`."""

    __slots__ = ("_claimed", "_ends_at", "_engine", "_third_parties", "resources")

    def __init__(
        self, engine: Engine, claimed: Claimed, *, ends_at: float, third_parties: ThirdParties, resources: Any = None
    ) -> None:
        self._engine, self._claimed, self._ends_at = engine, claimed, ends_at
        self._third_parties, self.resources = third_parties, resources

    @property
    def operation_id(self) -> str:
        return show_id(self._claimed.operation_id)

    @property
    def task_id(self) -> str:
        return show_task_id(self._claimed.operation_id, self._claimed.task.position)

    @property
    def name(self) -> str:
        return self._claimed.task.name

    @property
    def params(self) -> Any:
        return _decode(self._claimed.task.params)

    @property
    def inputs(self) -> Mapping[str, Any]:
        return {name: _decode(result) if result else None for name, result in self._claimed.inputs.items()}

    @property
    def memo(self) -> Any:
        memo = self._claimed.task.memo
        return None if memo is None else _decode(memo)

    @property
    def attempt(self) -> int:
        return self._claimed.task.attempt

    @property
    def deadline(self) -> float:
        return max(0.0, self._ends_at - asyncio.get_running_loop().time())

    @property
    def log(self) -> Any:
        return log

    @property
    def http(self) -> "httpx2.AsyncClient":
        return self._third_parties.client(ends_at=self._ends_at)

    async def heartbeat(self) -> None:
        """The lease is renewed with the executor's; this only looks whether the claim is still there."""
        task, operation_id = self._claimed.task, self._claimed.operation_id
        here = (tasks.c.operation_id == operation_id) & (tasks.c.position == task.position)

        def look(connection: ReadConnection) -> list[tuple[str | None, str]]:
            return [(row[0], row[1]) for row in connection.rows(select(tasks.c.token, tasks.c.status).where(here))]

        try:
            found = await self._engine.database.read(look)
        except Unavailable:
            return  # who would end the claim cannot do so either; a database that is away is no failed attempt
        token, status = found[0] if found else (None, "gone")
        if token != task.token:
            reason = "another worker has the task" if token else f"the task is {status}"
            raise StaleToken(self.task_id, reason=f"this claim has ended and {reason}")

    async def read(self, query: Callable[[ReadConnection], R]) -> R:
        return await self._engine.database.read(query)

    async def write(self, change: Callable[[WriteConnection], R]) -> R:
        return await self._engine.database.write(change)

    async def place(
        self, plan: Plan, *, key: str, also: Callable[[WriteConnection, OperationId], None] | None = None
    ) -> str:
        shop, engine = self._claimed.shop, self._engine
        fingerprint = hashlib.sha256(_encode(plan)).hexdigest()
        once = Key(scoped_key("handler", shop, key=key), fingerprint, engine.now())
        try:
            operation = await place_order(engine, shop, plan, key=once, also=also, source="handler")
        except Replayed as replayed:
            return show_id(replayed.operation_id)
        return show_id(operation.id)

    async def cancel(self, operation_id: str, *, reason: str, check: Callable[[Draft], None] | None = None) -> bool:
        engine = self._engine

        def decide(draft: Draft) -> None:
            if check is not None:
                check(draft)
            steer.cancel(draft, reason=reason, now=engine.now())

        try:
            await engine.desk.decide(read_id(operation_id), decide, shop=self._claimed.shop)
        except Conflict:
            return False
        return True

    async def remember(self, memo: Any) -> None:
        task = self._claimed.task
        stored = encode(memo)
        await remember(self._engine, self._claimed.operation_id, task.position, token=task.token or "", memo=stored)
        self._claimed = msgspec.structs.replace(self._claimed, task=msgspec.structs.replace(task, memo=stored))
