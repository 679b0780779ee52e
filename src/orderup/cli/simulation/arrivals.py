"""How customers come: what `--arrivals` takes."""

from enum import StrEnum


class Arrivals(StrEnum):
    """How customers are spread over a time. random: each at any moment of it, as in a Poisson process of that many."""

    RANDOM = "random"
    EVEN = "even"
