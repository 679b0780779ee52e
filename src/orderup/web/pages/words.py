"""How facts are shown: points in time, lengths of time, states, JSON."""

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from markupsafe import Markup, escape

from orderup.model.ids import show_id
from orderup.model.times import as_datetime, show_time

MINUTE, HOUR, DAY = 60, 3600, 86400
MINUTE_US = MINUTE * 1_000_000


def show_moment(micros: int | None, *, seconds: bool = False, zone: str = " UTC") -> Markup:
    """A point in time: its clock time in UTC until live.js writes it in the reader's own; the rest on hover.
    seconds: to the second. zone: empty where what follows names it."""
    if micros is None:
        return Markup("")
    moment = as_datetime(micros)
    return Markup('<time datetime="{}"{} title="{}">{}</time>').format(
        moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        Markup(" data-seconds") if seconds else "",
        f"{moment:%Y-%m-%d %H:%M:%S} UTC",
        (f"{moment:%H:%M:%S}" if seconds else f"{moment:%H:%M}") + zone,
    )


def show_span(span: tuple[int, int]) -> Markup:
    """From one point in time to another, as exactly as the clock shows it."""
    first, last = span
    if first // MINUTE_US == last // MINUTE_US:
        return Markup("about {}").format(show_moment(last))
    return Markup("{} to {}").format(show_moment(first, zone=""), show_moment(last))


def show_date(micros: int | None) -> Markup:
    """A point in time on any day: date and clock time in UTC until live.js writes them in the reader's own."""
    if micros is None:
        return Markup("")
    moment = as_datetime(micros)
    return Markup('<time datetime="{}" data-date title="{}">{}</time>').format(
        moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        f"{moment:%Y-%m-%d %H:%M:%S} UTC",
        f"{moment:%d %b %H:%M} UTC",
    )


def show_since(micros: int | None, now: int) -> Markup:
    """How long it has been; live.js keeps it true."""
    if micros is None:
        return Markup("")
    moment = as_datetime(micros)
    return Markup('<time datetime="{}" data-since title="{}">{}</time>').format(
        moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        f"{moment:%Y-%m-%d %H:%M:%S} UTC",
        show_seconds(max(0, now - micros) / 1e6),
    )


def show_seconds(seconds: float | timedelta) -> str:
    """Such as "3 min" or "2 h 5 min": as exactly as somebody who waits wants to know."""
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.0f} min"
    if seconds < DAY:
        hours, minutes = divmod(round(seconds / MINUTE), 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(round(seconds / HOUR), 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def show_exactly(length: timedelta) -> str:
    """Such as "1 min 40 s": for what somebody has set."""
    parts = []
    left = length.total_seconds()
    for size, unit in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        number, left = divmod(left, size)
        if number:
            parts.append(f"{number:.0f} {unit}")
    return " ".join([*parts, *([f"{left:g} s"] if left or not parts else [])])


def show_count(count: int, *, is_at_least: bool = False) -> str:
    """is_at_least: counting stopped at a bound."""
    return f"{count:,} or more" if is_at_least else f"{count:,}"


def show_json(stored: str | None) -> str:
    """JSON as it is stored, with room between."""
    return json.dumps(json.loads(stored or "null"), indent=2, ensure_ascii=False)


def show_state(state: str) -> Markup:
    """A state as a badge: word and colour."""
    return Markup('<span class="state" data-state="{}">{}</span>').format(state, escape(state.replace("_", " ")))


FILTERS: Mapping[str, Callable[..., Any]] = {
    "moment": show_moment,
    "span": show_span,
    "date": show_date,
    "instant": show_time,
    "since": show_since,
    "seconds": show_seconds,
    "json": show_json,
    "id": show_id,
    "state": show_state,
}
