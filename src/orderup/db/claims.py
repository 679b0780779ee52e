"""Claiming on SQLite: the first tasks of some queues, as far as their limits let them through.

One transaction, held by the caller: read the heads of the queues, mark them running under tokens, tell it in the log.
Claims are first come, first served within a priority; a queue that is paused or at its limit holds up no other.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from msgspec.structs import replace

from orderup.db.database import Ask, Claimed, Claims
from orderup.db.permits import CALLING, OVER, Room, held_while_running, host_clock, window_of
from orderup.db.recent import EventWriter
from orderup.db.rows import TASK_COLUMNS, read_task
from orderup.model.event import FOR_CUSTOMERS, FOR_STAFF, Event
from orderup.model.kind import Kind, Rate
from orderup.model.task import Task, TaskStatus, queue_of

_TASK = ", ".join(f't."{column}"' for column in TASK_COLUMNS)
HEADS = f"""
select {_TASK}, o.shop, o.version from tasks t join operations o on o.id = t.operation_id
where t.queue = ? and t.status = 'pending' order by t.priority, t.ready_at, t.operation_id limit ?
"""
HELD_BY_REQUEST = f"""
select {_TASK}, o.shop, o.version from tasks t join operations o on o.id = t.operation_id
where t.worker = ? and t.lease_until is not null and t.request = ? and t.status = 'running'
"""
START = """
update tasks set status = 'running', attempt = ?, token = ?, worker = ?, lease_until = ?, due_at = null,
 started_at = ?, request = ?, claim_lease_us = ? where operation_id = ? and position = ?
