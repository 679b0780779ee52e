"""How many orders a second a shop takes: the bakery's `POST /orders` beside the pizzeria's `POST /pizzas`.

Each shop is a server of its own on an empty database; so many clients order again as soon as they are answered. Rounds
are interleaved. A pizza waits for its approval, a cake for its baker: neither is carried out.
"""

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx2
import uvloop

from bench.coffee import free_port, running
from bench.crowd import Line, connect
from bench.orders import postgres_database, sqlite_file

CLIENTS, WARM_UP_SECONDS = 50, 2.0
PLACES: Mapping[str, Callable[[], AbstractContextManager[str]]] = {
    "SQLite": sqlite_file,
    "PostgreSQL": postgres_database,
}
PIZZA = {"name": "Margherita", "tier": "basic", "delivery_address": "1 Harbour Lane", "customer": "Ada"}
CAKE = {"name": "Chocolate Cake", "ingredients": {"chocolate": 33.5, "butter": 16.5, "flour": 8.5, "eggs": 1}}
ORDER = {"customer": "Mr. Cakelover", "recipe": "chocolate_cake", "persons": 4, "quantity": 2}
ROUTES: Mapping[str, tuple[str, object]] = {"pizza": ("/pizzas", PIZZA), "bakery": ("/orders", ORDER)}


@contextmanager
def serving(shop: str, where: Callable[[], AbstractContextManager[str]]) -> Iterator[int]:
    front, back = free_port(), free_port()
    command = [str(Path(sys.executable).with_name("orderup")), "serve", shop, "--grace", "0"]
    command += ["--front-port", str(front), "--back-port", str(back), "--sandbox-port", str(free_port())]
    with where() as database, running(command, (front, back), DATABASE_URL=database, LOG_LEVEL="warning"):
        if shop == "bakery":
            httpx2.post(f"http://127.0.0.1:{front}/cakes", json=CAKE).raise_for_status()
        yield front


async def orders_per_second(port: int, path: str, wanted: object, *, seconds: float) -> float:
    body = json.dumps(wanted).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
    request = head.encode() + b"content-length: %d\r\n\r\n%b" % (len(body), body)
    taken = 0
    refused: list[int] = []

    def answered(line: Line, status: int, _body: bytes) -> None:
        nonlocal taken
        if status in {201, 202}:
            taken += 1
        else:
            refused.append(status)
        line.ask(request)

    lines = [await connect(answered, port) for _ in range(CLIENTS)]
    for line in lines:
        line.ask(request)
    await asyncio.sleep(WARM_UP_SECONDS)
    before = taken
    await asyncio.sleep(seconds)
    rate = (taken - before) / seconds
    for line in lines:
        line.transport.abort()
    if refused:
        raise RuntimeError(f"Not every order was taken: {sorted(set(refused))}")
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench placing", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    wanted = parser.parse_args()
    found: dict[tuple[str, str], list[float]] = {}
    for number in range(1, wanted.rounds + 1):
        for place, where in PLACES.items():
            for shop, (path, order) in ROUTES.items():
                with serving(shop, where) as port:
                    rate = uvloop.run(orders_per_second(port, path, order, seconds=wanted.seconds))
                found.setdefault((place, shop), []).append(rate)
                print(f"round {number}: {shop} on {place}: {rate:,.0f} orders/s", file=sys.stderr)
    print("| | POST /pizzas, orders/s | POST /orders, orders/s | ratio |")
    print("| --- | --- | --- | --- |")
    for place in PLACES:
        pizzas, cakes = (statistics.median(found[place, shop]) for shop in ROUTES)
        print(f"| {place} | {pizzas:,.0f} | {cakes:,.0f} | {cakes / pizzas:.2f} |")


if __name__ == "__main__":
    main()
