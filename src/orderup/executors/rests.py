"""Queues from which an executor claims nothing for a while: whom their tasks ask is down.

After that one task at a time finds out whether he is back, so that very many that wait do not begin again and again in
vain. A look that ends without a new rest ends the rest. Times are the event loop's.
"""

from collections.abc import Iterable


class Rests:
    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        # the queues in which one looks, by its token
        self._looking: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._until)

    def __contains__(self, queue: str) -> bool:
        return queue in self._until

    def rest(self, queues: Iterable[str], *, until: float) -> None:
        for queue in queues:
            self._until[queue] = max(until, self._until.get(queue, until))

    def left(self, *, now: float) -> list[float]:
        """For how many seconds each of those rests that does still."""
        return [until - now for until in self._until.values() if until > now]

    def rested(self, *, now: float) -> list[str]:
        """Those in which one may look, and nobody does."""
        return [queue for queue, until in self._until.items() if until <= now and queue not in self._looking.values()]

    def begin_look(self, queue: str, token: str) -> None:
        self._looking[token] = queue

    def end_look(self, token: str, *, now: float) -> str | None:
        """The queue in which the task with this token has looked, if it has."""
        queue = self._looking.pop(token, None) if self._looking else None
        if queue is not None and self._until.get(queue, now) <= now:
            self.end(queue)
        return queue

    def end(self, queue: str) -> None:
        self._until.pop(queue, None)
