from typing import Any

import pytest

from orderup.cli.work import functions_of
from orderup.errors import Misconfigured
from orderup.shop import Shop


async def engrave(task: Any) -> Any:
    return task


async def temper(_task: Any, *, speed: float = 1.0) -> float:
    return speed


def test_a_shop_without_worker_functions_says_what_to_do() -> None:
    with pytest.raises(Misconfigured, match=r"Set shop\.worker_functions"):
        functions_of(Shop("forge"))


async def test_only_what_simulates_is_given_a_speed() -> None:
    shop = Shop("forge", worker_functions={"engrave": engrave, "temper": temper})
    assert functions_of(shop) == shop.worker_functions
    functions = functions_of(shop, speed=20)
    assert functions["engrave"] is engrave
    assert await functions["temper"]("task") == 20


def test_a_speed_for_work_that_is_real_is_refused() -> None:
    with pytest.raises(Misconfigured, match="simulates nothing"):
        functions_of(Shop("forge", worker_functions={"engrave": engrave}), speed=2)
