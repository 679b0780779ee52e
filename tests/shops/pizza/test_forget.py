from typing import Any

import pytest
from sqlalchemy import create_engine, text
from typer.testing import Result

from orderup.db.connect import open_database
from orderup.engine.engine import Engine, wall_clock
from orderup.engine.place import place_order
from orderup.engine.prune import prune
from orderup.engine.steer import cancel_operation
from orderup.shops.pizza import shop
from orderup.shops.pizza.plan import PizzaOrder, create_pizza
from orderup.shops.pizza.tables import add_order, metadata
from tests.cli.running import run
from tests.shops.pizza.pizzeria import STEPS, Pizzeria

SECRETS = ("Hypatia", "Canopic", "Serapeum", "silphium", "burnt for her")


def forget(pizzeria: Pizzeria, *orders: str) -> Result:
    """By the command, in this process: the server is another one."""
    return run("forget", *orders, **pizzeria.server.environment)


def order_of_hypatia(pizzeria: Pizzeria) -> dict[str, Any]:
    return pizzeria.order(
        customer="Hypatia",
        delivery_address="Canopic Way 3",
        name="Pizza Serapeum",
        extra_params={"wish": "silphium"},
    )


def everything_stored(pizzeria: Pizzeria) -> str:
    """All rows of all tables, as text."""
    url = pizzeria.server.environment["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url)
    with engine.connect() as connection:
        found = [
            str(connection.execute(text(f"select * from {table}")).all())
            for table in ("operations", "tasks", "rfas", "events", "pizza_orders")
        ]
    engine.dispose()
    return "\n".join(found)


def test_an_order_that_is_forgotten_leaves_nothing_personal(pizzeria: Pizzeria) -> None:
    placed = order_of_hypatia(pizzeria)
    pizzeria.approve(placed, notes="burnt for her last time")
    pizzeria.do(*STEPS[:3])
    delivery = pizzeria.claim_one("deliver_pizza")
    pizzeria.answer(delivery, "complete", result={"signed": "Hypatia"})
    before = everything_stored(pizzeria)
    assert [secret for secret in SECRETS if secret not in before] == []
    told = forget(pizzeria, placed["id"])
    assert (told.exit_code, told.stdout) == (0, f"{placed['id']}: forgotten\n"), told.stderr
    after = everything_stored(pizzeria)
    assert [secret for secret in SECRETS if secret in after] == []
    order = pizzeria.read(placed)
    assert order["status"] == "completed"
    assert [order[field] for field in ("name", "customer", "delivery_address", "extra_params")] == [None] * 4


@pytest.mark.parametrize("verb", ["decline", "fail"])
def test_words_that_repeat_what_was_personal_go_too(pizzeria: Pizzeria, verb: str) -> None:
    placed = order_of_hypatia(pizzeria)
    if verb == "decline":
        pizzeria.decide(placed, "decline", notes="Not to Canopic Way")
    else:
        pizzeria.approve(placed)
        pizzeria.answer(pizzeria.claim_one(), "fail", error="Hypatia is not at home", final=True)
    status = pizzeria.status(placed)
    assert forget(pizzeria, placed["id"]).exit_code == 0
    after = everything_stored(pizzeria)
    assert [secret for secret in SECRETS if secret in after] == []
    assert pizzeria.status(placed) == status


def test_an_order_under_way_is_not_forgotten(pizzeria: Pizzeria) -> None:
    placed = order_of_hypatia(pizzeria)
    told = forget(pizzeria, placed["id"])
    assert told.exit_code == 2
    assert "under way" in told.stderr
    assert pizzeria.read(placed)["customer"] == "Hypatia"
    pizzeria.cancel(placed)
    assert forget(pizzeria, placed["id"]).exit_code == 0


def test_forgetting_again_changes_nothing(pizzeria: Pizzeria) -> None:
    placed = order_of_hypatia(pizzeria)
    pizzeria.cancel(placed)
    assert [forget(pizzeria, placed["id"]).exit_code for _ in range(2)] == [0, 0]


def test_an_order_that_there_is_not_cannot_be_forgotten(pizzeria: Pizzeria) -> None:
    told = forget(pizzeria, "0000000000000")
    assert (told.exit_code, told.stderr) == (2, "orderup: There is no operation 0000000000000.\n")


def test_the_links_of_a_forgotten_order_open_nothing(closed_pizzeria: Pizzeria) -> None:
    placed = order_of_hypatia(closed_pizzeria)
    closed_pizzeria.cancel(placed)
    assert forget(closed_pizzeria, placed["id"]).exit_code == 0
    assert closed_pizzeria.client.get(placed["links"]["self"]).status_code == 404


async def test_an_order_past_retention_takes_its_row_along() -> None:
    database = open_database("sqlite://", shops=[shop])
    await database.open()
    try:
        engine = Engine(database, {"pizza": shop.kinds})
        order = PizzaOrder("Margherita", "basic", "1 Harbour Lane", "Ada")
        kept, gone = [
            await place_order(engine, "pizza", create_pizza(order), also=lambda c, id: add_order(c, id, order))
            for _ in range(2)
        ]
        await cancel_operation(engine, gone.id, reason="-")
        assert shop.prune is not None
        assert await prune(engine, shops={"pizza": shop.prune}, before=wall_clock() + 1) == 1
        table = metadata.tables["pizza_orders"]
        left = await database.read(lambda connection: connection.rows(table.select()))
        assert [row[0] for row in left] == [kept.id]
    finally:
        await database.close()
