"""Wakes whoever waits for tasks. A ring says only that there may be work; the claim finds out."""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from typing import TypeVar

from orderup.model.task import queue_of

EarT = TypeVar("EarT", bound="Ear")


class Ear:
    """One listener: `heard` is set when one of its queues may have work, `rang` says which since it was cleared.
    `hears_others`: also what other processes may have released."""

    def __init__(self, queues: Iterable[str], *, hears_others: bool = True) -> None:
        self.queues, self.hears_others = frozenset(queues), hears_others
        self.heard = asyncio.Event()
        self.rang: set[str] = set()
        self.ring_all()  # what was there before it listened counts, too

    def ring(self, queue: str) -> None:
        self.rang.add(queue)
        self.heard.set()

    def ring_all(self) -> None:
        self.rang |= self.queues
        self.heard.set()

    def clear(self) -> None:
        self.rang.clear()
        self.heard.clear()

    async def wait(self, seconds: float | None) -> bool:
        """Whether it rang within that time."""
        try:
            async with asyncio.timeout(seconds):
                await self.heard.wait()
        except TimeoutError:
            return False
        return True


class Bell:
    """One a process; other processes' work is heard through `Database.watch`."""

    def __init__(self) -> None:
        self._ears: dict[str, set[Ear]] = {}

    def listen(self, queues: Iterable[str]) -> Ear:
        return self.join(Ear(queues))

    def join(self, ear: EarT) -> EarT:
        for queue in ear.queues:
            self._ears.setdefault(queue, set()).add(ear)
        return ear

    def leave(self, ear: Ear) -> None:
        for queue in ear.queues:
            ears = self._ears.get(queue)
            if ears is not None:
                ears.discard(ear)
                if not ears:
                    del self._ears[queue]

    def ring(self, queues: Sequence[str]) -> None:
        for queue in queues:
            for ear in self._ears.get(queue, ()):
                ear.ring(queue)

    def ring_all_regions(self, names: Collection[str]) -> None:
        """There may be room in these queues, named without region: for tasks of any region."""
        for queue, ears in self._ears.items():
            if queue_of(queue) in names:
                for ear in ears:
                    ear.ring(queue)

    def ring_all(self) -> None:
        for ear in set().union(*self._ears.values()):
            ear.ring_all()

    def ring_for_others(self) -> None:
        """Another process may have released something, of whatever queue."""
        for ear in set().union(*self._ears.values()):
            if ear.hears_others:
                ear.ring_all()
