"""Claiming on PostgreSQL: one statement reads the heads of the queues, locks their operations, starts the tasks.

The operation is what is locked, as by every change, and never waited for: one that somebody is changing just now is
passed over. So is one that was changed since the statement began to look, so that all that is read here is of one
moment. A claimer that passed something over is told to come back soon, for nobody else might.

Limits are exact across processes: whoever claims from limited queues holds a lock for each limit until the commit,
counts the permits by the database's clock, and inserts his own.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple
from uuid import uuid4

from orderup.db.database import Ask, Claimed, Claims
from orderup.db.permits import CALLING, NOW, OVER, RUNNING, Room, held_while_running, window_of
from orderup.db.postgres_batch import CHANNEL, quoted
from orderup.db.postgres_link import (
    DRIVER_ERRORS,
    PLANNED_ONCE,
    Link,
    Links,
    Session,
    end_backend,
    is_conflict,
    is_lost,
    translate,
)
from orderup.db.rows import EVENT_COLUMNS, TASK_COLUMNS, read_task
from orderup.model.event import Audience
from orderup.model.kind import Rate
from orderup.model.task import queue_of

CONNECTIONS = 2
# Heads of the queues looked at beyond those asked for, in the place of those that others are just taking.
SPARE = 32
# When to come back for what was passed over.
SOON_SECONDS = 0.01
NO_LIMIT = 1_000_000

_ORDER = "priority, ready_at, operation_id, position"
_INPUTS = """
 left join lateral (
  select array_agg(i.name) as names, array_agg(i.result) as results from tasks i
  where i.operation_id = t.operation_id and i.position = any(string_to_array(t.after, ',')::integer[])
 ) x on true"""


def _claim_statement(*, with_shared: bool) -> str:
    """with_shared: a queue may share an allowance, $13 by name (its own where it shares none), $14 how many this lets
    through, and a part of one, $16 by name, in the place of limits of its own; $15 is what `held` is of permits."""
    given, names = "$1::text[], $2::text[], $3::integer[]", "name, base, most"
    held, bases, within = str(RUNNING), "unnest($10::text[]) as b(base)", ""
    own, more, rank = "q.base", "", ""
    if with_shared:
        given, names = f"{given}, $13::text[], $14::integer[], $16::text[]", f"{names}, shared, shared_most, part"
        own, more = "q.part", ", q.shared, q.shared_most"
        rank = ", row_number() over (partition by x.shared order by x.priority, x.ready_at, x.operation_id) as j"
        within = "where j <= shared_most"
        held, bases = "b.held", "unnest($10::text[], $15::integer[]) as b(base, held)"
    return f"""
with q as (
 select q.* from unnest({given}) as q({names})
 where not exists (
  select from queues p where p.name = q.base and (p.is_paused = 1 or p.paused_until > $5::bigint))
), h as materialized (
 select * from (
  select x.*{rank} from (
   select x.*, q.most{more},
    row_number() over (partition by {own} order by x.priority, x.ready_at, x.operation_id) as i
   from q cross join lateral (
    select t.operation_id, t.position, t.priority, t.ready_at from tasks t
    where t.queue = q.name and t.status = 'pending'
    order by t.priority, t.ready_at, t.operation_id limit least(q.most, $4::integer + {SPARE})
   ) x
  ) x where i <= most
 ) x {within} order by {_ORDER} limit $4::integer + {SPARE}
), c as materialized (
 select h.operation_id, h.position, h.priority, h.ready_at, o.shop, o.version
 from h join operations v on v.id = h.operation_id
 join operations o on o.id = h.operation_id and o.version = v.version
 order by {", ".join(f"h.{column}" for column in _ORDER.split(", "))} limit $4::integer for update of o skip locked
), n as (
 select *, row_number() over (order by {_ORDER}) as place,
  row_number() over (partition by operation_id order by {_ORDER})::integer as step from c
), o as (
 update operations o set version = o.version + n.most, started_at = coalesce(o.started_at, $5)
 from (select operation_id, max(step) as most from n group by operation_id) n
 where o.id = n.operation_id
), t as (
 update tasks t set status = 'running', attempt = t.attempt + 1, token = $6::text || '-' || n.place, worker = $7::text,
  lease_until = case when $8::boolean then null else $5 + coalesce($12::bigint, t.lease_us) end,
  due_at = null, started_at = $5, request = $9::text, claim_lease_us = $12::bigint
 from n where t.operation_id = n.operation_id and t.position = n.position
 returning {quoted(TASK_COLUMNS, of="t")}, n.place, n.shop, n.version + n.step as version
), e as (
 insert into events ({quoted(EVENT_COLUMNS)})
 select t.operation_id, t.version, $5, 'task.started', t.shop, t.position, t.name, 'running',
  coalesce(t.says, ''), case when t.says <> '' then {Audience.CUSTOMER:d} else {Audience.STAFF:d} end
 from t order by t.place
), p as (
 insert into permits select b.base, {NOW}, t.operation_id, t.position, {held}
 from t join {bases} on b.base = split_part(t.queue, '@', 1)
)
select (select count(*) from h) as seen,
 (select min(p.paused_until) from queues p
  where p.name = any($2::text[]) and p.is_paused = 0 and p.paused_until > $5) as paused_until,
 case when $11::text is not null and t.place is not null then pg_notify('{CHANNEL}', $11)::text end,
 t.operation_id, t.shop, t.version, t.names, t.results, {quoted(TASK_COLUMNS, of="t")}
