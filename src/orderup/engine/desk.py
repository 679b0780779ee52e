"""Where every change of an operation is decided: state in memory, the gate of the database, one change at a time.

A decision is a function of model/ applied to a draft. While a change of an operation is written, further decisions on
it line up; they are then worked out one after the other and written as one change. What this process knows of an
operation is kept from change to change as long as a task of it is running; the gate makes stale knowledge harmless: a
refused change is worked out again from what the database holds. Nobody is told no on the strength of what is not
written yet: a decision that is *refused* by the model on kept knowledge, or behind others in a change, is worked out
again from what the database holds.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from msgspec.structs import replace

from orderup.db.database import Also, Change, Claimed, Database, GateClosed, Key, KeyTaken, Placing, change_of
from orderup.db.read import find_key
from orderup.errors import KeyMisused, NotFound, Refused, Unavailable
from orderup.model import work
from orderup.model.ids import show_id
from orderup.model.operation import Draft, Operation
from orderup.model.task import Task, TaskStatus, queue_of

T = TypeVar("T")
Decision = Callable[[Draft], T]
MOST_KEPT = 20_000
# An operation with more tasks is not searched for running ones after each change; the oldest kept give way instead.
MANY_TASKS = 64
MOST_TRIES = 50
_PENDING, _RUNNING = TaskStatus.PENDING, TaskStatus.RUNNING  # looked up once


class Replayed(Exception):
    """The Idempotency-Key was used before for the same request, which was about operation `operation_id`."""

    def __init__(self, operation_id: int) -> None:
        self.operation_id = operation_id
        super().__init__(show_id(operation_id))


class Starter(Protocol):
    """An executor that may claim a task in the very change that makes it ready."""

    def take(self, task: Task) -> tuple[str, str] | None:
        """Reserve a slot: the worker and a token to start the task under, or None."""
        ...

    def begin(self, claimed: Claimed) -> None:
        """The change was committed: the task is this executor's."""
        ...

    def give_back(self, token: str) -> None:
        """The change was not committed: free the slot."""
        ...


class LinedUp(Protocol):
    """Who is to know of each committed change of some shops' tasks (lines.py)."""

    @property
    def shops(self) -> Collection[str]: ...

    def note_own(self, operation: Operation, tasks: Iterable[Task]) -> None: ...


class _Wish(Generic[T]):
    """`is_alone`: whether it needs a change of its own."""

    __slots__ = ("also", "decision", "future", "is_alone", "key", "tries")

    def __init__(self, decision: Decision[T], future: asyncio.Future[T], key: Key | None, also: Also | None) -> None:
        self.decision, self.future, self.key, self.also = decision, future, key, also
        self.is_alone = key is not None or also is not None
        self.tries = 0


