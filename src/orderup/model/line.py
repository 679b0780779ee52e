"""Those who wait in one queue whose clients take turns: who comes next. Pure, in memory.

Oldest first, as long as no client has more than `most` waiting. While some have more, those take turns with all others:
in a round each of them has one turn, and every other client one, too; the turns of the others go to the oldest of them.
So a client with thousands who wait delays many others hardly, and one by one turn. What comes back because its worker
was lost goes before all.

Turns are tags of virtual time, one later for each that was served, as in start-time fair queueing. A client who has no
more than his share keeps his tag as long as it lies ahead: else he who comes and goes would be a newcomer each time,
whose turn is at once. Source: Goyal, Vin, Cheng, "Start-time Fair Queueing", SIGCOMM 1996.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import islice

# A task: its operation and its position there.
Place = tuple[int, int]
# What came back goes first, then by priority, then by age.
Rank = tuple[bool, int, int]
_Heap = list[tuple[Rank, Place]]
# Tags that are kept of clients within their share. The clock leaves them behind, unless very many come and go at once.
MOST_LATER = 10_000


def rank_of(*, priority: int, since: int, came_back: bool) -> Rank:
    """The smaller one goes first."""
    return (not came_back, priority, since)


class Line:
    """`most`: waiting of one client, before clients take turns; None: they never do.

    Heaps are tidied late: whoever leaves is struck from the books at once, and from the heaps when he comes up there.
    """

    def __init__(self, most: int | None) -> None:
        self.most = most
        self._ranks: dict[Place, Rank] = {}
        self._clients: dict[Place, str] = {}
        self._places: dict[str, set[Place]] = {}
        # what came back; of clients within their share; and each client who is over it, with when his next turn is
        self._back: _Heap = []
        self._others: _Heap = []
        self._over: dict[str, _Heap] = {}
        self._turns: dict[str, float] = {}
        # when the next turn of those would be who were over it, in the order in which they left
        self._later: OrderedDict[str, float] = OrderedDict()
        self._others_turn = 0.0
        self._clock = 0.0

    def __len__(self) -> int:
        return len(self._ranks)

    def __contains__(self, place: Place) -> bool:
        return place in self._ranks

    def __iter__(self) -> Iterator[Place]:
        return iter(self._ranks)

    def waiting_of(self, client: str) -> int:
        return len(self._places.get(client, ()))

    def add(self, place: Place, *, client: str, rank: Rank) -> None:
        """Whoever is there already gets this rank."""
        if self._ranks.get(place) == rank:
            return
        self.remove(place)
        self._ranks[place], self._clients[place] = rank, client
        places = self._places.setdefault(client, set())
        places.add(place)
        self._push(place, client, rank)
        if self.most is not None and len(places) == self.most + 1:
            self._over[client] = [(self._ranks[one], one) for one in places]
            heapify(self._over[client])
            self._turns[client] = max(self._clock, self._later.pop(client, self._clock))

    def remove(self, place: Place) -> bool:
        """Whether it was there."""
        if self._ranks.pop(place, None) is None:
            return False
        client = self._clients.pop(place)
        places = self._places[client]
        places.discard(place)
        if client in self._over and len(places) == self.most:
            del self._over[client]
            self._keep_for_later(client, self._turns.pop(client))
            for one in places:
                heappush(self._others, (self._ranks[one], one))
        if not places:
            del self._places[client]
        self._tidy(self._over.get(client, self._others))
        if not self._ranks:
            self._begin_anew()
        return True

    def _keep_for_later(self, client: str, turn: float) -> None:
        self._later[client] = turn
        # none lies more than one turn ahead: who left long before the clock's last turn is behind it
        while self._later and (len(self._later) > MOST_LATER or self._later[next(iter(self._later))] <= self._clock):
            self._later.popitem(last=False)

    def _begin_anew(self) -> None:
        """Nobody waits: whoever comes now finds all as new as he is."""
        self._later.clear()
        self._others_turn = self._clock

    def take(self) -> Place | None:
        """Whoever comes next; he is in the line no more."""
        place = self._next()
        if place is not None:
            self.remove(place)
        return place

    def order(self, most: int | None = None) -> Sequence[Place]:
        """All, or the first `most`, in the order in which they are served if nobody comes or leaves any more."""
        return list(islice(iter(self._copy().take, None), most))

    def _copy(self) -> "Line":
        copy = Line(self.most)
        copy._ranks, copy._clients, copy._turns = dict(self._ranks), dict(self._clients), dict(self._turns)
        copy._places = {client: set(places) for client, places in self._places.items()}
        copy._back, copy._others = list(self._back), list(self._others)
        copy._over = {client: list(heap) for client, heap in self._over.items()}
        copy._later = self._later.copy()
        copy._others_turn, copy._clock = self._others_turn, self._clock
        return copy

    def _push(self, place: Place, client: str, rank: Rank) -> None:
        if not rank[0]:
            heappush(self._back, (rank, place))
        heappush(self._over.get(client, self._others), (rank, place))

    def _tidy(self, heap: _Heap) -> None:
        """No heap is more than about twice as long as what it is for."""
        if len(heap) > 2 * len(self._ranks) + 64:
            heap[:] = [(rank, place) for rank, place in heap if self._ranks.get(place) == rank]
            heapify(heap)

    def _next(self) -> Place | None:
        back = self._first(self._back)
        if back is not None:
            return back[1]
        others = self._first_of_others()
        if not self._turns:
            return others[1] if others else None
        turn, (_, place), client = min(self._candidates(others))
        self._clock = turn
        if client is None:
            self._others_turn = turn + 1 / (len(self._places) - len(self._over))
        else:
            self._turns[client] = turn + 1
        return place

    def _candidates(self, others: tuple[Rank, Place] | None) -> Iterator[tuple[float, tuple[Rank, Place], str | None]]:
        """When it is whose turn; at the same time it is his who has waited longest."""
        for client, turn in self._turns.items():
            head = self._first(self._over[client])
            assert head is not None
            yield turn, head, client
        if others is not None:
            yield max(self._others_turn, self._clock), others, None

    def _first(self, heap: _Heap) -> tuple[Rank, Place] | None:
        while heap:
            rank, place = heap[0]
            if self._ranks.get(place) == rank:
                return heap[0]
            heappop(heap)
        return None

    def _first_of_others(self) -> tuple[Rank, Place] | None:
        while (head := self._first(self._others)) is not None and self._clients[head[1]] in self._over:
            heappop(self._others)
        return head
