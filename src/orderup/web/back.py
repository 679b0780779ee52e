"""The app for staff and workers."""

from orderup.web import asyncapi, deliveries, log, operations, overview, rfas, well_known, work, work_socket
from orderup.web.pages import deliveries as deliveries_page, queues, schedules, sign_in, site, staff, station, workers
from orderup.web.routes import Router

ROUTERS: tuple[Router, ...] = (
    rfas.router,
    operations.operations_router,
    operations.tasks_router,
    work.router,
    work_socket.router,
    overview.router,
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
    schedules.router,
    deliveries_page.router,
)
