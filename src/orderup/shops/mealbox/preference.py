"""`Prefer: wait=10` and `Prefer: respond-async`, as RFC 7240 has them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

LONGEST_WAIT_SECONDS = 60.0
_PREFERENCE = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*(?:=\s*(?:"([^"]*)"|([^\s;,"]*)))?')


@dataclass(frozen=True, slots=True)
class Preference:
    """How long the caller is kept waiting. applied: the header that says which wish was granted."""

    seconds: float
    applied: Mapping[str, str] = field(default_factory=dict)


def read_preference(headers: Sequence[str], *, default: float) -> Preference:
    """A wish that is not understood is none: the standard wants it ignored. What comes first counts."""
    wishes: dict[str, str] = {}
    for name, value in _wishes(headers):
        wishes.setdefault(name, value)
    if "respond-async" in wishes and "wait" not in wishes:
        return Preference(0.0, {"Preference-Applied": "respond-async"})
    wait = wishes.get("wait", "")
    if not (wait.isascii() and wait.isdigit()):
        return Preference(default)
    seconds = min(float(wait[:9]), LONGEST_WAIT_SECONDS)
    return Preference(seconds, {"Preference-Applied": f"wait={seconds:.0f}"})


def _wishes(headers: Sequence[str]) -> Iterator[tuple[str, str]]:
    for each in headers:
        for part in each.split(","):
            found = _PREFERENCE.match(part)
            if found is not None:
                yield found[1].lower(), found[2] or found[3] or ""
