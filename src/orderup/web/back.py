"""The app for staff and workers."""

from orderup.web import asyncapi, celery, deliveries, log, operations, overview, rfas, well_known, work, work_socket
from orderup.web.pages import (
    celery as celery_page,
    deliveries as deliveries_page,
    queues,
    schedules,
    sign_in,
    site,
    staff,
    station,
    workers,
)
from orderup.web.routes import Router

ROUTERS: tuple[Router, ...] = (
    rfas.router,
    operations.operations_router,
    operations.tasks_router,
    work.router,
    work_socket.router,
    overview.router,
    celery.router,
    deliveries.router,
    log.router,
    well_known.router,
    asyncapi.router,
    site.router,
    sign_in.router,
    staff.router,
    station.router,
    queues.router,
    workers.router,
    celery_page.router,
    schedules.router,
    deliveries_page.router,
)
