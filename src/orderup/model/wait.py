"""What a handler returns to be called again later."""

from datetime import timedelta
from typing import Any

from orderup.errors import Misconfigured


class Wait:
    """Returned by a handler: call me again in so many seconds, with this memo (None keeps the last one). was_sent
    False: nothing was sent to a third party, and a limit of its rate gets its permit back."""

    def __init__(self, seconds: float | timedelta, *, memo: Any = None, was_sent: bool = True) -> None:
        self.seconds = seconds.total_seconds() if isinstance(seconds, timedelta) else float(seconds)
        self.memo, self.was_sent = memo, was_sent
        if not 0 <= self.seconds <= 366 * 86_400:
            raise Misconfigured(f"Wait({seconds}): from 0 seconds to 366 days.")
