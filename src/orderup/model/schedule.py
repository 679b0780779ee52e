"""Orders that are placed because their time has come."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from orderup.model.plan import Plan


@dataclass(slots=True)
class Schedule:
    """Places an order when its time comes. Either `every`, or a `cron` line in the time zone `zone`.

    keeps_alive: its run is meant to last, and the schedule to see to it that there is one.
    """

    name: str
    plan: Callable[[], Plan]
    every: timedelta | None = None
    cron: str | None = None
    zone: str = "UTC"
    keeps_alive: bool = False
