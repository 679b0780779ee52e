"""The campaign desk with mines in it: `orderup serve tests.journeys.mined_campaigns:shop`.

A mine is a file in the folder MINES, named after a place in a handler, that says how often it goes off: the process is
killed there, or stands still, as a file `stop NAME` wants. Nothing of the desk is left out; between its own lines there
are places.
"""

import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orderup.integrations.dsp import Dsp, Sort, Status
from orderup.shop import Handler
from orderup.shops.campaigns import shop
from orderup.shops.campaigns.plan import FOLLOW, SUBMIT

FOLDER = Path(os.environ.get("MINES", os.devnull))
STOP = "stop "
# In the order in which a task comes by; what the platform does lies between them.
SUBMITTING = ("submit begins", "submit remembers", "submit has remembered", "submit was answered", "submit ends")
FINDING = ("find begins", "find ends")
FOLLOWING = ("follow begins", "follow asks", "follow was answered", "follow ends")


def pass_by(place: str) -> None:
    for name, way in ((place, signal.SIGKILL), (STOP + place, signal.SIGSTOP)):
        mine = FOLDER / name
        try:
            left = int(mine.read_text())
        except (FileNotFoundError, NotADirectoryError):
            continue
        if left > 1:
            mine.write_text(str(left - 1))
        else:
            mine.unlink()
        os.kill(os.getpid(), way)


class MinedDsp(Dsp):
    async def submit(self, sort: Sort, body: Mapping[str, Any], *, our_id: str, ends_at: float | None = None) -> str:
        pass_by("submit has remembered")
        id = await super().submit(sort, body, our_id=our_id, ends_at=ends_at)
        pass_by("submit was answered")
        return id

    async def find(self, sort: Sort, our_id: str) -> str | None:
        pass_by("find begins")
        try:
            return await super().find(sort, our_id)
        finally:
            pass_by("find ends")

    async def ask(self, sort: Sort, id: str) -> Status:
        pass_by("follow asks")
        status = await super().ask(sort, id)
        pass_by("follow was answered")
        return status


class MinedContext:
    def __init__(self, context: Any) -> None:
        self._context = context
        self.resources = replace(context.resources, dsp=MinedDsp(context.resources.dsp.upstream))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def remember(self, memo: Any) -> None:
        pass_by("submit remembers")
        await self._context.remember(memo)


def mined(kind: str, handler: Handler) -> Handler:
    async def handle(context: Any) -> Any:
        pass_by(f"{kind} begins")
        result = await handler(MinedContext(context))
        pass_by(f"{kind} ends")
        return result

    return handle


for kind in (SUBMIT, FOLLOW):
    shop.handlers[kind] = mined(kind, shop.handlers[kind])
