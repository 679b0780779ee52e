"""What every contender measures, and how it tells."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Figures:
    """orders_per_second: all submitted at once, until the last one is done. lone_…: one order at a time, from its
    submission to its end, in milliseconds."""

    orders_per_second: float
    lone_p50_ms: float
    lone_p99_ms: float


def told(*, orders: int, seconds: float, lone_seconds: Sequence[float]) -> None:
    """Print the figures as the last line."""
    ordered = sorted(lone_seconds)
    p50, p99 = (ordered[min(len(ordered) - 1, round(share * len(ordered)))] for share in (0.50, 0.99))
    print(json.dumps(asdict(Figures(orders / seconds, p50 * 1000, p99 * 1000))), flush=True)


def wanted() -> tuple[str, int, int]:
    """From the command line: where to store (an address), how many orders at once, how many one at a time."""
    where, orders, lone = sys.argv[1:4]
    return where, int(orders), int(lone)


clock = time.perf_counter