"""
RAISE_VERSION = "update operations set version = version + 1, started_at = coalesce(started_at, ?) where id = ?"
# What counts of some queues: calls under way, and what was taken since a moment.
COUNTING = f"""
select count(*) from permits where queue in ({{}}) and (held = {CALLING} or taken_at > ?)
"""
# When the one was taken, of those that only time takes away, that has to go before there is room.
OLDEST = f"""
select taken_at from permits where queue in ({{}}) and held <> {CALLING} and taken_at > ?
order by taken_at limit 1 offset ?
"""
INPUTS = "select name, result from tasks where operation_id = ? and position in ({})"


class SqliteClaims:
    def __init__(self, driver: sqlite3.Connection, events: EventWriter) -> None:
        self.driver, self.events = driver, events

    def claim(self, ask: Ask) -> Claims:
        if ask.request is not None and (again := self._same_request(ask)):
            return Claims(again)
        if ask.limits:
            ask = ask.at_last()
        room = self._room(ask)
        rows = self._heads(ask, room)
        claimed = [self._start(row, ask) for row in rows]
        self._write(claimed, ask)
        return Claims(claimed, room.next_permit_in(claimed))

    def _same_request(self, ask: Ask) -> list[Claimed]:
        """The same request within a lease gets the same tasks: its first answer may have been lost on the way."""
        rows = self.driver.execute(HELD_BY_REQUEST, (ask.worker, ask.request)).fetchall()
        return [
            Claimed(row[0], row[-2], row[-1], task := read_task(row[:-2]), self._inputs(row[0], task)) for row in rows
        ]

    def _heads(self, ask: Ask, room: Room) -> list[Sequence[Any]]:
        rows: list[Sequence[Any]] = []
        for name in ask.queues:
            most = min(ask.most, room.most(name, ask.most))
            if most > 0:
                rows += self.driver.execute(HEADS, (name, most)).fetchall()
        if len(ask.queues) == 1:
            return rows
        rows.sort(key=_line)
        return _within(rows, room, ask.most)

    def _room(self, ask: Ask) -> Room:
        """What limits and pauses leave now."""
        room = Room.of(ask)
        allowed, more_in = room.allowed, room.more_in
        for name, is_paused, paused_until in self.driver.execute("select name, is_paused, paused_until from queues"):
            if is_paused or (paused_until or 0) > ask.now:
                allowed[name] = 0
                if not is_paused:
                    more_in[name] = (paused_until - ask.now) / 1e6
        for name, kind in ask.limits.items():
            if name not in allowed and kind.allowance is None:
                allowed[name], wait = self._permits(name, kind)
                if wait is not None:
                    more_in[name] = wait
        for name, shared in ask.shared.items():
            allowed[name], more_in[name] = self._window(sorted(shared.queues), shared.rate, is_shared=True)
        return room

    def _permits(self, queue: str, kind: Kind) -> tuple[int, float | None]:
        free, wait = 1 << 30, None
        if kind.rate is not None:
            free, wait = self._window([queue], kind.rate, is_shared=False)
        else:
            self.driver.execute("delete from permits where queue = ? and held = ?", (queue, OVER))
        if kind.concurrency is not None:
            held = self.driver.execute(
                "select count(*) from permits where queue = ? and held = 1", (queue,)
            ).fetchone()[0]
            if kind.concurrency - held < free:
                free, wait = kind.concurrency - held, None  # whoever ends one rings
        return max(free, 0), wait

    def _window(self, queues: Sequence[str], rate: Rate, *, is_shared: bool) -> tuple[int, float]:
        """How many these queues let through together, and in how many seconds more than that."""
        now, length = host_clock(), window_of(rate.period, is_shared=is_shared)
        for queue in queues:
            # after a reboot the host's clock starts anew: what lies in its future is from before, and counts from now
            self.driver.execute("update permits set taken_at = ? where queue = ? and taken_at > ?", (now, queue, now))
            over = (queue, OVER, now - length)
            self.driver.execute("delete from permits where queue = ? and held = ? and taken_at <= ?", over)
        marks = ", ".join("?" * len(queues))
        taken = self.driver.execute(COUNTING.format(marks), (*queues, now - length)).fetchone()[0]
        skipped = max(0, taken - rate.count)
        oldest = self.driver.execute(OLDEST.format(marks), (*queues, now - length, skipped)).fetchone()
        return max(0, rate.count - taken), (length if oldest is None else oldest[0] + length - now) / 1e6

    def _start(self, row: Sequence[Any], ask: Ask) -> Claimed:
        task = read_task(row[:-2])
        lease_us = ask.lease_us or task.lease_us
        started = replace(
            task,
            status=TaskStatus.RUNNING,
            attempt=task.attempt + 1,
            token=uuid4().hex,
            worker=ask.worker,
            lease_until=None if ask.own_lease else ask.now + lease_us,
            due_at=None,
            started_at=ask.now,
            request=ask.request,
        )
        return Claimed(row[0], row[-2], row[-1], started, self._inputs(row[0], started))

    def _inputs(self, operation_id: int, task: Task) -> dict[str, str | None]:
        if not task.after:
            return {}
        marks = ", ".join("?" * len(task.after))
        return dict(self.driver.execute(INPUTS.format(marks), (operation_id, *task.after)).fetchall())

    def _write(self, claimed: list[Claimed], ask: Ask) -> None:
        if not claimed:
            return
        versions: dict[int, int] = {}
        events: list[Event] = []
        for index, each in enumerate(claimed):
            version = versions[each.operation_id] = versions.get(each.operation_id, each.version) + 1
            claimed[index] = replace(each, version=version)
            events.append(started_event(each, version, ask.now))
        self.driver.executemany(START, [_start_row(each, ask) for each in claimed])
        self.driver.executemany(RAISE_VERSION, [(ask.now, each.operation_id) for each in claimed])
        self.events.insert(events)
        permits = [
            (name, host_clock(), each.operation_id, each.task.position, held_while_running(ask, name))
            for each in claimed
            if (name := queue_of(each.task.queue)) in ask.limits
        ]
        if permits:
            self.driver.executemany("insert into permits values (?, ?, ?, ?, ?)", permits)


def started_event(claimed: Claimed, n: int, now: int) -> Event:
    """The event `task.started`, as `Draft.tell` would make it."""
    task = claimed.task
    message = task.says or ""
    audience = FOR_CUSTOMERS if message else FOR_STAFF
    place = (task.position, task.name, str(TaskStatus.RUNNING))
    return Event(claimed.operation_id, n, now, "task.started", claimed.shop, *place, message, audience)


def _start_row(claimed: Claimed, ask: Ask) -> tuple[Any, ...]:
    task = claimed.task
    claim = (task.attempt, task.token, task.worker, task.lease_until, task.started_at, task.request, ask.lease_us)
    return (*claim, claimed.operation_id, task.position)


_PRIORITY, _READY_AT, _QUEUE = (TASK_COLUMNS.index(name) for name in ("priority", "ready_at", "queue"))


def _line(row: Sequence[Any]) -> tuple[int, int, int]:
    return row[_PRIORITY], row[_READY_AT], row[0]


def _within(rows: Sequence[Sequence[Any]], room: Room, most: int) -> list[Sequence[Any]]:
    """The first `most` rows, none beyond what its queue (all its regions together) and its allowance let through."""
    left = dict(room.allowed)
    taken: list[Sequence[Any]] = []
    for row in rows:
        if len(taken) == most:
            break
        limits = list(room.limits(row[_QUEUE]))
        if all(left[name] > 0 for name in limits):
            taken.append(row)
            for name in limits:
                left[name] -= 1
    return taken
