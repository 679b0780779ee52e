"""How soon a meal-box shop answers again that was killed with orders open.

So many orders are under way, each waiting for a service, when the server is killed without warning. It is started again
at once on what is left, and asked for an order until it answers: 201 or 202.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx2

from bench.coffee import START_SECONDS, free_port
from bench.orders import postgres_database, sqlite_file
from orderup.sandbox import serve_sandbox

SLOW = {"user_id": "7c11e1ce2741", "product_code": "family-box"}  # which takes a minute
TAKEN = (201, 202)
STORES: dict[str, Callable[[], AbstractContextManager[str]]] = {"SQLite": sqlite_file, "PostgreSQL": postgres_database}


@contextmanager
def server(port: int, database: str, services: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [str(Path(sys.executable).with_name("orderup")), "serve", "orderup.shops.mealbox:shop", "--grace", "0"]
    command += ["--front-port", str(port), "--back-port", str(free_port())]
    told = {"DATABASE_URL": database, "USER_SERVICE_URL": services, "PRODUCT_SERVICE_URL": services}
    process = subprocess.Popen(command, env={**os.environ, **told, "LOG_LEVEL": "error"})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def first_answer(client: httpx2.AsyncClient) -> float:
    """Seconds until an order is taken. Raises TimeoutError."""
    began = time.perf_counter()
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                answer = await client.post("/orders", json=SLOW)
            except httpx2.TransportError:
                await asyncio.sleep(0.005)
                continue
            if answer.status_code in TAKEN:
                return time.perf_counter() - began


async def is_open(client: httpx2.AsyncClient, orders: int) -> None:
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(client.post("/orders", json=SLOW)) for _ in range(orders)]
    if wrong := {each.result().status_code for each in asked} - set(TAKEN):
        raise RuntimeError(f"Not every order was taken: {sorted(wrong)}")


async def measure(database: str, *, orders: int) -> tuple[float, float]:
    """Seconds to the first answer: of a start on nothing, and of one after the kill."""
    port = free_port()
    headers = {"Prefer": "respond-async"}
    async with (
        serve_sandbox() as sandbox,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=START_SECONDS) as client,
    ):
        services = f"{sandbox.base_url}/mealbox"
        with server(port, database, services):
            fresh = await first_answer(client)
            await is_open(client, orders)
        with server(port, database, services):
            return fresh, await first_answer(client)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench restart", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--orders", type=int, default=300)
    wanted = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in STORES}
    for number in range(1, wanted.rounds + 1):
        for name, storage in STORES.items():
            with storage() as database:
                found[name].append(asyncio.run(measure(database, orders=wanted.orders)))
            print(f"round {number}: {name}: {found[name][-1][1]:.2f} s", file=sys.stderr)
    print(f"| seconds to the first answer | on nothing | killed with {wanted.orders} orders open (median, longest) |")
    print("| --- | --- | --- |")
    for name, each in found.items():
        fresh, again = ([pair[place] for pair in each] for place in (0, 1))
        print(f"| {name} | {statistics.median(fresh):.2f} | {statistics.median(again):.2f}, {max(again):.2f} |")


if __name__ == "__main__":
    main()
