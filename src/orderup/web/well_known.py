"""Where the two apps find each other's visitors: whoever knows the address of one learns the other's.

An app's own address is the one that it was asked at, which is right behind a proxy, too; the other's is what this
process was told.
"""

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

from orderup.web.app import Json
from orderup.web.auth import OPEN
from orderup.web.routes import Router

router = Router(tags=["server"])


class WellKnown(BaseModel):
    """front: where customers are served, back: staff and workers. shops: the path of each at both."""

    front: str
    back: str
    shops: dict[str, str]


@router.get("/.well-known/orderup", response_model=WellKnown, dependencies=[OPEN], summary="Where front and back are")
async def well_known(request: Request) -> Response:
    state = request.app.state
    own = str(request.base_url).rstrip("/")
    if state.kind == "front":
        front, back = state.settings.public_url or own, state.back_url
    else:
        front, back = state.settings.public_url or state.front_url, own
    return Json({"front": front, "back": back, "shops": dict(state.shop_prefixes)})
