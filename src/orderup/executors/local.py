"""The local executor: claims tasks that have a handler in this process and runs them as coroutines.

All its claims are held under one lease, its row in `workers`, renewed for all of them together. A task that one of its
own changes makes ready is claimed in that very change, as long as no others wait before it in that queue.

It follows the log for events that end claims, a cancel by whatever process for one: what carries such a claim out is
cancelled, so that it can clean up, and what comes of it is dropped. An event that comes before its claim is known here
is made up for by upkeep.py.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any
from uuid import uuid4

import structlog

from orderup.db.database import Claimed, Claims, WriteConnection
from orderup.db.noted import NoConnection, try_without
from orderup.engine.at_work import at_work, is_being_cancelled
from orderup.engine.bell import Ear
from orderup.engine.claim import claim_now
from orderup.engine.complete import complete_by_step
from orderup.engine.desk import StepDone
from orderup.engine.engine import Engine
from orderup.engine.fail import fail_task
from orderup.engine.hand_back import hand_back_all, hand_back_task
from orderup.engine.wait import let_task_wait
from orderup.errors import NotFound, OrderupError, Resting, StaleToken, TaskFailed, Unavailable, UpstreamFailed
from orderup.executors.context import LocalContext
from orderup.executors.deadlines import Deadlines
from orderup.executors.eager import EagerTask, EagerTasks
from orderup.executors.ended import ended_by, has_ended
from orderup.executors.rests import Rest, Rests
from orderup.executors.third_parties import ThirdParties
from orderup.model import work
from orderup.model.event import Event
from orderup.model.ids import show_task_id
from orderup.model.kind import Kind
from orderup.model.operation import Draft
from orderup.model.placing import encode
from orderup.model.task import Task, queue_of
from orderup.shop import Shop, Step, Wait

log = structlog.get_logger(__name__)
SLOTS = 1_000
MOST_PER_CLAIM = 250
# Stores what came of an attempt.
Answer = Callable[[], Awaitable[None]]
# How long a handler that was cancelled may take to end; one that will not is left to itself.
HAND_BACK_SECONDS = 5.0
# How long whoever asks an executor without a free slot to look is kept from asking it again.
FULL_SECONDS = 1.0


class LocalExecutor:
    """`id` names its lease; a new one each time a process starts. `resources`: of shops whose handlers share some.
    `queues`: from which it claims; None: all of those shops'. `hears_others`: whether it claims what other processes
    release as soon as it hears of it, or waits to be asked to `look`. `when_full`: called when a claim has taken the
    last free slot, so that there may be more for others."""

    def __init__(
        self,
        engine: Engine,
        shops: Sequence[Shop],
        *,
        slots: int = SLOTS,
        resources: Mapping[str, Any] | None = None,
        queues: Collection[str] | None = None,
        hears_others: bool = True,
        kind: str = "local",
    ) -> None:
        self.engine, self.slots, self.resources = engine, slots, resources or {}
        self.id = f"{kind}-{uuid4().hex[:12]}"
        # tokens nobody can guess, unlike each other by their number
        self._secret, self._numbers = uuid4().hex, count(1)
        self.shops = {shop.name: shop for shop in shops}
        able = queues_with_handlers(shops)
        self.queues = able if queues is None else [queue for queue in able if queue in queues]
        self._hears_others = hears_others
        self.when_full: Callable[[], None] | None = None
        # by token; None: being claimed in a change that is not committed yet
        self._tasks: dict[str, tuple[EagerTask, Claimed] | None] = {}
        # tokens of those among them whose claim others have ended
        self._ended: set[str] = set()
        # tokens of those whose failure or wait is being written, which may end the claim by itself
        self._answering: set[str] = set()
        # tokens of those that take up a slot: from being claimed until their result is about to be written
        self._in_slots: set[str] = set()
        self._backlog: set[str] = set(self.queues)
        self._asked_for = 0
        self._is_draining = self._has_stopped = False
        self._freed = asyncio.Event()
        self._asked_to_look: list[asyncio.Future[None]] = []
        self._third_parties = ThirdParties()
        self._rests = Rests()

    def holds(self, token: str) -> bool:
        """Whether the claim with this token is being carried out, or about to be, in this process."""
        return token in self._tasks

    @property
    def has_room(self) -> bool:
        return self._free > 0 and not self._is_draining

    @property
    def _free(self) -> int:
        return self.slots - len(self._in_slots) - self._asked_for

    # claiming in the change that makes a task ready

    def take(self, task: Task) -> tuple[str, str] | None:
        queue = task.queue
        if self._is_draining or queue not in self._ear.queues or queue in self._rests:
            return None
        if queue in self._backlog or queue in self._ear.rang:
            return None  # others wait before it
        if self._free <= 0:
            self._backlog.add(queue)  # whoever comes after it must wait behind it
            return None
        token = f"{self._secret}-{next(self._numbers)}"
        self._tasks[token] = None
        self._in_slots.add(token)
        return self.id, token

    def foresee(self, claimed: Claimed) -> StepDone | None:
        """One that needs more than to write rows, or that fails, begins as any other: there it is told of."""
        shop, task = self.shops[claimed.shop], claimed.task
        step = shop.steps.get(task.kind)
        if step is None or (seconds := self._seconds_for(task, shop.kinds[task.kind])) <= 0:
            return None
        connection = NoConnection()
        before = at_work.set((claimed.operation_id, task.position))
        try:
            context = self._context(claimed, ends_at=self._loop.time() + seconds)
            result = encode(try_without(lambda given: step(given, context), connection))
        except BaseException:  # noqa: BLE001
            return None
        finally:
            at_work.reset(before)
        return StepDone(result, connection.noted) if connection.changed is None else None

    def _context(self, claimed: Claimed, *, ends_at: float) -> LocalContext:
        resources = self.resources.get(claimed.shop)
        return LocalContext(
            self.engine, claimed, ends_at=ends_at, third_parties=self._third_parties, resources=resources
        )

    def begin(self, claimed: Claimed) -> None:
        token = claimed.task.token
        assert token is not None
        if self._has_stopped:
            self.give_back(token)  # nobody is left to do it: handed back with the lease, or rescued after it
            return
        self._tasks[token] = self._eager.start(self._carry_out(claimed), partial(_name_of, claimed)), claimed
        self._in_slots.add(token)

    def give_back(self, token: str) -> None:
        self._tasks.pop(token, None)
        if self._ended:
            self._ended.discard(token)
        if self._answering:
            self._answering.discard(token)
        self._end_look(token)
        self._leave_slot(token)

    def _leave_slot(self, token: str) -> None:
        self._in_slots.discard(token)
        self._freed.set()

    # the loop

    async def run(self) -> None:
        """Claim and carry out until cancelled; then hand back what has not finished."""
        self._loop = asyncio.get_running_loop()
        self._deadlines, self._eager = Deadlines(self._loop), EagerTasks(self._loop)
        ear = self._ear = self.engine.bell.join(Ear(self.queues, hears_others=self._hears_others))
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
            self._has_looked()
            self.engine.bell.leave(ear)
            self.engine.feed.stop_counting(self._hear)
            await self._stop_running()
            await self._third_parties.close()

    async def look(self, queue: str) -> None:
        """There may be work in one of its queues: return when there is no more to claim now, or when it goes on by
        itself, once a slot is free or the database is back. To be called while it runs.

        Without a free slot it returns late: Celery, whose turns among a worker's idle processes may fall on the same
        one each time, then has only others to give the next message to."""
        if self._is_draining:
            return
        self._ear.ring(queue)
        if self._free <= 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._something_frees(), FULL_SECONDS)
            return
        looked: asyncio.Future[None] = self._loop.create_future()
        self._asked_to_look.append(looked)
        await looked

    def _has_looked(self) -> None:
        asked, self._asked_to_look = self._asked_to_look, []
        for looked in asked:
            if not looked.done():
                looked.set_result(None)

    async def _claim_all(self) -> float | None:
        """Claim until the queues are empty; for how long to wait unless the bell rings."""
        while not self._is_draining:
            self._backlog |= self._ear.rang
            self._ear.clear()
            if self._free <= 0:
                self._has_looked()
                await self._something_frees()
                continue
            most = min(self._free, MOST_PER_CLAIM)
            try:
                claims = await self._claim(most)
            except Unavailable as error:
                self._has_looked()
                log.warning("the executor cannot claim; it tries again", error=str(error))
                await asyncio.sleep(error.retry_after.total_seconds())
                continue
            if len(claims.claimed) == most and self._free <= 0 and self.when_full is not None:
                self.when_full()
            if len(claims.claimed) < most and not self._ear.rang:
                self._has_looked()
                self._backlog.clear()
                return claims.next_permit_in
        return None

    async def _claim(self, most: int) -> Claims:
        self._asked_for = most
        try:
            if not self._rests:
                return await self._claim_from(self.queues, most)
            found = await self._claim_for_looks(most)
            most -= sum(len(claims.claimed) for claims in found)
            found.append(await self._claim_from([queue for queue in self.queues if queue not in self._rests], most))
            claimed = [claimed for claims in found for claimed in claims.claimed]
            return Claims(claimed, min((each.next_permit_in for each in found if each.next_permit_in), default=None))
        finally:
            self._asked_for = 0
            self._freed.set()

    async def _claim_from(self, queues: Sequence[str], most: int, *, rest: Rest | None = None) -> Claims:
        """rest: those claims are looks whether it may end."""
        if not queues or not most:
            return Claims([], None)
        claims = await claim_now(self.engine, queues, worker=self.id, most=most, own_lease=True)
        if self._is_draining:
            await hand_back_all(self.engine, claims.claimed)
            return claims
        for claimed in claims.claimed:
            if rest is not None:
                seconds = self._seconds_for(claimed.task, self.shops[claimed.shop].kinds[claimed.task.kind])
                self._rests.begin_look(rest, claimed.task.token or "", gives_up_at=self._loop.time() + seconds)
            self.begin(claimed)
        return claims

    async def _claim_for_looks(self, most: int) -> list[Claims]:
        """For each rest that is over one task; until the next is, there is nothing to claim. Before all others: there
        may be more of those than slots, again and again."""
        found = []
        for rest in self._rests.over(now=self._loop.time(), rang=self._backlog)[:most]:
            if not self._rests.is_on(rest):
                continue  # renewed while one was claimed for another
            claims = await self._claim_from(rest.queues, 1, rest=rest)
            rest.is_empty = not claims.claimed and claims.next_permit_in is None
            found.append(claims)
        return found + [Claims([], seconds) for seconds in self._rests.left(now=self._loop.time())]

    def _end_look(self, token: str, *, is_back: bool = False) -> None:
        for queue in self._rests.end_look(token, is_back=is_back):
            self._ear.ring(queue)

    def _let_rest(self, task: Task, kind: Kind, error: Resting) -> Wait:
        """Each claim of a kind with an allowance is one call; one that was not made gives its permit back. So that all
        that waits is not claimed again and again while nobody may be asked, nothing of it is claimed until then."""
        if error.is_down and kind.asks is not None:
            together = self.engine.resting_together(queue_of(task.queue))
            self._rests.rest(set(together) & set(self.queues), until=self._loop.time() + error.seconds)
        return Wait(error.seconds, was_sent=kind.allowance is None or error.was_sent)

    async def _something_frees(self) -> None:
        self._freed.clear()
        await self._freed.wait()

    async def drain(self, grace: timedelta) -> None:
        """Claim nothing more; wait for what is running, at most so long, and hand the rest back."""
        self._is_draining = True
        self._has_looked()
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
        running = self.begun()
        for token in running:
            self._cancel(token)
        while not running.isdisjoint(self._tasks):
            await self._something_frees()
        return bool(running)

    def _cancel(self, token: str) -> None:
        """It gives back when it has ended; a result on its way to the database is waited for."""
        running = self._tasks[token]
        assert running is not None
        if not running[0].cancel() and not running[0].has_begun:
            if token in self._ended:
                running[0].context.run(_tell_that_it_ended)
            self.give_back(token)

    # claims that others end

    def _hear(self, events: Sequence[Event]) -> None:
        if self._tasks and (ended := ended_by(events)):
            running = [(token, each[1]) for token, each in self._tasks.items() if each is not None]
            self.end(token for token, claimed in running if has_ended(claimed, ended))

    def begun(self) -> set[str]:
        return {token for token, each in self._tasks.items() if each is not None}

    def end(self, tokens: Iterable[str]) -> None:
        """But for those that are being answered: the log tells of that end, too, often before who wrote it goes on.
        Whether it was another's, the write finds out."""
        for token in tokens:
            if self._tasks.get(token) is not None and token not in self._ended and token not in self._answering:
                self._ended.add(token)
                self._end_look(token)
                self._cancel(token)

    # carrying out

    async def _carry_out(self, claimed: Claimed) -> None:
        token = claimed.task.token
        assert token is not None
        place = (claimed.operation_id, claimed.task.position)
        at_work.set(place)
        is_being_stored = False
        try:
            answer = await self._attempt(claimed, token)
            if isinstance(answer, _Result):
                is_being_stored = True  # nothing here waits for it
                answer.store()
            else:
                self._answering.add(token)
                await self._persist(answer)
        except asyncio.CancelledError:
            await self._let_go(claimed, token)
            raise
        except Exception as error:  # noqa: BLE001  it is told there
            _tell_of(error)
        finally:
            if not is_being_stored:
                self.give_back(token)

    async def _let_go(self, claimed: Claimed, token: str) -> None:
        """Of a claim whose attempt was cancelled: hand it back, if it has not ended."""
        if token in self._ended:
            _tell_that_it_ended()
        else:
            await asyncio.shield(self._hand_back(claimed, token))

    async def _hand_back(self, claimed: Claimed, token: str) -> None:
        """Whoever waits for it may be cancelled once more, and then nobody hears that it was in vain."""
        with contextlib.suppress(OrderupError):
            await hand_back_task(self.engine, claimed.operation_id, claimed.task.position, token=token)

    def store(self, result: "_Result") -> None:
        """What this makes ready may take its slot."""
        claimed, token = result.claimed, result.claimed.task.token
        position, stored = claimed.task.position, result.stored
        assert token is not None

        def decide(draft: Draft) -> None:
            work.complete(draft, position, token=token, result=stored, now=self.engine.now(), answer=token)
            self._leave_slot(token)

        self.engine.desk.decide_and_tell(claimed.operation_id, decide, result)

    def not_stored(self, result: "_Result", error: Exception) -> None:
        token = result.claimed.task.token
        assert token is not None
        running = self._tasks.get(token)
        if running is None:
            return
        context = running[0].context  # log lines tell whose they are
        if isinstance(error, Unavailable) and not running[0].is_cancelled:
            again = context.run(self._eager.start, self._store_again(result, error), partial(_name_of, result.claimed))
            self._tasks[token] = again, result.claimed
            return
        if isinstance(error, Unavailable) and token in self._ended:
            context.run(_tell_that_it_ended)  # that it cannot be stored now does not matter any more
        else:
            context.run(_tell_of, error)
        self.give_back(token)

    async def _store_again(self, result: "_Result", error: Unavailable) -> None:
        token = result.claimed.task.token
        assert token is not None
        try:
            await _until_it_may_be_back(error)
        except asyncio.CancelledError:
            try:
                await self._let_go(result.claimed, token)
            finally:
                self.give_back(token)
            raise
        self.store(result)

    async def _attempt(self, claimed: Claimed, token: str) -> "Answer | _Result":
        """Call the handler or run the step; how to store what came of it."""
        task, shop = claimed.task, self.shops[claimed.shop]
        seconds = self._seconds_for(task, shop.kinds[task.kind])
        ends_at = self._loop.time() + seconds
        context = self._context(claimed, ends_at=ends_at)
        deadline = self._deadlines.at(ends_at)
        running = self._tasks[token]
        assert running is not None
        running[0].when_it_waits = deadline.set
        try:
            with deadline:
                step = shop.steps.get(task.kind)
                if step is None:
                    outcome = await shop.handlers[task.kind](context)
                    self._end_look(token, is_back=True)
                    return self._answer(claimed, token, outcome)
                await self._run_step(step, claimed, token, context)
                return _is_stored
        except Resting as error:
            return self._answer(claimed, token, self._let_rest(task, shop.kinds[task.kind], error))
        except TaskFailed as error:
            # one that answers no is there; of others that is not known
            self._end_look(token, is_back=not isinstance(error, UpstreamFailed))
            failed = error
        except StaleToken:
            raise
        except asyncio.CancelledError as error:
            if is_being_cancelled():
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

    def _answer(self, claimed: Claimed, token: str, outcome: Any) -> "Answer | _Result":
        place, asks_to_wait = (claimed.operation_id, claimed.task.position), isinstance(outcome, Wait)
        value = outcome.memo if asks_to_wait else outcome
        try:
            stored = None if value is None else encode(value)
        except TypeError as error:
            what = "memo" if asks_to_wait else "result"
            raise TaskFailed(f"Its {what} cannot be stored as JSON: {error}", final=True) from error
        if asks_to_wait:
            how = {
                "token": token,
                "seconds": outcome.seconds,
                "memo": stored,
                "answer": token,
                "was_sent": outcome.was_sent,
            }
            return partial(let_task_wait, self.engine, *place, **how)
        return _Result(self, claimed, stored)

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
                await _until_it_may_be_back(error)


