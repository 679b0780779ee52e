"""Where every change of an operation is decided: state in memory, the gate of the database, one change at a time.

A decision is a function of model/ applied to a draft. While a change of an operation is written, further decisions on
it line up; they are then worked out one after the other and written as one change. What this process knows of an
operation is kept from change to change as long as a task of it is running; the gate makes stale knowledge harmless: a
refused change is worked out again from what the database holds. Nobody is told no on the strength of what is not
written yet: a decision that is *refused* by the model on kept knowledge, or behind others in a change, is worked out
again from what the database holds.

A step that an executor here starts in the change that makes it ready is also done in it, if it only writes rows.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from msgspec.structs import replace

from orderup.db.database import (
    Also,
    Change,
    Claimed,
    Database,
    GateClosed,
    Key,
    KeyTaken,
    Placing,
    ShopRow,
    change_of,
)
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
# Of such operations, so many tasks are kept altogether; that is some 40 MB.
MOST_TASKS_KEPT = 50_000
MOST_TRIES = 50
_PENDING, _RUNNING = TaskStatus.PENDING, TaskStatus.RUNNING  # looked up once


class Replayed(Exception):
    """The Idempotency-Key was used before for the same request, which was about operation `operation_id`."""

    def __init__(self, operation_id: int) -> None:
        self.operation_id = operation_id
        super().__init__(show_id(operation_id))


class StepDone(NamedTuple):
    """What a step comes to. result: JSON."""

    result: str | None
    rows: Sequence[ShopRow]


class Starter(Protocol):
    """An executor that may claim a task in the very change that makes it ready."""

    def take(self, task: Task) -> tuple[str, str] | None:
        """Reserve a slot: the worker and a token to start the task under, or None."""
        ...

    def foresee(self, claimed: Claimed) -> StepDone | None:
        """What a step comes to that is being claimed. None: it is no step, or is to begin once that is committed."""
        ...

    def begin(self, claimed: Claimed) -> None:
        """The change was committed: the task is this executor's."""
        ...

    def give_back(self, token: str) -> None:
        """The change was not committed, or nothing is left to do: free the slot."""
        ...


class LinedUp(Protocol):
    """Who is to know of each committed change of some shops' tasks (lines.py)."""

    @property
    def shops(self) -> Collection[str]: ...

    def note_own(self, operation: Operation, tasks: Iterable[Task], *, before: int) -> None: ...


class Told(Protocol):
    """Is told once what came of a decision: a future, or whoever needs none. Must not raise."""

    def done(self) -> bool:
        """Whether nobody wants to know any more."""
        ...

    def set_result(self, value: Any, /) -> None: ...
    def set_exception(self, error: Any, /) -> None: ...


