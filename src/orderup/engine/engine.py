"""The engine: the parts that the verbs beside this file work with. Built by `cli`, one a process."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from random import Random

import msgspec

from orderup.db.database import Database, Shared
from orderup.engine.bell import Bell
from orderup.engine.desk import Desk
from orderup.engine.feed import Feed
from orderup.engine.lines import Lines
from orderup.errors import Misconfigured, NotFound
from orderup.model.ids import OperationId, new_operation_id
from orderup.model.kind import Kind, Rate
from orderup.model.placing import USUAL_LEASE
from orderup.model.task import queue_name, queue_of

# Answers about queues that are remembered; regions are anybody's words.
MOST_QUEUES = 10_000


class Limits(msgspec.Struct, frozen=True):
    """What an owner may set. rfa_within: how long an RFA waits for an answer. retention: how long finished operations
    are kept. keys_kept: how long idempotency keys are, never less than retention or 7 days. lease: how long a claim
    lives without a heartbeat, of kinds that say nothing of their own."""

    rfa_within: timedelta = timedelta(hours=24)
    retention: timedelta = timedelta(days=30)
    keys_kept: timedelta = timedelta(days=37)
    lease: timedelta = USUAL_LEASE


def wall_clock() -> int:
    return time.time_ns() // 1000


def nobody_observes(_seconds: float) -> None:
    return None


class Engine:
    """`kinds`: for each shop its kinds of tasks, by name. `observe_claim` is told how many seconds each claim took.
    `paused_queues`: names of those that are paused, as far as this process knows (limit.py)."""

    def __init__(
        self,
        database: Database,
        kinds: Mapping[str, Mapping[str, Kind]],
        *,
        limits: Limits | None = None,
        now: Callable[[], int] = wall_clock,
        random: Random | None = None,
        new_id: Callable[[int], OperationId] = new_operation_id,
    ) -> None:
        self.database, self.kinds, self.now, self.new_id = database, kinds, now, new_id
        self.limits = limits or Limits()
        self.random = random or Random()  # noqa: S311  spreads retries, keeps no secret
        self.observe_claim: Callable[[float], None] = nobody_observes
        self.bell = Bell()
        self.feed = Feed(database)
        self.limited_queues = {
            queue_name(shop, kind.name): kind
            for shop, named in kinds.items()
            for kind in named.values()
            if kind.is_limited
        }
        self.allowances = shared_allowances(self.limited_queues)
        self._third_parties = queues_by_third_party(kinds)
        self._is_limited: dict[str, bool] = {}
        self.paused_queues = frozenset()
        self.desk = Desk(
            database,
            limited=self.is_limited,
            announce=self.bell.ring,
            make_room=self.bell.ring_all_regions,
        )
        turns = {
            queue_name(shop, kind.name): kind
            for shop, named in kinds.items()
            for kind in named.values()
            if kind.turns_after is not None
        }
        self.lines = Lines(self, turns) if turns else None
        self.desk.lines = self.lines

    @property
    def paused_queues(self) -> frozenset[str]:
        return self._paused_queues

    @paused_queues.setter
    def paused_queues(self, names: frozenset[str]) -> None:
        self._paused_queues = names
        self._is_limited.clear()

    def is_limited(self, queue: str) -> bool:
        """Whether only the database can tell if a task may be claimed from it now, and permits may be held for those
        that run. So it is for tasks of a shop that is not mounted here: this process ends their leases, too."""
        known = self._is_limited.get(queue)
        if known is None:
            if len(self._is_limited) >= MOST_QUEUES:
                self._is_limited.clear()
            known = self._is_limited[queue] = self._find_out_whether_limited(queue_of(queue))
        return known

    def _find_out_whether_limited(self, name: str) -> bool:
        return name in self.limited_queues or name in self.paused_queues or name.partition("/")[0] not in self.kinds

    def kind(self, shop: str, name: str) -> Kind:
        kind = self.kinds.get(shop, {}).get(name)
        if kind is None:
            raise NotFound("kind of task", f"{shop}/{name}")
        return kind

    def limits_of(self, queues: Sequence[str]) -> dict[str, Kind]:
        """The kinds of those queues that have limits, by the queue's name without region."""
        if not self.limited_queues:
            return {}
        names = {queue_of(queue) for queue in queues}
        return {name: kind for name, kind in self.limited_queues.items() if name in names}

    def shared_by(self, queues: Collection[str]) -> dict[str, Shared]:
        """The allowances that some of those queues, named without region, share with others."""
        return {name: each for name, each in self.allowances.items() if not each.queues.isdisjoint(queues)}

    def resting_together(self, queue: str) -> list[str]:
        """The queues, named without region, that ask the same third party as this one; itself at least."""
        return sorted(self._third_parties.get(queue, {queue}))

    async def run(self) -> None:
        """Follow the log and other processes until cancelled."""
        self.database.on_commit(self.feed.wake)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.database.watch(self._woken), name="engine: watch the database")
            group.create_task(self.feed.run(), name="engine: follow the log")
            if self.lines is not None:
                group.create_task(self.lines.run(), name="engine: lines")

    def _woken(self) -> None:
        self.feed.wake()
        self.bell.ring_for_others()


def shared_allowances(kinds: Mapping[str, Kind]) -> dict[str, Shared]:
    """By the names of their shops and their own, of kinds by their queues. What only a share of one may be used by is
    an allowance of its own within it."""
    found: dict[str, Shared] = {}

    def share(name: str, rate: Rate, queue: str) -> None:
        before = found.get(name, Shared(rate, frozenset()))
        if before.rate != rate:
            raise Misconfigured(f"The allowance {name} is said to be {before.rate} and {rate}.")
        found[name] = Shared(rate, before.queues | {queue})

    for queue, kind in kinds.items():
        if kind.allowance is not None:
            name, rate = f"{queue.partition('/')[0]}/{kind.allowance.name}", kind.allowance.rate
            share(name, rate, queue)
            if kind.share < 1:
                share(f"{name} x {kind.share:g}", Rate(max(1, int(rate.count * kind.share)), rate.period), queue)
    return found


def queues_by_third_party(kinds: Mapping[str, Mapping[str, Kind]]) -> dict[str, set[str]]:
    """For each queue whose tasks ask one third party, the queues that ask it; of kinds by shop and name."""
    asking: dict[tuple[str, str], set[str]] = defaultdict(set)
    found = {}
    for shop, named in kinds.items():
        for kind in named.values():
            if kind.asks is not None:
                queue = queue_name(shop, kind.name)
                asking[shop, kind.asks].add(queue)
                found[queue] = asking[shop, kind.asks]
    return found
