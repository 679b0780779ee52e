"""The first page for customers: which shops there are. A shop that is alone has the root for itself."""

from fastapi import Request
from starlette.responses import Response

from orderup.web.auth import OPEN
from orderup.web.pages.route import PageRouter
from orderup.web.pages.site import site_of

router = PageRouter()


@router.get("/", dependencies=[OPEN])
async def show_shops(request: Request) -> Response:
    prefixes = request.app.state.shop_prefixes
    site = site_of(request)
    shops = [
        {"title": shop.title, "about": shop.about, "prefix": prefixes[shop.name]}
        for shop in site.shops
        if shop.templates
    ]
    return site.page(request, "home.html", shops=shops)