class _Wish(Generic[T]):
    """`is_alone`: whether it needs a change of its own."""

    __slots__ = ("also", "decision", "is_alone", "key", "told", "tries")

    def __init__(self, decision: Decision[T], told: Told, key: Key | None, also: Also | None) -> None:
        self.decision, self.told, self.key, self.also = decision, told, key, also
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
        # of those with many tasks, how many; some may be kept no more
        self._large: OrderedDict[int, int] = OrderedDict()
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
        self._line_up(operation_id, _Wish(decision, future, key, also), known=known)
        return future if key is None else self._with_key(future, key)

    def decide_and_tell(self, operation_id: int, decision: Decision[Any], told: Told) -> None:
        """As `decide`, for the many who do not await it: to a future's callbacks the loop has to come by once more."""
        self._line_up(operation_id, _Wish(decision, told, None, None))

    def _line_up(self, operation_id: int, wish: _Wish[Any], *, known: Operation | None = None) -> None:
        line = self._lines.get(operation_id)
        if line is not None:
            line.append(wish)
            return
        self._lines[operation_id] = [wish]
        if known is not None:
            self._kept.setdefault(operation_id, known)
        self._go_on(operation_id)

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
        started = self._start_released(draft, None)
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
            if started:
                self.keep(operation)
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
            if len(operation.tasks) > MANY_TASKS:
                self._make_room_beside(operation)
        else:
            kept.pop(operation.id, None)
            if self._large:
                self._large.pop(operation.id, None)

    def _make_room_beside(self, operation: Operation) -> None:
        """A thousand campaigns of a thousand ads each would be a gigabyte."""
        large = self._large
        large[operation.id] = len(operation.tasks)
        large.move_to_end(operation.id)
        while len(large) > 1 and sum(large.values()) > MOST_TASKS_KEPT:
            self._kept.pop(large.popitem(last=False)[0], None)

    @property
    def tasks_kept(self) -> int:
        return sum(len(operation.tasks) for operation in self._kept.values())

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

    def known(self, operation_id: int) -> Operation | None:
        """As this process last saw it, if it is kept."""
        return self._kept.get(operation_id)

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
            if not wish.told.done():
                wish.told.set_exception(error)

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
                if not wish.told.done():
                    wish.told.set_exception(error)
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
        wish = done[0][0]
        rows: list[ShopRow] | None = None if wish.is_alone else []
        started = self._start_released(draft, rows)
        change = change_of(draft, limited=self.limited, key=wish.key, also=wish.also)
        if rows:
            change = replace(change, rows=rows)
        writing = self.database.change(change)
        writing.add_done_callback(partial(self._landed, change, draft, done, started))

    def _start_released(self, draft: Draft, rows: list[ShopRow] | None) -> list[Claimed]:
        """Tasks that this change makes ready and that an executor here has room for are claimed in it. A step among
        them is done in it, too, and its rows put to `rows`; None: none is. One that writes comes alone: another one
        may build on what it has written, and where all is one statement would not see it."""
        starter = self.starter
        if starter is None or not draft.released:
            return []
        now = draft.events[-1].at  # one change is of one moment
        started: list[Claimed] = []
        looked_at = 0
        while looked_at < len(draft.released) and not draft.status.is_final:
            released, looked_at = draft.released[looked_at:], len(draft.released)
            for task in _in_order(draft, released):
                if task.status is not _PENDING or self.limited(task.queue):
                    continue
                taken = starter.take(task)
                if taken is None:
                    continue
                worker, token = taken
                mine = work.start(draft, task.position, worker=worker, token=token, now=now)
                inputs = {earlier.name: earlier.result for earlier in map(draft.task, task.after)}
                claimed = Claimed(draft.base.id, draft.base.shop, draft.version, mine, inputs)
                step = starter.foresee(claimed) if rows is not None and not rows else None
                if step is None or rows is None:
                    started.append(claimed)
                    continue
                starter.give_back(token)
                rows += step.rows
                work.complete(draft, task.position, token=token, result=step.result, now=now)
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
            self.keep(change.after)
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
        elif error is not None and not isinstance(error, Unavailable) and (len(done) > 1 or change.rows):
            # the database could not take what one of them brought, or a step: each by itself, so that only that one is
            # refused
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
            changed = [operation.tasks[position] for position in draft.changed]
            self.lines.note_own(operation, changed, before=draft.base.version)
        if len(draft.released) > len(started):
            left = [draft.task(position) for position in draft.released]
            self.announce([task.queue for task in left if task.status is _PENDING])

    def announce_permits(self, change: Change) -> None:
        """A committed change made room in limited queues: whoever waits for that may look again."""
        if change.freed or change.refunded:
            tasks = change.after.tasks
            self.make_room({queue_of(tasks[position].queue) for position in (*change.freed, *change.refunded)})

    def _finish(self, operation: Operation, done: Sequence[tuple[_Wish[Any], Any]]) -> None:
        for wish, value in done:
            if not wish.told.done():
                wish.told.set_result(value)
        if self._lines[operation.id]:
            self._go_on(operation.id)
        else:
            del self._lines[operation.id]

    def _answer_again(self, operation: Operation, wish: _Wish[Any], taken: KeyTaken) -> None:
        assert wish.key is not None
        if not wish.told.done():
            wish.told.set_exception(_answer_to(taken, wish.key))
        self._finish(operation, ())

    def _refuse(self, operation_id: int, done: Sequence[tuple[_Wish[Any], Any]], error: BaseException) -> None:
        self._kept.pop(operation_id, None)
        for wish, _ in done:
            if not wish.told.done():
                wish.told.set_exception(error)
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


def _in_order(draft: Draft, positions: Sequence[int]) -> Iterable[Task]:
    """As they are to be claimed. A task may be released, paused and released again in one change."""
    if len(positions) == 1:
        return (draft.task(positions[0]),)
    return sorted(map(draft.task, set(positions)), key=lambda task: (task.priority, task.position))


def _in_shop(shop: str, decision: Decision[T]) -> Decision[T]:
    def decide(draft: Draft) -> T:
        if draft.base.shop != shop:
            raise NotFound("operation", show_id(draft.base.id))
        return decision(draft)

    return decide
