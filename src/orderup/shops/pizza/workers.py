"""The pizzeria's workers, simulated: what `orderup work pizza` runs in place of real ovens and riders.

Each step takes its time and reports what its instruments would. A minute of the kitchen lasts one second; `speed` 20
makes it a twentieth of that, 0 takes no time at all.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from orderup.errors import TaskFailed
from orderup.shop import TaskContext, WorkerFunction

SECONDS_A_MINUTE = 1.0
KNEADING_MINUTES, TOPPING_MINUTES, DELIVERY_MINUTES = 4.0, 2.0, 6.0
USUAL_BAKING = {"temperature_celsius": 250, "minutes": 9}
GRAMS_A_TOPPING = 45
SLICES = 8


async def make_dough(task: TaskContext, *, speed: float = 1.0) -> dict[str, Any]:
    """From flour, water, yeast, salt and oil (`…_g`, `…_ml`): the dough's weight and temperature."""
    ingredients = [amount for name, amount in task.params.items() if name.endswith(("_g", "_ml"))]
    if not ingredients:
        raise TaskFailed("There is nothing to make dough from: the task names no ingredient.", final=True)
    minutes = await _work(KNEADING_MINUTES, speed=speed)
    # some of it stays in the bowl
    weight = sum(ingredients) * random.uniform(0.97, 0.99)
    return {"weight_g": round(weight), "temperature_celsius": _about(24.0, 1.0), "kneaded_minutes": minutes}


async def add_toppings(task: TaskContext, *, speed: float = 1.0) -> dict[str, Any]:
    """`toppings`, in their order, onto the dough."""
    toppings: Sequence[str] = task.params.get("toppings", ())
    minutes = await _work(TOPPING_MINUTES, speed=speed)
    weight = sum(GRAMS_A_TOPPING * random.uniform(0.9, 1.1) for _ in toppings)
    dough = _result(task, "make_dough").get("weight_g", 0)
    return {"toppings": list(toppings), "weight_g": round(dough + weight), "minutes": minutes}


async def bake_pizza(task: TaskContext, *, speed: float = 1.0) -> dict[str, Any]:
    """At `temperature_celsius` for `minutes`: what the oven's probe and clock said."""
    wanted = {**USUAL_BAKING, **task.params}
    minutes = await _work(wanted["minutes"], speed=speed)
    return {
        "temperature_celsius": _about(wanted["temperature_celsius"], 3.0),
        "core_celsius": _about(94.0, 2.0),
        "minutes": minutes,
        "slices": SLICES,
    }


async def deliver_pizza(_task: TaskContext, *, speed: float = 1.0) -> dict[str, Any]:
    """To the door: how long it took, and how warm it still was."""
    minutes = await _work(DELIVERY_MINUTES, speed=speed)
    return {"minutes": minutes, "temperature_celsius": _about(65.0, 4.0)}


async def _work(minutes: float, *, speed: float) -> float:
    """Take about so many minutes; how many it came to."""
    taken = minutes * random.uniform(0.85, 1.15)
    await asyncio.sleep(taken * SECONDS_A_MINUTE / speed if speed else 0)
    return round(taken, 1)


def _about(value: float, spread: float) -> float:
    return round(random.uniform(value - spread, value + spread), 1)


def _result(task: TaskContext, name: str) -> dict[str, Any]:
    result = task.inputs.get(name)
    return result if isinstance(result, dict) else {}


FUNCTIONS: dict[str, WorkerFunction] = {
    "make_dough": make_dough,
    "add_toppings": add_toppings,
    "bake_pizza": bake_pizza,
    "deliver_pizza": deliver_pizza,
}
