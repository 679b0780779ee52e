"""The sums of a day, against another way of computing them."""

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from random import Random

from orderup.db.database import WriteConnection
from orderup.engine.engine import Engine
from orderup.engine.place import place_order
from orderup.shops.bakery.amounts import Amount, Unit
from orderup.shops.bakery.cakes import add_cake
from orderup.shops.bakery.issues import collect, ranges_of, read_sheet
from orderup.shops.bakery.local_time import today
from orderup.shops.bakery.orders import Wanted, add_order
from orderup.shops.bakery.plan import plan_order
from tests.shops.served import Served

INGREDIENTS = [f"ingredient {number}" for number in range(30)]
CAKES, ORDERS = 12, 300


def draw_lines(random: Random, most: int) -> dict[str, Amount]:
    """Weights with up to six decimals, and pieces."""
    names = random.sample(INGREDIENTS, random.randint(1, most))

    def amount() -> Amount:
        unit: Unit = random.choice(("g", "pcs"))
        value = Decimal(random.randint(1, 10**9)) / 10**6 if unit == "g" else Decimal(random.randint(1, 50))
        return Amount(value, unit)

    return {name: amount() for name in names}


async def write_recipe(engine: Engine, name: str, recipe: Mapping[str, Amount]) -> None:
    await engine.database.write(lambda connection: add_cake(connection, name, recipe, now=engine.now()))


async def place(engine: Engine, wanted: Wanted) -> None:
    def add_row(connection: WriteConnection, operation_id: int) -> None:
        add_order(connection, operation_id, wanted)

    await place_order(engine, "bakery", plan_order(wanted.to_bake), also=add_row)


async def test_the_sums_of_many_orders_are_exact(bakery: Served, seed: int) -> None:
    random, engine = Random(seed), bakery.house.engine
    recipes = {f"cake {number}": draw_lines(random, 10) for number in range(CAKES)}
    for name, recipe in recipes.items():
        await write_recipe(engine, name, recipe)
    expected: dict[tuple[str, str], Fraction] = {}
    wishes = []
    for _ in range(ORDERS):
        name, extra = random.choice(list(recipes)), draw_lines(random, 3) if random.random() < 0.3 else {}
        wanted = Wanted(name.replace(" ", "_"), "Ada", random.randint(1, 50), random.randint(1, 9), extra=extra)
        wishes.append(wanted)
        for each, amount in recipes[name].items():
            key = each, amount.unit
            expected[key] = expected.get(key, Fraction(0)) + Fraction(amount.value) * wanted.persons * wanted.quantity
        for each, amount in extra.items():
            expected[each, amount.unit] = expected.get((each, amount.unit), Fraction(0)) + Fraction(amount.value)
    await asyncio.gather(*(place(engine, wanted) for wanted in wishes))
    batch = engine.new_id(engine.now())
    count = await engine.database.write(lambda connection: collect(connection, batch, number=None, day=today("UTC")))
    sheet = await engine.database.read(lambda connection: read_sheet(connection, batch))
    assert (count, len(sheet.numbers)) == (ORDERS, ORDERS)
    assert {(name, amount.unit): Fraction(amount.value) for name, amount in sheet.lines} == expected


def test_numbers_are_told_as_ranges() -> None:
    assert ranges_of([]) == []
    assert ranges_of([4]) == ["4"]
    assert ranges_of([1, 2, 3, 7, 9, 10]) == ["1-3", "7", "9-10"]
