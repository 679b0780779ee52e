"""Shops by their names."""

import pytest

from orderup.cli.shops import load_shops
from orderup.errors import Misconfigured


def test_a_module_that_is_not_there_is_told_with_the_way_out() -> None:
    with pytest.raises(Misconfigured, match=r"No module named 'nobodys'\. Install it, or .* PYTHONPATH="):
        load_shops(["nobodys:shop"])


def test_a_name_that_is_not_in_its_module_is_told() -> None:
    with pytest.raises(Misconfigured, match=r"orderup\.shops\.pizza:cake cannot be loaded"):
        load_shops(["orderup.shops.pizza:cake"])