from (values (1)) as one left join (
 select t.*, x.names, x.results from t{_INPUTS}
) t on true
order by t.place
"""


CLAIM, CLAIM_SHARED = _claim_statement(with_shared=False), _claim_statement(with_shared=True)
_CLAIMED = f"""
select t.operation_id, o.shop, o.version, x.names, x.results, {quoted(TASK_COLUMNS, of="t")}
from tasks t join operations o on o.id = t.operation_id{_INPUTS}"""
HELD_BY_REQUEST = f"""{_CLAIMED}
where t.worker = $1::text and t.lease_until is not null and t.request = $2::text and t.status = 'running'
order by {", ".join(f"t.{column}" for column in _ORDER.split(", "))}"""
# what a claim took whose answer was lost: it is told near the end of the log
TAKEN = f"""
with e as materialized (
 select operation_id, task from events
 where seq > (select coalesce(max(seq), 0) from events) - 100000 and type = 'task.started' and at >= $1::bigint
){_CLAIMED} join e on e.operation_id = t.operation_id and e.task = t.position
where t.status = 'running' and t.token like $2::text"""

# Of windows, each of some queues that are limited together ($1, joined by commas): how long it is ($2), and how many
# there may be in it ($3). A clock that was set back finds permits in its future: they count from now on, for one window
# more.
WINDOWS = f"""
with n as materialized (select {NOW} as at
), w as materialized (
 select w.place, string_to_array(w.queues, ',') as queues, w.length, w.most
 from unnest($1::text[], $2::bigint[], $3::bigint[]) with ordinality as w(queues, length, most, place)
), d as (
 delete from permits p using n, w where p.queue = any(w.queues) and p.held = {OVER} and p.taken_at <= n.at - w.length
), f as (
 update permits p set taken_at = n.at - l.i
 from n, (select p.queue, p.taken_at, p.operation_id, p.position, row_number() over (order by p.taken_at desc) as i
          from permits p, n where p.queue in (select unnest(w.queues) from w) and p.taken_at > n.at + 1000000) l
 where p.queue = l.queue and p.taken_at = l.taken_at and p.operation_id = l.operation_id and p.position = l.position
)
select n.at, c.taken, (select count(*) from permits p where p.queue = any(w.queues) and p.held = {RUNNING}) as held,
 (select p.taken_at from permits p
  where p.queue = any(w.queues) and p.held <> {CALLING} and p.taken_at > n.at - w.length
  order by p.taken_at offset greatest(0, c.taken - w.most) limit 1) as next
