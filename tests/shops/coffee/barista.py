"""A coffee bar on free ports in this process, and what its customers and baristas do to it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx2

from orderup.cli.assembly import House
from orderup.cli.serve import listen, serving
from orderup.settings import Settings
from orderup.shops.coffee import shop

PATIENCE_SECONDS = 30.0


class Customer:
    """One request that waits for its coffee. `answer`: None if the connection was closed without one."""

    def __init__(self, url: str, *, key: str | None, address: str | None) -> None:
        # each has a connection of his own, as browsers on many phones do
        transport = httpx2.AsyncHTTPTransport(local_address=address)
        self.client = httpx2.AsyncClient(transport=transport, timeout=PATIENCE_SECONDS)
        self.task = asyncio.create_task(self._ask(url, {"Idempotency-Key": key} if key else {}))

    async def _ask(self, url: str, headers: dict[str, str]) -> httpx2.Response | None:
        async with self.client:
            try:
                return await self.client.post(url, headers=headers)
            except (httpx2.RemoteProtocolError, httpx2.ReadError):
                return None

    async def answer(self) -> httpx2.Response | None:
        return await self.task

    async def coffee(self) -> dict[str, Any]:
        """What he is told when it is ready."""
        answer = await self.task
        assert answer is not None, "hung up on"
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    async def hang_up(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})


class CoffeeBar:
    house: House

    def __init__(self, front: str, back: str) -> None:
        self.front, self.back = front, back
        self.client = httpx2.AsyncClient(timeout=PATIENCE_SECONDS)
        self.customers: list[Customer] = []

    def ask(self, *, key: str | None = None, address: str | None = None) -> Customer:
        """Without waiting for anything."""
        customer = Customer(f"{self.front}/order/", key=key, address=address)
        self.customers.append(customer)
        return customer

    async def order(self, *, key: str | None = None, address: str | None = None) -> Customer:
        """Return once he is in the line."""
        before = await self.open_orders()
        customer = self.ask(key=key, address=address)
        await self.until_open(len(before) + 1)
        return customer

    async def operations(self, **query: str) -> list[dict[str, Any]]:
        answer = await self.client.get(
            f"{self.back}/api/operations", params={"shop": "coffee", "limit": "500", **query}
        )
        found: list[dict[str, Any]] = answer.json()["operations"]
        return found

    async def open_orders(self) -> list[str]:
        return [each["id"] for each in await self.operations(status="running")]

    async def until_open(self, count: int) -> None:
        await self.until(lambda found: len(found) == count, what=f"{count} open orders")

    async def until(self, fact: Callable[[list[str]], bool], *, what: str) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not fact(found := await self.open_orders()):
                assert len(found) < 500, what
                await asyncio.sleep(0.01)

    async def until_task(self, order_id: str | None, status: str) -> None:
        """Until its one task has this status."""
        url = f"{self.back}/api/operations/{order_id}"
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await self.client.get(url)).json()["tasks"][0]["status"] != status:  # noqa: ASYNC110  # in another process
                await asyncio.sleep(0.02)

    async def start(self, barista: str = "ann", *, wait: float = 5) -> str | None:
        """The id of the order he begins. What the database has, the line may have a moment later: hence the wait. None
        if there is none."""
        query = {"barista": barista, "wait": str(wait)}
        answer = await self.client.get(f"{self.back}/start/", params=query)
        if answer.status_code == 204:
            return None
        assert answer.status_code == 200, answer.text
        return str(answer.json()["order_id"])

    async def finish(self, order_id: str | None) -> httpx2.Response:
        return await self.client.post(f"{self.back}/finish/", params={"order_id": order_id or ""})

    async def serve(self) -> str:
        order_id = await self.start()
        assert order_id is not None, await self.operations()
        assert (await self.finish(order_id)).status_code == 200
        return order_id


def settings_of(url: str, **values: object) -> Settings:
    return Settings.model_validate({"database_url": url, **values})


@asynccontextmanager
async def open_bar(settings: Settings) -> AsyncIterator[CoffeeBar]:
    sockets = (listen("127.0.0.1", 0, option="--front-port"), listen("127.0.0.1", 0, option="--back-port"))
    houses: list[House] = []

    def keep(house: House, _front: str, _back: str) -> None:
        houses.append(house)

    async with serving(settings, [shop], sockets, grace=timedelta(0), at_root=True, greet=keep) as (front, back):
        bar = CoffeeBar(front.replace("localhost", "127.0.0.1"), back.replace("localhost", "127.0.0.1"))
        bar.house = houses[0]
        async with bar.client:
            yield bar
            for customer in bar.customers:
                if not customer.task.done():
                    await customer.hang_up()
