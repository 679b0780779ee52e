"""Celery: which of its workers answer, which queues they take, and how many messages lie there."""

from fastapi import Request
from starlette.responses import Response

from orderup.web.auth import AsStaff
from orderup.web.celery import read_celery
from orderup.web.pages.route import PageRouter
from orderup.web.pages.site import site_of

router = PageRouter()


@router.get("/celery")
async def show_celery(request: Request, caller: AsStaff) -> Response:
    return site_of(request).page(request, "celery.html", celery=await read_celery(request, caller))
