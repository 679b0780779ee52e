"""Queues from which an executor claims nothing for a while: whom their tasks ask is down.

After that one task at a time finds out whether he is back, so that very many that wait do not begin again and again in
vain. Only a look that ends without a new rest ends the rest: where there is nothing to look with yet, the first that
comes is it. Times are the event loop's.
"""

from collections.abc import Collection, Iterable


class Rests:
    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        # by the token of who looks: in which queue, and until when it had rested
        self._looking: dict[str, tuple[str, float]] = {}
        # those in which there was nothing to look with
        self._empty: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._until)

    def __contains__(self, queue: str) -> bool:
        return queue in self._until

    def rest(self, queues: Iterable[str], *, until: float) -> None:
        for queue in queues:
            self._until[queue] = max(until, self._until.get(queue, until))
            self._empty.discard(queue)

    def left(self, *, now: float) -> list[float]:
        """For how many seconds each of those rests that does still."""
        return [until - now for until in self._until.values() if until > now]

    def rested(self, *, now: float, rang: Collection[str]) -> list[str]:
        """Those in which one may look, and nobody does. One that was empty, once there may be something in it."""
        looked_at = {queue for queue, _ in self._looking.values()}
        rested = [queue for queue, until in self._until.items() if until <= now and queue not in looked_at]
        return [queue for queue in rested if queue not in self._empty or queue in rang]

    def is_empty(self, queue: str) -> None:
        self._empty.add(queue)

    def begin_look(self, queue: str, token: str) -> None:
        self._looking[token] = queue, self._until[queue]
        self._empty.discard(queue)

    def end_look(self, token: str) -> str | None:
        """The queue in which the task with this token has looked, if it has. A new rest that is over by now is one
        nevertheless: what came of the look may have been long in being stored."""
        if token not in self._looking:
            return None
        queue, rested_until = self._looking.pop(token)
        if self._until.get(queue) == rested_until:
            del self._until[queue]
        return queue
