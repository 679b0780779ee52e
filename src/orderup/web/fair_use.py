"""What one client may ask for: so many open orders at once, so many new ones a minute. Any shop switches it on by
asking here before it takes an order.

Whoever asks for more is refused and told when to come again. Whoever does not keep to that is refused for longer each
time, and who comes all the while is not even answered: that costs him a connection each time, and us nothing. All of it
is counted in this process and forgotten with it.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta

from throttled import MemoryStore, RateLimiterType, Throttled, rate_limiter

from orderup.errors import TooMany

FIRST_TIMEOUT_SECONDS, LONGEST_TIMEOUT_SECONDS = 2.0, 300.0
# Refusals within one time-out that are told; then nothing is.
TOLD = 5
# Who kept to the limits for so long begins anew.
FORGIVEN_AFTER_SECONDS = 600.0
# Clients in a time-out that are remembered; more is an attack from everywhere, which nothing here can stop.
MOST_REMEMBERED = 50_000


class Ignored(Exception):
    """Hang up: this client is not answered at all."""


class _TimeOut:
    __slots__ = ("refusals", "times", "until")

    def __init__(self) -> None:
        self.times, self.refusals, self.until = 0, 0, 0.0


class FairUse:
    """`monotonic`: seconds."""

    def __init__(self, *, most_open: int, most_a_minute: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.most_open, self.most_a_minute, self.monotonic = most_open, most_a_minute, monotonic
        # so many at once, and from then on evenly over the minute; one number a client, by a clock that nobody sets
        self._rate = Throttled(
            using=RateLimiterType.GCRA.value,
            quota=rate_limiter.per_min(most_a_minute, burst=most_a_minute),
            store=MemoryStore(options={"MAX_SIZE": MOST_REMEMBERED}),
        )
        self._open: dict[str, int] = {}
        self._time_outs: OrderedDict[str, _TimeOut] = OrderedDict()

    def admit(self, client: str) -> None:
        """One more order of this client, which is open until `closed` is called. Raises TooMany, Ignored."""
        self._check_time_out(client)
        count = self._open.get(client, 0)
        if count >= self.most_open:
            self._refuse(client, f"You have {count} open orders, which is as many as anybody may have.")
        if self._rate.limit(client).limited:
            self._refuse(
                client, f"You have placed {self.most_a_minute} orders within a minute, as many as anybody may."
            )
        self.opened(client)

    def admit_again(self, client: str) -> None:
        """Somebody comes back to an order that he has. Raises TooMany, Ignored."""
        if self._rate.limit(f"again {client}").limited:
            self._check_time_out(client)
            self._refuse(client, f"You have asked {self.most_a_minute} times for orders of yours within a minute.")

    def opened(self, client: str) -> None:
        """One that was not asked about: of an earlier process."""
        self._open[client] = self._open.get(client, 0) + 1

    def closed(self, client: str) -> None:
        count = self._open.get(client, 0) - 1
        if count > 0:
            self._open[client] = count
        else:
            self._open.pop(client, None)

    def _check_time_out(self, client: str) -> None:
        time_out, now = self._time_outs.get(client), self.monotonic()
        if time_out is None:
            return
        if now < time_out.until:
            time_out.refusals += 1
            if time_out.refusals > TOLD:
                raise Ignored
            raise _too_many("You were asked to wait.", time_out.until - now)
        if now > time_out.until + FORGIVEN_AFTER_SECONDS:
            del self._time_outs[client]

    def _refuse(self, client: str, reason: str) -> None:
        time_out = self._time_outs.get(client)
        if time_out is None:
            time_out = self._time_outs[client] = _TimeOut()
            if len(self._time_outs) > MOST_REMEMBERED:
                self._time_outs.popitem(last=False)
        length = min(FIRST_TIMEOUT_SECONDS * 2**time_out.times, LONGEST_TIMEOUT_SECONDS)
        time_out.times, time_out.refusals = min(time_out.times + 1, 20), 1
        time_out.until = self.monotonic() + length
        raise _too_many(reason, length)


def _too_many(reason: str, seconds: float) -> TooMany:
    return TooMany(f"{reason} Come again in {seconds:.0f} s.", retry_after=timedelta(seconds=seconds))
