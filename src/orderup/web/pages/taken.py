"""What a tablet remembers of the tasks that were taken at it, in a cookie: their ids, and whether they were done.

What has become of each is always asked of the database; this says only which ones to ask about. So a person is told of
a claim that has ended, though the task no longer says who had it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from orderup.db.station import Place
from orderup.errors import NotFound
from orderup.model.ids import read_task_id, show_task_id
from orderup.web.pages.session import keep

TAKEN_COOKIE = "orderup_taken"
MOST_REMEMBERED = 20
DONE = ".done"


@dataclass(frozen=True, slots=True)
class Taken:
    place: Place
    is_done: bool = False


def taken_by(request: Request, worker: str) -> list[Taken]:
    """The oldest first. What somebody else took at this tablet is not this worker's."""
    whose, _, rest = request.cookies.get(TAKEN_COOKIE, "").partition(":")
    if whose != _mark(worker):
        return []
    return [taken for text in rest.split("_")[-MOST_REMEMBERED:] if (taken := _read(text)) is not None]


def remember_taken(response: Response, request: Request, worker: str, taken: Sequence[Taken]) -> None:
    shown = [f"{show_task_id(*each.place)}{DONE if each.is_done else ''}" for each in taken[-MOST_REMEMBERED:]]
    keep(response, request, TAKEN_COOKIE, f"{_mark(worker)}:{'_'.join(shown)}")


def _mark(worker: str) -> str:
    return hashlib.sha256(worker.encode()).hexdigest()[:8]


def _read(text: str) -> Taken | None:
    try:
        return Taken(read_task_id(text.removesuffix(DONE)), is_done=text.endswith(DONE))
    except NotFound:
        return None
