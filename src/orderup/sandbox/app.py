"""All third parties as one app, each below its name, and a page that shows them."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route

from orderup.sandbox.behaviour import Answer, Body
from orderup.sandbox.border import FORM, OnlyFromHere, Refused, media_type_of
from orderup.sandbox.collection import Collection
from orderup.sandbox.ledger import Ledger

SHOWN_ARRIVALS = 50
# No script, nothing from elsewhere, forms that lead here only.
POLICY = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
templates = Environment(
    loader=PackageLoader("orderup.sandbox"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
style = (files("orderup.sandbox") / "templates" / "sandbox.css").read_bytes()


class ThirdParty(Protocol):
    """`name`: its prefix. What the page shows of it, and the routes that it has below."""

    name: str
    title: str
    ledger: Ledger
    collections: Sequence[Collection[Any]]

    def routes(self) -> list[Route]: ...


def build_app(third_parties: Sequence[ThirdParty]) -> Starlette:
    def page(*, refused: Refused | None = None) -> Response:
        html = templates.get_template("sandbox.html").render(
            third_parties=third_parties,
            last=SHOWN_ARRIVALS,
            bodies=list(Body),
            honest=Answer(),
            refused=refused,
        )
        headers = {"content-security-policy": POLICY, "cache-control": "no-store"}
        return HTMLResponse(html, 200 if refused is None else refused.status, headers=headers)

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
            *(Mount(f"/{each.name}", routes=each.routes()) for each in third_parties),
        ],
        middleware=[Middleware(OnlyFromHere)],
        exception_handlers={Refused: refuse},
    )
