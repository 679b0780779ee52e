"""How many are before a customer, as his page tells him.

The order of a line is worked out as a whole, which takes a while with thousands in it: so it is done at most once a
second for all who look, and more rarely where it takes long. Who came since then is behind all others.
"""

import time
from collections.abc import Callable

from orderup.engine.engine import Engine
from orderup.shops.coffee.plan import QUEUE

EVERY_SECONDS = 1.0
# So many times as long as it took, it is not done again: at most a fiftieth of this process is spent on it.
REST = 50


class Standing:
    """One a process. `monotonic`: seconds."""

    def __init__(self, engine: Engine, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.engine, self.monotonic = engine, monotonic
        self._before: dict[int, int] = {}
        self._good_until = 0.0

    @property
    def waiting(self) -> int:
        lines = self.engine.lines
        return 0 if lines is None else len(lines.line(QUEUE))

    def before(self, operation_id: int) -> int | None:
        """How many are served before this order; None: it does not wait in line."""
        lines = self.engine.lines
        if lines is None or (operation_id, 0) not in lines.line(QUEUE):
            return None
        now = self.monotonic()
        if now >= self._good_until:
            order = lines.line(QUEUE).order()
            self._before = {id: number for number, (id, _) in enumerate(order)}
            end = self.monotonic()
            self._good_until = end + max(EVERY_SECONDS, REST * (end - now))
        return min(self._before.get(operation_id, self.waiting), self.waiting - 1)
