"""Events that a process wrote itself are followed from memory, and from nowhere but their place in the log."""

import asyncio
from pathlib import Path

from orderup.db.recent import MOST_KEPT, RecentEvents
from orderup.db.sqlite import SqliteDatabase
from orderup.errors import Refused
from orderup.model.event import Event
from tests.engine.kitchen import DOUGH, Kitchen, Time, key_of


def events(*numbers: int) -> list[Event]:
    return [Event(1, seq, 0, "operation.placed", "shop", None, None, "running", "", 0, seq) for seq in numbers]


def after(recent: RecentEvents, position: int, most: int = 100) -> list[int]:
    return [event.seq for event in recent.after(position, most)]


def test_what_follows_on_from_a_position_is_handed_out_across_transactions() -> None:
    recent = RecentEvents()
    recent.add(events(5, 6))
    recent.add(events(7))
    recent.add(events(8, 9))
    assert after(recent, 4) == [5, 6, 7, 8, 9]
    assert after(recent, 5) == [6, 7, 8, 9]
    assert after(recent, 7, most=1) == [8]
    assert after(recent, 9) == []


def test_what_was_written_before_is_not_passed_over() -> None:
    recent = RecentEvents()
    recent.add(events(5, 6))
    assert after(recent, 3) == []


def test_numbers_that_another_process_took_are_not_passed_over() -> None:
    recent = RecentEvents()
    recent.add(events(5, 6))
    recent.add(events(9))
    assert after(recent, 4) == after(recent, 6) == []
    assert after(recent, 8) == [9]


def test_only_so_many_are_kept() -> None:
    recent = RecentEvents()
    recent.add(events(*range(1, MOST_KEPT + 1)))
    recent.add(events(MOST_KEPT + 1))
    assert after(recent, 0) == []
    assert after(recent, MOST_KEPT) == [MOST_KEPT + 1]


async def test_events_come_once_and_in_order_whichever_process_wrote_them_and_whatever_was_rolled_back(
    tmp_path: Path,
) -> None:
    path, time = tmp_path / "orderup.db", Time()
    here, there = SqliteDatabase(path), SqliteDatabase(path)
    await here.open()
    await there.open()
    mine, theirs = Kitchen(here, time), Kitchen(there, time)
    log = here.log(0)
    heard: list[Event] = []
    for number in range(10):
        key = key_of(f"key {number % 4}", fingerprint=f"request {number}")
        placed = await asyncio.gather(
            *(mine.place(DOUGH) for _ in range(3)), mine.place(DOUGH, key=key), return_exceptions=True
        )
        assert all(isinstance(each, Refused) for each in placed if isinstance(each, BaseException))
        if number % 3 == 0:
            await theirs.place(DOUGH)
        while batch := await log.read(7):
            heard += batch
    from_the_file = await there.log(0).read(1_000)
    assert heard == list(from_the_file)
    assert [event.seq for event in heard] == list(range(1, 10 * 3 + 4 + 4 + 1))
    await here.close()
    await there.close()
