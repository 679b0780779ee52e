"""All third parties as one app, each below its name, and a page that leads to them."""

from collections.abc import Sequence
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from orderup.sandbox.behaviour import Answer
from orderup.sandbox.border import FORM, OnlyFromHere, Refused, media_type_of
from orderup.sandbox.collection import Collection
from orderup.sandbox.ledger import Ledger
from orderup.sandbox.pages import render, style
from orderup.sandbox.service import Service


class ThirdParty(Protocol):
    """Shown on the first page. `name`: its prefix. What the page shows of it, and the routes that it has below."""

    name: str
    title: str
    ledger: Ledger
    collections: Sequence[Collection[Any]]

    def routes(self) -> list[Route]: ...


def build_app(
    third_parties: Sequence[ThirdParty], services: Sequence[Service] = (), *, names: Sequence[str] = ()
) -> Starlette:
    """`services`: third parties with a page each. names: by which it may be called, besides this machine's."""

    def page(*, refused: Refused | None = None) -> Response:
        return render("sandbox.html", refused=refused, third_parties=third_parties, services=services, honest=Answer())

    parties: list[ThirdParty | Service] = [*third_parties, *services]

    async def home(_request: Request) -> Response:
        return page()

    async def sheet(_request: Request) -> Response:
        return Response(style, media_type="text/css")

    async def refuse(request: Request, error: Exception) -> Response:
        """A person reads it on the page, a program in JSON."""
        assert isinstance(error, Refused)
        return page(refused=error) if media_type_of(request) == FORM else error.as_json()

    return Starlette(
        routes=[
            Route("/", home, methods=["GET"]),
            Route("/sandbox.css", sheet, methods=["GET"]),
            *(Mount(f"/{each.name}", routes=each.routes()) for each in parties),
        ],
        middleware=[Middleware(OnlyFromHere, names=names)],
        exception_handlers={Refused: refuse},
    )