class _Result:
    """What a handler returned, as JSON, on its way to the database: nothing waits for it but its executor."""

    __slots__ = ("_executor", "claimed", "stored")

    def __init__(self, executor: LocalExecutor, claimed: Claimed, stored: str | None) -> None:
        self._executor, self.claimed, self.stored = executor, claimed, stored

    def store(self) -> None:
        self._executor.store(self)

    def done(self) -> bool:
        return False

    def set_result(self, _value: Any) -> None:
        self._executor.give_back(self.claimed.task.token or "")

    def set_exception(self, error: Exception) -> None:
        self._executor.not_stored(self, error)


async def _until_it_may_be_back(error: Unavailable) -> None:
    log.warning("a result cannot be stored yet; it is tried again", error=str(error))
    await asyncio.sleep(error.retry_after.total_seconds())


def _tell_that_it_ended() -> None:
    log.info("a claim has ended; what carried it out was cancelled")


def _tell_of(error: BaseException) -> None:
    """Of what kept a result from being stored."""
    if isinstance(error, StaleToken | NotFound):
        log.info("a result came too late", reason=str(error))
    else:  # a fault of ours must not end every other task; the claim goes back by itself (upkeep.py)
        log.error("a result could not be stored", exc_info=error)


def _name_of(claimed: Claimed) -> str:
    return f"{claimed.task.name} {show_task_id(claimed.operation_id, claimed.task.position)}"


def queues_with_handlers(shops: Iterable[Shop]) -> list[str]:
    """Names of the queues whose tasks executors do."""
    return [f"{shop.name}/{kind}" for shop in shops for kind in (*shop.handlers, *shop.steps)]


async def _is_stored() -> None:
    """The answer of a step, which was stored with what it wrote."""
