"""docs/shops/bakery.md says what the bakery does."""

import re
from pathlib import Path

from fastapi.routing import APIRoute

from orderup.shops.bakery.front import front
from orderup.shops.bakery.hooks import hooks
from orderup.shops.bakery.orders import STATUSES
from orderup.shops.bakery.staff import staff

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "shops" / "bakery.md").read_text()


def section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_every_status_is_listed() -> None:
    assert re.findall(r"^\| `(\w+)` \|", section("Status"), re.MULTILINE) == list(STATUSES)


def test_every_route_is_listed() -> None:
    listed = set(re.findall(r"`(GET|POST|PATCH|DELETE) (/[^`?]*)", section("Routes")))
    there = {
        (method, route.path)
        for router in (front, staff, hooks)
        for route in router.routes
        if isinstance(route, APIRoute) and "bakery" in route.tags
        for method in route.methods or ()
    }
    assert there <= listed | {("GET", "/orders/{id}/events")}
    assert listed <= there
