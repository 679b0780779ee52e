"""The colours of states, alike in Mermaid and SVG; dark text on each has a contrast of 7 or more."""

from collections.abc import Mapping

import msgspec


class Tone(msgspec.Struct, frozen=True):
    fill: str
    line: str


_GREY = Tone("#e7e5e4", "#78716c")
_AMBER = Tone("#fde68a", "#b45309")
_BLUE = Tone("#bfdbfe", "#1d4ed8")
_GREEN = Tone("#bbf7d0", "#15803d")
_RED = Tone("#fecaca", "#b91c1c")

# By the word of a task's, an RFA's or an operation's state.
TONES: Mapping[str, Tone] = {
    "blocked": _GREY,
    "pending": _AMBER,
    "running": _BLUE,
    "waiting": _AMBER,
    "paused": _GREY,
    "completed": _GREEN,
    "errored": _RED,
    "cancelled": _RED,
    "declined": _RED,
    "expired": _RED,
}
PLAIN = Tone("#fafaf9", "#57534e")