class Desk:
    """One a process. `announce` is called with the queues of tasks that a committed change released, `make_room` with
    the limited queues (without region) in which one let go of permits."""

    def __init__(
        self,
        database: Database,
        *,
        limited: Callable[[str], bool],
        announce: Callable[[Sequence[str]], None],
        make_room: Callable[[Collection[str]], None],
    ) -> None:
        self.database, self.limited = database, limited
        self.announce, self.make_room = announce, make_room
        self.starter: Starter | None = None
        self.lines: LinedUp | None = None
        self._kept: OrderedDict[int, Operation] = OrderedDict()
        self._lines: dict[int, list[_Wish[Any]]] = {}
        self._to_load: list[int] = []
        self._loading: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def decide(
        self,
        operation_id: int,
        decision: Decision[T],
        *,
        shop: str | None = None,
        key: Key | None = None,
        also: Also | None = None,
        known: Operation | None = None,
    ) -> Awaitable[T]:
        """Work the decision out, write it, return its value. `shop`: an operation of another one is not found.
        `known`: the operation as the caller last saw it, to begin with if nothing of it is kept.

        Raises what the decision raises, NotFound, Unavailable; with a key that was used before, Replayed or KeyMisused.
        """
        if shop is not None:
            decision = _in_shop(shop, decision)
        future: asyncio.Future[T] = self._future()
        wish = _Wish(decision, future, key, also)
        line = self._lines.get(operation_id)
        if line is not None:
            line.append(wish)
        else:
            self._lines[operation_id] = [wish]
            if known is not None:
                self._kept.setdefault(operation_id, known)
            self._go_on(operation_id)
        return future if key is None else self._with_key(future, key)

    def _future(self) -> asyncio.Future[Any]:
        # found out once: to ask which loop is running takes a system call
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop.create_future()

    async def _with_key(self, future: asyncio.Future[T], key: Key) -> T:
        try:
            return await future
        except Refused:
            # it may be refused because the same request was carried out before
            await self._check_key(key)
            raise

    async def _check_key(self, key: Key) -> None:
        """Raises Replayed or KeyMisused if the key was used before."""
        taken = await self.database.read(lambda connection: find_key(connection, key.key))
        if taken is not None:
            raise _answer_to(taken, key)

    async def place(self, draft: Draft, *, key: Key | None = None, also: Also | None = None) -> Operation:
        """Insert the operation of a draft that was placed. Raises as `decide` does."""
        started = self._start_released(draft)
        operation = draft.result()
        future: asyncio.Future[KeyTaken | None] = self._future()
        placing = self.database.place(Placing(operation, draft.events, key, also))
        placing.add_done_callback(partial(self._placed, draft, operation, started, future))
        # whoever placed it may be gone before it is written: it is written, and goes its way, all the same
        taken = await future
        if taken is not None:
            assert key is not None
            raise _answer_to(taken, key)
        return operation

    def _placed(
        self,
        draft: Draft,
        operation: Operation,
        started: Sequence[Claimed],
        future: "asyncio.Future[KeyTaken | None]",
        placed: "asyncio.Future[KeyTaken | None]",
    ) -> None:
        error = Unavailable("The database was closed.") if placed.cancelled() else placed.exception()
        taken = None if error else placed.result()
        if error or taken:
            self._give_back(started)
        else:
            self._set_going(draft, operation, started)
        if future.done():
            return
        if error:
            future.set_exception(error)
        else:
            future.set_result(taken)

    def keep(self, operation: Operation) -> None:
        """Remember an operation as the database has it now, if a task of it may be running in this process."""
        kept = self._kept
        if _is_busy(operation):
            kept[operation.id] = operation
            kept.move_to_end(operation.id)
            if len(kept) > MOST_KEPT:
                kept.popitem(last=False)
        else:
            kept.pop(operation.id, None)

    def note_claims(self, claimed: Sequence[Claimed]) -> None:
        """Claims were written past this desk: bring what is kept up to date, or forget it."""
        for each in claimed:
            operation = self._kept.get(each.operation_id)
            if operation is None:
                continue
            if operation.version != each.version - 1:
                del self._kept[each.operation_id]
                continue
            tasks = list(operation.tasks)
            tasks[each.task.position] = each.task
            started_at = operation.started_at or each.task.started_at
            self._kept[each.operation_id] = replace(
                operation, version=each.version, tasks=tuple(tasks), started_at=started_at
            )

    def forget(self, operation_id: int) -> None:
        """What is kept of it may be wrong."""
        self._kept.pop(operation_id, None)

    # one operation's line

    def _go_on(self, operation_id: int) -> None:
        operation = self._kept.get(operation_id)
        if operation is not None:
            self._work_out(operation, is_fresh=False)
            return
        self._to_load.append(operation_id)
        if self._loading is None:
            self._loading = asyncio.create_task(self._load(), name="desk: load operations")

    async def _load(self) -> None:
        """Load whatever is asked for in one read; more may be asked for meanwhile."""
        try:
            while self._to_load:
                await asyncio.sleep(0)  # let others that are about to ask join this read
                ids, self._to_load = list(dict.fromkeys(self._to_load)), []
                try:
                    found = await self.database.load(ids)
                except Exception as error:  # noqa: BLE001  whatever it is, those who wait are told
                    for operation_id in ids:
                        self._fail_line(operation_id, error)
                    continue
                for operation_id in ids:
                    operation = found.get(operation_id)
                    if operation is None:
                        self._fail_line(operation_id, NotFound("operation", show_id(operation_id)))
                    else:
                        self._work_out(operation, is_fresh=True)
        finally:
            self._loading = None

    def _fail_line(self, operation_id: int, error: Exception) -> None:
        for wish in self._lines.pop(operation_id, ()):
            if not wish.future.done():
                wish.future.set_exception(error)

    def _work_out(self, operation: Operation, *, is_fresh: bool, most: int | None = None) -> None:
        """Work out the first of the line, at most so many, and write what they come to. `is_fresh`: `operation` is what
        the database holds; else it may have been changed by others since."""
        line = self._lines[operation.id]
        draft = Draft(operation)
        done: list[tuple[_Wish[Any], Any]] = []
        while line and len(done) != most and not (done and (line[0].is_alone or done[-1][0].is_alone)):
            wish = line[0]
            try:
                value = wish.decision(draft)
            except Exception as error:  # noqa: BLE001  whoever asked is told, whatever it is
                if not is_fresh:
                    self._reload(operation.id, done)
                    return
                if done:
                    # write those before it first, without what it left in the draft; then it is asked again
                    line[:0] = [each for each, _ in done]
                    self._work_out(operation, is_fresh=True, most=len(done))
                    return
                line.pop(0)
                draft = Draft(operation)
                if not wish.future.done():
                    wish.future.set_exception(error)
                continue
            line.pop(0)
            done.append((wish, value))
        if draft.events:
            self._write(draft, done)
        elif done and not is_fresh:
            self._reload(operation.id, done)  # that nothing is to be done is also not said on kept knowledge
        else:
            self._finish(operation, done)

    def _reload(self, operation_id: int, undone: Sequence[tuple[_Wish[Any], Any]]) -> None:
        """Work the line out again from the database, what was already worked out first."""
        self._kept.pop(operation_id, None)
        self._lines[operation_id][:0] = [wish for wish, _ in undone]
        self._go_on(operation_id)

    def _write(self, draft: Draft, done: list[tuple[_Wish[Any], Any]]) -> None:
        started = self._start_released(draft)
        wish = done[0][0]
        change = change_of(draft, limited=self.limited, key=wish.key, also=wish.also)
        writing = self.database.change(change)
        writing.add_done_callback(partial(self._landed, change, draft, done, started))

    def _start_released(self, draft: Draft) -> list[Claimed]:
        """Tasks that this change makes ready and that an executor here has room for are claimed in it."""
        starter = self.starter
        if starter is None or not draft.released or draft.status.is_final:
            return []
        now = draft.events[-1].at  # one change is of one moment
        positions: Iterable[int] = draft.released
        if len(draft.released) > 1:
            # a task may be released, paused and released again in one change
            positions = sorted(set(positions), key=lambda position: (draft.task(position).priority, position))
        started = []
        for task in map(draft.task, positions):
            if task.status is not _PENDING or self.limited(task.queue):
                continue
            taken = starter.take(task)
            if taken is None:
                continue
            worker, token = taken
            mine = work.start(draft, task.position, worker=worker, token=token, now=now)
            inputs = {earlier.name: earlier.result for earlier in map(draft.task, task.after)}
            started.append(Claimed(draft.base.id, draft.base.shop, draft.version, mine, inputs))
        return started

    def _landed(
        self,
        change: Change,
        draft: Draft,
        done: list[tuple[_Wish[Any], Any]],
        started: Sequence[Claimed],
        written: "asyncio.Future[Any]",
    ) -> None:
        error = written.exception() if not written.cancelled() else Unavailable("The database was closed.")
        outcome = None if error else written.result()
        if error is None and outcome is None:
            self._set_going(draft, change.after, started)
            self.announce_permits(change)
            self._finish(change.after, done)
            return
        self._give_back(started)
        if isinstance(outcome, KeyTaken):
            self._answer_again(change.before, done[0][0], outcome)
        elif isinstance(outcome, GateClosed) and done[0][0].tries < MOST_TRIES:
            for wish, _ in done:
                wish.tries += 1
            self._reload(change.before.id, done)
        elif error is not None and not isinstance(error, Unavailable) and len(done) > 1:
            # the database could not take what one of them brought: each by itself, so that only that one is refused
            for wish, _ in done:
                wish.is_alone = True
            self._reload(change.before.id, done)
        else:
            self._refuse(change.before.id, done, error or Unavailable("The operation is being changed by too many."))

    def _give_back(self, started: Sequence[Claimed]) -> None:
        for claimed in started:
            assert self.starter is not None
            assert claimed.task.token is not None
            self.starter.give_back(claimed.task.token)

    def _set_going(self, draft: Draft, operation: Operation, started: Sequence[Claimed]) -> None:
        """The change was committed: hand its claims over, and tell others of the tasks that are left."""
        for claimed in started:
            assert self.starter is not None
            self.starter.begin(claimed)
        if self.lines is not None and operation.shop in self.lines.shops:
            self.lines.note_own(operation, [operation.tasks[position] for position in draft.changed])
        if len(draft.released) > len(started):
            left = [draft.task(position) for position in draft.released]
            self.announce([task.queue for task in left if task.status is _PENDING])
        self.keep(operation)

    def announce_permits(self, change: Change) -> None:
        """A committed change made room in limited queues: whoever waits for that may look again."""
        if change.freed or change.refunded:
            tasks = change.after.tasks
            self.make_room({queue_of(tasks[position].queue) for position in (*change.freed, *change.refunded)})

    def _finish(self, operation: Operation, done: Sequence[tuple[_Wish[Any], Any]]) -> None:
        for wish, value in done:
            if not wish.future.done():
                wish.future.set_result(value)
        if self._lines[operation.id]:
            self._go_on(operation.id)
        else:
            del self._lines[operation.id]

    def _answer_again(self, operation: Operation, wish: _Wish[Any], taken: KeyTaken) -> None:
        assert wish.key is not None
        if not wish.future.done():
            wish.future.set_exception(_answer_to(taken, wish.key))
        self._finish(operation, ())

    def _refuse(self, operation_id: int, done: Sequence[tuple[_Wish[Any], Any]], error: BaseException) -> None:
        self._kept.pop(operation_id, None)
        for wish, _ in done:
            if not wish.future.done():
                wish.future.set_exception(error)
        if self._lines[operation_id]:
            self._go_on(operation_id)
        else:
            del self._lines[operation_id]


def _is_busy(operation: Operation) -> bool:
    if operation.status.is_final or not operation.moving:
        return False
    if len(operation.tasks) > MANY_TASKS:
        return True
    for task in operation.tasks:  # noqa: SIM110  a generator for any() takes twice as long
        if task.status is _RUNNING:
            return True
    return False


def _answer_to(taken: KeyTaken, key: Key) -> Replayed | KeyMisused:
    """What a request is told whose key was used before."""
    return Replayed(taken.operation_id) if taken.fingerprint == key.fingerprint else KeyMisused()


def _in_shop(shop: str, decision: Decision[T]) -> Decision[T]:
    def decide(draft: Draft) -> T:
        if draft.base.shop != shop:
            raise NotFound("operation", show_id(draft.base.id))
        return decision(draft)

    return decide