from n cross join w cross join lateral (
 select count(*) as taken from permits p
 where p.queue = any(w.queues) and (p.held = {CALLING} or p.taken_at > n.at - w.length)
) c order by w.place"""


def read_claimed(row: Sequence[Any]) -> Claimed:
    """`row`: operation, shop, version, names and results of the inputs, TASK_COLUMNS."""
    operation_id, shop, version, names, results = row[:5]
    inputs = dict(zip(names, results, strict=True)) if names else {}
    return Claimed(operation_id, shop, version, read_task(row[5:]), inputs)


class _Window(NamedTuple):
    """What limits some queues together, by the name of the queue or of the allowance."""

    name: str
    queues: Sequence[str]
    rate: Rate | None
    is_shared: bool = False

    @property
    def length(self) -> int:
        return window_of(self.rate.period, is_shared=self.is_shared) if self.rate else 0

    @property
    def most(self) -> int:
        return self.rate.count if self.rate else 0


@asynccontextmanager
async def _transaction(session: Session, held: Collection[str]) -> AsyncIterator[None]:
    """Of which there is one at a time for each of these names, begun in one round trip."""
    locks = (f"select pg_advisory_xact_lock(hashtextextended({_literal(name)}, 1))" for name in sorted(held))
    await session.connection.execute("; ".join(["begin", *locks]))
    try:
        yield
    except BaseException:
        with suppress(*DRIVER_ERRORS):
            await session.connection.execute("rollback")
        raise
    await session.connection.execute("commit")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


class PostgresClaims:
    """`tag` and `committed`: see `PostgresWriters`."""

    def __init__(self, url: str, *, tag: Callable[[], str | None], committed: Callable[[int, float], None]) -> None:
        self._links = Links(url, PLANNED_ONCE, CONNECTIONS)
        self._tag, self._committed = tag, committed
        self._claiming: set[asyncio.Task[Claims]] = set()

    async def close(self) -> None:
        for task in self._claiming:
            task.cancel()
        await asyncio.gather(*self._claiming, return_exceptions=True)
        await self._links.close()

    async def claim(self, ask: Ask) -> Claims:
        """A caller that goes away does not break the claim off: it is committed or not, as if he had stayed."""
        task = asyncio.create_task(self._links.use(lambda link: self._claim(link, ask)), name="postgres: claim")
        self._claiming.add(task)
        task.add_done_callback(self._claiming.discard)
        return await asyncio.shield(task)

    async def _claim(self, link: Link, ask: Ask) -> Claims:
        token = uuid4().hex
        for is_last in (False, False, True):
            began = time.perf_counter()
            try:
                session = await link.connect()
            except DRIVER_ERRORS as error:
                raise translate(error) from error
            try:
                claims = await self._claim_on(session, ask, token)
            except DRIVER_ERRORS as error:
                if is_lost(error):
                    link.drop()
                    if ask.own_lease:
                        return await self._find_taken(link, ask, token, session)
                if is_last or not is_conflict(error):
                    raise translate(error) from error
            else:
                if claims.claimed:
                    self._committed(1, time.perf_counter() - began)
                return claims
        raise AssertionError

    async def _claim_on(self, session: Session, ask: Ask, token: str) -> Claims:
        if ask.request is None and not ask.limits:
            return await self._take(session, ask, token, Room.of(ask))
        async with _transaction(session, {*ask.limits, *ask.shared}):
            if ask.request is not None and (again := await self._same_request(session, ask, ask.request)):
                return Claims(again)
            room = await self._room(session, ask)
            return await self._take(session, ask.at_last() if ask.limits else ask, token, room)

    async def _same_request(self, session: Session, ask: Ask, request: str) -> list[Claimed]:
        """The same request within a lease gets the same tasks: its first answer may have been lost on the way. While
        the first is being answered, the second waits."""
        await session.fetch("select pg_advisory_xact_lock(hashtextextended($1::text, 0))", f"{ask.worker}\n{request}")
        return [read_claimed(row) for row in await session.fetch(HELD_BY_REQUEST, ask.worker, request)]

    async def _room(self, session: Session, ask: Ask) -> Room:
        """What limits leave now."""
        room = Room.of(ask)
        windows = [_Window(name, [name], kind.rate) for name, kind in ask.limits.items() if kind.allowance is None]
        windows += [_Window(name, sorted(each.queues), each.rate, is_shared=True) for name, each in ask.shared.items()]
        if not windows:
            return room
        given = ([",".join(each.queues) for each in windows], [each.length for each in windows])
        rows = await session.fetch(WINDOWS, *given, [each.most for each in windows])
        for window, (now, taken, held, next_at) in zip(windows, rows, strict=True):
            free, wait = window.most - taken, window.length if next_at is None else next_at + window.length - now
            seconds: float | None = min(wait, window.length) / 1e6
            if window.rate is None:
                free, seconds = NO_LIMIT, None
            concurrency = None if window.is_shared else ask.limits[window.name].concurrency
            if concurrency is not None and concurrency - held < free:
                free, seconds = concurrency - held, None  # whoever ends one rings
            room.allowed[window.name] = max(free, 0)
            if seconds is not None:
                room.more_in[window.name] = seconds
        return room

    async def _take(self, session: Session, ask: Ask, token: str, room: Room) -> Claims:
        bases = [queue_of(name) for name in ask.queues]
        parts = [next(room.limits(base), base) for base in bases]
        most = [room.allowed.get(part, NO_LIMIT) for part in parts]
        queues = (list(ask.queues), bases, most)
        how = [token, ask.worker, ask.own_lease, ask.request, list(ask.limits), self._tag(), ask.lease_us]
        if ask.shared:
            wholes = [[base, *room.limits(base)][-1] for base in bases]
            how += [wholes, [room.allowed.get(whole, NO_LIMIT) for whole in wholes]]
            how += [[held_while_running(ask, name) for name in ask.limits], parts]
        statement = CLAIM_SHARED if ask.shared else CLAIM
        rows = await session.fetch(statement, *queues, ask.most, ask.now, *how)
        seen, paused_until = rows[0][:2]
        claimed = [read_claimed(row[3:]) for row in rows if row[3] is not None]
        wait = room.next_permit_in(claimed)
        if paused_until is not None:
            wait = sooner(wait, (paused_until - ask.now) / 1e6)
        if len(claimed) < min(ask.most, seen):
            wait = sooner(wait, SOON_SECONDS)
        return Claims(claimed, wait)

    async def _find_taken(self, link: Link, ask: Ask, token: str, lost: Session) -> Claims:
        """The connection was lost in mid-claim, and the worker's lease goes on: what was taken must not be forgotten.
        Waits for the server to come back."""
        while True:
            session = await link.connect_some_day()
            try:
                await end_backend(session, lost.pid, lost.born)
                rows = await session.fetch(TAKEN, ask.now, f"{token}-%")
            except DRIVER_ERRORS as error:
                if not is_lost(error):
                    raise translate(error) from error
                link.drop()
            else:
                return Claims([read_claimed(row) for row in rows], SOON_SECONDS)


def sooner(first: float | None, second: float | None) -> float | None:
    return second if first is None else first if second is None else min(first, second)
