"""Waiting for a fact, with a deadline."""

import time
from collections.abc import Callable

# For whatever has to come: it is there to tell of what hangs, and a machine that does other things too takes its time.
PATIENCE_SECONDS = 90.0


def wait_until(fact: Callable[[], bool], *, seconds: float = PATIENCE_SECONDS, what: str) -> None:
    """Return as soon as `fact()` is true. Raises TimeoutError, saying `what` did not happen, after `seconds`."""
    deadline = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.02)
