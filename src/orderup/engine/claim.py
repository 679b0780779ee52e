"""Claiming: a worker asks for tasks of some queues and gets the first of them, each under a token of its own.

A claim that finds nothing waits, without a connection to the database, until the bell says that there may be work.
When many wait for the same queues, they are served in the order in which they asked (when much comes at once, those who
are served in the same moment may overtake each other), and the first who gets nothing tells that there is no more: the
others are not tried in vain.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from orderup.db.database import Ask, Claimed, Claims
from orderup.engine.engine import Engine
from orderup.engine.hand_back import hand_back_all
from orderup.errors import Unavailable
from orderup.model.task import queue_name
from orderup.model.times import as_micros

# Served at the same time, when work comes for many who wait: they share a commit.
MOST_AT_ONCE = 32


def queues_for(shop: str, kinds: Sequence[str], region: str | None) -> list[str]:
    """The queues a worker claims from: those of its region, and those of tasks that may be done anywhere."""
    regions = [None] if region is None else [region, None]
    return [queue_name(shop, kind, each) for kind in kinds for each in regions]


async def claim_now(
    engine: Engine,
    queues: Sequence[str],
    *,
    worker: str,
    most: int,
    own_lease: bool = False,
    request: str | None = None,
    lease: timedelta | None = None,
) -> Claims:
    """The first tasks of those queues, possibly none. `lease`: how long these claims live without a heartbeat; None: as
    long as their tasks say. Raises Unavailable."""
    began = time.perf_counter()
    lines = engine.lines
    lined = [queue for queue in queues if lines.has(queue)] if lines is not None else []
    claims = Claims([])
    if len(lined) < len(queues) or request is not None:
        lease_us = None if lease is None else as_micros(lease)
        others = [queue for queue in queues if queue not in lined]
        limits = engine.limits_of(others)
        shared = engine.shared_by(limits) if limits else {}
        ask = Ask(worker, others, most, engine.now(), own_lease, request, limits, shared, lease_us)
        claims = await engine.database.claim(ask)
        engine.desk.note_claims(claims.claimed)
    if lines is not None and lined and not claims.claimed:
        claimed = await lines.claim(lined, worker=worker, most=most, lease=lease, request=request)
        claims = Claims(claimed, claims.next_permit_in)
    engine.observe_claim(time.perf_counter() - began)
    return claims


class _Asking:
    """One worker's wish, waiting."""

    __slots__ = ("answer", "lease", "most", "request", "worker")

    def __init__(self, worker: str, most: int, request: str | None, lease: timedelta | None) -> None:
        self.worker, self.most, self.request, self.lease = worker, most, request, lease
        self.answer: asyncio.Future[Sequence[Claimed]] = asyncio.get_running_loop().create_future()


class _Counter:
    """Those who wait for the same queues, and the one coroutine that serves them while there are any."""

    def __init__(self, engine: Engine, queues: tuple[str, ...]) -> None:
        self.engine, self.queues = engine, queues
        self.line: deque[_Asking] = deque()
        self._ear = engine.bell.listen(queues)
        self._is_closed = False
        # the first in line finds out whether there is anything; as long as there is, twice as many come at once
        self._at_once = 1

    async def serve(self) -> None:
        try:
            wait: float | None = None
            while self.line:
                await self._ear.wait(wait)
                self._ear.clear()
                if self._is_closed:
                    return
                wait = await self._serve_some()
                if wait is None and self.line:
                    self._ear.ring_all()  # there may be more
        finally:
            self.engine.bell.leave(self._ear)
            for asking in self.line:
                if not asking.answer.done():
                    asking.answer.set_result([])

    def leave(self, asking: _Asking) -> None:
        """He got his answer, or waits no longer. The last one to go closes the counter."""
        if asking in self.line:
            self.line.remove(asking)
            if not self.line:
                self._ear.ring_all()

    def close(self) -> None:
        """Whoever waits gets nothing; what is being claimed for some is still given to them."""
        self._is_closed = True
        self._ear.ring_all()

    async def _serve_some(self) -> float | None:
        """Serve the first in line. None if there may be more work now, else for how long to wait unless it rings."""
        some = [self.line.popleft() for _ in range(min(len(self.line), self._at_once))]
        some = [asking for asking in some if not asking.answer.done()]
        answers = await asyncio.gather(*(self._ask(asking) for asking in some), return_exceptions=True)
        wait: float | None = None
        unserved: list[_Asking] = []
        for asking, claims in zip(some, answers, strict=True):
            if isinstance(claims, BaseException):
                if not asking.answer.done():
                    asking.answer.set_exception(claims)
            elif not claims.claimed:
                wait = min(60.0 if wait is None else wait, claims.next_permit_in or 60.0)
                if not asking.answer.done():
                    unserved.append(asking)
            elif asking.answer.done():
                await hand_back_all(self.engine, claims.claimed)
            else:
                asking.answer.set_result(claims.claimed)
        self.line.extendleft(reversed(unserved))
        self._at_once = 1 if wait is not None else min(2 * self._at_once, MOST_AT_ONCE)
        return wait

    async def _ask(self, asking: _Asking) -> Claims:
        return await claim_now(
            self.engine,
            self.queues,
            worker=asking.worker,
            most=asking.most,
            request=asking.request,
            lease=asking.lease,
        )


