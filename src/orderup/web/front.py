"""The app for customers: the shops' fronts, and where the back is found."""

from orderup.web import asyncapi, well_known
from orderup.web.pages import site
from orderup.web.routes import Router

ROUTERS: tuple[Router, ...] = (well_known.router, asyncapi.router, site.router)
