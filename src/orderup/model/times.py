"""Points in time are microseconds since the epoch inside, ISO 8601 in UTC outside."""

from datetime import UTC, datetime, timedelta
from typing import overload

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def as_datetime(micros: int) -> datetime:
    return EPOCH + micros * MICROSECOND


def as_micros(moment: datetime | timedelta) -> int:
    """Of a point in time since the epoch, or of a length of time."""
    return (moment - EPOCH if isinstance(moment, datetime) else moment) // MICROSECOND


@overload
def show_time(micros: int) -> str: ...
@overload
def show_time(micros: int | None) -> str | None: ...
def show_time(micros: int | None) -> str | None:
    """Such as 2026-11-21T09:30:00.125Z; milliseconds are enough for a reader."""
    if micros is None:
        return None
    return as_datetime(micros).isoformat(timespec="milliseconds").replace("+00:00", "Z")
