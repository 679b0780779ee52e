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
from orderup.db.permits import MARGIN_US, host_clock, next_permit_in
from orderup.db.recent import EventWriter
from orderup.db.rows import TASK_COLUMNS, read_task
from orderup.model.event import FOR_CUSTOMERS, FOR_STAFF, Event
from orderup.model.kind import Kind
from orderup.model.task import Task, TaskStatus, queue_of
from orderup.model.times import as_micros

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
INPUTS = "select name, result from tasks where operation_id = ? and position in ({})"


class SqliteClaims:
    def __init__(self, driver: sqlite3.Connection, events: EventWriter) -> None:
        self.driver, self.events = driver, events

    def claim(self, ask: Ask) -> Claims:
        if ask.request is not None and (again := self._same_request(ask)):
            return Claims(again)
        if ask.limits:
            ask = ask.at_last()
        allowed, more_in = self._allowed(ask)
        rows = self._heads(ask, allowed)
        claimed = [self._start(row, ask) for row in rows]
        self._write(claimed, ask)
        return Claims(claimed, next_permit_in(claimed, allowed=allowed, more_in=more_in))

    def _same_request(self, ask: Ask) -> list[Claimed]:
        """The same request within a lease gets the same tasks: its first answer may have been lost on the way."""
        rows = self.driver.execute(HELD_BY_REQUEST, (ask.worker, ask.request)).fetchall()
        return [
            Claimed(row[0], row[-2], row[-1], task := read_task(row[:-2]), self._inputs(row[0], task)) for row in rows
        ]

    def _heads(self, ask: Ask, allowed: dict[str, int]) -> list[Sequence[Any]]:
        rows: list[Sequence[Any]] = []
        for name in ask.queues:
            most = min(ask.most, allowed.get(queue_of(name), ask.most))
            if most > 0:
                rows += self.driver.execute(HEADS, (name, most)).fetchall()
        if len(ask.queues) == 1:
            return rows
        rows.sort(key=_line)
        return _within(rows, allowed, ask.most)

    def _allowed(self, ask: Ask) -> tuple[dict[str, int], dict[str, float]]:
        """How many each limited or paused queue lets through now; and in how many seconds it lets more through once
        those are used up, where only time can do that."""
        allowed: dict[str, int] = {}
        more_in: dict[str, float] = {}
        for name, is_paused, paused_until in self.driver.execute("select name, is_paused, paused_until from queues"):
            if is_paused or (paused_until or 0) > ask.now:
                allowed[name] = 0
                if not is_paused:
                    more_in[name] = (paused_until - ask.now) / 1e6
        for name, kind in ask.limits.items():
            if name not in allowed:
                allowed[name], wait = self._permits(name, kind)
                if wait is not None:
                    more_in[name] = wait
        return allowed, more_in

    def _permits(self, queue: str, kind: Kind) -> tuple[int, float | None]:
        now, free, wait = host_clock(), 1 << 30, None
        window = as_micros(kind.rate.period) + MARGIN_US if kind.rate else 0
        # after a reboot the host's clock starts anew: what lies in its future is from before, and counts from now on
        self.driver.execute("update permits set taken_at = ? where queue = ? and taken_at > ?", (now, queue, now))
        self.driver.execute("delete from permits where queue = ? and held = 0 and taken_at <= ?", (queue, now - window))
        if kind.rate:
            taken = [
                at
                for (at,) in self.driver.execute(
                    "select taken_at from permits where queue = ? and taken_at > ? order by taken_at",
                    (queue, now - window),
                )
            ]
            free = kind.rate.count - len(taken)
            oldest = taken[max(0, len(taken) - kind.rate.count)] if taken else now
            wait = (oldest + window - now) / 1e6
        if kind.concurrency is not None:
            held = self.driver.execute(
                "select count(*) from permits where queue = ? and held = 1", (queue,)
            ).fetchone()[0]
            if kind.concurrency - held < free:
                free, wait = kind.concurrency - held, None  # whoever ends one rings
        return max(free, 0), wait

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
            (queue_of(each.task.queue), host_clock(), each.operation_id, each.task.position)
            for each in claimed
            if queue_of(each.task.queue) in ask.limits
        ]
        if permits:
            self.driver.executemany("insert into permits values (?, ?, ?, ?, 1)", permits)


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


def _within(rows: Sequence[Sequence[Any]], allowed: dict[str, int], most: int) -> list[Sequence[Any]]:
    """The first `most` rows, none beyond what its queue (all its regions together) lets through."""
    left = dict(allowed)
    taken: list[Sequence[Any]] = []
    for row in rows:
        name = queue_of(row[_QUEUE])
        if len(taken) == most:
            break
        if left.get(name, 1) > 0:
            taken.append(row)
            if name in left:
                left[name] -= 1
    return taken
