"""How it goes with the third parties that a shop asks: a page of its back, the same in every shop that has some."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from fastapi import Request
from starlette.responses import Response

from orderup.web.auth import AsStaff
from orderup.web.orders import resources_of
from orderup.web.pages.route import PageRouter
from orderup.web.pages.site import site_of
from orderup.web.routes import Router

# By what its breaker is.
STATES: Mapping[str, str] = {"closed": "alive", "open": "failing", "half open": "waiting"}


class Breaking(Protocol):
    """state: closed, open (it is left alone) or half open."""

    @property
    def state(self) -> str: ...


class Service(Protocol):
    """in_flight: calls under way. last_error: of the last call that failed."""

    @property
    def name(self) -> str: ...

    @property
    def base_url(self) -> str: ...

    @property
    def in_flight(self) -> int: ...

    @property
    def last_error(self) -> str | None: ...

    @property
    def breaker(self) -> Breaking: ...


def add_services_page(router: Router, shop: str, *, title: str, services: Callable[[Any], Sequence[Service]]) -> None:
    """`/services`, on the shop's back. services: those among what its handlers share, see `Shop.resources`."""
    pages = PageRouter()

    @pages.get("/services")
    async def show_services(request: Request, _caller: AsStaff) -> Response:
        found = services(resources_of(request, shop))
        return site_of(request).page(request, "services.html", title=title, services=found, states=STATES)

    router.include_router(pages)
