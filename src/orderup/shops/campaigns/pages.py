"""What the campaign desk's pages have in common, and its first page on the front: what it is, for whoever comes by."""

from typing import Any

from fastapi import Request
from starlette.responses import Response

from orderup.shops.campaigns.front import front
from orderup.shops.campaigns.plan import shop
from orderup.web import OPEN
from orderup.web.pages.route import PageRouter
from orderup.web.pages.site import site_of

TEMPLATES = "orderup.shops.campaigns"
pages = PageRouter()


def address_of(request: Request, path: str = "/") -> str:
    """Of a page of the shop's, in the app that is asked."""
    return f"{request.app.state.shop_prefixes[shop.name]}{path}"


def page(request: Request, template: str, *, here: str, code: int = 200, **context: Any) -> Response:
    """here: which of the shop's pages for staff it belongs to."""
    return site_of(request).page(request, template, code=code, root=address_of(request), here=here, **context)


@pages.get("/", dependencies=[OPEN])
async def show_desk(request: Request) -> Response:
    return page(request, "campaigns/desk.html", here="")


front.include_router(pages)
