"""How what the platform allows is shared out."""

from datetime import timedelta

import pytest

from orderup.engine.engine import shared_allowances
from orderup.model.kind import Rate
from orderup.model.task import queue_name
from orderup.shops.campaigns import shop
from orderup.shops.campaigns.adjust import share_out

MINUTE = timedelta(minutes=1)


def limits(count: int, look_seconds: float) -> dict[str, int]:
    """Of each allowance, how many a minute."""
    kinds = share_out(shop.kinds, Rate(count, MINUTE), look_seconds=look_seconds)
    by_queue = {queue_name(shop.name, name): kind for name, kind in kinds.items()}
    found = shared_allowances(by_queue)
    return {"share" if " x " in name else name.partition("/")[2]: each.rate.count for name, each in found.items()}


def test_of_forty_a_minute_the_look_has_as_many_as_it_needs() -> None:
    assert limits(40, 10) == {"looks": 6, "platform": 34, "share": 13}


@pytest.mark.parametrize("count", [4, 5, 7, 12, 40, 1_000, 1_000_000])
@pytest.mark.parametrize("look_seconds", [1, 7, 10, 3600])
def test_altogether_it_is_never_more_than_allowed_and_asking_never_more_than_half(
    count: int, look_seconds: float
) -> None:
    found = limits(count, look_seconds)
    assert found["looks"] + found["platform"] == count
    assert found["looks"] + found["share"] <= max(2, count // 2)
    assert min(found.values()) >= 1
