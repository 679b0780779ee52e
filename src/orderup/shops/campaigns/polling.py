"""What the platform says about customers' tasks: asked for every few seconds, and taken over by those that are open.

One long-lived operation does it, and the schedule sees to it that there is one: an operation for each look would be
thousands a day. What the platform says is not trusted: an entry that cannot be read is left out, an answer that is no
list is a failed attempt. A finished task is never changed, whatever is said about it, and in whichever order.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Text,
    and_,
    any_,
    bindparam,
    cast,
    column,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.types import NullType

from orderup import Context, Plan, PlannedTask, Retry, Wait
from orderup.db.database import ReadConnection, WriteConnection
from orderup.errors import TaskFailed, UpstreamFailed, UpstreamRefused
from orderup.model.times import show_time
from orderup.shops.campaigns.plan import LOOKS, shop
from orderup.shops.campaigns.services import Services
from orderup.shops.campaigns.tables import client_tasks
from orderup.shops.campaigns.tasks import FINISHED, LARGEST_ID, LONGEST_ERROR, OPEN, ClientStatus

POLL = "poll_tasks"
# Then the next operation goes on, so that none has more of a past than a day.
LONGEST_RUN = timedelta(days=1)
# The failures of a whole day count as one row: few of them, hours apart, are not to make it slow.
STEADY = Retry(attempts=1_000_000, first=timedelta(seconds=5), longest=timedelta(minutes=1))
MOST_READ, MOST_COMPARED, MOST_WRITTEN = 1_000, 10_000, 1_000
ID = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
LONGEST_EXAMPLE = 200


class Entry(msgspec.Struct, gc=False):
    """As the platform writes it."""

    id: int | str
    status: ClientStatus
    error_message: str | None = None


class Report(NamedTuple):
    """What is said of one task."""

    status: ClientStatus
    error: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """reports: by the tasks' ids; counts: of entries, by what became of them so far. example: the beginning of one
    that cannot be read."""

    reports: Mapping[int, Report]
    counts: Counter[str]
    example: str | None


@dataclass(frozen=True, slots=True)
class Compared:
    """changes: what differs from how open tasks stand."""

    changes: Sequence[tuple[int, Report]]
    counts: Counter[str]


_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_some_decoder = msgspec.json.Decoder(list[Entry])
_entry_decoder = msgspec.json.Decoder(Entry)
# Most say nothing else: a hundred thousand objects that are all alike would keep the collector of garbage busy.
_PLAIN = {status: Report(status, None) for status in ClientStatus}


def read_answer(body: bytes) -> Answer:
    """A few entries at a time, so that whoever else wants to run in this process gets his turn in between; and where
    one of them cannot be read, one by one, so that it spoils no other. Of several about one task the last one counts,
    unless an earlier one says that it is finished.

    Raises UpstreamFailed for what is no list.
    """
    raws = _entries_of(body)
    reports: dict[int, Report] = {}
    unreadable: list[msgspec.Raw] = []
    for some in _slices(raws, MOST_READ):
        for id, entry in _read_entries(some, unreadable):
            earlier = reports.get(id)
            if earlier is None or earlier.status in OPEN:
                reports[id] = _report(entry)
    counts = Counter(entries=len(raws), unreadable=len(unreadable))
    counts["repeated"] = len(raws) - len(unreadable) - len(reports)
    example = bytes(unreadable[0])[:LONGEST_EXAMPLE].decode(errors="replace") if unreadable else None
    return Answer(reports, counts, example)


def _entries_of(body: bytes) -> Sequence[msgspec.Raw]:
    """Each as it stands there."""
    try:
        return _list_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError):
        pass
    try:  # half of a character in one entry is no JSON at all to the decoder, but JSON with a fault to others
        found = json.loads(body)
        entries = [msgspec.Raw(json.dumps(each).encode()) for each in found]
    except (ValueError, TypeError, RecursionError) as error:
        raise UpstreamFailed(f"The advertising platform answered no list of tasks: {error}") from error
    if not isinstance(found, list):
        raise UpstreamFailed("The advertising platform answered no list of tasks")
    return entries


def _read_entries(some: Sequence[msgspec.Raw], unreadable: list[msgspec.Raw]) -> list[tuple[int, Entry]]:
    """Those that can be read, with their ids; the others are put to the unreadable ones."""
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        entries = _some_decoder.decode(b"[" + b",".join(some) + b"]")
        found = [(id, entry) for entry in entries if (id := _read_id(entry.id))]
        if len(found) == len(some):
            return found
    found = []
    for raw in some:
        entry = _read_entry(raw)
        if entry is None or not (id := _read_id(entry.id)):
            unreadable.append(raw)
        else:
            found.append((id, entry))
    return found


def _read_entry(raw: msgspec.Raw) -> Entry | None:
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _entry_decoder.decode(raw)
    return None


def _read_id(id: int | str) -> int:
    """0: it is none of ours."""
    number = id if isinstance(id, int) else int(id) if ID.fullmatch(id) else 0
    return number if 0 < number <= LARGEST_ID else 0


def _report(entry: Entry) -> Report:
    if not entry.error_message:
        return _PLAIN[entry.status]
    # PostgreSQL stores no NUL
    return Report(entry.status, entry.error_message[:LONGEST_ERROR].replace("\0", "\N{REPLACEMENT CHARACTER}"))


def in_groups(reports: Mapping[int, Report]) -> Iterator[tuple[Report, Sequence[int]]]:
    """Tasks of which the same is said, some at a time. The error of a report is only whether there is one."""
    groups: dict[tuple[ClientStatus, bool], list[int]] = {}
    for id, (status, error) in reports.items():
        groups.setdefault((status, error is not None), []).append(id)
    for (status, has_error), ids in groups.items():
        for some in _slices(ids, MOST_COMPARED):
            yield Report(status, "" if has_error else None), some


def compare(reports: Mapping[int, Report], said: Report, ids: Sequence[int], connection: ReadConnection) -> Compared:
    """What is said of these tasks, of a group, with how they stand. The database leaves out what stands so already."""
    here = _among(connection, ids)
    counted = select(client_tasks.c.status, func.count()).where(here).group_by(client_tasks.c.status)
    known = {status: int(count) for status, count in connection.rows(counted)}
    statement = select(client_tasks.c.id, client_tasks.c.status, client_tasks.c.validation_error).where(here, _IS_OPEN)
    if said.error is None:
        differs = or_(client_tasks.c.status != said.status, client_tasks.c.validation_error.is_not(None))
        statement = statement.where(differs)
    open_ones = sum(known.get(status, 0) for status in OPEN)
    rows = connection.rows(statement) if open_ones else []
    changes = [(id, reports[id]) for id, *stands in rows if reports[id] != tuple(stands)]
    all_of_them = sum(known.values())
    # somebody may have written one down between the two looks
    same = max(0, open_ones - len(changes))
    return Compared(changes, Counter(unknown=len(ids) - all_of_them, finished=all_of_them - open_ones, same=same))


def _among(connection: ReadConnection, ids: Sequence[int]) -> ColumnElement[bool]:
    """As one text: to write out and send thousands of parameters takes longer than to find their rows."""
    text = msgspec.json.encode(ids).decode()
    if connection.connection.dialect.name == "sqlite":
        return client_tasks.c.id.in_(select(func.json_each(text).table_valued("value").c.value))
    # of no type of its own, so that the database reads it as the array while it plans, and knows how many there are
    array = bindparam("ids", f"{{{text[1:-1]}}}", type_=NullType(), unique=True)
    return client_tasks.c.id == any_(cast(array, ARRAY(BigInteger)))


# Said by what it is not: no index over statuses leads to the few tasks that this is about.
_IS_OPEN = and_(*(client_tasks.c.status != status for status in FINISHED))
_WRITE_ONE = (
    update(client_tasks)
    .where(client_tasks.c.id == bindparam("of"), _IS_OPEN)
    .values(status=bindparam("said"), validation_error=bindparam("why"), updated_at=bindparam("at"))
)


def write_changes(changes: Sequence[tuple[int, Report]], now: int, connection: WriteConnection) -> int:
    """Take over what is said, by tasks that are open still: how many."""
    if connection.connection.dialect.name == "sqlite":
        rows = [{"of": id, "said": report.status, "why": report.error, "at": now} for id, report in changes]
        return connection.execute(_WRITE_ONE, rows).rowcount
    # a statement for each would be a round trip for each
    given = func.unnest(
        literal([id for id, _ in changes], ARRAY(BigInteger)),
        literal([str(report.status) for _, report in changes], ARRAY(Text)),
        literal([report.error for _, report in changes], ARRAY(Text)),
    )
    columns = column("of", BigInteger), column("status", Text), column("error", Text)
    said = given.table_valued(*columns, name="said").render_derived()
    statement = (
        update(client_tasks)
        .where(client_tasks.c.id == said.c.of, _IS_OPEN)
        .values(status=said.c.status, validation_error=said.c.error, updated_at=now)
    )
    return connection.execute(statement.execution_options(preserve_rowcount=True)).rowcount


@shop.schedule("follow_tasks", every=timedelta(seconds=10), keeps_alive=True)
def plan_polling() -> Plan:
    return Plan([PlannedTask(POLL)])


@shop.handler(
    POLL,
    says="Asking how tasks stand",
    retry=STEADY,
    within=timedelta(days=3),
    timeout=timedelta(seconds=60),
    allowance=LOOKS,
)
async def poll_tasks(context: Context) -> Any:
    """`memo`: since when this operation does it, how often it did, and what came of the last time."""
    services: Services = context.resources
    began = services.now()
    counts = await poll(context, services)
    return go_on(context.memo, counts, began=began, now=services.now(), period=services.settings.dsp_poll_seconds)


def go_on(before: Any, counts: Mapping[str, int], *, began: float, now: float, period: float) -> Any:
    """Wait for the next beat, counted from 1970; or what came of it, if this has gone on for a day. Times in seconds
    since the epoch."""
    since, polls = (began, 0) if before is None else (before["since"], before["polls"])
    memo = {"since": since, "polls": polls + 1, "last": {"at": show_time(round(now * 1e6)), **counts}}
    return memo if now - since >= LONGEST_RUN.total_seconds() else Wait(period - now % period, memo=memo)


async def poll(context: Context, services: Services) -> Mapping[str, int]:
    """Ask once, and take over what is said: how many entries there were, by what became of them. Raises TaskFailed."""
    try:
        body = await services.dsp.list_tasks()
    except UpstreamRefused as error:
        # there is nothing that a person could do about this one: it is asked again, as if it had failed
        raise TaskFailed(str(error)) from error
    answer = await asyncio.to_thread(read_answer, body)
    counts = answer.counts
    if answer.example is not None:
        context.log.warning(
            "some of what the platform says about tasks cannot be read; the rest is used",
            unreadable=counts["unreadable"],
            entries=counts["entries"],
            example=answer.example,
        )
    changes: list[tuple[int, Report]] = []
    for said, ids in in_groups(answer.reports):
        compared = await context.read(partial(compare, answer.reports, said, ids))
        counts += compared.counts
        changes += compared.changes
    counts["changed"] = await _write(context, changes, now=round(services.now() * 1e6))
    # what somebody else has finished in between
    counts["finished"] += len(changes) - counts["changed"]
    for outcome in OUTCOMES:
        services.polled.labels(outcome).inc(counts[outcome])
    return {name: counts[name] for name in ("entries", *OUTCOMES)}


OUTCOMES = ("changed", "same", "finished", "unknown", "repeated", "unreadable")


async def _write(context: Context, changes: Sequence[tuple[int, Report]], *, now: int) -> int:
    if changes:
        await context.heartbeat()  # what was said before a long stop is not to undo what was said since
    count = 0
    for some in _slices(changes, MOST_WRITTEN):
        count += await context.write(partial(write_changes, some, now))
    return count


def _slices(things: Sequence[Any], most: int) -> Sequence[Sequence[Any]]:
    return [things[begin : begin + most] for begin in range(0, len(things), most)]
