"""The simulated kitchen: what it reports fits what it was asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from orderup.errors import TaskFailed
from orderup.shops.pizza import shop
from orderup.shops.pizza.workers import FUNCTIONS, add_toppings, bake_pizza, deliver_pizza, make_dough


@dataclass
class GivenTask:
    """As far as a worker function looks at one."""

    params: Any
    inputs: Mapping[str, Any] = field(default_factory=dict)
    operation_id: str = "0dvnsmjx9dyja"
    task_id: str = "0dvnsmjx9dyja-0"
    name: str = "task"
    memo: Any = None
    attempt: int = 1
    deadline: float = 60.0
    log: Any = None
    http: Any = None
    resources: Any = None

    async def heartbeat(self) -> None:
        """Nobody else has it."""

    async def remember(self, memo: Any) -> None:
        self.memo = memo


def test_there_is_a_function_for_every_remote_kind_of_the_pizzeria() -> None:
    assert set(FUNCTIONS) == {name for name, kind in shop.kinds.items() if kind.is_remote}


async def test_dough_weighs_a_little_less_than_what_went_in() -> None:
    dough = await make_dough(GivenTask({"flour_g": 300, "water_ml": 195, "salt_g": 6}), speed=0)
    assert 0.96 * 501 <= dough["weight_g"] <= 501


async def test_dough_of_nothing_cannot_be_made_however_often_it_is_tried() -> None:
    with pytest.raises(TaskFailed, match="names no ingredient") as failure:
        await make_dough(GivenTask({"hurry": True}), speed=0)
    assert failure.value.final


async def test_toppings_are_on_the_dough_that_was_made() -> None:
    task = GivenTask({"toppings": ["tomato", "mozzarella"]}, {"make_dough": {"weight_g": 490}})
    topped = await add_toppings(task, speed=0)
    assert topped["toppings"] == ["tomato", "mozzarella"]
    assert 490 + 2 * 40 <= topped["weight_g"] <= 490 + 2 * 50


async def test_the_oven_is_about_as_hot_as_was_asked() -> None:
    baked = await bake_pizza(GivenTask({"temperature_celsius": 280, "minutes": 8}), speed=0)
    assert abs(baked["temperature_celsius"] - 280) <= 3
    assert 0.8 * 8 <= baked["minutes"] <= 1.2 * 8
    assert baked["slices"] == 8


async def test_a_pizza_arrives_warm() -> None:
    delivered = await deliver_pizza(GivenTask({"address": "1 Harbour Lane"}), speed=0)
    assert delivered["temperature_celsius"] > 50
    assert "Harbour" not in str(delivered)
