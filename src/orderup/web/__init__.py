"""The two apps. What a shop's routes are written with can be imported from here."""

from orderup.web.app import Json
from orderup.web.auth import OPEN, AsAdmin, AsAnyone, AsCustomer, AsOrderCaller, AsStaff, AsWorker
from orderup.web.idempotency import takes_key
from orderup.web.order_routes import OrderView, add_order_routes, view_order
from orderup.web.orders import PlacedOrder, engine_of, find_order, keeper_of, place
from orderup.web.routes import Lax, RequestModel, Router
from orderup.web.tokens import Caller

__all__ = [
    "OPEN",
    "AsAdmin",
    "AsAnyone",
    "AsCustomer",
    "AsOrderCaller",
    "AsStaff",
    "AsWorker",
    "Caller",
    "Json",
    "Lax",
    "OrderView",
    "PlacedOrder",
    "RequestModel",
    "Router",
    "add_order_routes",
    "engine_of",
    "find_order",
    "keeper_of",
    "place",
    "takes_key",
    "view_order",
]
