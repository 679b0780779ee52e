"""The routes of the campaign desk."""

from orderup.shops.campaigns.tasks_api import PATH, router as tasks
from orderup.web import Router

# The clients of the Tasks API know its errors as FastAPI tells them.
front = Router(tags=["campaigns"], details_below=PATH)
front.include_router(tasks)
