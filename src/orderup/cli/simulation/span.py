"""How long something takes that does not always take equally long: so many seconds to so many."""

import re
from dataclasses import dataclass
from random import Random

from orderup.errors import Misconfigured

NUMBER = r"\d+(?:\.\d+)?"
LONGEST_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds of life, each of them equally likely."""

    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.least:g}" if self.least == self.most else f"{self.least:g}-{self.most:g}"

    @property
    def mean(self) -> float:
        return (self.least + self.most) / 2

    def draw(self, random: Random) -> float:
        return random.uniform(self.least, self.most)


def read_span(text: str, *, option: str) -> Span:
    """From `30-60`, or `45` where it always takes equally long. Raises Misconfigured."""
    found = re.fullmatch(rf"\s*({NUMBER})\s*(?:[-–]\s*({NUMBER})\s*)?", text, re.ASCII)
    if found is None:
        raise Misconfigured(f"{option} {text}: write seconds, such as 30-60, or 45 if it always takes equally long.")
    least, most = float(found[1]), float(found[2] or found[1])
    if least > most:
        raise Misconfigured(f"{option} {text}: write the shorter time first, {option} {most:g}-{least:g}.")
    if not 0 < most <= LONGEST_SECONDS:
        raise Misconfigured(f"{option} {text}: write more than 0 and at most {LONGEST_SECONDS:g} seconds.")
    return Span(least, most)
