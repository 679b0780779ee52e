"""The local executor: claims tasks that have a handler in this process and runs them as coroutines.

All its claims are held under one lease, its row in `workers`, renewed for all of them together. A task that one of its
own changes makes ready is claimed in that very change, as long as no others wait before it in that queue.

It follows the log for events that end claims, a cancel by whatever process for one: what carries such a claim out is
cancelled, so that it can clean up, and what comes of it is dropped. An event that comes before its claim is known here
is made up for by upkeep.py.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any
from uuid import uuid4

import structlog

from orderup.db.database import Claimed, Claims, WriteConnection
from orderup.engine.at_work import at_work
from orderup.engine.claim import claim_now
from orderup.engine.complete import complete_by_step, complete_task
from orderup.engine.engine import Engine
from orderup.engine.fail import fail_task
from orderup.engine.hand_back import hand_back_all, hand_back_task
from orderup.engine.wait import let_task_wait
from orderup.errors import NotFound, OrderupError, Resting, StaleToken, TaskFailed, Unavailable
from orderup.executors.context import LocalContext
from orderup.executors.deadlines import Deadlines
from orderup.executors.ended import ended_by, has_ended
from orderup.executors.third_parties import ThirdParties
from orderup.model.event import Event
from orderup.model.ids import show_task_id
from orderup.model.kind import Kind
from orderup.model.placing import encode
from orderup.model.task import Task
from orderup.shop import Shop, Step, Wait

log = structlog.get_logger(__name__)
SLOTS = 1_000
MOST_PER_CLAIM = 250
# Stores what came of an attempt.
Answer = Callable[[], Awaitable[None]]
# How long a handler that was cancelled may take to end; one that will not is left to itself.
HAND_BACK_SECONDS = 5.0


class LocalExecutor:
    """`id` names its lease; a new one each time a process starts. `resources`: of shops whose handlers share some."""

    def __init__(
        self,
        engine: Engine,
        shops: Sequence[Shop],
        *,
        slots: int = SLOTS,
        resources: Mapping[str, Any] | None = None,
    ) -> None:
        self.engine, self.slots, self.resources = engine, slots, resources or {}
        self.id = f"local-{uuid4().hex[:12]}"
        # tokens nobody can guess, unlike each other by their number
        self._secret, self._numbers = uuid4().hex, count(1)
        self.shops = {shop.name: shop for shop in shops}
        self.queues = [f"{shop.name}/{kind}" for shop in shops for kind in (*shop.handlers, *shop.steps)]
        # by token; None: being claimed in a change that is not committed yet
        self._tasks: dict[str, tuple[asyncio.Task[None], Claimed] | None] = {}
        # tokens of those among them whose claim others have ended
        self._ended: set[str] = set()
        # tokens of those that take up a slot: from being claimed until their result is about to be written
        self._in_slots: set[str] = set()
        self._backlog: set[str] = set(self.queues)
        self._asked_for = 0
        self._is_draining = self._has_stopped = False
        self._freed = asyncio.Event()
        self._third_parties = ThirdParties()

    def holds(self, token: str) -> bool:
        """Whether the claim with this token is being carried out, or about to be, in this process."""
        return token in self._tasks

    @property
    def _free(self) -> int:
        return self.slots - len(self._in_slots) - self._asked_for

    # claiming in the change that makes a task ready

    def take(self, task: Task) -> tuple[str, str] | None:
        queue = task.queue
        if self._is_draining or queue not in self._ear.queues or queue in self._backlog or queue in self._ear.rang:
            return None
        if self._free <= 0:
            self._backlog.add(queue)  # whoever comes after it must wait behind it
            return None
        token = f"{self._secret}-{next(self._numbers)}"
        self._tasks[token] = None
        self._in_slots.add(token)
        return self.id, token

    def begin(self, claimed: Claimed) -> None:
        token = claimed.task.token
        assert token is not None
        if self._has_stopped:
            self.give_back(token)  # nobody is left to do it: handed back with the lease, or rescued after it
            return
        name = f"{claimed.task.name} {show_task_id(claimed.operation_id, claimed.task.position)}"
        self._tasks[token] = self._loop.create_task(self._carry_out(claimed), name=name), claimed
        self._in_slots.add(token)

    def give_back(self, token: str) -> None:
        self._tasks.pop(token, None)
        if self._ended:
            self._ended.discard(token)
        self._leave_slot(token)

    def _leave_slot(self, token: str) -> None:
        self._in_slots.discard(token)
        self._freed.set()

    # the loop

    async def run(self) -> None:
        """Claim and carry out until cancelled; then hand back what has not finished."""
        self._loop = asyncio.get_running_loop()
        self._deadlines = Deadlines(self._loop)
        ear = self._ear = self.engine.bell.listen(self.queues)
        self.engine.feed.count(self._hear)
        self.engine.desk.starter = self
        try:
            wait: float | None = None
            while self.queues and not self._is_draining:
                await ear.wait(wait)
                wait = await self._claim_all()
            # the bell may ring on for what is handed back; nobody claims any more
            await self._loop.create_future()
        finally:
            self._is_draining = self._has_stopped = True
            self.engine.bell.leave(ear)
            self.engine.feed.stop_counting(self._hear)
            await self._stop_running()
            await self._third_parties.close()

    async def _claim_all(self) -> float | None:
        """Claim until the queues are empty; for how long to wait unless the bell rings."""
        while not self._is_draining:
            self._backlog |= self._ear.rang
            self._ear.clear()
            if self._free <= 0:
                await self._something_frees()
                continue
            most = min(self._free, MOST_PER_CLAIM)
            try:
                claims = await self._claim(most)
            except Unavailable as error:
                log.warning("the executor cannot claim; it tries again", error=str(error))
                await asyncio.sleep(error.retry_after.total_seconds())
                continue
            if len(claims.claimed) < most:
                self._backlog.clear()
                return claims.next_permit_in
        return None

    async def _claim(self, most: int) -> Claims:
        self._asked_for = most
        try:
            claims = await claim_now(self.engine, self.queues, worker=self.id, most=most, own_lease=True)
            if self._is_draining:
                await hand_back_all(self.engine, claims.claimed)
            else:
                for claimed in claims.claimed:
                    self.begin(claimed)
            return claims
        finally:
            self._asked_for = 0
            self._freed.set()

    async def _something_frees(self) -> None:
        self._freed.clear()
        await self._freed.wait()

    async def drain(self, grace: timedelta) -> None:
        """Claim nothing more; wait for what is running, at most so long, and hand the rest back."""
        self._is_draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace.total_seconds()):
                while self._tasks or self._asked_for:
                    await self._something_frees()
        self._has_stopped = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HAND_BACK_SECONDS):
                await self._stop_all()

    async def _stop_all(self) -> None:
        """Cancel what runs, until nothing does and no claim is on its way any more."""
        while self._tasks or self._asked_for:
            if not await self._stop_running():
                await self._something_frees()

    async def _stop_running(self) -> bool:
        """Cancel what runs now and see it end; whether anything did."""
        running = {token: each[0] for token, each in self._tasks.items() if each is not None}
        for task in running.values():
            task.cancel()
        if running:
            await asyncio.wait(running.values())
        for token in running:
            self.give_back(token)  # one that was cancelled before its first step has not done so itself
        return bool(running)

    # claims that others end

    def _hear(self, events: Sequence[Event]) -> None:
        if self._tasks and (ended := ended_by(events)):
            running = [(token, each[1]) for token, each in self._tasks.items() if each is not None]
            self.end(token for token, claimed in running if has_ended(claimed, ended))

    def begun(self) -> set[str]:
        return {token for token, each in self._tasks.items() if each is not None}

    def end(self, tokens: Iterable[str]) -> None:
        for token in tokens:
            running = self._tasks.get(token)
            if running is not None and token not in self._ended:
                self._ended.add(token)
                running[0].cancel()
                # one that has not taken its first step will not give back itself
                running[0].add_done_callback(lambda _, token=token: self.give_back(token))  # type: ignore[misc]

    # carrying out

    async def _carry_out(self, claimed: Claimed) -> None:
        token = claimed.task.token
        assert token is not None
        place = (claimed.operation_id, claimed.task.position)
        at_work.set(place)
        try:
            await self._persist(await self._attempt(claimed, token))
        except (StaleToken, NotFound) as error:
            log.info("a result came too late", reason=str(error))
        except asyncio.CancelledError:
            if token in self._ended:
                log.info("a claim has ended; what carried it out was cancelled")
                return
            with contextlib.suppress(OrderupError):
                await asyncio.shield(hand_back_task(self.engine, *place, token=token))
            raise
        except Exception:  # a fault of ours must not end every other task; the claim goes back by itself (upkeep.py)
            log.exception("a result could not be stored")
        finally:
            self.give_back(token)

    async def _attempt(self, claimed: Claimed, token: str) -> Answer:
        """Call the handler or run the step; how to store what came of it."""
        task, shop = claimed.task, self.shops[claimed.shop]
        seconds = self._seconds_for(task, shop.kinds[task.kind])
        ends_at = self._loop.time() + seconds
        resources = self.resources.get(claimed.shop)
        context = LocalContext(
            self.engine, claimed, ends_at=ends_at, third_parties=self._third_parties, resources=resources
        )
        deadline = self._deadlines.at(ends_at)
        try:
            with deadline:
                step = shop.steps.get(task.kind)
                if step is None:
                    return self._answer(claimed, token, await shop.handlers[task.kind](context))
                await self._run_step(step, claimed, token, context)
                return _is_stored
        except Resting as error:
            return self._answer(claimed, token, Wait(error.seconds))
        except TaskFailed as error:
            failed = error
        except StaleToken:
            raise
        except asyncio.CancelledError as error:
            if _is_being_cancelled():
                raise
            failed = TaskFailed(f"Something it waited for was cancelled: {error}")
        except Exception as error:  # the one home of a handler's unforeseen errors: a failed attempt
            if token in self._ended:
                raise StaleToken(
                    show_task_id(claimed.operation_id, task.position), reason="this claim has ended"
                ) from error
            if deadline.expired and isinstance(error, TimeoutError):
                failed = TaskFailed(
                    f"It took longer than {seconds:g} s" if seconds else "There was no time left for it"
                )
            else:
                log.exception("a handler failed", kind=task.kind)
                failed = TaskFailed(f"{type(error).__name__}: {error}")
        return self._failure(claimed, token, failed)

    def _seconds_for(self, task: Task, kind: Kind) -> float:
        """How long this attempt may take."""
        seconds = kind.timeout.total_seconds()
        if task.deadline_at is None:
            return seconds
        left = (task.deadline_at - self.engine.now()) / 1e6
        return seconds if left > seconds else max(0.0, left)

    async def _run_step(self, step: Step, claimed: Claimed, token: str, context: LocalContext) -> None:
        place = (claimed.operation_id, claimed.task.position)

        def run(connection: WriteConnection) -> Any:
            return step(connection, context)

        # with the database away it has not failed, only not run yet
        await self._persist(partial(complete_by_step, self.engine, *place, token=token, step=run))

    def _answer(self, claimed: Claimed, token: str, outcome: Any) -> Answer:
        place, asks_to_wait = (claimed.operation_id, claimed.task.position), isinstance(outcome, Wait)
        value = outcome.memo if asks_to_wait else outcome
        try:
            stored = None if value is None else encode(value)
        except TypeError as error:
            what = "memo" if asks_to_wait else "result"
            raise TaskFailed(f"Its {what} cannot be stored as JSON: {error}", final=True) from error
        if asks_to_wait:
            seconds = outcome.seconds
            return partial(let_task_wait, self.engine, *place, token=token, seconds=seconds, memo=stored, answer=token)
        # what this makes ready may take its slot
        make_room = partial(self._leave_slot, token)
        return partial(
            complete_task, self.engine, *place, token=token, result=stored, answer=token, make_room=make_room
        )

    def _failure(self, claimed: Claimed, token: str, failed: TaskFailed) -> Answer:
        return partial(
            fail_task,
            self.engine,
            claimed.operation_id,
            claimed.task.position,
            token=token,
            error=str(failed),
            final=failed.final,
            retry_after=failed.retry_after,
            pauses_queue=failed.pause_queue,
            was_sent=failed.was_sent,
        )

    async def _persist(self, answer: Answer) -> None:
        """A result is not thrown away because the database is away: it is written when it is back, if still ours."""
        while True:
            try:
                await answer()
                return
            except Unavailable as error:
                log.warning("a result cannot be stored yet; it is tried again", error=str(error))
                await asyncio.sleep(error.retry_after.total_seconds())


async def _is_stored() -> None:
    """The answer of a step, which was stored with what it wrote."""


def _is_being_cancelled() -> bool:
    """Whether it is this very task that somebody cancelled, not something that it waited for."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
