"""A shop that serves on ports of its own, in the test's process, beside the sandbox."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import httpx2

from orderup import Shop
from orderup.cli.assembly import House
from orderup.cli.serve import listen, serving
from orderup.cli.stand_ins import lead_to, missing_settings
from orderup.model.operation import Operation
from orderup.sandbox.server import Sandbox, serve_sandbox
from orderup.settings import Settings
from tests.services.waiting import PATIENCE_SECONDS
from tests.web.house import until

T = TypeVar("T")


@dataclass
class Served:
    front: str
    back: str
    house: House
    sandbox: Sandbox
    client: httpx2.AsyncClient

    async def until_stands(self, operation_id: int, fact: Callable[[Operation], bool]) -> Operation:
        """The operation, once it is so."""

        async def stands() -> Operation | None:
            found = (await self.house.database.load([operation_id])).get(operation_id)
            return found if found is not None and fact(found) else None

        return await self.until(stands)

    async def until(self, fact: Callable[[], Awaitable[T | None]]) -> T:
        """What it gives once it is not None. It is asked again at each event."""
        return await until(self.house, fact)


@asynccontextmanager
async def serve_shop(
    shop: Shop,
    database_url: str,
    *,
    sandbox: Sandbox | None = None,
    scale: float = 1,
    prepare: Callable[[Sandbox], None] = lambda _sandbox: None,
    at_root: bool = True,
    **settings: Any,
) -> AsyncIterator[Served]:
    """`sandbox`: one that outlives it; None: its own, whose delays are divided by `scale`. prepare: before the shop
    opens. at_root: without the shop's name before its paths."""
    async with AsyncExitStack() as stack:
        if sandbox is None:
            sandbox = await stack.enter_async_context(serve_sandbox(scale=scale))
        prepare(sandbox)
        told = Settings.model_validate({"database_url": database_url, **settings})
        sockets = (listen("127.0.0.1", 0, option="--front-port"), listen("127.0.0.1", 0, option="--back-port"))
        houses: list[House] = []
        front, back = await stack.enter_async_context(
            serving(
                lead_to(sandbox, told, missing_settings(told, [shop])),
                [shop],
                sockets,
                grace=timedelta(0),
                at_root=at_root,
                greet=lambda house, _front, _back: houses.append(house),
            )
        )
        client = await stack.enter_async_context(httpx2.AsyncClient(timeout=PATIENCE_SECONDS))
        yield Served(
            front.replace("localhost", "127.0.0.1"),
            back.replace("localhost", "127.0.0.1"),
            houses[0],
            sandbox,
            client,
        )
