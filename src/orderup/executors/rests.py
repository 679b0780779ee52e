"""Third parties that are down: nothing that asks them is claimed for a while.

After that one task at a time, of whichever queue that asks them, finds out whether they are back, so that very many
that wait do not begin again and again in vain. Only a look that has found them back ends the rest: one that was
cancelled, or does not know, leaves it to the next, and where there is nothing to look with yet, the first that comes is
it. Times are the event loop's.
"""

from collections.abc import Collection, Iterable

Queues = tuple[str, ...]


class Rest:
    """Of those queues that ask one third party; a new one each time it is renewed. looks: the token of who does, until
    `gives_up_at` at most. is_empty: there was nothing to look with."""

    __slots__ = ("gives_up_at", "is_empty", "looks", "queues", "until")

    def __init__(self, queues: Queues, until: float) -> None:
        self.queues, self.until = queues, until
        self.looks: str | None = None
        self.gives_up_at = until
        self.is_empty = False

    def is_looked_at(self, now: float) -> bool:
        return self.looks is not None and self.gives_up_at > now


class Rests:
    def __init__(self) -> None:
        self._rests: dict[Queues, Rest] = {}
        self._of_queue: dict[str, Rest] = {}
        # by token
        self._looks: dict[str, Rest] = {}

    def __bool__(self) -> bool:
        return bool(self._rests)

    def __contains__(self, queue: str) -> bool:
        return queue in self._of_queue

    def rest(self, queues: Iterable[str], *, until: float) -> None:
        """Queues that ask the same third party, always all of them."""
        together = tuple(sorted(queues))
        before = self._rests.get(together)
        renewed = Rest(together, until if before is None else max(until, before.until))
        self._rests[together] = renewed
        self._of_queue.update(dict.fromkeys(together, renewed))

    def is_on(self, rest: Rest) -> bool:
        """It has neither ended nor been renewed."""
        return self._rests.get(rest.queues) is rest

    def left(self, *, now: float) -> list[float]:
        """After how many seconds each is to be looked at, as far as that is known."""
        times = (rest.gives_up_at if rest.looks is not None else rest.until for rest in self._rests.values())
        return [time - now for time in times if time > now]

    def over(self, *, now: float, rang: Collection[str]) -> list[Rest]:
        """Those that one may look at, and nobody does. One that was empty, once there may be something in it."""
        over = [rest for rest in self._rests.values() if rest.until <= now and not rest.is_looked_at(now)]
        return [rest for rest in over if not rest.is_empty or any(queue in rang for queue in rest.queues)]

    def begin_look(self, rest: Rest, token: str, *, gives_up_at: float) -> None:
        rest.looks, rest.gives_up_at, rest.is_empty = token, gives_up_at, False
        self._looks[token] = rest

    def end_look(self, token: str, *, is_back: bool = False) -> Queues:
        """The queues whose tasks may be claimed now, if it was a look. is_back: the third party is; that ends a rest
        which was not renewed meanwhile, however late it is said."""
        rest = self._looks.pop(token, None) if self._looks else None
        if rest is None:
            return ()
        if rest.looks == token:
            rest.looks = None
        if is_back and self.is_on(rest):
            del self._rests[rest.queues]
            for queue in rest.queues:
                del self._of_queue[queue]
        return rest.queues