class _Turn:
    """Somebody who claims under a name: whether another wants to, and whether he is done."""

    __slots__ = ("is_over", "is_wanted")

    def __init__(self, is_wanted: asyncio.Event) -> None:
        self.is_wanted, self.is_over = is_wanted, asyncio.Event()


class ClaimDesk:
    """Where remote workers and people wait for tasks. One a process."""

    def __init__(self, engine: Engine, group: asyncio.TaskGroup) -> None:
        self.engine, self.group = engine, group
        self._counters: dict[tuple[str, ...], _Counter] = {}
        self._turns: dict[str, _Turn] = {}
        self._is_closed = False

    @asynccontextmanager
    async def turn(self, name: str, *, is_wanted: asyncio.Event) -> AsyncIterator[None]:
        """Claim under a name, a request's, alone: who did so before is told to leave, by his `is_wanted`, and waited
        for. He is a caller who is gone, though nobody has noticed: what is handed back for him must not be what the
        newcomer is given.
        """
        while (before := self._turns.get(name)) is not None:
            before.is_wanted.set()
            await before.is_over.wait()
        turn = self._turns[name] = _Turn(is_wanted)
        try:
            yield
        finally:
            del self._turns[name]
            turn.is_over.set()

    async def claim(
        self,
        queues: Sequence[str],
        *,
        worker: str,
        most: int,
        wait_seconds: float,
        request: str | None = None,
        lease: timedelta | None = None,
    ) -> Sequence[Claimed]:
        """The first tasks of those queues; waits up to so many seconds for one to come. `lease`: as of `claim_now`.
        Raises Unavailable."""
        if self._is_closed:
            raise Unavailable("The server stops. Ask again.", retry_after=timedelta(seconds=1))
        if wait_seconds <= 0:
            claims = await claim_now(self.engine, queues, worker=worker, most=most, request=request, lease=lease)
            return claims.claimed
        asking = _Asking(worker, most, request, lease)
        counter = self._line_up(tuple(sorted(queues)), asking)
        try:
            async with asyncio.timeout(wait_seconds):
                return await asyncio.shield(asking.answer)
        except TimeoutError:
            if asking.answer.done():  # it came in the last moment
                return asking.answer.result()
            asking.answer.cancel()
            return []
        except asyncio.CancelledError:
            await self._take_back(asking)
            raise
        finally:
            counter.leave(asking)

    def _line_up(self, queues: tuple[str, ...], asking: _Asking) -> _Counter:
        counter = self._counters.get(queues)
        if counter is not None:
            counter.line.append(asking)
            self.engine.bell.ring(queues[:1])  # for the newcomer, whom no earlier ring told
            return counter
        counter = self._counters[queues] = _Counter(self.engine, queues)
        counter.line.append(asking)
        self.group.create_task(self._serve(counter), name=f"claims of {', '.join(queues)[:80]}")
        return counter

    async def _serve(self, counter: _Counter) -> None:
        try:
            await counter.serve()
        finally:
            del self._counters[counter.queues]

    async def _take_back(self, asking: _Asking) -> None:
        """The caller is gone: what was claimed for him goes back at once, whoever comes next gets it."""
        if asking.answer.done() and not asking.answer.cancelled() and asking.answer.exception() is None:
            await asyncio.shield(hand_back_all(self.engine, asking.answer.result()))
        else:
            asking.answer.cancel()

    def close(self) -> None:
        """Nobody is served any more; who waits gets nothing."""
        self._is_closed = True
        for counter in self._counters.values():
            counter.close()
